"""Processes that train together are killed, one or their launcher, and go on as any number."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import save_crops
from killing import differences, only_run, remains, wait_for
from worlds import Launched, Worlds, made_in, recorded

# how many kills; the record of a release is made with 50
KILLS = int(os.environ.get("IMGCLS_TEST_KILLS", "6"))
LONG_S = 300


@pytest.fixture(scope="module")
def photos(tmp_path_factory, crops):
    """The pictures of all runs here; nothing changes them."""
    return save_crops(crops, tmp_path_factory.mktemp("data") / "photos", (20, 16, 12))


def arguments(photos, epochs):
    return [
        str(photos), "--model", "test_vit", "--no-pretrained", "--img-size", "32",
        "--batch-size", "6", "--epochs", str(epochs), "--patience", "0", "--save-every-steps", "2",
        "--lr", "1e-3", "--device", "cpu", "--quiet", "--workers", "1", "--no-preflight",
        "--dropout", "0.1", "--drop-path-rate", "0.1", "--amp", "off", "--experiment", "r",
    ]  # fmt: skip


@dataclass
class Sittings:
    """A run whose processes are started again and again, until it has ended."""

    worlds: Worlds
    folder: Path
    train: list[str]
    rng: random.Random
    sitting: int = 0
    victims: list[str] = field(default_factory=list)

    def begin(self, processes: int) -> Launched:
        """Start the next sitting in so many processes."""
        self.sitting += 1
        self.folder.mkdir(exist_ok=True)
        (self.folder / "sitting.txt").write_text(str(self.sitting))
        begun = (self.folder / "outputs/r/config.yaml").exists()
        command = ["resume"] if begun else ["train", *self.train]
        if not begun:
            subprocess.run(["rm", "-rf", str(self.folder / "outputs")], check=True)
        return self.worlds.launch(
            self.folder, *command, "--devices", processes, patches=("worlds:record_steps",)
        )

    def kill_one(self, running: Launched, processes: int, victim: str) -> None:
        """At some moment, kill one process that trains, or the launcher; all must end then.

        A moment is one of the start, or behind some steps.
        """
        if self.rng.random() < 0.2:
            wait_for((self.folder / "pids.txt").exists, LONG_S)
            time.sleep(self.rng.uniform(0, 3))
        else:
            behind = self.rng.randrange(1, 12)
            wait_for(lambda: running.code() is not None or len(self._newest()) >= behind, LONG_S)
            time.sleep(self.rng.uniform(0, 0.2))
        alive = running.alive()
        workers = running.workers()
        pid = self.rng.choice(workers) if workers and victim == "process" else running.pid
        self.victims.append("launcher" if workers and pid == running.pid else "process")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        code = running.wait(LONG_S)
        assert "Traceback" not in running.said
        if pid != running.pid and code != 0:
            assert code == 1, (code, running.said)
            assert 1 <= len(running.error_lines) <= 2, running.said
        shared = {part for path in Path("/dev/shm").iterdir() for part in _words(path.name)}
        assert not shared & set(map(str, alive))
        with (self.folder / "kills.txt").open("a") as stream:
            stream.write(f"{self.sitting} of {processes}: {self.victims[-1]}, exit code {code}\n")

    def _newest(self) -> list[str]:
        """The lines of the steps made in this sitting, by the process that has made the most."""
        paths = self.folder.glob(f"steps-{self.sitting}-*.jsonl")
        return max((path.read_text().splitlines() for path in paths), key=len, default=[])

    def go_through(self, sizes: list[int], victims: list[str]) -> None:
        """Be killed once for each victim, then end; the numbers of processes in turn."""
        turn = itertools.cycle(sizes)
        for victim in victims:
            processes = next(turn)
            self.kill_one(self.begin(processes), processes, victim)
        last = self.begin(next(turn))
        assert last.wait(LONG_S) == 0, last.said

    def require_same_samples(self, reference) -> None:
        """Each step of each sitting was made of the pictures of the same step of a run left alone.

        No sitting begins behind a step that none has made, and all steps were made.
        """
        behind = 0
        for sitting in range(1, self.sitting + 1):
            made = made_in(self.folder, sitting)
            if not made:
                continue
            assert min(made) <= behind, f"sitting {sitting} has left steps out"
            assert sorted(made) == list(range(min(made), max(made) + 1))
            for step, parts in made.items():
                wanted = list(reference[step][0].pictures)
                found = sorted(picture for part in parts for picture in part)
                assert set(found) <= set(wanted)
                assert len(set(found)) == len(found)
                # all that trained have written it down, but those cut off at the end
                assert found == wanted or step == max(made)
            behind = max(behind, max(made) + 1)
        assert behind == len(reference)


def _words(name: str) -> list[str]:
    return name.replace("-", "_").split("_")


def left_alone(worlds, folder, photos, epochs, processes):
    worlds.done(
        folder, processes, "train", *arguments(photos, epochs), patches=("worlds:record_steps",)
    )
    return recorded(folder)


def test_one_killed_process_and_a_killed_launcher_change_nothing(tmp_path, photos, worlds):
    """Two processes, killed twice: the weights are those of two that were left alone."""
    reference = left_alone(worlds, tmp_path / "alone", photos, 6, 2)
    killed = tmp_path / "killed"
    sittings = Sittings(worlds, killed, arguments(photos, 6), random.Random(3))
    sittings.go_through([2], ["process", "launcher"])
    sittings.require_same_samples(reference)
    assert not differences(remains(only_run(tmp_path / "alone")), remains(only_run(killed)))


@pytest.mark.record
@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("sizes", [[2], [2, 1, 3, 2]], ids=["two", "changing"])
def test_kills_at_random_moments_change_nothing(tmp_path, photos, worlds, sizes):
    """Whatever is killed whenever, however many go on: the samples, and of two all bits."""
    epochs = 4 + 2 * KILLS
    reference = left_alone(worlds, tmp_path / "alone", photos, epochs, 2)
    killed = tmp_path / "killed"
    rng = random.Random(18)
    sittings = Sittings(worlds, killed, arguments(photos, epochs), rng)
    victims = [rng.choice(["process", "process", "launcher"]) for _ in range(KILLS)]
    sittings.go_through(sizes, victims)
    sittings.require_same_samples(reference)
    if sizes == [2]:
        assert not differences(remains(only_run(tmp_path / "alone")), remains(only_run(killed)))
