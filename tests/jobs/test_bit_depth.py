"""A camera's 12 bits through the commands: measured once, kept with the model, never guessed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import OFFLINE, tiny_config
from PIL import Image

from imgcls.config.load import dump_yaml
from imgcls.config.reading import ReadingConfig
from imgcls.config.run import ResumeConfig
from imgcls.engine.checkpoint.folder import find_checkpoint, read_checkpoint
from imgcls.errors import CheckpointError
from imgcls.jobs.plan.plan import make_plan
from imgcls.jobs.plan.tables import checkpoint_table
from imgcls.jobs.train.restore import require_same
from imgcls.jobs.train.resume import reopen_run
from imgcls.jobs.train.start import start_run

TRAIN = ("train", "cells", *OFFLINE, "--epochs", "1", "--batch-size", "8", "--device", "cpu")


def cells(root, top, count=8, seed=0):
    """Two classes of 16-bit TIFFs with samples from 0 up to `top`."""
    rng = np.random.default_rng(seed)
    for name in ("large", "small"):
        (root / name).mkdir(parents=True)
        for index in range(count):
            samples = rng.integers(0, top + 1, (32, 32)).astype(np.uint16)
            samples[0, 0] = top
            Image.fromarray(samples).save(root / name / f"{index}.tif")
    return root


@pytest.fixture
def trained(tmp_path, command):
    """A model of 12-bit pictures."""
    cells(tmp_path / "cells", 4095)
    done = command(*TRAIN)
    assert done.code == 0, done.err
    [run] = (tmp_path / "outputs").iterdir()
    return run, done


def levels(table):
    return len(np.unique(np.asarray(table.images.open(0))))


@pytest.mark.parametrize("preflight", ["--preflight", "--no-preflight"])
def test_the_plan_says_the_depth(tmp_path, command, preflight):
    """On the screen and in --json, with and without the check of the pictures."""
    cells(tmp_path / "cells", 3000)
    done = command(*TRAIN, preflight, "--dry-run")
    assert done.code == 0, done.err
    assert "16 of more than 8 bits go up to 3,000 and are scaled by 12 bits" in done.out


def test_the_depth_is_kept_with_the_model(trained, tmp_path, command):
    """Darker pictures of the same camera are scaled as the training's, not by their own range."""
    run, done = trained
    assert "scaled by 12 bits" in done.err
    assert yaml.safe_load((run / "config.yaml").read_text())["reading"]["bit_depth"] == 12
    cells(tmp_path / "dark", 500)
    checkpoint = read_checkpoint(find_checkpoint(run))
    table = checkpoint_table(checkpoint, str(tmp_path / "dark"), ReadingConfig())
    samples = np.asarray(Image.open(tmp_path / "dark" / table.keys[0]))
    seen = np.asarray(table.images.open(0))[..., 0]
    assert np.array_equal(seen, np.rint(samples * (255 / 4095)).astype(np.uint8))
    assert levels(checkpoint_table(checkpoint, None, ReadingConfig())) > 200
    for arguments in (("--data", "dark"), ()):
        assert command("evaluate", run, *arguments, "--workers", "0").code == 0
    done = command("benchmark", run, "--data", "dark", "--batch-size", "4", "--num-samples", "8")
    assert done.code == 0, done.err


def test_pictures_above_the_depth_are_named(trained, tmp_path, command):
    """16 bits given to a model of 12: an error with the way out, not white pictures."""
    run, _ = trained
    cells(tmp_path / "bright", 60000)
    done = command("evaluate", run, "--data", "bright", "--workers", "0")
    assert done.code == 1
    assert "0.tif: cannot be read (has values up to 60,000, where a depth of 12 bits" in done.err
    assert command("evaluate", run, "--data", "bright", "--bit-depth", "16").code == 0


def test_a_depth_that_is_too_small_is_refused_before_training(tmp_path, command):
    """By the pre-flight, with every picture; PNGs too, which it does not decode otherwise."""
    folder = cells(tmp_path / "cells", 4095)
    for file in sorted(folder.glob("*/*.tif")):
        Image.open(file).save(file.with_suffix(".png"))
        file.unlink()
    done = command(*TRAIN, "--bit-depth", "10")
    assert done.code == 2
    reason = "up to 4,095, where a depth of 10 bits ends at 1,023"
    named = [line for line in done.err.splitlines() if reason in line and "imgcls: " not in line]
    assert len(named) == 16


