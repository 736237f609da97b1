"""Files that `imgcls import` refuses: one line, exit 2, nothing run and nothing made."""

from __future__ import annotations

import ast
import collections
import json
import os
import pickle
import sys
import zipfile
from pathlib import Path

import pytest
import timm
import torch
from earlier_files import CLASSES, Wrapped
from safetensors.torch import save_file

from imgcls.config.import_ import ImportConfig
from imgcls.errors import ConfigError, ModelError
from imgcls.jobs.import_ import source
from imgcls.models import foreign
from imgcls.models.layouts import read_trained

FIRST, HEAD = "backbone.conv1.0.weight", "classifier.1.weight"


def of_kind(state: dict[str, torch.Tensor], dtype: torch.dtype) -> None:
    """The weights as numbers of another kind, as compressed models have them."""
    state.update({k: v.to(dtype) for k, v in state.items() if v.is_floating_point()})


@pytest.fixture
def refused(command, tmp_path):
    """Import a file that must be refused: its one line."""
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES), encoding="utf-8")

    def run(name: str, *options: str, model: str = "test_resnet") -> str:
        given = options if "--classes" in options else ("--classes", "classes.txt", *options)
        done = command("import", name, "--model", model, *given)
        assert done.code == 2, done.out + done.err
        assert not (tmp_path / "outputs").exists()
        assert "Traceback" not in done.err
        [line] = done.error_lines
        return line

    return run


class Touches:
    """Unpickling this would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class Evaluates:
    """Unpickling this would run an expression."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return eval, (f"__import__('pathlib').Path({str(self.path)!r}).touch()",)


@pytest.mark.parametrize("kind", [Touches, Evaluates])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("place", ["beside", "instead"])
def test_a_pickle_that_would_run_code_runs_nothing(refused, tmp_path, kind, zipped, place):
    """In both formats of torch.save, also beside good weights."""
    made = tmp_path / "made"
    state = Wrapped().state_dict() if place == "beside" else kind(made)
    content = {"model_state_dict": state, "config": kind(made)}
    torch.save(content, tmp_path / "bad.pt", _use_new_zipfile_serialization=zipped)
    line = refused("bad.pt")
    assert ("would call" if zipped else "could run code") in line
    assert not made.exists()
    # the file is what it is meant to be: read as Python reads pickles, it runs
    torch.load(tmp_path / "bad.pt", weights_only=False)
    assert made.exists()


def test_a_plain_pickle_runs_nothing(refused, tmp_path):
    """Not one of torch.save at all."""
    made = tmp_path / "made"
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps(Touches(made), protocol=2))
    assert "could run code" in refused("bad.pkl")
    assert not made.exists()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.pt", b"", "is empty"),
        ("a.pt", b"one\ntwo\n", "is a text file"),
        ("a.safetensors", b"one\ntwo\n", "is a text file"),
        ("a.pt", "Gewichte für Käfer, größer als je zuvor\n".encode() * 40, "is a text file"),
        ("a.pt", b"<!DOCTYPE html><html><body>404</body></html>", "is a web page"),
        (
            "a.pth",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 46830571\n",
            "is a pointer of Git LFS",
        ),
        ("a.pt", b"\x1f\x8b\x08\x00" + bytes(60), "is packed by gzip"),
        ("a.pt", b"PK\x03\x04" + bytes(range(256)) * 4, "is cut off or damaged"),
        ("a.pt", bytes(range(256)) * 4, "is damaged"),
        ("a.safetensors", bytes(range(256)) * 4, "is damaged"),
        ("a.safetensors", b"", "is empty"),
    ],
)
def test_what_is_no_checkpoint_is_one_line(refused, tmp_path, name, content, words):
    """Text, pages of failed downloads, pointers, archives, noise."""
    (tmp_path / name).write_bytes(content)
    assert words in refused(name)


