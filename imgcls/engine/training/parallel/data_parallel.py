"""Several processes that make the same updates, each from its part of every batch.

Torch's DistributedDataParallel adds up their gradients while the backward pass still goes on. The
batch is divided, not multiplied: the gradient is that of the mean loss over all pictures, whatever
the number of processes.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parallel import DistributedDataParallel

from imgcls.engine.device.batches import TrainBatch
from imgcls.engine.device.world import World
from imgcls.engine.scoring.inference import InferencePass, joined_passes
from imgcls.engine.training.interrupt import StopRequest
from imgcls.engine.training.parallel.whole_batch import BLANK, part_of_batch
from imgcls.engine.training.probe import Noise
from imgcls.errors import ImgclsError, RunFailedError


class Part(Protocol):
    """Where a process's pictures stand in the batch that all of them share."""

    @property
    def rows(self) -> Any: ...  # noqa: D102
    @property
    def whole_size(self) -> int | None: ...  # noqa: D102


class BreakOff(Exception):  # noqa: N818  it is no error
    """A process ends its part of a pass early, since it has heard that all are to stop."""


class DataParallel:
    """One process's side of a learner that several train.

    input_size: [C, H, W] of a picture. stop: filled with the wish of whichever process heard one,
    at a common point; heard: this process's own. compresses: gradients travel as bfloat16. news:
    what this process has to tell the main one, None for nothing; on_news: told of what each has.
    """

    def __init__(
        self,
        world: World,
        input_size: tuple[int, int, int],
        stop: StopRequest,
        heard: StopRequest,
        *,
        compresses: bool,
        news: Callable[[], Any] = lambda: None,
        on_news: Callable[[Any], None] = lambda _news: None,
    ) -> None:
        self.world = world
        self.stop = stop
        self.heard = heard
        self._input_size = input_size
        self._compresses = compresses
        self._news = news
        self._on_news = on_news
        self._wrapped: DistributedDataParallel | None = None
        self._trained: tuple[int, ...] = ()
        self._norms_are_trained = False

    def begin_epoch(self, model: nn.Module, device: torch.device) -> None:
        """Make ready for what the model trains from here on; where that has changed, anew."""
        trained = tuple(id(p) for p in model.parameters() if p.requires_grad)
        norms = [module for module in model.modules() if isinstance(module, _NormBase)]
        self._norms_are_trained = any(module.training for module in norms)
        if trained == self._trained:
            return
        self._trained = trained
        # its hooks on the gradients go with it
        self._wrapped = None
        gc.collect()
        with self.world.inseparable():
            self._wrapped = DistributedDataParallel(
                model,
                device_ids=[device] if device.type == "cuda" else None,
                # all have the same, by the same updates of the same statistics
                forward_sync_buffers=False,
                find_unused_parameters=self._has_unused(model, device),
            )
            added = _sum_as_bfloat16 if self._compresses else _sum
            # torch refuses a hook whose bucket has any annotation but its own class
            self._wrapped.register_comm_hook(None, lambda _state, bucket: added(bucket))

    def forward(self, images: torch.Tensor, part: Part) -> torch.Tensor:
        """The logits of this process's pictures, as they are in the whole batch."""
        assert self._wrapped is not None
        sum_tensor = self.world.sum_tensor if self._norms_are_trained else None
        with part_of_batch(part.rows, part.whole_size, sum_tensor):
            logits: torch.Tensor = self._wrapped(images)
        return logits

    def synced(self, *, is_last: bool) -> AbstractContextManager[Any]:
        """A block of forward and backward pass; behind the last of an update gradients are sums."""
        assert self._wrapped is not None
        return contextlib.nullcontext() if is_last else self._wrapped.no_sync()

    def blank(self) -> TrainBatch:
        """Pictures for a part without any, which draws what the other parts draw."""
        images = torch.zeros(BLANK, *self._input_size, dtype=torch.uint8)
        labels = torch.zeros(BLANK, dtype=torch.int64)
        return Noise(images, labels, ("",) * BLANK, torch.ones(BLANK, dtype=torch.bool))

    def count(self, samples: int) -> int:
        """The pictures of an update in all processes. Raises what another has met on its way."""
        return int(self.world.agree(samples).total)

    def total_norm(self, gradients: Sequence[torch.Tensor]) -> torch.Tensor:
        """The norm of the gradients together: float32 []."""
        return nn.utils.get_total_norm(gradients)

    def meet(self, value: float = 0.0, *, error: ImgclsError | None = None) -> float:
        """The sum of all processes' values; a wish to stop is known to all behind this.

        Raises the error that one of them has met.
        """
        found = self.world.agree(value, error=error, stop=self.heard.wish(), news=self._news())
        self.stop.take(found.stop)
        for told in found.news if self.world.is_main else ():
            if told is not None:
                self._on_news(told)
        return found.total

    def joined(self, score: Callable[[], InferencePass | None]) -> InferencePass | None:
        """One pass of all processes, in order, in the main one; None in others, and at a stop.

        score: this process's part; BreakOff ends it, for a stop that this process has heard.
        """
        own, error = None, None
        try:
            own = score()
        except BreakOff:
            pass
        except ImgclsError as failed:
            error = failed
        self.meet(error=error)
        parts = [] if self.stop else self.world.gather(own)
        found = [part for part in parts if part is not None]
        return joined_passes(found) if found else None

    def require_same(self, model: nn.Module) -> None:
        """Raise RunFailedError where the processes' weights are not the same to the bit."""
        self._require_same(model.state_dict())

    def _require_same(self, tensors: Mapping[str, Any]) -> None:
        digest = hashlib.blake2b(digest_size=5)
        for parameter in tensors.values():
            digest.update(parameter.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        own = float(int.from_bytes(digest.digest(), "big"))
        mean = self.world.agree(own).total / self.world.size
        differs = RunFailedError(
            "the processes' weights have come apart, which must not happen: please report it; the "
            "last checkpoint is as it was"
        )
        self.world.agree(error=differs if own != mean else None)

    def _has_unused(self, model: nn.Module, device: torch.device) -> bool:
        """True when some of what is trained takes no part in the logits: DDP must then look."""
        before = {module: module.training for module in model.modules()}
        for module in before:
            if isinstance(module, _NormBase):
                module.eval()
        images = torch.zeros(BLANK, *self._input_size, device=device)
        with torch.enable_grad():
            logits = model(images)
        for module, training in before.items():
            module.training = training
        reached: set[int] = set()
        waiting, seen = [logits.grad_fn], set()
        while waiting:
            node = waiting.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            if (variable := getattr(node, "variable", None)) is not None:
                reached.add(id(variable))
            waiting += [following for following, _ in node.next_functions]
        return not set(self._trained) <= reached


def _sum(bucket: Any) -> torch.futures.Future[torch.Tensor]:
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    assert work is not None
    return work.get_future().then(lambda done: done.value()[0])


def _sum_as_bfloat16(bucket: Any) -> torch.futures.Future[torch.Tensor]:
    whole = bucket.buffer()
    work = dist.all_reduce(whole.to(torch.bfloat16), async_op=True)
    assert work is not None
    return work.get_future().then(lambda done: whole.copy_(done.value()[0]))
