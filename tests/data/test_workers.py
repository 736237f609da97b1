"""Processes that load and read pictures: they end with the main process, and say what failed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from imgcls.data.loading.handover import SharedBuffers, SharedMemoryWarning
from imgcls.data.loading.loader import EvalLoader
from imgcls.data.loading.workers import balanced_workers, starting_workers
from imgcls.data.open import open_source
from imgcls.data.pixels.transforms import eval_transform
from imgcls.data.table import ImageStore
from imgcls.engine.training.interrupt import SignalledError, end_on_signals
from imgcls.errors import WorkerError

FACTS = SimpleNamespace(
    input_size=(3, 32, 32), mean=(0.5,) * 3, interpolation="bicubic", crop_pct=1.0,
    crop_mode="squash",
)  # fmt: skip

# prints the ids of its workers, then waits over a picture for ever
AT_WORK = """
import multiprocessing, sys, threading, time
from imgcls.data.table import ImageStore
from imgcls.cli.boundary import run

def told():
    while len(multiprocessing.active_children()) < 2:
        time.sleep(0.05)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)

threading.Thread(target=told, daemon=True).start()

def slow(store, index):
    time.sleep(0.2)
    return b""

ImageStore.content = slow
sys.exit(run(sys.argv[1:]))
"""


def eval_batches(table, workers):
    return EvalLoader(
        table, np.arange(len(table)), eval_transform(FACTS), batch_size=5, workers=workers,
        device_type="cpu",
    )  # fmt: skip


@pytest.fixture
def many(tmp_path):
    """A folder of 300 files, which `inspect` reads with processes."""
    for name in ("a", "b"):
        (tmp_path / "many" / name).mkdir(parents=True)
        for number in range(150):
            (tmp_path / "many" / name / f"{number}.jpg").write_bytes(b"x")
    return tmp_path / "many"


def started(many, command, options=(), before=""):
    process = subprocess.Popen(
        [sys.executable, "-c", before + AT_WORK, command, str(many), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=many.parent,
    )
    return process, [int(number) for number in process.stdout.readline().split()]


def is_alive(pid):
    try:
        return "Z (zombie)" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize(
    ("command", "number", "to_group"),
    [
        ("inspect", signal.SIGKILL, False),
        ("inspect", signal.SIGHUP, False),
        ("train", signal.SIGTERM, True),
    ],
)
def test_readers_end_with_the_main_process(many, command, number, to_group):
    """However it ends: killed, terminated or hung up, alone or with its group, in any command.

    A signal that can be answered is: one line, and 128 plus its number.
    """
    process, workers = started(many, command, ("--workers", "2"))
    assert len(workers) == 2
    if not to_group:
        process.send_signal(number)
    else:
        os.killpg(process.pid, number)
    _, said = process.communicate(timeout=60)
    end_s = time.monotonic() + 30
    while any(map(is_alive, workers)):
        assert time.monotonic() < end_s, workers
        time.sleep(0.05)
    if number == signal.SIGKILL:
        assert process.returncode == -number
    else:
        assert process.returncode == 128 + number
        assert said.splitlines()[-1] == f"imgcls: stopped by {number.name}"
        assert "Traceback" not in said


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_signal_while_readers_start_ends_them_too(many):
    """The pool's own thread, which ends them, has not begun when the signal comes."""
    late = """
import time
from concurrent.futures.process import _ExecutorManagerThread

begin = _ExecutorManagerThread.start
_ExecutorManagerThread.start = lambda thread: (time.sleep(2), begin(thread))
"""
    process, workers = started(many, "inspect", ("--workers", "2"), before=late)
    assert len(workers) == 2
    process.send_signal(signal.SIGHUP)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGHUP
    assert said.splitlines()[-1] == "imgcls: stopped by SIGHUP"
    assert not any(map(is_alive, workers))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs a process of one core")
def test_more_processes_than_cores_are_not_talked_about(photos):
    """Containers and Slurm often give one core; warnings are errors here."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        assert len(list(eval_batches(open_source(str(photos)), 2))) > 1
    finally:
        os.sched_setaffinity(0, cores)


def test_signals_are_answered_when_processes_have_started():
    """Each once, and as before from then on."""
    heard = []
    with end_on_signals():
        with pytest.raises(SignalledError) as caught, starting_workers():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
            heard.append("the rest of the block")
        assert caught.value.signal_number == signal.SIGTERM
        with pytest.raises(SignalledError):
            signal.raise_signal(signal.SIGTERM)
    assert heard == ["the rest of the block"]
    with pytest.raises(KeyboardInterrupt), starting_workers():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def break_at(monkeypatch, name, error):
    read = ImageStore.open_crop

    def fail(store, index, choose):
        if store.location(index).endswith(name):
            raise error
        return read(store, index, choose)

    monkeypatch.setattr(ImageStore, "open_crop", fail)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_that_nobody_expected_names_its_picture(photos, monkeypatch, workers):
    """In one line, from a process as from none; where it came from is its cause."""
    break_at(monkeypatch, "china/003.jpg", ZeroDivisionError("by\nzero"))
    with pytest.raises(WorkerError) as caught:
        list(eval_batches(open_source(str(photos)), workers))
    assert str(caught.value) == (
        f"{photos / 'china/003.jpg'}: cannot be loaded (ZeroDivisionError: by zero); --debug shows "
        "more"
    )
    assert "in fail" in str(caught.value.__cause__)


def test_without_shared_memory_batches_come_all_the_same(photos, monkeypatch):
    """Through pipes, the same ones, with one note that says what is too small."""
    table = open_source(str(photos))
    expected = list(eval_batches(table, 0))

    def full(*_arguments):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space")

    monkeypatch.setattr(SharedBuffers, "take", full)
    with pytest.warns(SharedMemoryWarning, match="has no space for batches of 0.0 MiB") as warned:
        found = list(eval_batches(table, 2))
    assert len(warned) == 1
    for one, two in zip(expected, found, strict=True):
        assert torch.equal(one.images, two.images)
        assert torch.equal(one.labels, two.labels)
        assert one.keys == two.keys


def test_processes_that_cannot_be_started_are_one_line(photos, monkeypatch):
    """As where /dev/shm has no space even for their queues."""
    loader = eval_batches(open_source(str(photos)), 1)

    def full():
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("multiprocessing.Lock", full)
    with pytest.raises(WorkerError, match=r"cannot be started \(No space left on device; is /dev"):
        list(loader)


@pytest.mark.parametrize(
    ("load_ms", "model_ms", "cores", "expected"),
    [(3, 13, 2, 1), (3, 6, 2, 1), (2, 0.2, 2, 2), (3, 1, 16, 3), (30, 0.1, 16, 16), (0, 0, 2, 1)],
)
def test_loaders_get_the_share_of_the_cores_that_loading_is_of_the_work(
    load_ms, model_ms, cores, expected
):
    """One at least, beside a model that takes all cores; all where the model takes no time."""
    assert balanced_workers(load_ms / 1e3, model_ms / 1e3, cores) == expected
