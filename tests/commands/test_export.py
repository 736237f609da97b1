"""`imgcls export`: files for other programs, proven before they appear."""

from __future__ import annotations

import csv
import errno
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from conftest import OFFLINE
from faults import largest_file
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from imgcls.config.export import ExportConfig, ExportFormat
from imgcls.engine.checkpoint.folder import read_checkpoint
from imgcls.jobs.export import export as job
from imgcls.jobs.export import proof, weights
from imgcls.jobs.export.targets import TARGETS
from imgcls.jobs.export.work import Target
from imgcls.storage.held_out import VALIDATION, Validation
from imgcls.storage.pointers import find_checkpoint

SINGLE = Path("outputs/single/fold_0")
# any other program that runs ONNX: no imgcls, no torch
PLAIN = """
import json, sys
sys.modules["imgcls"] = sys.modules["torch"] = None
import numpy, onnxruntime
from PIL import Image
session = onnxruntime.InferenceSession(sys.argv[1])
labels = json.loads(session.get_modelmeta().custom_metadata_map["labels"])
for path in sys.argv[2:]:
    picture = numpy.asarray(Image.open(path).convert("RGB"))
    [probabilities] = session.run(None, {"image": picture[None]})[0]
    print(json.dumps([path, dict(zip(labels, probabilities.tolist()))]))
"""


@pytest.fixture
def place(trained, tmp_path):
    """A folder with photos/ of three classes, and copies of the runs, which know them as theirs."""
    shutil.copytree(trained / "outputs", tmp_path / "outputs")
    return tmp_path


@pytest.fixture
def export(command, place):
    """`imgcls export ARGUMENTS` with the run of one fold, in that folder."""
    return lambda *arguments: command("export", "outputs/single", *arguments)


@pytest.fixture(scope="module")
def onnx(trained, tmp_path_factory):
    """The report of one ONNX export of the profile picture."""
    output = tmp_path_factory.mktemp("deploy")
    return job.export(ExportConfig(checkpoint=trained / "outputs/single", output=output))


class Runtime:
    """A runtime that is torch itself, and answers as `change` would have it."""

    def __init__(self, monkeypatch, change=lambda answers: answers):
        self.change = change
        self.shapes = []
        target = Target("model.fake", self.write, self.prove)
        monkeypatch.setattr(job, "TARGETS", {**TARGETS, "onnx": target})

    def write(self, work, file, metadata):
        file.write_text("a graph")

    def prove(self, work, file):
        def run(images):
            self.shapes.append(images.shape)
            return self.change(work.module(torch.from_numpy(images)).numpy())

        return proof.prove("--format onnx", run, work.pictures, work.on_progress)


def document(folder):
    return json.loads((folder / "export.json").read_text(encoding="utf-8"))


def test_every_format_that_may_be_named_can_be_written():
    """The option's words are the table's."""
    assert {*get_args(ExportFormat)} == {*TARGETS}


def test_weights_are_those_of_the_checkpoint_under_timms_names(export):
    """Bit for bit, with what they mean in the header; timm loads them by itself."""
    import timm

    done = export("--format", "safetensors")
    assert done.code == 0, done.err
    folder = SINGLE / "exports/safetensors"
    assert f"safetensors   {folder}/model.safetensors" in done.out
    own = load_file(find_checkpoint(SINGLE) / "model.safetensors")
    found = load_file(folder / "model.safetensors")
    assert found.keys() == own.keys()
    assert all(torch.equal(found[key], own[key]) for key in own)
    with safe_open(folder / "model.safetensors", "pt") as opened:
        header = opened.metadata()
    assert header["format"] == "pt"
    assert json.loads(header["labels"]) == ["china", "flower", "violet"]
    assert json.loads(header["preprocessing"])["input_size"] == [3, 32, 32]
    timm.create_model("test_resnet", num_classes=3).load_state_dict(found)


def test_the_document_beside_says_what_the_model_is(export):
    """Strict JSON, by the names that examples/exporting.md lists, and the hash of each file."""
    assert export("--format", "safetensors").code == 0
    found = document(SINGLE / "exports/safetensors")
    assert found["format"] == "imgcls-export"
    assert found["decoding"] == {
        "orientation": "as EXIF says", "mode": "RGB", "background": "white", "bit_depth": 8,
    }  # fmt: skip
    assert found["metrics"]["val"]["metrics"]["val_loss"] > 0
    assert found["metrics"]["test"] is None
    assert found["calibration"] is found["conformal"] is None
    assert found["versions"].keys() >= {"imgcls", "timm", "torch", "python"}
    assert found["proof"]["tensors"] == 92
    assert found["files"]["model.safetensors"]["bytes"] > found["proof"]["tensor_bytes"]


