"""Stopped anywhere, by any means, a resumed run ends as the run that was never stopped."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import timm
from conftest import save_crops
from killing import differences, kill_until_done, only_run, remains, wait_for
from safetensors.torch import save_file

from imgcls.engine.checkpoint.folder import read_checkpoint, read_state
from imgcls.storage.lock import is_locked
from imgcls.storage.pointers import find_checkpoint

VARIANTS = {
    "float32": [
        "--mixup", "0.2", "--model-ema", "--grad-accum-steps", "2", "--workers", "1",
        "--dropout", "0.2", "--reprob", "0.3", "--smoothing", "0.1",
    ],
    "bf16": [
        "--amp", "bf16", "--cutmix", "1.0", "--opt", "nadamw", "--workers", "0",
        "--clip-grad", "1.0", "--model", "test_vit", "--drop-path-rate", "0.2",
    ],
    # the default recipe from weights: fitted head, frozen norms, average, temperature
    "tuned": [
        "--mixup", "0.2", "--layer-decay", "0.7", "--unfreeze-epochs", "1", "--workers", "0",
    ],
    "head": ["--tune", "head", "--head", "linear", "--model-ema", "--workers", "0"],
}  # fmt: skip
LONG = ("float32", "bf16")


def arguments_of(photos, variant, epochs="4"):
    start = []
    if variant not in LONG:
        weights = photos.parent / "weights.safetensors"
        if not weights.exists():
            save_file(timm.create_model("test_resnet").state_dict(), weights)
        start = ["--weights", str(weights)]
    return [
        str(photos), "--model", "test_resnet", "--no-pretrained", "--img-size", "32",
        "--batch-size", "6", "--epochs", epochs, "--patience", "0", "--save-every-steps", "2",
        "--lr", "1e-3", "--device", "cpu", "--quiet", *start, *VARIANTS[variant],
    ]  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory, crops):
    """The pictures of all runs here; nothing changes them."""
    return save_crops(crops, tmp_path_factory.mktemp("data") / "photos", (20, 16, 12))


@pytest.fixture(scope="module")
def uninterrupted(launcher, tmp_path_factory):
    """A function that trains in one go, once for each command: the folder, and seconds it took."""
    ended = {}

    def train(*arguments):
        if arguments not in ended:
            folder, begun = tmp_path_factory.mktemp("straight"), time.monotonic()
            code = launcher.run(folder, "train", *arguments)
            assert code == 0, (folder / "log.txt").read_text()
            ended[arguments] = folder, time.monotonic() - begun
        return ended[arguments]

    return train


def evaluation_of(launcher, folder):
    assert launcher.run(folder, "evaluate", "--no-report", "--quiet") == 0
    [file] = folder.glob("outputs/*/fold_0/test_results/test/test_metrics.json")
    return json.loads(file.read_text())["metrics"]


@pytest.mark.parametrize(
    ("variant", "kills"),
    [
        *(pytest.param(variant, 4, id=f"{variant}-short") for variant in VARIANTS),
        *(
            pytest.param(
                variant,
                100,
                id=f"{variant}-long",
                marks=[pytest.mark.slow, pytest.mark.timeout(2400)],
            )
            for variant in LONG
        ),
    ],
)
def test_killed_at_random_instants_it_ends_the_same(
    launcher, uninterrupted, tmp_path, photos, variant, kills, record_property
):
    """Weights, optimizer state, average, history and test metrics, bit for bit.

    A kill comes within half of what the whole run takes. Short: 4 kills in each variant; long:
    200 in the first two.
    """
    arguments = arguments_of(photos, variant)
    straight, took_s = uninterrupted(*arguments)
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
            arguments,
            kills=min(kills - killed, 12),
            longest_s=took_s / 2,
            rng=rng,
        )
        killed, inside, rounds = killed + more, inside + within, rounds + 1
        assert differences(expected, remains(only_run(folder))) == []
        assert evaluation_of(launcher, folder) == metrics
    print(f"{variant}: {killed} kills, {inside} inside a checkpoint write, 0 differences")
    record_property("kills", killed)
    record_property("inside_a_write", inside)


# instants that a kill by the clock seldom meets: (variant, more options, module, function, call)
SAVING, FOLDS = "imgcls.engine.checkpoint.checkpointer", "imgcls.jobs.evaluate.folds"
VALIDATION = "imgcls.engine.training.selection.validation"
INSTANTS = {
    "before-the-first-best": ("head", [], SAVING, "point", 1),
    "between-the-first-best-and-last": ("head", [], SAVING, "point", 2),
    "one-epoch": ("float32", ["--epochs", "1"], SAVING, "point", 1),
    "before-a-later-best": ("tuned", [], SAVING, "point", 4),
    "while-beginning": ("head", [], "imgcls.storage.runs", "publish_folder", 1),
    # behind the last epoch, while weights between the head's and its own are scored
    "between-the-weights": ("tuned", [], VALIDATION, "validate_epoch", 7),
    "before-the-summary": ("head", ["--folds", "2"], FOLDS, "write_json", 1),
    "while-summing-up": ("head", ["--folds", "2"], FOLDS, "write_evaluation", 2),
}  # fmt: skip


@pytest.mark.parametrize("instant", INSTANTS)
def test_killed_at_an_instant_it_ends_the_same(launcher, uninterrupted, tmp_path, photos, instant):
    """Between a checkpoint and its pointers, while a run begins, while folds are summed up.

    What is there is evaluated before it is resumed, and the best one is never lost.
    """
    variant, options, *where = INSTANTS[instant]
    arguments = [*arguments_of(photos, variant), "--save-every-steps", "0", *options]
    straight, killed = uninterrupted(*arguments)[0], tmp_path / "killed"
    killed.mkdir()
    launcher.start(killed, "train", *arguments, kill_at=where)
    assert launcher.wait() == -signal.SIGKILL
    begun = list(killed.glob("outputs/[!.]*"))
    if begun:
        fold = ["--fold", "0"] if "--folds" in options else []
        assert launcher.run(killed, "evaluate", "--no-report", "--quiet", *fold) == 0
    command = ["resume"] if begun else ["train", *arguments]
    assert launcher.run(killed, *command) == 0, (killed / "log.txt").read_text()
    [run] = killed.glob("outputs/[!.]*")
    assert differences(remains(only_run(straight)), remains(run)) == []
    if "--folds" in options:
        summaries = [
            json.loads((r / "summary.json").read_text()) for r in (only_run(straight), run)
        ]
        assert summaries[0]["pooled"] == summaries[1]["pooled"]
    checkpoints = run / "fold_0" / "checkpoints"
    for name in ("best", "last"):
        assert (checkpoints / name).resolve() == find_checkpoint(run, 0, name).resolve()


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
def test_a_signal_saves_inside_the_epoch_and_says_how_to_go_on(launcher, tmp_path, photos, number):
    """Exit 128 + signal, the resume command on stderr, the lock free, and no step lost."""
    arguments = [*arguments_of(photos, "float32", epochs="2000"), "--save", "best"]
    pid = launcher.start(tmp_path, "train", *arguments, "--save-every-steps", "0")
    wait_for(lambda: list(tmp_path.glob("outputs/*/fold_0/checkpoints/last/checkpoint.json")))
    os.kill(pid, number)
    assert launcher.wait() == 128 + number
    run = only_run(tmp_path)
    log = (tmp_path / "log.txt").read_text()
    assert f"everything is saved; go on with: imgcls resume outputs/{run.name}" in log
    assert not is_locked(run)
    assert "Traceback" not in log
    state = read_state(read_checkpoint(find_checkpoint(run, which="last")))
    assert state["progress"]["step"] == state["schedule"]["updates"]
    # a damaged `last` is passed over, aloud
    (find_checkpoint(run, which="last") / "model.safetensors").write_bytes(b"x")
    pid = launcher.start(tmp_path, "resume")
    wait_for(lambda: "passed over a checkpoint" in (tmp_path / "log.txt").read_text())
    os.kill(pid, number)
    assert launcher.wait() == 128 + number


@pytest.mark.parametrize("workers", ["0", pytest.param("1", marks=pytest.mark.slow), "2"])
def test_signals_to_the_whole_group_save_and_change_no_result(launcher, tmp_path, photos, workers):
    """As timeout, Slurm, systemd and terminals send them: each heard once, saved, and resumed.

    The run ends with the bits of one that was never stopped.
    """
    arguments = [*arguments_of(photos, "float32", epochs="12"), "--workers", workers]
    arguments.remove("--quiet")
    straight, folder = tmp_path / "straight", tmp_path / "signalled"
    straight.mkdir()
    folder.mkdir()
    assert launcher.run(straight, "train", *arguments) == 0
    log = folder / "log.txt"
    log.touch()
    pid = launcher.start(folder, "train", *arguments)
    wait_for(lambda: list(folder.glob("outputs/*/fold_0/checkpoints/step-*")))
    signals = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT)
    for stops, number in enumerate(signals, start=1):
        wait_for(lambda stops=stops: log.read_text().count("Going on with fold") == stops - 1)
        os.killpg(pid, number)
        assert launcher.wait() == 128 + number, log.read_text()
        assert log.read_text().count("saving, then stopping") == stops
        pid = launcher.start(folder, "resume")
    assert launcher.wait() == 0, log.read_text()
    assert "Traceback" not in log.read_text()
    assert differences(remains(only_run(straight)), remains(only_run(folder))) == []


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_number_of_workers_changes_no_weight(uninterrupted, photos, workers):
    """0, 1 and 2 processes give identical weights."""
    arguments = [*arguments_of(photos, "float32", epochs="2"), "--workers"]
    found = [remains(only_run(uninterrupted(*arguments, count)[0])) for count in ("0", workers)]
    assert differences(*found) == []
