"""A killed or stopped export leaves nothing that looks done, and the next one clears up."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from killing import wait_for

from imgcls.config.files import sha256_of

EXPORT = ("export", "outputs/single", "--output", "deploy", "--format")


@pytest.fixture
def place(trained, tmp_path):
    """A folder with a copy of a run."""
    shutil.copytree(trained / "outputs/single", tmp_path / "outputs/single")
    return tmp_path


def whole(folder):
    """Whether a folder is an export whose files are what its document says; no other may be."""
    if not folder.exists():
        return False
    found = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    assert {*found["files"]} == {p.name for p in folder.iterdir()} - {"export.json"}
    for name, seal in found["files"].items():
        assert sha256_of(folder / name) == seal["sha256"]
    return True


def shown(place):
    return {path.name for path in (place / "deploy").glob("[!.]*")}


def hidden(place):
    return {path.name for path in (place / "deploy").glob(".*")}


@pytest.mark.parametrize(
    ("module", "function"),
    [
        pytest.param("imgcls.jobs.export.weights", "write_tensors", marks=pytest.mark.slow),
        ("imgcls.jobs.export.targets", "prove_weights"),
        pytest.param("imgcls.jobs.export.export", "write_json", marks=pytest.mark.slow),
        pytest.param("imgcls.jobs.export.export", "sync_file", marks=pytest.mark.slow),
        pytest.param("imgcls.storage.commit", "write_text", marks=pytest.mark.slow),
        ("imgcls.storage.commit", "sync_folder"),
        ("imgcls.storage.commit", "_merge"),
    ],
)
def test_killed_at_any_step_nothing_half_written_looks_done(launcher, place, module, function):
    """A first export and one that replaces it; the next one, of whatever format, clears up."""
    number = 2 if function == "_merge" else 1
    for force in ((), ("--force",)):
        before = whole(place / "deploy/safetensors")
        pid = launcher.start(
            place, *EXPORT, "safetensors", *force, kill_at=(module, function, number)
        )
        assert launcher.wait() == -signal.SIGKILL, (place / "log.txt").read_text()
        assert pid
        whole(place / "deploy/safetensors")
        code = launcher.run(place, *EXPORT, "safetensors", "--force")
        assert code == 0, (place / "log.txt").read_text()
        assert whole(place / "deploy/safetensors")
        assert before == bool(force)
        assert hidden(place) == {".safetensors.lock"}


@pytest.mark.slow
def test_killed_at_random_instants_nothing_half_written_looks_done(launcher, place):
    """Of two formats, one of them by a library that writes the file by itself."""
    rng = random.Random(0)
    command = (*EXPORT, "onnx,safetensors", "--force")
    assert launcher.run(place, *command) == 0  # the first one fills the machine's caches
    start_s = time.monotonic()
    assert launcher.run(place, *command) == 0
    longest_s = time.monotonic() - start_s
    kills = 0
    for _ in range(12):
        code = launcher.run(place, *command, kill_after_s=rng.uniform(0.05, longest_s))
        kills += code == -signal.SIGKILL
        for name in shown(place):
            assert whole(place / "deploy" / name)
    assert kills
    assert launcher.run(place, *command) == 0
    assert shown(place) == {"onnx", "safetensors"}
    assert hidden(place) == {".onnx.lock", ".safetensors.lock"}


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_removes_what_was_written(place, number, code):
    """Ctrl-C and SIGTERM, in the middle of the proof."""
    script = (
        "import sys, time\n"
        "import imgcls.jobs.export.export as job\n"
        "from imgcls.jobs.export import targets\n"
        "from imgcls.jobs.export.work import Target\n"
        "write = lambda work, file, metadata: file.write_text('half')\n"
        "job.TARGETS = {'onnx': Target('model.onnx', write, lambda *_: time.sleep(60))}\n"
        "from imgcls.__main__ import main\n"
        "main()\n"
    )
    arguments = [*EXPORT, "onnx"]
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        cwd=place, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )  # fmt: skip
    half = place / "deploy/.tmp-onnx.new/model.onnx"
    wait_for(lambda: half.exists() and half.read_text() == "half")
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == code
    assert error.splitlines()[-1] == f"imgcls: stopped by {signal.Signals(number).name}"
    assert "Traceback" not in error
    assert hidden(place) == {".onnx.lock"}
    assert shown(place) == set()


def test_what_a_killed_export_of_another_format_left_is_cleared_away(launcher, place):
    """Not only what the next one writes by itself."""
    left = place / "deploy/.tmp-onnx-tensor.new"
    left.mkdir(parents=True)
    (left / "model.onnx").write_bytes(b"half")
    mine = place / "deploy/.tmp-mine.new"
    mine.mkdir()
    assert launcher.run(place, *EXPORT, "safetensors") == 0
    assert not left.exists()
    assert mine.exists()
