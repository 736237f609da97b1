"""Processes that train together are killed, one or their launcher, and go on as any number."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from conftest import save_crops
from killing import differences, only_run, remains, wait_for
from worlds import made_in, recorded

TESTS = Path(__file__).parents[1]
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

    folder: Path
    train: list[str]
    rng: random.Random
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    sitting: int = 0
    victims: list[str] = field(default_factory=list)

    def begin(self, processes: int) -> subprocess.Popen:
        """Start the next sitting in so many processes."""
        self.sitting += 1
        begun = (self.folder / "outputs/r/config.yaml").exists()
        command = ["resume"] if begun else ["train", *self.train]
        if not begun:
            subprocess.run(["rm", "-rf", str(self.folder / "outputs")], check=True)
        path = os.pathsep.join([str(TESTS / "recording"), str(TESTS), str(TESTS.parent)])
        with (self.folder / f"log-{self.sitting}.txt").open("w") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "imgcls", *command, "--devices", str(processes)],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                env={
                    **os.environ,
                    "OMP_NUM_THREADS": "1",
                    "PYTHONPATH": path,
                    "IMGCLS_SITTING": str(self.sitting),
                    "IMGCLS_TEST_MARK": self.mark,
                },
            )

    def log(self) -> str:
        return (self.folder / f"log-{self.sitting}.txt").read_text(errors="replace")

    def alive(self) -> list[psutil.Process]:
        """All processes of this run, whosever children they are by now."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                ours = process.environ().get("IMGCLS_TEST_MARK") == self.mark
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def steps_made(self) -> int:
        return max(made_in(self.folder, self.sitting), default=-1)

    def kill_one(self, launcher: subprocess.Popen, processes: int, victim: str) -> None:
        """At some moment, kill one process that trains, or the launcher; all must have ended then.

        A moment is one of the start, or behind some steps.
        """
        if self.rng.random() < 0.2:
            with contextlib.suppress(subprocess.TimeoutExpired):
                launcher.wait(self.rng.uniform(0.1, 8))
        else:
            first: list[int] = []
            more = self.rng.randrange(1, 12)

            def is_far_enough() -> bool:
                made = self.steps_made()
                if made >= 0 and not first:
                    first.append(made)
                return launcher.poll() is not None or (bool(first) and made >= first[0] + more)

            wait_for(is_far_enough, LONG_S)
            with contextlib.suppress(subprocess.TimeoutExpired):
                launcher.wait(self.rng.uniform(0, 0.2))
        ids = {process.pid for process in self.alive()}
        training = [launcher.pid]
        if processes > 1 and victim != "launcher":
            with contextlib.suppress(psutil.Error):
                training = [c.pid for c in psutil.Process(launcher.pid).children()] or training
        pid = self.rng.choice(training)
        self.victims.append("launcher" if pid == launcher.pid and processes > 1 else "process")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        code = launcher.wait(LONG_S)
        # a process may have found out about another's end before it was itself
        wait_for(lambda: not self.alive(), LONG_S)
        if pid != launcher.pid and code != 0:
            assert code == 1, (code, self.log())
            lines = [line for line in self.log().splitlines() if line.startswith("imgcls: ")]
            assert 1 <= len(lines) <= 2, self.log()
            assert "Traceback" not in self.log()
        left = [path.name for path in Path("/dev/shm").iterdir()]
        assert not [
            name for name in left if set(name.replace("-", "_").split("_")) & set(map(str, ids))
        ]

    def go_through(self, worlds: list[int], victims: list[str]) -> None:
        """Be killed once for each victim, then end; the numbers of processes in turn."""
        sizes = itertools.cycle(worlds)
        for victim in victims:
            processes = next(sizes)
            self.kill_one(self.begin(processes), processes, victim)
        last = self.begin(next(sizes))
        assert last.wait(LONG_S) == 0, self.log()
        wait_for(lambda: not self.alive(), LONG_S)

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


def left_alone(worlds, folder, photos, epochs, processes):
    worlds.done(
        folder, processes, "train", *arguments(photos, epochs), patches=("worlds:record_steps",)
    )
    return recorded(folder)


def test_one_killed_process_and_a_killed_launcher_change_nothing(tmp_path, photos, worlds):
    """Two processes, killed twice: the weights are those of two that were left alone."""
    reference = left_alone(worlds, tmp_path / "alone", photos, 6, 2)
    killed = tmp_path / "killed"
    killed.mkdir()
    sittings = Sittings(killed, arguments(photos, 6), random.Random(3))
    sittings.go_through([2], ["process", "launcher"])
    sittings.require_same_samples(reference)
    assert not differences(remains(only_run(tmp_path / "alone")), remains(only_run(killed)))


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [[2], [2, 1, 3, 2]], ids=["two", "changing"])
def test_kills_at_random_moments_change_nothing(tmp_path, photos, worlds, sizes):
    """Whatever is killed whenever, however many go on: the samples, and of two all bits."""
    epochs = 4 + 2 * KILLS
    reference = left_alone(worlds, tmp_path / "alone", photos, epochs, 2)
    killed = tmp_path / "killed"
    killed.mkdir()
    rng = random.Random(18)
    sittings = Sittings(killed, arguments(photos, epochs), rng)
    victims = [rng.choice(["process", "process", "launcher"]) for _ in range(KILLS)]
    sittings.go_through(sizes, victims)
    sittings.require_same_samples(reference)
    print(f"{len(sittings.victims)} kills: {sittings.victims}")
    if sizes == [2]:
        assert not differences(remains(only_run(tmp_path / "alone")), remains(only_run(killed)))