def test_a_model_of_eight_bits_asks_for_the_depth_of_others(photos, tmp_path, command):
    """It knows no scale for more than 8 bits, so it does not take one."""
    assert command("train", photos, *TRAIN[2:]).code == 0
    for name in ("china", "flower"):
        (tmp_path / "deep" / name).mkdir(parents=True)
        Image.fromarray(np.full((32, 32), 900, np.uint16)).save(tmp_path / "deep" / name / "a.png")
    done = command("evaluate", "--data", "deep", "--workers", "0")
    assert (done.code, "see --bit-depth" in done.err) == (1, True)
    assert command("evaluate", "--data", "deep", "--bit-depth", "10").code == 0


def test_a_run_from_before_keeps_its_decoding(tmp_path, monkeypatch):
    """Its config names no depth: 16 bits, and what files declare is not looked at."""
    monkeypatch.chdir(tmp_path)
    run = start_run(make_plan(tiny_config(cells(tmp_path / "cells", 4095))))
    config = yaml.safe_load((run / "config.yaml").read_text())
    del config["reading"]["bit_depth"]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    plan = reopen_run(run, ResumeConfig())
    assert levels(plan.data.table) <= 17
    assert not plan.data.table.images.decoding.declared
    assert "bit_depth: auto" in dump_yaml(plan.config)


@pytest.mark.parametrize("edited", [14, None])
def test_a_run_does_not_go_on_with_another_depth(trained, command, edited):
    """Its pixels would be others: darker at 14 bits, and dark by 16 where none is named."""
    run, _ = trained
    file = run / "config.yaml"
    config = yaml.safe_load(file.read_text())
    config["reading"].pop("bit_depth")
    config["reading"].update({} if edited is None else {"bit_depth": edited})
    file.write_text(yaml.safe_dump(config))
    done = command("resume", run, "--epochs", "2")
    assert (done.code, len(done.error_lines)) == (2, 1)
    assert "reading.bit_depth = 12, the run now says" in done.err
    assert command("resume", run, "--epochs", "2", "--force").code == 0


def test_a_run_from_before_goes_on_unless_it_is_given_a_depth(tmp_path, command):
    """Its checkpoints name none, nor does its config."""
    cells(tmp_path / "cells", 4095)
    assert command(*TRAIN).code == 0
    [run] = (tmp_path / "outputs").iterdir()
    plan, last = reopen_run(run, ResumeConfig()), find_checkpoint(run, which="last")
    kept = dict(read_checkpoint(last).sidecar.config)
    kept["reading"] = {k: v for k, v in kept["reading"].items() if k != "bit_depth"}
    before = replace(read_checkpoint(last).sidecar, config=kept)

    def depth(bits):
        reading = plan.config.reading.model_copy(update={"bit_depth": bits})
        return plan.config.model_copy(update={"reading": reading})

    require_same(depth("auto"), plan.data, 0, last, before)
    with pytest.raises(CheckpointError, match=r"reading\.bit_depth = 'auto', the run now says 12"):
        require_same(depth(12), plan.data, 0, last, before)


def test_trials_of_a_search_keep_the_depth(tmp_path, command):
    """They plan on a split that was made before, and measure nothing."""
    cells(tmp_path / "cells", 4095)
    done = command("tune", *TRAIN[1:], "--trials", "1")
    assert done.code == 0, done.err
    [config] = (tmp_path / "outputs").glob("*/trial-*/config.yaml")
    assert yaml.safe_load(config.read_text())["reading"]["bit_depth"] == 12


def test_floats_beside_whole_numbers_are_refused(tmp_path, command):
    """0 to 1 and 0 to 4095 have no scale in common: one of the two would be black."""
    folder = cells(tmp_path / "cells", 4095)
    Image.fromarray(np.random.default_rng(0).random((32, 32), np.float32)).save(
        folder / "large" / "float.tif"
    )
    done = command(*TRAIN)
    assert done.code == 2
    assert "float.tif: holds numbers from 0 to 1 while other pictures go up to 4,095" in done.err