def test_more_bits_than_eight_and_grey_are_said_as_each_file_takes_them(
    command, tmp_path, monkeypatch
):
    """In the document, in a note and in the card; also that no test scores can be had any more."""
    for index, name in enumerate("ab"):
        (tmp_path / "xrays" / name).mkdir(parents=True)
        for number in range(12):
            samples = np.full((32, 32), 300 * number + 50 * index, np.uint16)
            Image.fromarray(samples).save(tmp_path / "xrays" / name / f"{number}.png")
    quick = ("--epochs", "1", "--device", "cpu", "--no-preflight", "--experiment", "grey")
    assert command("train", "xrays", *OFFLINE, *quick, "--in-chans", "1").code == 0
    (tmp_path / "xrays").rename(tmp_path / "elsewhere")
    Runtime(monkeypatch)
    done = command("export", "outputs/grey", "--format", "onnx,safetensors,hf", "-o", "deploy")
    assert done.code == 0, done.err
    said = "its pictures had 12 bits a sample, and its 8 are round(sample * 255 / 4095)"
    assert said in done.err
    assert said[4:] in Path("deploy/hf/README.md").read_text(encoding="utf-8").replace("\\", "")
    common = {"orientation": "as EXIF says", "background": "white", "bit_depth": 12}
    # the graph makes RGB grey by itself; who builds the model from its weights does it first
    assert document(Path("deploy/onnx"))["decoding"] == {**common, "mode": "RGB"}
    assert document(Path("deploy/safetensors"))["decoding"] == {**common, "mode": "L"}
    assert "no numbers of a test split, and none can be had" in done.err
    assert "first run" not in done.err


def test_what_was_evaluated_and_fitted_goes_with_the_model(export, command):
    """The test split's metrics with intervals, the temperature, and the thresholds of sets."""
    quick = ("--no-report", "--ci-samples", "100", "--device", "cpu")
    assert command("evaluate", "outputs/single", "--calibrate", "temperature", *quick).code == 0
    checkpoint = read_checkpoint(find_checkpoint(SINGLE))
    heat = json.loads((checkpoint.folder / "calibration.json").read_text())["temperature"]

    def keep(temperature):
        labels, own = np.arange(30) % 3, np.linspace(0.2, 0.9, 30, dtype=np.float32)
        kept = Validation(
            labels=labels, predicted=np.arange(30) // 2 % 3, own_probabilities=own,
            confidences=own, units=np.arange(30), prevalence=np.full(3, 1 / 3),
            temperature=temperature, tta="none", amp="off",
        )  # fmt: skip
        (checkpoint.folder / VALIDATION).write_bytes(kept.content(checkpoint.weights_sha256))

    keep(heat)
    assert export("--format", "safetensors").code == 0
    found = document(SINGLE / "exports/safetensors")
    test = json.loads((SINGLE / "test_results/test/test_metrics.json").read_text())
    assert found["metrics"]["test"]["metrics"] == test["metrics"]
    assert found["metrics"]["test"]["intervals"] == test["intervals"]
    assert found["calibration"]["temperature"] == heat
    assert [sets["coverage"] for sets in found["conformal"]] == [0.9, 0.95]
    assert all(0 < threshold < 3 for sets in found["conformal"] for threshold in sets["thresholds"])
    # they hold for the probabilities that they were fitted on
    keep(2 * heat)
    assert export("--format", "safetensors", "--force").code == 0
    assert document(SINGLE / "exports/safetensors")["conformal"] is None


def test_another_checkpoints_evaluation_is_left_out(export):
    """One that the run had before it went on."""
    folder = SINGLE / "test_results/test"
    folder.mkdir(parents=True)
    (folder / "test_metrics.json").write_text(
        json.dumps({"format": "imgcls-evaluation", "checkpoint": "outputs/single/step-00000001"})
    )
    assert export("--format", "safetensors").code == 0
    assert document(SINGLE / "exports/safetensors")["metrics"]["test"] is None


