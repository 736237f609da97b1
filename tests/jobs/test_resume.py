"""Stopped anywhere, by any means, a resumed run ends as the run that was never stopped."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys

import pytest
from killing import Launcher, differences, kill_until_done, only_run, remains, wait_for

VARIANTS = {
    "float32": [
        "--mixup", "0.2", "--model-ema", "--grad-accum-steps", "2", "--workers", "1",
        "--dropout", "0.2", "--reprob", "0.3", "--smoothing", "0.1",
    ],
    "bf16": [
        "--amp", "bf16", "--cutmix", "1.0", "--opt", "adahessian", "--workers", "0",
        "--clip-grad", "1.0", "--model", "test_vit", "--drop-path-rate", "0.2",
    ],
}  # fmt: skip


def arguments_of(photos, variant, epochs="4"):
    return [
        str(photos), "--model", "test_resnet", "--no-pretrained", "--img-size", "32",
        "--batch-size", "6", "--epochs", epochs, "--patience", "0", "--save-every-steps", "2",
        "--lr", "1e-3", "--device", "cpu", "--quiet", *VARIANTS[variant],
    ]  # fmt: skip


@pytest.fixture(scope="module")
def launcher():
    server = Launcher()
    yield server
    server.close()


@pytest.fixture
def uninterrupted(launcher, tmp_path, photos):
    """A function that runs a variant in one go and gives what it leaves behind."""

    def run(variant):
        folder = tmp_path / "straight"
        folder.mkdir()
        code = launcher.run(folder, "train", *arguments_of(photos, variant))
        assert code == 0, (folder / "log.txt").read_text()
        return folder

    return run


def evaluation_of(launcher, folder):
    assert launcher.run(folder, "evaluate", "--quiet") == 0
    [file] = folder.glob("outputs/*/fold_0/test_results/test/test_metrics.json")
    return json.loads(file.read_text())["metrics"]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(10, id="short"),
        pytest.param(100, id="long", marks=[pytest.mark.slow, pytest.mark.timeout(2400)]),
    ],
)
def test_killed_at_random_instants_it_ends_the_same(
    launcher, uninterrupted, tmp_path, photos, variant, kills, record_property
):
    """Weights, optimizer state, average, history and test metrics, bit for bit.

    Short: 20 kills in the two variants; long: 200.
    """
    straight = uninterrupted(variant)
    expected = remains(only_run(straight))
    metrics = evaluation_of(launcher, straight)
    killed = inside = rounds = 0
    rng = random.Random(variant)
    while killed < kills:
        folder = tmp_path / f"killed-{rounds}"
        folder.mkdir()
        more, within = kill_until_done(
            launcher,
            folder,
            arguments_of(photos, variant),
            kills=min(kills - killed, 12),
            longest_s=2.5,
            rng=rng,
        )
        killed, inside, rounds = killed + more, inside + within, rounds + 1
        assert differences(expected, remains(only_run(folder))) == []
        assert evaluation_of(launcher, folder) == metrics
    print(f"{variant}: {killed} kills, {inside} inside a checkpoint write, 0 differences")
    record_property("kills", killed)
    record_property("inside_a_write", inside)


def test_killed_after_epoch_three_of_six_it_ends_the_same(launcher, tmp_path, photos):
    """A real process of the real command, killed at an epoch boundary and resumed."""
    arguments = [*arguments_of(photos, "float32", epochs="6"), "--save-every-steps", "0"]
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    straight.mkdir()
    killed.mkdir()
    assert launcher.run(straight, "train", *arguments) == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "imgcls", "train", *arguments],
        cwd=killed,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )

    def three_epochs_are_saved():
        for sidecar in killed.glob("outputs/*/fold_0/checkpoints/last/checkpoint.json"):
            if json.loads(sidecar.read_text())["facts"]["epoch"] >= 3:
                return True
        return process.poll() is not None

    wait_for(three_epochs_are_saved)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert launcher.run(killed, "resume") == 0, (killed / "log.txt").read_text()
    assert differences(remains(only_run(straight)), remains(only_run(killed))) == []
    assert len(remains(only_run(killed))["history"]) == 6


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_saves_inside_the_epoch_and_says_how_to_go_on(tmp_path, photos, number):
    """Exit 128 + signal, the resume command on stderr, and the step kept."""
    arguments = arguments_of(photos, "float32", epochs="2000")
    process = subprocess.Popen(
        [sys.executable, "-m", "imgcls", "train", *arguments, "--save-every-steps", "0",
         "--save", "best"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    wait_for(lambda: list(tmp_path.glob("outputs/*/fold_0/checkpoints/last/checkpoint.json")))
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    [run] = (tmp_path / "outputs").iterdir()
    line = next(line for line in stderr.splitlines() if line.startswith("imgcls: stopped"))
    assert f"imgcls resume outputs/{run.name}" in line
    assert not (run / ".lock").exists()
    assert "Traceback" not in stderr


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_number_of_workers_changes_no_weight(launcher, tmp_path, photos, workers):
    """0, 1 and 2 processes give identical weights."""
    found = []
    for count in ("0", workers):
        folder = tmp_path / count
        folder.mkdir()
        arguments = [*arguments_of(photos, "float32", epochs="2"), "--workers", count]
        assert launcher.run(folder, "train", *arguments) == 0, (folder / "log.txt").read_text()
        found.append(remains(only_run(folder)))
    assert differences(*found) == []
