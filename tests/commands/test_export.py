"""`imgcls export`: files for other programs, proven before they appear."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from imgcls.jobs.export import weights

SINGLE = "outputs/single/fold_0"


@pytest.fixture
def place(trained, tmp_path):
    """A folder with a link to photos/ of three classes, and copies of the runs."""
    (tmp_path / "photos").symlink_to(trained / "photos")
    shutil.copytree(trained / "outputs", tmp_path / "outputs")
    return tmp_path


@pytest.fixture
def export(command, place):
    """`imgcls export ARGUMENTS` with the run of one fold, in that folder."""
    return lambda *arguments: command("export", "outputs/single", *arguments)


def document(folder):
    return json.loads((folder / "export.json").read_text(encoding="utf-8"))


def test_weights_are_those_of_the_checkpoint_under_timms_names(export, place):
    """Bit for bit, with what they mean in the header; timm loads them by itself."""
    import timm

    done = export("--format", "safetensors")
    assert done.code == 0, done.err
    folder = place / SINGLE / "exports/safetensors"
    assert f"safetensors   {SINGLE}/exports/safetensors/model.safetensors" in done.out
    own = load_file(next((place / SINGLE / "checkpoints").glob("step-*")) / "model.safetensors")
    found = load_file(folder / "model.safetensors")
    assert found.keys() == own.keys()
    assert all(torch.equal(found[key], own[key]) for key in own)
    with safe_open(folder / "model.safetensors", "pt") as opened:
        header = opened.metadata()
    assert header["format"] == "pt"
    assert json.loads(header["labels"]) == ["china", "flower", "violet"]
    assert json.loads(header["preprocessing"])["input_size"] == [3, 32, 32]
    timm.create_model("test_resnet", num_classes=3).load_state_dict(found)


def test_the_document_beside_says_what_the_model_is(export, place):
    """Strict JSON, by the names that examples/exporting.md lists, and the hash of each file."""
    assert export("--format", "safetensors").code == 0
    found = document(place / SINGLE / "exports/safetensors")
    assert found["format"] == "imgcls-export"
    assert found["labels"] == ["china", "flower", "violet"]
    assert found["metrics"]["val"]["metrics"]["val_loss"] > 0
    assert found["metrics"]["test"] is None
    assert found["versions"].keys() >= {"imgcls", "timm", "torch", "python"}
    assert found["proof"] == {
        "tensors": 92,
        "tensor_bytes": found["proof"]["tensor_bytes"],
        "equal": True,
    }
    assert found["files"]["model.safetensors"]["bytes"] > found["proof"]["tensor_bytes"]


def test_what_is_there_is_replaced_by_force_only(export, place):
    """And then what the user has put beside it stays."""
    assert export("--format", "safetensors").code == 0
    folder = place / SINGLE / "exports/safetensors"
    before = (folder / "model.safetensors").stat().st_ino
    done = export("--format", "safetensors")
    assert done.code == 2
    assert "is there already; replace it with --force, or name another" in done.error_lines[0]
    assert (folder / "model.safetensors").stat().st_ino == before
    (folder / "mine.txt").write_text("mine")
    assert export("--format", "safetensors", "--force").code == 0
    assert (folder / "model.safetensors").stat().st_ino != before
    assert (folder / "mine.txt").read_text() == "mine"


def test_a_folder_that_imgcls_did_not_write_is_left_alone(export, place):
    """Whatever --force says."""
    (place / "deploy/safetensors").mkdir(parents=True)
    (place / "deploy/safetensors/model.safetensors").write_text("mine")
    done = export("--format", "safetensors", "--output", "deploy", "--force")
    assert done.code == 2
    assert "imgcls did not write it" in done.error_lines[0]
    assert (place / "deploy/safetensors/model.safetensors").read_text() == "mine"


def test_a_file_that_is_not_what_was_written_never_appears(export, place, monkeypatch):
    """One line that names the tensor, and nothing beside what was there."""
    real = weights.write_tensors

    def flipped(tensors, file, metadata):
        key = next(iter(tensors))
        real({**tensors, key: -tensors[key]}, file, metadata)

    monkeypatch.setattr(weights, "write_tensors", flipped)
    done = export("--format", "safetensors", "--output", "deploy")
    assert done.code == 1
    assert "was not read back as it was written" in done.error_lines[0]
    assert [p.name for p in (place / "deploy").iterdir()] == [".safetensors.lock"]


def test_several_folds_are_several_models(command, place):
    """One line that says which to name."""
    done = command("export", "outputs/folds", "--format", "safetensors")
    assert done.code == 2
    assert (
        "has 2 folds, and a file holds one model; name one of them, such as outputs/folds/fold_0"
        in done.err
    )
    assert command("export", "outputs/folds/fold_1", "--format", "safetensors").code == 0


def test_an_unknown_format_is_told_with_those_there_are(export):
    """As every option is."""
    done = export("--format", "coreml")
    assert done.code == 2
    assert "'coreml' is not allowed; expected " in done.error_lines[0]


@pytest.fixture
def onnx(export, place):
    """The JSON document of an ONNX export of the profile picture, and its folder."""
    done = export("--format", "onnx", "--json")
    assert done.code == 0, done.err
    folder = place / SINGLE / "exports/onnx"
    return json.loads(done.out), document(folder), folder


def test_onnx_is_proven_on_pictures_of_val_in_three_batch_sizes(onnx):
    """As the record and the document beside the file say."""
    report, found, _ = onnx
    [one] = report["exports"]
    assert one["proof"] == found["proof"]
    proof = found["proof"]
    assert proof["split"] == "val"
    assert proof["stand_in"] is None
    assert [batch["batch_size"] for batch in proof["batches"]] == [1, 3, 8]
    assert all(batch["pictures"] >= proof["pictures"] for batch in proof["batches"])
    assert 0 < proof["largest_difference"] <= proof["limit"] == 0.005
    assert found["input"] == {
        "name": "image",
        "dtype": "uint8",
        "shape": ["batch", "height", "width", 3],
    }
    assert found["output"] == {"name": "probabilities", "dtype": "float32", "shape": ["batch", 3]}


def test_onnx_holds_the_same_metadata_in_itself(onnx):
    """And those that the standard has for pictures."""
    import onnxruntime

    _, found, folder = onnx
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    held = session.get_modelmeta().custom_metadata_map
    assert held["Image.BitmapPixelFormat"] == "Rgb8"
    assert held["Image.ColorSpaceGamma"] == "SRGB"
    assert held["Image.NominalPixelRange"] == "NominalRange_0_255"
    for key in found.keys() - {"files", "proof"}:
        value = found[key]
        assert held[key] == (
            value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        )