def test_onnx_is_proven_on_pictures_of_val_in_three_batch_sizes(onnx):
    """As the record and the document beside the file say."""
    [one] = onnx.exports
    found = document(one.folder)
    assert found["proof"] == one.proof.to_json()
    assert one.proof.split == "val"
    assert [batch.batch_size for batch in one.proof.batches] == [1, 3, 8]
    assert all(batch.pictures >= one.proof.pictures for batch in one.proof.batches)
    assert one.proof.largest_difference <= one.proof.limit == 0.005
    shape = ["batch", "height", "width", 3]
    assert found["input"] == {"name": "image", "dtype": "uint8", "shape": shape}
    assert found["output"]["shape"] == ["batch", 3]


def test_onnx_holds_the_same_metadata_in_itself(onnx):
    """And those that the standard has for pictures."""
    import onnxruntime

    [one] = onnx.exports
    session = onnxruntime.InferenceSession(one.file)
    held = session.get_modelmeta().custom_metadata_map
    assert held["Image.BitmapPixelFormat"] == "Rgb8"
    assert held["Image.ColorSpaceGamma"] == "SRGB"
    assert held["Image.NominalPixelRange"] == "NominalRange_0_255"
    found = document(one.folder)
    for key in found.keys() - {"files", "proof"}:
        value = found[key]
        text = json.dumps(value, ensure_ascii=False)
        assert held[key] == (value if isinstance(value, str) else text)


def test_the_page_lists_every_key_of_the_document(onnx):
    """And no other."""
    page = (Path(__file__).parents[2] / "examples/exporting.md").read_text(encoding="utf-8")
    keys = page.partition("## What lies beside it")[2]
    listed = re.findall(r"^\| `([\w.]+)` \|", keys, re.MULTILINE)
    assert sorted(listed) == sorted(document(onnx.exports[0].folder))