def test_folders_missing_files_and_pipes_are_one_line(refused, tmp_path):
    """Nothing is waited for."""
    (tmp_path / "folder.pt").mkdir()
    assert "is a folder" in refused("folder.pt")
    assert "no such file" in refused("absent.pt")
    os.mkfifo(tmp_path / "pipe.pt")
    assert "named pipe" in refused("pipe.pt")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_file_is_one_line(refused, tmp_path, share):
    """As a copy that was broken off leaves it."""
    torch.save({"model_state_dict": Wrapped().state_dict(), "epoch": 1}, tmp_path / "old.pt")
    content = (tmp_path / "old.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(content[: int(len(content) * share)])
    assert "is cut off or damaged" in refused("cut.pt")


def test_a_zip_bomb_is_not_unpacked(refused, tmp_path):
    """Its declared sizes are compared with the file before anything is read."""
    torch.save({"model_state_dict": Wrapped().state_dict()}, tmp_path / "old.pt")
    with (
        zipfile.ZipFile(tmp_path / "old.pt") as old,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for entry in old.namelist():
            bomb.writestr(entry, old.read(entry))
        with bomb.open("archive/data/bomb", "w") as stream:
            for _ in range(64):
                stream.write(bytes(2**20))
    assert (tmp_path / "bomb.pt").stat().st_size < 4 * 2**20
    assert "as a zip bomb does" in refused("bomb.pt")


def test_a_tensor_larger_than_its_bytes_is_not_unpacked(refused, tmp_path):
    """One number, repeated by strides of 0, would fill any memory."""
    state = Wrapped().state_dict()
    state["backbone.conv1.0.weight"] = torch.zeros(1).expand(10**6, 10**6)
    torch.save({"model_state_dict": state}, tmp_path / "old.pt")
    assert "more than its bytes in the file" in refused("old.pt")


def test_a_file_far_larger_than_the_model_is_not_read(refused, tmp_path):
    """Such as another model's; its bytes are holes here."""
    with (tmp_path / "old.pt").open("wb") as stream:
        stream.truncate(2**30)
    assert "MiB, where a training of test_resnet leaves no more" in refused("old.pt")


def pickled_zip(file: Path, content: bytes) -> None:
    """A file as torch.save writes it, around a pickle of one's own."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + content + b".")
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")


@pytest.mark.skipif(sys.platform != "linux", reason="a process is bounded on Linux alone")
def test_a_pickle_that_makes_much_of_little_is_not_made(refused, tmp_path, monkeypatch):
    """Each call doubles a text, by a function that torch lets pickles call."""
    monkeypatch.setattr(foreign, "_ROOM_BYTES", 2**26)
    encode = b"c_codecs\nencode\n"
    content = encode + b"(X\xe8\x03\x00\x00" + b"a" * 1000 + b"X\x06\x00\x00\x00latin1tR"
    for _ in range(24):
        content = encode + b"(" + content + b"X\x03\x00\x00\x00hextR"
    pickled_zip(tmp_path / "bomb.pt", content)
    assert "takes far more memory to read" in refused("bomb.pt")


def test_a_pickle_of_very_many_names_is_not_read(refused, tmp_path):
    """torch would take the square of them."""
    names = b"".join(f"cm\nC{number}\n".encode() for number in range(2000))
    pickled_zip(tmp_path / "bomb.pt", b"](" + names + b"e")
    assert "names 2,000 classes and functions" in refused("bomb.pt")


def test_a_file_larger_than_memory_is_not_read_without_a_model_either(tmp_path, monkeypatch):
    """Its name says nothing of how large it may be."""
    torch.save(Wrapped().state_dict(), tmp_path / "old.pt")
    monkeypatch.setattr(source, "available_memory_mib", lambda: 0.001)
    with pytest.raises(ModelError, match="of memory are free"):
        source.read_source(ImportConfig(file=tmp_path / "old.pt"))


def test_long_names_and_odd_file_names_stay_words(refused, tmp_path):
    """A line to copy is one that the name of a file cannot end."""
    pickled_zip(tmp_path / 'x"); evil("', b"c" + b"a" * 9000 + b"\nrun\n)R")
    line = refused('x"); evil("')
    assert "aaaa..." in line
    assert len(line) < 1000
    assert "torch.load('x\"); evil(\"', weights_only" in line


@pytest.mark.parametrize(
    ("module", "name", "words"),
    [
        ("ultralytics.nn.tasks", "ClassificationModel", "YOLO('m.pt').model.state_dict()"),
        ("fastai.learner", "Learner", "load_learner('m.pt')"),
        ("timm.models.resnet", "Resnet", 'weights_only=False).state_dict(), "plain.pt")'),
    ],
)
def test_pickled_modules_say_how_to_get_plain_weights(refused, tmp_path, module, name, words):
    """The lines of Python that save them, for those who trust the file."""
    save_module(tmp_path / "m.pt", module, name)
    assert words in refused("m.pt")


def save_module(file, module, name):
    """{"model": module.name()}, without the package that knows the name."""
    pickled = b"\x80\x02}X\x05\x00\x00\x00modelc" + f"{module}\n{name}\n".encode() + b")\x81s."
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")


def test_a_file_name_is_no_code_in_the_lines_to_type(refused, tmp_path):
    """Whatever it holds, it is one text of Python there."""
    name = 'a"); print(1); ("b.pt'
    save_module(tmp_path / name, "timm.models.resnet", "Resnet")
    [line] = ast.parse(refused(name).partition("import torch; ")[2].strip()).body
    texts = {node.value for node in ast.walk(line) if isinstance(node, ast.Constant)}
    assert texts == {name, False, "plain.pt"}


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (["model.0.conv.weight", "model.9.linear.weight"], "Ultralytics"),
        (["0.0.weight", "0.4.0.conv1.weight", "1.8.weight"], "fastai"),
        (["features.0.0.weight", "classifier.1.weight"], "torchvision's names"),
        (["conv_proj.weight", "encoder.layers.encoder_layer_0.ln_1.weight"], "torchvision's names"),
    ],
)
def test_networks_that_are_none_of_timms_are_named(refused, tmp_path, layers, words):
    """By how their layers are called."""
    save_file({name: torch.zeros(3, 3) for name in layers}, tmp_path / "m.safetensors")
    assert words in refused("m.safetensors")


def test_weights_of_another_model_name_it(refused, tmp_path):
    """Where one of timm's has these layers."""
    save_file(timm.create_model("resnet18", num_classes=3).state_dict(), tmp_path / "m.safetensors")
    line = refused("m.safetensors", model="resnet26")
    assert "layer1.0.conv1.weight is [64, 64, 3, 3] in the file" in line
    assert "its layers fit --model resnet18" in line


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("backbone.conv1.0.weight"), "lacks conv1.0.weight"),
        (lambda s: s.update({"backbone.extra": torch.ones(2)}), "has extra, which the model has"),
        (lambda s: s["classifier.1.bias"].fill_(float("nan")), "fc.bias holds inf or nan"),
        (
            lambda s: s.update({"classifier.4.weight": torch.ones(3, 3)}),
            "its head has several layers",
        ),
        (lambda s: of_kind(s, torch.int8), "conv1.0.weight holds numbers of kind int8"),
        (lambda s: of_kind(s, torch.bool), "conv1.0.weight holds numbers of kind bool"),
        (lambda s: of_kind(s, torch.complex64), "holds numbers of kind complex64"),
        (lambda s: of_kind(s, torch.float8_e4m3fn), "holds numbers of kind float8_e4m3fn"),
        (
            lambda s: s.update({"classifier.1.bias": torch.full((3,), 1e300, dtype=torch.double)}),
            "fc.bias holds inf or nan",
        ),
        (lambda s: s.update({FIRST: s[FIRST].to("meta")}), "no plain tensor of numbers"),
        (lambda s: s.update({HEAD: s[HEAD].to_sparse()}), "no plain tensor of numbers"),
        (lambda s: s.update({HEAD: torch.ones(1, 96)}), "has 1 outputs"),
        (lambda s: s.update({HEAD: torch.ones(0, 96)}), "has 0 outputs"),
        (lambda s: s.update({HEAD: torch.tensor(1.0)}), "has 0 outputs"),
    ],
)
def test_what_does_not_fit_is_told_by_its_first_tensor(refused, tmp_path, change, words):
    """Nothing is imported half."""
    state = Wrapped().state_dict()
    change(state)
    torch.save({"model_state_dict": state}, tmp_path / "old.pt")
    assert words in refused("old.pt")


