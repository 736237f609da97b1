"""Killed anywhere, an ensemble of several models ends as the one that was never stopped."""

from __future__ import annotations

import json
import signal

import pytest
import timm
from conftest import save_crops
from killing import differences, remains
from safetensors.torch import save_file

NAMES = ("test_byobnet", "test_vit")
ENSEMBLE, SAVING = "imgcls.jobs.train.choice.ensemble", "imgcls.engine.checkpoint.checkpointer"
# what is killed: (module, function, at which call), and whether something is there then
INSTANTS = {
    "between-two-models": (ENSEMBLE, "resume_run", 2, True),
    "while-beginning": ("imgcls.storage.runs", "publish_folder", 1, False),
    "inside-the-first-model": (SAVING, "point", 2, True),
    "inside-the-second-model": (SAVING, "point", 5, True),
    "before-the-average": (ENSEMBLE, "evaluate", 1, True),
    "before-the-summary": (ENSEMBLE, "write_json", 2, True),
}


@pytest.fixture(scope="module")
def arguments(tmp_path_factory, crops):
    """Options of a short training of two models."""
    place = tmp_path_factory.mktemp("data")
    photos, weights = save_crops(crops, place / "photos", (14, 12, 10)), place / "weights"
    weights.mkdir()
    for name in NAMES:
        save_file(timm.create_model(name).state_dict(), weights / f"{name}.safetensors")
    return [
        str(photos), "--model", "auto", "--ensemble-models", "2", "--weights", str(weights),
        "--img-size", "32", "--batch-size", "16", "--epochs", "1", "--lr", "1e-3", "--device",
        "cpu", "--workers", "0", "--no-preflight", "--quiet",
    ]  # fmt: skip


def found(folder):
    """What two equal ensembles share."""
    [ensemble] = (folder / "outputs").glob("[!.]*")
    average = json.loads((ensemble / "summary.json").read_text())["average"]
    return {"average": average, **{name: remains(ensemble / name) for name in NAMES}}


@pytest.fixture(scope="module")
def straight(launcher, tmp_path_factory, arguments):
    """What the training leaves that was never stopped."""
    folder = tmp_path_factory.mktemp("straight")
    assert launcher.run(folder, "train", *arguments) == 0, (folder / "log.txt").read_text()
    return found(folder)


@pytest.mark.parametrize(
    "instant",
    [
        next(iter(INSTANTS)),
        *(pytest.param(name, marks=pytest.mark.slow) for name in list(INSTANTS)[1:]),
    ],
)
def test_killed_it_ends_the_same(launcher, tmp_path, arguments, straight, instant):
    """`resume` goes on with all of it: weights, states, histories, the average, bit for bit."""
    *where, has_begun = INSTANTS[instant]
    launcher.start(tmp_path, "train", *arguments, kill_at=where)
    assert launcher.wait() == -signal.SIGKILL, (tmp_path / "log.txt").read_text()
    assert bool(list(tmp_path.glob("outputs/[!.]*"))) is has_begun
    command = ["resume"] if has_begun else ["train", *arguments]
    assert launcher.run(tmp_path, *command) == 0, (tmp_path / "log.txt").read_text()
    assert differences(straight, found(tmp_path)) == []