def test_the_page_classifies_a_picture_by_onnxruntime_alone(onnx, trained):
    """Its first lines of Python, as they stand there."""
    page = (Path(__file__).parents[2] / "examples/exporting.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    picture = next((trained / "photos/china").glob("*.jpg"))
    found = subprocess.run(
        [sys.executable, "-c", code, picture], cwd=onnx.exports[0].folder,
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert len(re.findall(r"^(?:china|flower|violet): \d+\.\d%$", found.stdout, re.MULTILINE)) == 3


def test_another_program_gets_the_probabilities_of_predict(onnx, command, trained):
    """From the file alone, in a process where imgcls cannot be imported."""
    [one] = onnx.exports
    pictures = sorted(map(str, (trained / "photos").glob("*/*.jpg")))
    found = subprocess.run(
        [sys.executable, "-c", PLAIN, one.file, *pictures],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    answers = dict(map(json.loads, found.stdout.splitlines()))
    assert answers.keys() == {*pictures}
    run = str(trained / "outputs/single")
    assert command("predict", *pictures, "--checkpoint", run, "--output", "preds.csv").code == 0
    with Path("preds.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            probabilities = answers[row["path"]]
            assert max(probabilities, key=probabilities.get) == row["label"]
            for end in ("", "_2", "_3"):
                expected = float(row[f"probability{end}"])
                assert abs(probabilities[row[f"label{end}"]] - expected) < 0.005


def test_pictures_of_all_sizes_are_compared_in_batches_of_one_size(
    command, place, crops, monkeypatch
):
    """Alone as they are; together those of one size, and copies resized to it. All are counted."""
    rng = np.random.default_rng(0)
    for name in ("china", "flower"):
        (place / "mixed" / name).mkdir(parents=True)
        for index, picture in enumerate(crops[name][:30]):
            size = tuple(int(side) for side in rng.integers(20, 60, 2))
            Image.fromarray(picture).resize(size).save(place / "mixed" / name / f"{index}.png")
    Image.fromarray(crops["china"][0]).resize((900, 700)).save(place / "mixed/china/large.png")
    common = ("--model", "test_resnet", "--no-pretrained", "--img-size", "32", "--workers", "0")
    options = ("--epochs", "1", "--experiment", "mixed", "--val-size", "0.4", "--device", "cpu")
    assert command("train", "mixed", *common, *options, "--no-preflight", "--quiet").code == 0
    runtime = Runtime(monkeypatch)
    assert command("export", "outputs/mixed").code == 0
    found = document(Path("outputs/mixed/fold_0/exports/onnx"))["proof"]
    alone = [shape for shape in runtime.shapes if shape[0] == 1]
    assert len({shape[1:3] for shape in alone}) > 10
    assert {shape[0] for shape in runtime.shapes} == {1, 3, 8}
    assert all(height * width <= 640 * 480 for size, height, width, _ in runtime.shapes if size > 1)
    one, three, eight = found["batches"]
    assert one["pictures"] == found["pictures"] == len(alone)
    assert one["resized"] == 0
    for batch in (three, eight):
        assert 0 < batch["resized"] < batch["pictures"]
        assert batch["pictures"] % batch["batch_size"] == 0
        assert found["pictures"] <= batch["pictures"] < found["pictures"] + batch["batch_size"]


@pytest.mark.parametrize("profile", ["picture", "tensor"])
@pytest.mark.parametrize(
    "change", [lambda found: np.roll(found, 1, axis=1), lambda found: found * np.nan]
)
def test_a_mismatch_is_an_error_that_names_the_worst_picture(export, change, profile, monkeypatch):
    """And nothing appears: a graph that is wrong, or gives no numbers."""
    Runtime(monkeypatch, change)
    done = export("--profile", profile, "--output", "deploy")
    assert done.code == 1
    [line] = done.error_lines
    assert "does not answer as its checkpoint does" in line
    assert "the worst is " in line
    assert ".jpg (in a batch of " in line
    assert "Nothing was written" in line
    assert [path.suffix for path in Path("deploy").iterdir()] == [".lock"]


def test_a_picture_that_is_wrong_only_beside_others_is_found(export, monkeypatch):
    """A graph that mixes up the rows of a batch is right for one picture alone."""
    Runtime(monkeypatch, lambda found: np.repeat(found[:1], len(found), axis=0))
    done = export()
    assert done.code == 1
    assert "(in a batch of 3)" in done.err or "(in a batch of 8)" in done.err


def test_another_class_on_top_is_a_mismatch_unless_the_two_tie(export, monkeypatch):
    """By the limit, for the two classes' probabilities of the checkpoint."""

    def nearly(found):
        """The two likeliest of the surest picture nearly even, the second a hair above."""
        found = found.copy()
        best, second = np.argsort(-found, axis=1)[:, :2].T
        rows = np.arange(len(found))
        gaps.extend(found[rows, best] - found[rows, second])
        mean = (found[rows, best] + found[rows, second]) / 2
        found[rows, best], found[rows, second] = mean - 1e-6, mean + 1e-6
        return found

    gaps = []
    Runtime(monkeypatch, nearly)
    monkeypatch.setitem(proof.LIMITS, "picture", 1.0)
    assert export().code == 0
    found = document(SINGLE / "exports/onnx")["proof"]
    assert found["top_1_agreement"] == 0
    assert found["ties"] == sum(batch["pictures"] for batch in found["batches"])
    # within the limit, which is half of what lies between the two, and not tied
    monkeypatch.setitem(proof.LIMITS, "picture", 0.75 * float(max(gaps)))
    done = export("--force")
    assert done.code == 1
    assert "does not answer as its checkpoint does" in done.err
    assert document(SINGLE / "exports/onnx")["proof"] == found


def test_a_checkpoint_outside_its_run_is_compared_on_digits(command, place, monkeypatch):
    """And a note says so, as the document does."""
    Runtime(monkeypatch)
    shutil.copytree(find_checkpoint(place / SINGLE), place / "alone/model")
    done = command("export", "alone/model", "--output", "deploy")
    assert done.code == 0
    assert "compared on the embedded digits: alone/model: lies outside its run" in done.err
    found = document(Path("deploy/onnx"))["proof"]
    assert found["split"] == "digits"
    assert found["pictures"] == 200


def test_a_format_that_lacks_its_package_is_one_line_before_any_work(export, monkeypatch):
    """It names the extra."""
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxscript" else real(name)
    )
    done = export("--format", "safetensors,onnx", "--output", "deploy")
    assert done.code == 2
    assert done.error_lines == [
        'imgcls: --format onnx: onnxscript is not installed; pip install "imgcls[onnx]"'
    ]
    assert not Path("deploy").exists()


def test_several_formats_appear_together(export, monkeypatch):
    """With a comma, or the option twice; where one fails, none does."""
    runtime = Runtime(monkeypatch)
    assert export("--format", "onnx,safetensors", "--output", "a").code == 0
    assert export("--format", "onnx", "--format", "safetensors", "--output", "b").code == 0
    for folder in map(Path, "ab"):
        assert {p.name for p in folder.glob("[!.]*")} == {"onnx", "safetensors"}
    runtime.change = lambda found: 1 - found
    assert export("--format", "safetensors,onnx", "--output", "c").code == 1
    assert list(Path("c").glob("[!.]*")) == []


def test_what_is_there_is_replaced_by_force_only(export):
    """And then what the user has put beside it stays."""
    assert export("--format", "safetensors").code == 0
    folder = SINGLE / "exports/safetensors"
    before = (folder / "model.safetensors").stat().st_ino
    done = export("--format", "safetensors")
    assert done.code == 2
    assert "is there already; replace it with --force, or name another" in done.error_lines[0]
    assert (folder / "model.safetensors").stat().st_ino == before
    (folder / "mine.txt").write_text("mine")
    assert export("--format", "safetensors", "--force").code == 0
    assert (folder / "model.safetensors").stat().st_ino != before
    assert (folder / "mine.txt").read_text() == "mine"


def test_a_folder_that_imgcls_did_not_write_is_left_alone(export):
    """Whatever --force says."""
    folder = Path("deploy/safetensors")
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_text("mine")
    done = export("--format", "safetensors", "--output", "deploy", "--force")
    assert done.code == 2
    assert "imgcls did not write it" in done.error_lines[0]
    assert (folder / "model.safetensors").read_text() == "mine"


def test_a_file_that_is_not_what_was_written_never_appears(export, monkeypatch):
    """One line that names the tensor, and nothing beside what was there."""
    real = weights.write_tensors

    def flipped(tensors, file, metadata):
        key = next(iter(tensors))
        real({**tensors, key: -tensors[key]}, file, metadata)

    monkeypatch.setattr(weights, "write_tensors", flipped)
    done = export("--format", "safetensors", "--output", "deploy")
    assert done.code == 1
    assert "was not read back as it was written" in done.error_lines[0]
    assert [p.name for p in Path("deploy").iterdir()] == [".safetensors.lock"]


def test_a_model_that_an_exporter_cannot_take_is_one_line(export, monkeypatch):
    """In the exporter's words, and nothing appears."""
    runtime = Runtime(monkeypatch)
    monkeypatch.setattr(runtime, "write", None)
    target = Target("model.fake", lambda *_: 1 / 0, runtime.prove)
    monkeypatch.setattr(job, "TARGETS", {"onnx": target})
    done = export("--output", "deploy")
    assert done.code == 1
    assert done.error_lines == ["imgcls: --format onnx: cannot take this model (division by zero)"]
    assert [p.name for p in Path("deploy").iterdir()] == [".onnx.lock"]


def test_several_folds_are_several_models(command, place):
    """One line that says which to name."""
    done = command("export", "outputs/folds", "--format", "safetensors")
    assert done.code == 2
    assert "has 2 folds, and a file holds one model; name one of them, such as outputs" in done.err
    assert command("export", "outputs/folds/fold_1", "--format", "safetensors").code == 0


def test_an_unknown_format_is_told_with_those_there_are(export):
    """As every option is."""
    done = export("--format", "coreml")
    assert done.code == 2
    assert "'coreml' is not allowed; expected " in done.error_lines[0]


@pytest.mark.parametrize(
    "name",
    [
        "safetensors",
        *(pytest.param(n, marks=pytest.mark.slow) for n in TARGETS if n != "safetensors"),
    ],
)
def test_a_disk_that_takes_no_more_is_one_line(export, name):
    """Whatever library writes the file."""
    with largest_file(60_000):
        done = export("--format", name, "--output", "deploy")
    assert done.code == 1
    [line] = done.error_lines
    assert line.startswith(f"imgcls: deploy/{name}: cannot be written: the file is larger")
    assert [p.name for p in Path("deploy").iterdir()] == [f".{name}.lock"]


def test_a_folder_that_may_not_be_written_is_a_request_for_another(export, monkeypatch):
    """As of a run on a read-only disk; nothing was started."""

    def refuse(_staged, final):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(final))

    monkeypatch.setattr(job.StagedFolders, "stage", refuse)
    done = export("--format", "safetensors")
    assert done.code == 2
    assert "the disk is read-only; name another folder with --output" in done.error_lines[0]
