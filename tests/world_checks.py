"""What several processes must find together; each of them runs these, see world_server.py.

A check that fails ends its process with an exit code other than 0.
"""

from __future__ import annotations

import contextlib
import os
import signal

import torch
from torch import nn

from imgcls.engine.device.world import LostProcessError, World, join
from imgcls.engine.training.interrupt import StopRequest
from imgcls.engine.training.parallel.data_parallel import DataParallel
from imgcls.engine.training.parallel.whole_batch import part_of_batch
from imgcls.errors import BadImageError, RunFailedError


class Rows:
    """A part of a batch."""

    def __init__(self, rows, size):
        self.rows, self.whole_size = rows, size


def _parallel(world: World, compresses: bool = False) -> DataParallel:
    stop = StopRequest()
    return DataParallel(world, (3, 8, 8), stop, stop, compresses=compresses)


def _part(world: World, size: int) -> torch.Tensor:
    """Positions of this process, of uneven parts; the last one has none of a batch of two."""
    bounds = [size * n // world.size for n in range(world.size + 1)]
    if size == 2:
        bounds = [0, *[2] * world.size]
    return torch.arange(bounds[world.rank], bounds[world.rank + 1])


def norms_are_those_of_the_whole_batch() -> None:
    """Output, gradients and running statistics of trained batch norms, as torch has them."""
    world = join()
    for size in (7, 8, 2):
        for make in (_norm_1d, _norm_2d, _norm_3d):
            torch.manual_seed(3)
            model, values = make(size)
            weighted = torch.rand(values.shape)
            alone = [parameter.detach().clone() for parameter in model.parameters()]
            reference = make(size)[0]
            for parameter, value in zip(reference.parameters(), alone, strict=True):
                parameter.data.copy_(value)
            own = _part(world, size)
            whole_in = values.clone().requires_grad_()
            part_in = values[own].clone().requires_grad_()
            for _ in range(2):
                wanted = reference(whole_in)
                (wanted * weighted).sum().backward()
                rows = own.numpy()
                given = part_in if len(own) else (values[:2] * 0).requires_grad_()
                with part_of_batch(rows, size, world.sum_tensor):
                    found = model(given)
                factor = weighted[own] if len(own) else torch.zeros(found.shape)
                (found * factor).sum().backward()
            if len(own):
                torch.testing.assert_close(found, wanted[own], rtol=1e-3, atol=1e-4)
                torch.testing.assert_close(part_in.grad, whole_in.grad[own], rtol=1e-3, atol=1e-4)
            for one, other in zip(model.parameters(), reference.parameters(), strict=True):
                summed = world.sum_tensor(one.grad.clone())
                torch.testing.assert_close(summed, other.grad, rtol=1e-3, atol=1e-4)
            for one, other in zip(model.buffers(), reference.buffers(), strict=True):
                torch.testing.assert_close(one, other)
            model.eval()
            reference.eval()
            torch.testing.assert_close(model(values), reference(values))
    world.end() if world.is_main else world.serve()


def _norm_1d(size):
    return nn.BatchNorm1d(5), torch.rand(size, 5) * 3


def _norm_2d(size):
    values = (torch.rand(size, 5, 4, 3) + 2).contiguous(memory_format=torch.channels_last)
    return nn.BatchNorm2d(5, momentum=0.3), values


def _norm_3d(size):
    return nn.BatchNorm3d(2, affine=False, momentum=None), torch.rand(size, 2, 2, 3, 4)


class Unused(nn.Module):
    """A model with a layer that takes no part in the logits."""

    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Linear(192, 4), nn.Linear(192, 4)

    def forward(self, images):
        return self.used(images.flatten(1))


def unused_parameters_train() -> None:
    """What is used trains, and its gradients are sums; also where they travel as bfloat16."""
    world = join()
    for compresses in (False, True):
        torch.manual_seed(1)
        model, images = Unused(), torch.rand(6, 3, 8, 8)
        parallel = _parallel(world, compresses)
        parallel.begin_epoch(model, torch.device("cpu"))
        own = _part(world, 6)
        for _ in range(3):
            model.zero_grad()
            with parallel.synced(is_last=False):
                parallel.forward(images[own], Rows(own.numpy(), 6)).sum().backward()
            with parallel.synced(is_last=True):
                parallel.forward(images[own], Rows(own.numpy(), 6)).sum().backward()
        assert model.unused.weight.grad is None
        wanted = 2 * images.flatten(1).sum(0).expand(4, -1)
        close = {"rtol": 1e-2, "atol": 1e-2} if compresses else {"rtol": 1e-5, "atol": 1e-5}
        torch.testing.assert_close(model.used.weight.grad, wanted, **close)
        parallel.require_same(model)
        # what is trained changes: it is wrapped anew
        model.used.bias.requires_grad_(False)
        parallel.begin_epoch(model, torch.device("cpu"))
        parallel.forward(images[own], Rows(own.numpy(), 6)).sum().backward()
    world.end() if world.is_main else world.serve()


def _add(numbers: list[float]) -> None:
    from imgcls.engine.device.world import world

    here = world()
    for number in numbers:
        if number == here.rank:
            raise BadImageError(f"process {here.rank} cannot")
        assert here.agree(number).total == number * here.size


def _fail_at_the_end() -> None:
    raise KeyError("a defect")


def _nothing() -> None:
    pass


def errors_of_tasks_come_to_the_main_process() -> None:
    """Whoever has one, wherever the others are; then the next task is done."""
    world = join()
    if not world.is_main:
        world.serve()
        return
    with world.everywhere(_add, [5, 6, 7]):
        assert world.agree(5).total == 5 * world.size
        _add([6, 7])
    # one of the others fails, while this one is at a common point with a value
    caught = None
    try:
        with world.everywhere(_add, [5, 1, 7]):
            _add([5, 9])
    except BadImageError as error:
        caught = error
    assert caught is not None
    assert str(caught) == "process 1 cannot"
    assert caught.details == ("(told by process 1)",)
    # this one fails while the others are on their way
    with contextlib.suppress(ZeroDivisionError), world.everywhere(_add, [5, 6]):
        _add([5])
        1 / 0  # noqa: B018
    # or behind all that they had to do
    with contextlib.suppress(ZeroDivisionError), world.everywhere(_nothing):
        1 / 0  # noqa: B018
    try:
        with world.everywhere(_fail_at_the_end):
            pass
    except RunFailedError as error:
        caught = error
    assert "KeyError: 'a defect'" in str(caught)
    with world.everywhere(_add, [8]):
        _add([8])
    world.end()


def _agree_often() -> None:
    from imgcls.engine.device.world import world

    while True:
        world().agree(1)


def a_killed_process_is_noticed() -> None:
    """By the next that waits for it, at once; and nothing waits for any after that."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    world = join()
    if not world.is_main:
        if world.rank == 1:
            world.agree(1)
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            world.agree(1)
            world.agree(1)
        except LostProcessError:
            return
        raise AssertionError
    lost = False
    try:
        world.agree(1)
        world.agree(1)
    except LostProcessError:
        lost = True
    assert lost
    assert not world.is_usable
    try:
        with world.everywhere(_agree_often):
            raise AssertionError
    except LostProcessError:
        world.end()


def values_of_the_main_process_are_those_of_all() -> None:
    """Also an error of it."""
    world = join()
    found = world.from_main(lambda: {"rank": world.rank})
    assert found == {"rank": 0}
    caught = ""
    try:
        world.from_main(lambda: 1 / 0)
    except Exception as error:
        caught = str(error)
    assert "division by zero" in caught
    gathered = world.gather(world.rank * 2)
    assert gathered == ([0, 2, 4][: world.size] if world.is_main else [])
    told = world.agree(news=world.rank or None, stop=(15, None) if world.rank else None)
    assert told.stop == (15, None)
    assert told.news == (None, *range(1, world.size))
    world.end() if world.is_main else world.serve()
