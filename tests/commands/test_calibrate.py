"""`--calibrate temperature`: fitted on val, kept with the weights, used from then on."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from conftest import OFFLINE
from PIL import Image

from imgcls.engine.checkpoint.folder import find_checkpoint, read_checkpoint
from imgcls.engine.checkpoint.temperature import Temperature, temperature_file
from imgcls.storage.evaluations import read_predictions


@pytest.fixture
def run(command, photos):
    assert command("train", photos, *OFFLINE, "--epochs", "1").code == 0
    [run] = (photos.parent / "outputs").iterdir()
    return run


@pytest.fixture
def easy(command, tmp_path):
    """A run on pictures of one colour a class, whose val pictures are all right."""
    rng = np.random.default_rng(0)
    root = tmp_path / "colours"
    for name, colour in (("red", (220, 30, 30)), ("green", (30, 200, 30)), ("blue", (30, 30, 220))):
        (root / name).mkdir(parents=True)
        for index in range(40):
            pixels = rng.normal(colour, 30, (32, 32, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index:02d}.png")
    assert command("train", root, *OFFLINE, "--epochs", "8", "--lr", "0.01").code == 0
    [run] = (tmp_path / "outputs").iterdir()
    return run


def evaluated(command, *arguments):
    done = command("evaluate", *arguments, "--ci", "none", "--no-report", "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_a_temperature_is_kept_and_used(command, easy):
    """The next evaluation uses it; --calibrate none does not; no prediction changes."""
    plain = evaluated(command)
    assert plain["calibration"] is None
    files = {f: f.read_bytes() for f in (easy / "fold_0/checkpoints/best").iterdir()}
    fitted = evaluated(command, "--calibrate", "temperature")
    assert {f: f.read_bytes() for f in files} == files
    kept = evaluated(command)
    assert kept["metrics"] == fitted["metrics"]
    calibration = kept["calibration"]
    assert (calibration["fitted_on"], calibration["samples"]) == ("val", 18)
    assert calibration["before"]["nll"] == plain["metrics"]["nll"]
    assert calibration["after"]["nll"] == kept["metrics"]["nll"] != plain["metrics"]["nll"]
    assert kept["confusion_matrix"] == plain["confusion_matrix"]
    read = read_predictions(easy / "fold_0/test_results/test")
    assert read.temperature == calibration["temperature"]
    assert read.picture_losses.mean() == pytest.approx(kept["metrics"]["nll"])
    assert evaluated(command, "--calibrate", "none")["metrics"] == plain["metrics"]


def test_it_is_best_on_the_pictures_it_was_fitted_on(command, easy):
    """NLL on val falls, and the note says that this is no proof."""
    before = evaluated(command, "--split", "val")
    evaluated(command, "--calibrate", "temperature")
    after = evaluated(command, "--split", "val")
    assert after["metrics"]["nll"] < before["metrics"]["nll"]
    assert any("its calibration looks too good" in note for note in after["notes"])


def test_the_split_that_is_scored_cannot_be_the_one_it_is_fitted_on(command, run):
    """One line, nothing scored."""
    done = command("evaluate", "--split", "val", "--calibrate", "temperature")
    assert done.code == 2
    assert "is fitted on val, so val cannot be scored with it" in done.error_lines[0]
    assert not (run / "fold_0/test_results").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weights_sha256": "0" * 64}, "belongs to other weights"),
        ({"temperature": 0}, "damaged"),
        ({"temperature": "warm"}, "damaged"),
        ({"format": "else"}, "damaged"),
    ],
)
def test_a_temperature_of_other_weights_is_refused(command, run, change, words):
    """And fitting again mends it."""
    evaluated(command, "--calibrate", "temperature")
    file = (run / "fold_0/checkpoints/best").resolve() / "calibration.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    done = command("evaluate")
    assert done.code == 2
    assert words in done.error_lines[0]
    assert "--calibrate temperature" in done.error_lines[0]
    evaluated(command, "--calibrate", "temperature")
    evaluated(command)


def test_val_pictures_that_are_all_right_do_not_make_a_model_certain(command, easy, tmp_path):
    """The temperature stays far from 0, a note says why, and mistakes elsewhere stay affordable."""
    assert evaluated(command, "--split", "val")["metrics"]["accuracy"] == 1.0
    fitted = evaluated(command, "--calibrate", "temperature")
    assert 0.2 < fitted["calibration"]["temperature"] <= 1
    assert "is wrong, so they do not tell how sure is too sure" in fitted["calibration"]["reason"]
    assert any(fitted["calibration"]["reason"] in note for note in fitted["notes"])
    # reds among the greens
    other = tmp_path / "other" / "green"
    other.mkdir(parents=True)
    for file in sorted((tmp_path / "colours" / "red").iterdir())[:4]:
        shutil.copy(file, other)
    for file in sorted((tmp_path / "colours" / "green").iterdir())[4:]:
        shutil.copy(file, other)
    plain = evaluated(command, "--data", other.parent, "--calibrate", "none")
    mended = evaluated(command, "--data", other.parent)
    assert mended["metrics"]["nll"] < 3 * plain["metrics"]["nll"]
    note = next(note for note in mended["notes"] if "NLL rises from" in note)
    assert f"from {plain['metrics']['nll']:.4f} to {mended['metrics']['nll']:.4f}" in note
    assert "--calibrate none leaves it out" in note


def test_a_temperature_is_told_where_it_harms(command, photos, tmp_path):
    """Also one that nobody asked for; for one checkpoint, for views and for each fold of a run."""
    assert command("train", photos, *OFFLINE, "--epochs", "1", "--folds", "3").code == 0
    [run] = (tmp_path / "outputs").iterdir()
    for fold in range(3):
        # as if the val pictures had asked for far more confidence
        checkpoint = read_checkpoint(find_checkpoint(run, fold))
        file, text = temperature_file(checkpoint, Temperature(0.02, "val", 7))
        file.write_text(text)
    for arguments in (("--fold", "0"), ("--fold", "0", "--tta", "hflip")):
        notes = evaluated(command, *arguments)["notes"]
        assert any("the temperature 0.02, fitted on val, makes these pictures'" in n for n in notes)
        assert any("at the limit of 0.1 or beyond" in note for note in notes)
    for arguments in (("--fold", "all"), ("--ensemble",)):
        notes = evaluated(command, *arguments)["notes"]
        assert any("fold 1: the temperature 0.02, fitted on val, makes" in n for n in notes)


def test_what_is_fitted_on_val_needs_its_run(command, run, photos, tmp_path):
    """A checkpoint that lies alone does not know its val pictures, whatever --data is given."""
    alone = shutil.copytree((run / "fold_0/checkpoints/best").resolve(), tmp_path / "alone")
    for fitting in (["--calibrate", "temperature"], ["--conformal", "0.9"], ["--fit-unlike"]):
        done = command("evaluate", alone, "--data", photos, *fitting)
        assert done.code == 2
        assert "its val pictures" in done.err or "its train pictures" in done.err
        assert "--data" not in done.err
