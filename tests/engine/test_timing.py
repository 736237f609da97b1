"""Timing a step, counting its work, and other runtimes that give the same logits."""

from __future__ import annotations

import mmap
import time
from types import SimpleNamespace

import pytest
import timm
import torch
from torch import nn

from imgcls.engine.device.macs import count_macs
from imgcls.engine.device.memory import is_out_of_memory
from imgcls.engine.device.timing import peak_memory_mib, reset_peak_memory, time_step

CPU = torch.device("cpu")


def test_exactly_the_batches_asked_for_are_timed():
    """Behind a warm-up of at least ten batches and 0.3 s; every call is one batch."""
    calls = []
    timing = time_step(lambda: (calls.append(1), time.sleep(0.02)), CPU, 7)
    assert len(timing.batch_times_s) == 7
    assert len(calls) == 7 + timing.warmup_batches
    assert timing.warmup_batches >= 10
    assert min(timing.batch_times_s) >= 0.02
    assert timing.stream_s is None  # on a CPU nothing runs behind the loop's back


@pytest.mark.parametrize(
    ("platform", "expected"), [("win32", 3.0), ("darwin", 5.0), ("freebsd", 5.0 * 2**10)]
)
def test_the_peak_is_in_the_system_s_own_unit(monkeypatch, platform, expected):
    """Windows has a peak of its own; macOS counts bytes where others count KiB."""
    resource = pytest.importorskip("resource")
    monkeypatch.setattr("sys.platform", platform)
    peak = SimpleNamespace(peak_wset=3 * 2**20)
    monkeypatch.setattr("psutil.Process", lambda: SimpleNamespace(memory_info=lambda: peak))
    monkeypatch.setattr(resource, "getrusage", lambda _who: SimpleNamespace(ru_maxrss=5 * 2**20))
    assert peak_memory_mib(CPU) == expected


def test_a_device_that_works_on_its_own_is_timed_twice():
    """Batch by batch, and as many again that nobody waits for; meta stands for such a device."""
    calls = []
    timing = time_step(lambda: (calls.append(1), time.sleep(0.02)), torch.device("meta"), 3)
    assert len(calls) == timing.warmup_batches + 3 + 3
    assert timing.stream_s >= 3 * 0.02
    assert timing.peak_memory_mib is None


def test_the_peak_is_the_steps_own():
    """A large block before it is forgotten, one inside it is seen."""

    def use(mib):
        # the system's, because what NumPy frees may be kept for the next
        with mmap.mmap(-1, mib * 2**20) as block:
            for _ in range(mib):
                block.write(b"x" * 2**20)

    use(256)
    reset_peak_memory(CPU)
    before = peak_memory_mib(CPU)
    use(128)
    assert 120 <= peak_memory_mib(CPU) - before <= 200


def test_macs_are_counted_as_by_hand():
    """A convolution, a matrix product; and resnet18's 1.81 G of its paper."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 16 * 16, 10))
    assert count_macs(net, (3, 16, 16)) == 8 * 3 * 9 * 16 * 16 + 8 * 16 * 16 * 10
    assert count_macs(timm.create_model("resnet18"), (3, 224, 224)) == 1_814_073_344


def test_running_out_of_memory_is_known_on_a_cpu_too():
    """torch raises a plain RuntimeError there."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))
