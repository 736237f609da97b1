"""A pipe, a socket or a device where a file should be: one line at once, never a wait for ever."""

from __future__ import annotations

import ast
import os
import shutil
import socket
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import OFFLINE
from PIL import Image
from test_architecture import PACKAGE

from imgcls.config.files import SpecialFileError, open_file, read_bytes, read_text

# a door that waits for a writer waits for ever; this ends the test as failed
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """A run on a folder of pictures, trained for an epoch, evaluated on its test split."""
    from imgcls.cli.boundary import run

    root = tmp_path_factory.mktemp("evaluated")
    for number in range(24):
        file = root / "photos" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (number * 9, 40, 200 - number)).save(file)
    train = ("train", str(root / "photos"), *OFFLINE, "--epochs", "1", "--device", "cpu", "--quiet")
    where = ("--output", str(root / "out"), "--experiment", "run")
    assert run([*train, *where]) == 0
    assert run(["evaluate", str(root / "out" / "run"), "--quiet"]) == 0
    return root


LAST, RESULTS = "fold_0/checkpoints/last", "fold_0/test_results/test"
DOORS = [
    *[(f"{LAST}/{name}", ("evaluate",)) for name in ("checkpoint.json", "config.json",
                                                      "model.safetensors")],
    (f"{LAST}/state.safetensors", ("resume", "--epochs", "2")),
    ("config.yaml", ("resume", "--epochs", "2")),
    ("splits.csv", ("evaluate",)),
    ("fold_0/history.csv", ("resume", "--epochs", "2")),
    ("fold_0/history.csv", ("report",)),
    ("preflight.json", ("report",)),
    (".lock", ("resume", "--epochs", "2")),
    *[(f"{RESULTS}/{name}", ("report",)) for name in ("test_metrics.json", "predictions.csv",
                                                      "logits.npy", "per_class.csv")],
]  # fmt: skip


@pytest.mark.parametrize(("name", "words"), DOORS, ids=str)
def test_no_file_of_a_run_is_waited_for(evaluated, tmp_path, command, name, words):
    """Each file of a run as a named pipe, and the command that reads it."""
    run = tmp_path / "run"
    shutil.copytree(evaluated / "out" / "run", run, symlinks=True)
    (run / name).unlink(missing_ok=True)
    os.mkfifo(run / name)
    verb, *rest = words
    done = command(verb, run, *rest)
    assert done.code in (0, 1, 2)
    assert "unexpected error" not in done.err


def special(kind, path):
    """Something that is no file, at that path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        here = Path.cwd()
        os.chdir(path.parent)  # the path of a socket may not be long
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
        os.chdir(here)
    else:
        path.symlink_to("/dev/zero")
    return path


KINDS = ("pipe", "socket", "device")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "option", ["--config", "--weights", "--data", "--costs", "--baseline"]
)  # fmt: skip
def test_no_option_waits_for_what_it_names(kind, option, evaluated, tmp_path, command):
    """Options that name a file say what stands there instead."""
    suffix = {"--weights": ".pth", "--config": ".yaml", "--costs": ".csv", "--data": ".csv"}
    path = special(kind, tmp_path / f"x{suffix.get(option, '.json')}")
    run = evaluated / "out" / "run"
    arguments = {
        "--config": ("train", "digits", *OFFLINE, "--dry-run", "--config", path),
        "--weights": ("train", "digits", *OFFLINE[:2], "--img-size", "32", "--weights", path),
        "--data": ("inspect", path),
        "--costs": ("evaluate", run, "--costs", path),
        "--baseline": ("benchmark", "test_resnet", "--device", "cpu", "--baseline", path),
    }
    done = command(*arguments[option])
    assert done.code == 2
    assert any(word in done.err for word in ("pipe", "socket", "device"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source", ["folder", "csv", "parquet", "tar", "glob of parquet"])
def test_no_source_waits_for_a_picture_or_a_shard(kind, source, tmp_path, command):
    """A picture in a folder, in a table, and whole shards."""
    good = tmp_path / "d" / "a" / "1.png"
    good.parent.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(good)
    shutil.copytree(tmp_path / "d" / "a", tmp_path / "d" / "b")
    if source == "folder":
        special(kind, tmp_path / "d" / "b" / "2.png")
        done = command("inspect", "d")
        assert done.code == 0
        assert "2.png" in done.out
        assert "not a regular file" in done.out
        return
    if source == "csv":
        special(kind, tmp_path / "d" / "2.png")
        Path("d/t.csv").write_text("path,label\na/1.png,a\n2.png,b\n")
        done = command("inspect", "d/t.csv")
    elif "parquet" in source:
        table = pa.table({"image": [good.read_bytes()], "label": ["a"]})
        pq.write_table(table, tmp_path / "d" / "x-0.parquet")
        special(kind, tmp_path / "d" / "x-1.parquet")
        done = command("inspect", "d/x-1.parquet" if source == "parquet" else "d/x-*.parquet")
    else:
        with tarfile.open(tmp_path / "d" / "x-0.tar", "w") as archive:
            archive.add(good, "1.png")
        special(kind, tmp_path / "d" / "x-1.tar")
        done = command("inspect", "d/x-{0,1}.tar")
    assert done.code == 2
    assert "unexpected error" not in done.err


def test_what_is_read_is_what_is_there(tmp_path):
    """A regular file, and a link to one, come whole; all else says what it is."""
    file = tmp_path / "a"
    file.write_bytes(b"\xc3\xa4\r\nb")
    (tmp_path / "b").symlink_to(file)
    assert read_bytes(tmp_path / "b") == b"\xc3\xa4\r\nb"
    assert read_text(file) == "ä\nb"
    with pytest.raises(SpecialFileError, match=r"null: is a device, not a regular file"):
        open_file("/dev/null")
    with pytest.raises(FileNotFoundError):
        open_file(tmp_path / "c")
    with pytest.raises(IsADirectoryError):
        open_file(tmp_path)


# what the system or the package itself provides
OWN = {"engine/device/memory.py", "engine/device/timing.py", "models/catalog/build.py"}


def test_nothing_is_opened_past_the_one_door():
    """Reading goes by imgcls.config.files: Path.read_text, read_bytes and open wait for pipes."""
    found = []
    for file in PACKAGE.rglob("*.py"):
        if file.relative_to(PACKAGE).as_posix() in OWN or file == PACKAGE / "config" / "files.py":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            words = {a.value for a in node.args if isinstance(a, ast.Constant)}
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
            if "/proc/" in owner:
                continue
            reads = name in ("read_text", "read_bytes") and bool(owner)
            opens = name == "open" and (not owner or not node.args or words & {"r", "rb", "rt"})
            if reads or (opens and owner not in ("os", "tarfile")):
                found.append(f"{file.relative_to(PACKAGE)}:{node.lineno}")
    assert found == []
