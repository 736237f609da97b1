"""`--calibrate temperature`: fitted on val, kept with the weights, used from then on."""

from __future__ import annotations

import json

import pytest
from conftest import OFFLINE

from imgcls.report.evaluation_files import read_predictions


@pytest.fixture
def run(command, photos):
    assert command("train", photos, *OFFLINE, "--epochs", "1").code == 0
    [run] = (photos.parent / "outputs").iterdir()
    return run


def evaluated(command, *arguments):
    done = command("evaluate", *arguments, "--ci", "none", "--no-report", "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_a_temperature_is_kept_and_used(command, run):
    """The next evaluation uses it; --calibrate none does not; no prediction changes."""
    plain = evaluated(command)
    assert plain["calibration"] is None
    files = {f: f.read_bytes() for f in (run / "fold_0/checkpoints/best").iterdir()}
    fitted = evaluated(command, "--calibrate", "temperature")
    assert {f: f.read_bytes() for f in files} == files
    kept = evaluated(command)
    assert kept["metrics"] == fitted["metrics"]
    calibration = kept["calibration"]
    assert (calibration["fitted_on"], calibration["samples"]) == ("val", 7)
    assert calibration["before"]["nll"] == plain["metrics"]["nll"]
    assert calibration["after"]["nll"] == kept["metrics"]["nll"] != plain["metrics"]["nll"]
    assert kept["confusion_matrix"] == plain["confusion_matrix"]
    read = read_predictions(run / "fold_0/test_results/test")
    assert read.temperature == calibration["temperature"]
    assert read.picture_losses.mean() == pytest.approx(kept["metrics"]["nll"])
    assert evaluated(command, "--calibrate", "none")["metrics"] == plain["metrics"]


def test_it_is_best_on_the_pictures_it_was_fitted_on(command, run):
    """NLL on val falls, and the note says that this is no proof."""
    before = evaluated(command, "--split", "val")
    evaluated(command, "--calibrate", "temperature")
    after = evaluated(command, "--split", "val")
    assert after["metrics"]["nll"] < before["metrics"]["nll"]
    assert "fitted on val" in after["notes"][0]


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