def test_inspect_says_what_the_bits_are(tmp_path, command):
    """The depth as a fact, unused bits, mixed depths, pictures in the dark, values below zero."""
    folder = cells(tmp_path / "cells", 4095)
    found = json.loads(command("inspect", folder, "--json").out)
    assert found["bit_depth"] == "16 of more than 8 bits go up to 4,095 and are scaled by 12 bits"
    assert [f["kind"] for f in found["findings"]] == ["few_pictures", "bit_depth"]
    rng = np.random.default_rng(1)
    extra = {
        "dark": rng.integers(0, 200, (32, 32)).astype(np.uint16),
        "below": rng.integers(-900, 900, (32, 32)).astype(np.int32),
        "plain": rng.integers(0, 256, (32, 32)).astype(np.uint8),
    }
    for name, samples in extra.items():
        Image.fromarray(samples).save(folder / "large" / f"{name}.tif")
    found = json.loads(command("inspect", folder, "--json").out)
    kinds = {finding["kind"]: finding for finding in found["findings"]}
    assert {"mixed_depths", "dim", "negative_values"} <= set(kinds)
    assert kinds["dim"]["sets"][0][0]["path"] == "large/dark.tif"
    assert kinds["negative_values"]["sets"][0][0]["path"] == "large/below.tif"
    assert "1 have 8 bits" in kinds["mixed_depths"]["title"]


def test_the_depth_of_very_many_pictures_is_measured_on_some(tmp_path, command, monkeypatch):
    """Those that the pre-flight reads; the plan says how many."""
    cells(tmp_path / "cells", 4095)
    monkeypatch.setattr("imgcls.jobs.plan.preflight._STRETCH", 2)
    monkeypatch.setattr("imgcls.jobs.plan.preflight._MOST_PICTURES", 6)
    done = command(*TRAIN, "--dry-run")
    assert done.code == 0, done.err
    assert "by 12 bits, of 6 pictures drawn at random" in " ".join(
        done.out.replace("│", "").split()
    )


@pytest.mark.parametrize("said", [(), ("--bit-depth", "12")])
def test_a_model_of_another_trainer_sees_all_levels(trained, tmp_path, command, said):
    """Its folder says nothing of bits: the depth of those to score decides, or the option."""
    run, _ = trained
    checkpoint = run / "fold_0" / "checkpoints" / "last"
    (tmp_path / "model").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "model" / name).write_bytes((checkpoint / name).read_bytes())
    model = read_checkpoint(tmp_path / "model")
    reading = ReadingConfig(**({"bit_depth": 12} if said else {}))
    table = checkpoint_table(model, str(tmp_path / "cells"), reading)
    assert levels(table) > 200
    score = ("--data", "cells", "--device", "cpu", "--ci", "none", "--no-report")
    done = command("evaluate", "model", *score, *said)
    assert done.code == 0, done.err
    assert said or "scaled by 12 bits" in done.err


def test_a_prediction_guesses_no_bits(trained, tmp_path, command):
    """Of a model of another trainer: 12 bits are no dark 16; with --bit-depth as evaluated."""
    run, _ = trained
    checkpoint = run / "fold_0" / "checkpoints" / "last"
    (tmp_path / "model").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "model" / name).write_bytes((checkpoint / name).read_bytes())
    Image.new("L", (48, 48)).save("plain.png")
    Path("mixed").mkdir()
    with Image.open(next(Path("cells").rglob("*.tif"))) as deep:
        deep.save("mixed/deep.png")
        deep.save("mixed/declared.tif", tiffinfo={281: 4095})
    inputs = ("mixed", "plain.png", "--checkpoint", "model", "--device", "cpu")
    done = command("predict", *inputs)
    assert done.code == 0, done.err
    declared, deep, plain = done.out.splitlines()[1:]
    assert "neither its file nor the model's folder says of how many; give them by" in deep
    assert declared.endswith(",")
    assert plain.endswith(",")
    said = command("predict", *inputs, "--bit-depth", "12").out.splitlines()
    assert [said[1], said[3]] == [declared, plain]
    assert said[2].partition(",")[2] == declared.partition(",")[2]
