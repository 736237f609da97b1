"""A signal to a command in several processes stops them all, with everything saved."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time

import pytest
import timm
from conftest import save_crops
from killing import differences, only_run, remains, wait_for
from safetensors.torch import save_file
from worlds import made_in

from imgcls.engine.checkpoint.folder import read_checkpoint
from imgcls.storage.pointers import find_checkpoint

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 138}
RECORD = ("worlds:record_steps",)
LONG = 4000


@pytest.fixture(scope="module")
def photos(tmp_path_factory, crops):
    """48 pictures that nothing changes."""
    return save_crops(crops, tmp_path_factory.mktemp("data") / "photos", (20, 16, 12))


def arguments(photos, epochs=LONG, *more):
    return (
        "train", photos, "--model", "test_vit", "--no-pretrained", "--img-size", "32",
        "--batch-size", "6", "--epochs", epochs, "--patience", "0", "--lr", "1e-3", "--amp", "off",
        "--device", "cpu", "--quiet", "--workers", "0", "--no-preflight", "--experiment", "r",
        "--save-every-steps", "1000", *more,
    )  # fmt: skip


def steps(folder, sitting=0):
    return max(made_in(folder, sitting), default=-1) + 1


def stopped(running, code):
    """That the command has ended so, in one line, and all that it has started too."""
    assert running.wait() == code, running.said
    [line] = running.error_lines
    assert "everything is saved" in line
    assert "imgcls resume" in line
    assert "Traceback" not in running.said


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, signal.SIGUSR1))],
)
def test_a_signal_to_the_launcher_stops_between_two_steps(tmp_path, worlds, photos, number):
    """All that was trained is saved, to the bit, and the exit code is the signal's."""
    running = worlds.launch(tmp_path, *arguments(photos), "--devices", 2, patches=RECORD)
    wait_for(lambda: steps(tmp_path) > 3)
    os.kill(running.pid, number)
    stopped(running, SIGNALS[number])
    made = steps(tmp_path)
    last = find_checkpoint(only_run(tmp_path), 0, "last")
    assert read_checkpoint(last).sidecar.step == made


@pytest.mark.slow
def test_a_stopped_training_ends_as_one_that_was_not(tmp_path, worlds, photos):
    """Stopped again and again, in two processes: the same weights."""
    folders = tmp_path / "alone", tmp_path / "stopped"
    worlds.done(folders[0], 2, *arguments(photos, 5))
    begun = arguments(photos, 5)
    for sitting in itertools.count(1):
        folders[1].mkdir(exist_ok=True)
        (folders[1] / "sitting.txt").write_text(str(sitting))
        running = worlds.launch(folders[1], *begun, "--devices", 2, patches=RECORD)
        wait_for(lambda: running.code() is not None or made_in(folders[1], sitting))  # noqa: B023
        if running.code() is None:
            os.kill(running.pid, signal.SIGTERM)
        if running.wait() == 0:
            break
        stopped(running, 143)
        begun = ("resume",)
    assert sitting > 1
    assert not differences(*(remains(only_run(folder)) for folder in folders))


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_process_stops_all(tmp_path, worlds, photos, rank):
    """At the same step."""
    running = worlds.launch(tmp_path, *arguments(photos), "--devices", 2, patches=RECORD)
    wait_for(lambda: steps(tmp_path) > 3)
    # the first to write its line need not be the first process
    os.kill(running.workers()[rank], signal.SIGTERM)
    stopped(running, 143)
    assert {len(parts) for parts in made_in(tmp_path, 0).values()} == {2}


def test_a_second_signal_within_moments_does_not_lose_what_was_trained(tmp_path, worlds, photos):
    """Ctrl-C twice, as people do; torch's launcher tells the processes each time."""
    running = worlds.launch(tmp_path, *arguments(photos), "--devices", 2, patches=RECORD)
    wait_for(lambda: steps(tmp_path) > 3)
    os.kill(running.pid, signal.SIGINT)
    time.sleep(0.3)
    if running.code() is None:
        os.kill(running.pid, signal.SIGINT)
    assert running.wait() == 130, running.said
    [line] = running.error_lines
    assert "everything is saved" in line
    assert (only_run(tmp_path) / "fold_0/checkpoints/last").exists()


@pytest.mark.slow
def test_a_killed_launcher_lets_the_processes_save_and_end(tmp_path, worlds, photos):
    """They notice that it has gone."""
    running = worlds.launch(tmp_path, *arguments(photos), "--devices", 2, patches=RECORD)
    wait_for(lambda: steps(tmp_path) > 3)
    os.kill(running.pid, signal.SIGKILL)
    stopped(running, -signal.SIGKILL)


@pytest.mark.record
@pytest.mark.slow
@pytest.mark.parametrize("patch", ["in_validation", "in_features", "in_the_fit", "before_a_step"])
def test_a_signal_elsewhere_stops_too(tmp_path, worlds, photos, patch):
    """In validation, while features are computed or a classifier fitted, before the first step."""
    weights = tmp_path / "weights.safetensors"
    save_file(timm.create_model("test_vit").state_dict(), weights)
    running = worlds.launch(
        tmp_path,
        *arguments(photos, LONG, "--weights", weights),
        "--devices",
        2,
        patches=(f"world_patches:{patch}",),
    )
    wait_for((tmp_path / "there").exists)
    os.kill(running.pid, signal.SIGTERM)
    (tmp_path / "go-on").touch()
    assert running.wait() == 143, running.said
    assert len(running.error_lines) == 1, running.said
    assert "Traceback" not in running.said
    again = worlds.launch(tmp_path, "resume", "--epochs", 2, "--devices", 2)
    assert again.wait() == 0, again.said


@pytest.mark.record
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_torchrun_is_stopped_as_the_own_launcher(tmp_path, photos, number):
    """`python -m torch.distributed.run` tells its processes, which save and end."""
    started = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m"]
    with (tmp_path / "log.txt").open("w") as log:
        running = subprocess.Popen(
            [*started, "imgcls", *map(str, arguments(photos))],
            cwd=tmp_path,
            stdout=log,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MASTER_PORT": "0"},
        )
    wait_for(lambda: list(tmp_path.glob("outputs/r/fold_0/history.csv")), 250)
    running.send_signal(number)
    assert running.wait(250) != 0
    said = (tmp_path / "log.txt").read_text()
    [line] = [line for line in said.splitlines() if line.startswith("imgcls: ")]
    assert "everything is saved" in line


@pytest.mark.record
@pytest.mark.slow
def test_an_evaluation_ends_at_a_signal(tmp_path, worlds, photos):
    """At once, in all processes: there is nothing to save."""
    worlds.done(tmp_path, 1, *arguments(photos, 1))
    command = ("evaluate", "outputs/r", "--workers", "0", "--device", "cpu", "--quiet")
    asked = (f"{tmp_path}", 2, ["world_patches:each_signals_itself"], [*command])
    codes = worlds._ask("run", *asked)
    said = (tmp_path / "log.txt").read_text()
    assert codes[0] == 143, said
    assert "stopped by SIGTERM" in said.splitlines()[-1]
    assert "Traceback" not in said
