"""Killed anywhere, an average of models or of folds ends as the one that was never stopped."""

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
OF_MODELS = {
    "between-two-models": (ENSEMBLE, "resume_run", 2, True),
    "while-beginning": ("imgcls.storage.runs", "publish_folder", 1, False),
    "inside-the-first-model": (SAVING, "point", 2, True),
    "inside-the-second-model": (SAVING, "point", 5, True),
    "before-the-average": (ENSEMBLE, "evaluate", 1, True),
    "before-the-summary": (ENSEMBLE, "write_json", 2, True),
}
OF_FOLDS = {
    "before-the-average": (ENSEMBLE, "evaluate", 1, True),
    "while-beginning": ("imgcls.storage.runs", "publish_folder", 1, False),
    "inside-the-second-fold": (SAVING, "point", 5, True),
    "between-folds-and-their-summary": ("imgcls.jobs.evaluate.folds", "write_json", 1, True),
    "before-the-summary": (ENSEMBLE, "write_json", 1, True),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory, crops):
    """A folder with photos/, and weights/ of two models."""
    place = tmp_path_factory.mktemp("data")
    save_crops(crops, place / "photos", (14, 12, 10))
    (place / "weights").mkdir()
    for name in NAMES:
        save_file(timm.create_model(name).state_dict(), place / "weights" / f"{name}.safetensors")
    return place


def arguments(place, kind):
    """Options of a short training of two models, or of three folds of one."""
    weights = place / "weights"
    what = {
        "models": ("--model", "auto", "--ensemble-models", "2", "--weights", weights),
        "folds": (
            "--preset", "best", "--folds", "3", "--model", NAMES[0], "--weights",
            weights / f"{NAMES[0]}.safetensors",
        ),
    }  # fmt: skip
    return [
        str(place / "photos"), *map(str, what[kind]), "--img-size", "32", "--batch-size", "16",
        "--epochs", "1", "--lr", "1e-3", "--device", "cpu", "--workers", "0", "--no-preflight",
        "--quiet",
    ]  # fmt: skip


def found(folder):
    """What two equal ensembles share."""
    [ensemble] = (folder / "outputs").glob("[!.]*")
    average = json.loads((ensemble / "summary.json").read_text())["average"]
    folds = sorted(ensemble.glob("*/fold_*"))
    return {
        "average": average,
        **{
            str(fold.relative_to(ensemble)): remains(fold.parent, int(fold.name.rpartition("_")[2]))
            for fold in folds
        },
    }


@pytest.fixture(scope="module")
def straight(launcher, tmp_path_factory, place):
    """A function: what a training leaves that was never stopped."""
    left = {}

    def of(kind):
        if kind not in left:
            folder = tmp_path_factory.mktemp("straight")
            code = launcher.run(folder, "train", *arguments(place, kind))
            assert code == 0, (folder / "log.txt").read_text()
            left[kind] = found(folder)
        return left[kind]

    return of


@pytest.mark.parametrize(
    ("kind", "instant"),
    [
        pytest.param(kind, instant, marks=[pytest.mark.slow] if number else [])
        for kind, instants in (("models", OF_MODELS), ("folds", OF_FOLDS))
        for number, instant in enumerate(instants)
    ],
)
def test_killed_it_ends_the_same(launcher, tmp_path, place, straight, kind, instant):
    """`resume` goes on with all of it: weights, states, histories, the average, bit for bit."""
    *where, has_begun = (OF_MODELS if kind == "models" else OF_FOLDS)[instant]
    launcher.start(tmp_path, "train", *arguments(place, kind), kill_at=where)
    assert launcher.wait() == -signal.SIGKILL, (tmp_path / "log.txt").read_text()
    assert bool(list(tmp_path.glob("outputs/[!.]*"))) is has_begun
    command = ["resume"] if has_begun else ["train", *arguments(place, kind)]
    assert launcher.run(tmp_path, *command) == 0, (tmp_path / "log.txt").read_text()
    whole = straight(kind)
    assert len(whole) == (3 if kind == "models" else 4)
    assert differences(whole, found(tmp_path)) == []
