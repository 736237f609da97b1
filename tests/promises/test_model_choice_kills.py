"""Killed while it chooses a model, or behind that, `train --model auto` ends the same."""

from __future__ import annotations

import json
import signal

import pytest
import timm
from conftest import save_crops
from killing import differences, only_run, remains
from safetensors.torch import save_file

CHOOSING, SAVING = "imgcls.jobs.train.choice.choose", "imgcls.engine.checkpoint.checkpointer"
# what is killed: (module, function, at which call), and whether a run is there then
INSTANTS = {
    "while-measuring-costs": (CHOOSING, "cost_of", 2, False),
    "while-computing-features": (CHOOSING, "features_of", 2, False),
    "while-deciding": (CHOOSING, "decide", 1, False),
    "before-the-folder-is-there": ("imgcls.storage.runs", "publish_folder", 1, False),
    "while-writing-the-choice": ("imgcls.jobs.train.start", "write_json", 2, False),
    "before-the-first-checkpoint": (SAVING, "point", 1, True),
}


@pytest.fixture(scope="module")
def arguments(tmp_path_factory, crops):
    """Options of a short training, whose model is chosen of two."""
    place = tmp_path_factory.mktemp("data")
    photos, weights = save_crops(crops, place / "photos", (14, 12, 10)), place / "weights"
    weights.mkdir()
    for name in ("test_byobnet", "test_efficientnet"):
        save_file(timm.create_model(name).state_dict(), weights / f"{name}.safetensors")
    return [
        str(photos), "--model", "auto", "--weights", str(weights), "--img-size", "32",
        "--batch-size", "16", "--epochs", "1", "--lr", "1e-3", "--device", "cpu", "--workers", "0",
        "--quiet",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def straight(launcher, tmp_path_factory, arguments):
    """The run that was never stopped."""
    folder = tmp_path_factory.mktemp("straight")
    assert launcher.run(folder, "train", *arguments) == 0, (folder / "log.txt").read_text()
    return only_run(folder)


@pytest.mark.parametrize(
    "instant",
    [
        *(pytest.param(name, marks=pytest.mark.slow) for name in list(INSTANTS)[:4]),
        *list(INSTANTS)[4:],
    ],
)
def test_killed_while_it_chooses_it_ends_the_same(launcher, tmp_path, arguments, straight, instant):
    """The same command begins anew, or `resume` goes on without choosing: the same bits."""
    *where, has_run = INSTANTS[instant]
    launcher.start(tmp_path, "train", *arguments, kill_at=where)
    assert launcher.wait() == -signal.SIGKILL, (tmp_path / "log.txt").read_text()
    assert bool(list(tmp_path.glob("outputs/[!.]*"))) is has_run
    command = ["resume"] if has_run else ["train", *arguments]
    # a second choice would be killed
    launcher.start(tmp_path, *command, kill_at=(CHOOSING, "decide", 1 if has_run else 2))
    assert launcher.wait() == 0, (tmp_path / "log.txt").read_text()
    run = only_run(tmp_path)
    assert differences(remains(straight), remains(run)) == []
    choices = [json.loads((one / "model_choice.json").read_text()) for one in (straight, run)]
    assert len({one["chosen"] for one in choices}) == 1
    scores = [[one["log_loss"] for one in choice["candidates"]] for choice in choices]
    assert scores[0] == scores[1]
