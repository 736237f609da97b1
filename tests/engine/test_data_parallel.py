"""Several processes that compute together, real ones that meet on loopback."""

from __future__ import annotations

import io
import pickle
import signal

import pytest
import torch
import world_checks

from imgcls.engine.device.launch import _code_of, are_several, launch
from imgcls.engine.device.messages import packed_error, unpacked, unpacked_error
from imgcls.engine.device.world import World
from imgcls.engine.training.interrupt import SignalledError
from imgcls.errors import BadImageError, ConfigError, InterruptedRunError, RunFailedError


def require(worlds, folder, processes, check):
    ended = worlds.run(folder, processes, patches=(f"world_checks:{check.__name__}",))
    assert ended.codes == [0] * processes, ended.said


@pytest.mark.parametrize("processes", [2, 3])
def test_norms_are_those_of_the_whole_batch(tmp_path, worlds, processes):
    """Trained batch norms in uneven parts, one of them empty, are torch's over all pictures."""
    require(worlds, tmp_path, processes, world_checks.norms_are_those_of_the_whole_batch)


def test_a_model_with_unused_parameters_trains(tmp_path, worlds):
    """Gradients are sums of all processes, also where some parameters have none."""
    require(worlds, tmp_path, 2, world_checks.unused_parameters_train)


@pytest.mark.parametrize("processes", [2, 3])
def test_errors_of_tasks_come_to_the_main_process(tmp_path, worlds, processes):
    """Whoever has one, wherever the others are; then the next task is done."""
    require(worlds, tmp_path, processes, world_checks.errors_of_tasks_come_to_the_main_process)


def test_values_of_the_main_process_are_those_of_all(tmp_path, worlds):
    """So are its errors; news and the wish to stop are those of any."""
    require(worlds, tmp_path, 3, world_checks.values_of_the_main_process_are_those_of_all)


def test_a_killed_process_is_noticed_by_all(tmp_path, worlds):
    """Instead of waiting for it."""
    ended = worlds.run(tmp_path, 3, patches=("world_checks:a_killed_process_is_noticed",))
    assert ended.codes == [0, -signal.SIGKILL, 0], ended.said


def test_a_single_process_is_a_world_too():
    """It agrees with itself, and raises its own errors."""
    alone = World()
    assert alone.is_main
    assert alone.agree(3.0, stop=(2, None)).stop == (2, None)
    assert alone.agree(3.0).total == 3.0
    assert alone.gather("value") == ["value"]
    assert alone.from_main(lambda: 4) == 4
    with pytest.raises(BadImageError), alone.everywhere(print, "never"):
        alone.agree(error=BadImageError("a picture"))
    assert not are_several()


def test_what_was_on_a_gpu_is_on_the_own_device(monkeypatch):
    """Tensors, and every word of a device, as another process has sent them."""
    stream = io.BytesIO()
    sent = {
        "device": torch.device("cuda", 3),
        "cpu": torch.device("cpu"),
        "meta": torch.device("meta"),
    }
    torch.save(sent, stream)
    assert unpacked(stream.getvalue(), None) == {**sent, "device": torch.device("cpu")}
    found = unpacked(stream.getvalue(), torch.device("cuda", 1))
    assert found == {**sent, "device": torch.device("cuda", 1)}


def test_errors_travel_with_all_that_they_say():
    """Their kind, exit code and details; what is not of imgcls is named."""
    for error in (
        BadImageError("no picture", details=("one", "two")),
        InterruptedRunError("stopped", 15),
    ):
        found = unpacked_error(packed_error(error), 2)
        assert type(found) is type(error)
        assert str(found) == str(error)
        assert found.exit_code == error.exit_code
        assert found.details == (*error.details, "(told by process 2)")
    found = unpacked_error(packed_error(ZeroDivisionError("by\nzero")), 1)
    assert type(found) is RunFailedError
    assert str(found) == "ZeroDivisionError: by zero"
    found = unpacked_error(packed_error(SignalledError(signal.SIGTERM)), 1)
    assert (type(found), found.exit_code) == (InterruptedRunError, 143)
    assert packed_error(None) is None
    assert pickle.loads(pickle.dumps(World(1, 2))) == World(1, 2)


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        ({0: 1}, 1),
        ({0: 2, 1: 1}, 2),
        # told to end, since another one had failed
        ({0: 1, 1: -signal.SIGKILL}, 1),
        ({0: 143}, 143),
        ({0: 143, 1: 1}, 1),
        ({1: 1}, 1),
        ({0: 1, 1: -signal.SIGTERM, 2: 143}, 1),
    ],
)
def test_the_exit_code_is_that_of_the_main_process(codes, code):
    """Unless it has ended because of another one."""
    assert _code_of(codes) == code


@pytest.mark.parametrize(
    "codes", [{0: -9}, {0: -9, 1: 1}, {0: 143, 1: -9}, {0: -signal.SIGTERM, 1: -9}, {0: -11, 1: -9}]
)
def test_a_process_that_could_not_say_why_it_ended_is_named(codes):
    """With the signal that ended it, and what to do."""
    with pytest.raises(RunFailedError, match=r"process \d .* SIG(KILL|SEGV).*imgcls resume"):
        _code_of(codes)


@pytest.mark.parametrize(
    ("devices", "device", "said"),
    [
        ("all", "cpu", "no GPU"),
        (2, "mps", "a single one"),
        (2, "cuda:0", "a single one"),
    ],
)
def test_devices_that_are_not_there_are_refused(devices, device, said):
    """In one line, before any process is started."""
    with pytest.raises(ConfigError, match=said):
        launch(devices, device, ["train"])


def test_one_device_needs_no_launcher():
    """The command goes on in this process."""
    assert launch(1, "cpu", ["train"]) is None