def test_a_backbone_without_a_classifier_is_for_training(refused, tmp_path):
    """It answers nothing."""
    backbone = timm.create_model("test_resnet", num_classes=0)
    torch.save(backbone.state_dict(), tmp_path / "old.pt")
    assert "imgcls train DATA --model test_resnet --weights" in refused("old.pt")


def test_the_file_and_the_option_must_agree_on_the_model(refused, tmp_path):
    """Two architectures may have the same layers and answer otherwise."""
    content = {"arch": "test_resnet", "state_dict": Wrapped().state_dict(), "epoch": 1}
    torch.save(content, tmp_path / "old.pt")
    assert "says that it is of test_resnet" in refused("old.pt", model="test_vit")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("c.txt", "a\nb\n", "names 2 classes"),
        ("c.txt", "a\nb\na\n", "'a' stands on line 1 and line 3"),
        ("c.txt", "a\n\nc\n", "line 2 is empty"),
        ("c.json", '["a", "b", "a"]', "'a' stands on place 1 and place 3"),
        ("c.json", '{"1": "a", "2": "b", "3": "c"}', "no name for output 0"),
        ("c.json", '{"a": 0, "b": 0, "c": 1}', "output 0 stands there twice"),
        ("c.json", "[1, 2, 3]", "is no list of names"),
        ("c.json", "[", "cannot be read"),
        ("c.csv", "index,name\n0,a\n0,b\n1,c\n", "output 0 stands there twice (line 3)"),
        ("c.csv", "a,b,c\n1,2,3\n", "has 3 columns"),
        ("c.csv", "name\na\n,\nc\n", "line 3 has 2 cells"),
    ],
)
def test_class_names_that_cannot_be_right_are_refused(refused, tmp_path, name, text, words):
    """With the line that is wrong."""
    torch.save({"model_state_dict": Wrapped().state_dict()}, tmp_path / "old.pt")
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert words in refused("old.pt", "--classes", name)


