"""`imgcls export --format int8-onnx`: what it costs and brings is measured, and told."""

from __future__ import annotations

import importlib.util
import json
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import save_crops
from onnx import numpy_helper
from PIL import Image

from imgcls.jobs.export import int8

RUN = "outputs/run"
EXPORTS = f"{RUN}/fold_0/exports"
INT8 = ("export", RUN, "--format", "int8-onnx")


@pytest.fixture(scope="module")
def own(tmp_path_factory, crops):
    """A folder with photos/ and a run that tells most of them apart: 28 val pictures."""
    from imgcls.cli.boundary import run

    root = tmp_path_factory.mktemp("int8")
    save_crops(crops, root / "photos", (40, 32, 20))
    options = ("--model", "test_resnet", "--no-pretrained", "--img-size", "32", "--workers", "0")
    more = ("--epochs", "3", "--lr", "3e-3", "--val-size", "0.3", "--batch-size", "8")
    where = ("--experiment", "run", "--device", "cpu", "--quiet", "--no-preflight")
    output = ("--output", str(root / "outputs"))
    assert run(["train", str(root / "photos"), *options, *more, *where, *output]) == 0
    return root


@pytest.fixture
def place(own, tmp_path):
    """A copy of that folder."""
    shutil.copytree(own, tmp_path, dirs_exist_ok=True)
    return tmp_path


def proof_in(folder):
    return json.loads((folder / "export.json").read_text(encoding="utf-8"))["proof"]


def test_the_drop_is_told_with_its_interval_and_the_speed_beside_float32(command, place):
    """On the screen and in the document; so few val pictures rule little out, which is said."""
    done = command(*INT8)
    assert done.code == 0, done.err
    folder = place / EXPORTS / "int8-onnx"
    assert sorted(p.name for p in folder.iterdir()) == ["export.json", "model.onnx"]
    proof = proof_in(folder)
    assert proof["fp32"]["top_1_agreement"] == 1
    assert proof["pictures"] == 28
    assert proof["top_1_agreement"] >= 0.9
    assert 0 < proof["mean_difference"] <= proof["largest_difference"] < 0.2
    low, high = proof["interval"]
    assert low <= proof["drop"] <= high
    told = " ".join(done.out.replace("│", " ").split())
    assert f"a drop of {proof['drop']:.2f} points (95% interval {low:.2f} to {high:.2f})" in told
    assert "So few pictures cannot rule out more than the 1 points of --max-drop." in told
    for speed in proof["speed"]:
        assert speed["ratio"] == pytest.approx(speed["fp32_ms"] / speed["int8_ms"])
        assert f"{speed['ratio']:.2f} times as fast in batches of {speed['batch_size']}" in told

    session = onnxruntime.InferenceSession(folder / "model.onnx")
    picture = np.asarray(Image.open(place / "photos/china/000.jpg"))
    [probabilities] = session.run(None, {"image": picture[None, :40]})
    assert probabilities.shape == (1, 3)
    assert probabilities.sum() == pytest.approx(1)
    props = session.get_modelmeta().custom_metadata_map
    assert json.loads(props["labels"]) == ["china", "flower", "violet"]
    assert json.loads(props["quantization"])["calibration_pictures"] == proof["calibrated_on"]


def test_a_drop_above_what_is_allowed_is_refused_and_leaves_nothing(command, place, monkeypatch):
    """One line with the interval and what to do, exit 1."""
    real = int8.quantize

    def damaged(source, batches, target, metadata):
        real(source, batches, target, metadata)
        model = onnx.load(target)
        [classifier] = [n for n in model.graph.node if n.op_type == "Gemm"]
        for one in model.graph.initializer:
            if one.name in classifier.input:
                one.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(one), one.name))
        onnx.save(model, target)

    monkeypatch.setattr(int8, "quantize", damaged)
    done = command(*INT8, "--profile", "tensor", "--max-drop", "2.5")
    assert done.code == 1
    [line] = done.error_lines
    assert "accuracy on 28 val pictures falls by " in line
    assert "--max-drop allows 2.5; nothing was written" in line
    exports = place / EXPORTS
    assert not exports.exists() or not [p for p in exports.iterdir() if p.is_dir()]


@pytest.fixture
def photos(own):
    """The pictures that the run was trained on, put back afterwards."""
    away = own / "away"
    shutil.copytree(own / "photos", away)
    yield own / "photos"
    shutil.rmtree(own / "photos", ignore_errors=True)
    away.rename(own / "photos")


def test_without_the_runs_pictures_there_is_no_int8(command, place, photos):
    """One line that says what is missing, whether some are gone or all of it; exit 2."""
    splits = place / RUN / "splits.csv"
    rows = [row.split(",") for row in splits.read_text(encoding="utf-8").splitlines()]
    for name in (row[0] for row in rows if "train" in row):
        (photos / name).unlink()
    done = command(*INT8, "--profile", "tensor")
    assert done.code == 2
    assert "train pictures to calibrate on can be read" in done.error_lines[0]
    shutil.rmtree(photos)
    done = command(*INT8)
    assert done.code == 2
    assert "there are none of train" in done.error_lines[0]
    assert not list((place / EXPORTS).glob("*/*"))


def test_a_missing_package_is_told_with_the_extra(command, place, monkeypatch):
    """As for the format onnx."""
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "onnx" else real(name, *a)
    )
    done = command(*INT8)
    assert done.code == 2
    assert done.error_lines[0].endswith('onnx is not installed; pip install "imgcls[onnx]"')


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((500, 500, 500), [100, 100, 100]),
        ((1000, 12, 300), [144, 12, 144]),
        ((20, 16, 1), [20, 16, 1]),
        ((1,) * 700, [1] * 700),
        ((3,) * 1500, [1] * 1000),
    ],
)
def test_calibration_draws_each_class_alike(counts, expected):
    """As many of each as there are, and of 1,500 classes of 1,000; the same each time."""
    labels = np.repeat(np.arange(len(counts)), counts)
    rows = np.flatnonzero(np.arange(len(labels)) >= 0)
    drawn = int8.balanced(labels, rows)
    assert len(set(drawn)) == len(drawn)
    assert sorted(np.bincount(labels[list(drawn)])) == sorted(
        [*expected, *[0] * (len(np.bincount(labels[list(drawn)])) - len(expected))]
    )
    assert int8.balanced(labels, rows) == drawn
    assert set(int8.balanced(labels, rows[5:])) <= set(rows[5:].tolist())