@pytest.mark.parametrize("names", [["a", "a", "b"], ["a", " ", "b"], ["a", "b", "\ud800"]])
def test_class_names_in_a_file_that_name_nothing_are_refused(refused, tmp_path, names):
    """As those of --classes are."""
    torch.save(
        {"model_state_dict": Wrapped().state_dict(), "class_names": names}, tmp_path / "old.pt"
    )
    (tmp_path / "c.json").write_text(json.dumps(names))
    refused("old.pt", "--classes", "c.json")
    with pytest.raises(ConfigError, match="not all different, or one is empty"):
        source.read_source(ImportConfig(file=tmp_path / "old.pt", model="test_resnet"))


def test_settings_that_no_input_has_are_told_as_the_files(refused, tmp_path):
    """And not as those of an option that nobody gave."""
    args = {"mean": [float("nan")] * 3, "std": [1.0, 1.0, 1.0]}
    torch.save({"model": Wrapped().state_dict(), "args": args}, tmp_path / "old.pt")
    assert "of which the file says mean, std: not what an input can be" in refused("old.pt")


def test_a_metric_beyond_all_floats_is_left_out(tmp_path):
    """As an int may be, and a tensor without a value."""
    metrics = {"n": 10**400, "m": torch.ones(1, device="meta"), "ok": 0.5}
    torch.save({"model": Wrapped().state_dict(), "metrics": metrics}, tmp_path / "old.pt")
    assert read_trained(tmp_path / "old.pt").metrics == {"ok": 0.5}


def test_class_names_of_the_file_win_over_none(tmp_path):
    """Under any of the usual names."""
    state = Wrapped().state_dict()
    for more in (
        {"class_names": list(CLASSES)},
        {"config": {"data": {"class_names": CLASSES}}},
        {"class_to_idx": {name: number for number, name in enumerate(CLASSES)}},
    ):
        torch.save({"model_state_dict": state, **more}, tmp_path / "old.pt")
        assert read_trained(tmp_path / "old.pt").class_names == list(CLASSES)
    torch.save({"model_state_dict": state, "class_to_idx": {"a": 1}}, tmp_path / "old.pt")
    assert read_trained(tmp_path / "old.pt").class_names is None


def test_what_settings_are_made_of_is_no_call(tmp_path):
    """Numbers of NumPy, paths, dates and classes of the trainer stand beside the weights."""
    import argparse
    import datetime as dt

    import numpy as np

    content = {
        "model_state_dict": Wrapped().state_dict(), "epoch": 3,
        "metrics": {"val_f1": np.float64(0.75), "n": np.int64(7), "curve": np.arange(3.0)},
        "args": argparse.Namespace(lr=0.1, out=Path("x"), when=dt.date(2024, 1, 2)),
        "log": collections.OrderedDict(a=collections.defaultdict(list)),
        "scheduler": OfTheTrainer(),
    }  # fmt: skip
    torch.save(content, tmp_path / "old.pt")
    found = read_trained(tmp_path / "old.pt")
    assert found.metrics == {"val_f1": 0.75, "n": 7.0}
    assert found.settings == {"lr": 0.1}


class OfTheTrainer:
    """A class that only the trainer knows."""


def test_a_name_that_the_file_does_not_have_is_refused(refused, tmp_path):
    """Said by file and option alike, but otherwise."""
    torch.save(
        {"model_state_dict": Wrapped().state_dict(), "class_names": list(CLASSES)},
        tmp_path / "old.pt",
    )
    (tmp_path / "c.json").write_text(json.dumps(["flower", "china", "violet"]))
    line = refused("old.pt", "--classes", "c.json")
    assert "output 0 is 'flower' there and 'china' in" in line
    with pytest.raises(ModelError, match="no such file"):
        read_trained(tmp_path / "absent.pt")
