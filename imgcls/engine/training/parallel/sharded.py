"""Several processes that make the same updates, each of its rows of every weight.

Torch's FSDP2 (`fully_shard`) brings the weights of a block together when it is computed, and gives
each process the sum of the gradients of its rows: ZeRO stage 3, Rajbhandari et al., "ZeRO: Memory
Optimizations Toward Training Trillion Parameter Models" (SC 2020), arXiv:1910.02054. Gradients of
several batches of an update are added up divided, or the first would be kept whole.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.nn.modules.batchnorm import _NormBase

from imgcls.engine.device.runtime import release_freed_memory
from imgcls.engine.device.world import World
from imgcls.engine.scoring.inference import InferencePass
from imgcls.engine.training.interrupt import StopRequest
from imgcls.engine.training.parallel.data_parallel import DataParallel, Part
from imgcls.engine.training.parallel.divide import divide
from imgcls.engine.training.parallel.whole_batch import part_of_batch
from imgcls.engine.training.selection.interpolation import Interpolation
from imgcls.engine.training.step import Learner
from imgcls.errors import ModelError, reason_of


class Sharded(DataParallel):
    """One process's side of a learner that is divided among several, which it does to it.

    The others are to make theirs at the same time. interpolation: the one of the same fold. Raises
    ModelError for a model whose layers cannot be divided.
    """

    def __init__(
        self,
        world: World,
        input_size: tuple[int, int, int],
        stop: StopRequest,
        heard: StopRequest,
        *,
        learner: Learner,
        interpolation: Interpolation | None,
        compresses: bool,
        news: Callable[[], Any] = lambda: None,
        on_news: Callable[[Any], None] = lambda _news: None,
    ) -> None:
        super().__init__(
            world, input_size, stop, heard, compresses=compresses, news=news, on_news=on_news
        )
        self._model = learner.model
        self._scored = learner.model if learner.average is None else learner.average.model
        with world.inseparable():
            divide(learner, interpolation, world, compresses=compresses)
            error = self._why_not(learner.compute.device)
        world.agree(error=error)
        # what all of the model took is for the pictures
        release_freed_memory(learner.compute.device)

    def begin_epoch(self, model: nn.Module, device: torch.device) -> None:
        """Make ready for what the model trains from here on."""
        del device
        norms = [module for module in model.modules() if isinstance(module, _NormBase)]
        self._norms_are_trained = any(module.training for module in norms)

    def forward(self, images: torch.Tensor, part: Part) -> torch.Tensor:
        """The logits of this process's pictures, as they are in the whole batch."""
        sum_tensor = self.world.sum_tensor if self._norms_are_trained else None
        with part_of_batch(part.rows, part.whole_size, sum_tensor):
            logits: torch.Tensor = self._model(images)
        return logits

    def synced(self, *, is_last: bool) -> AbstractContextManager[Any]:
        """A block of forward and backward pass; gradients are sums behind each."""
        del is_last
        return contextlib.nullcontext()

    def total_norm(self, gradients: Sequence[torch.Tensor]) -> torch.Tensor:
        """The norm of all processes' rows of the gradients together: float32 []."""
        own = [g.to_local() if isinstance(g, DTensor) else g for g in gradients]
        squares = nn.utils.get_total_norm(own).double().square()
        return self.world.sum_tensor(squares).sqrt().float()

    def joined(self, score: Callable[[], InferencePass | None]) -> InferencePass | None:
        """One pass of all processes, as of DataParallel; each has all weights meanwhile.

        So a process scores as many batches as it has, and waits for no other between them.
        """
        with self._brought_together():
            return super().joined(score)

    def require_same(self, model: nn.Module) -> None:
        """Raise RunFailedError where the processes' running statistics are not the same."""
        self._require_same(dict(model.named_buffers()))

    @contextlib.contextmanager
    def _brought_together(self) -> Iterator[None]:
        parts = [module for module in self._scored.modules() if isinstance(module, FSDPModule)]
        blocks = [part for part in parts if part is not self._scored]
        with self.world.inseparable():
            for block in blocks:
                block.set_reshard_after_forward(False, recurse=False)
            for part in parts:
                part.unshard()
        try:
            yield
        finally:
            for part in parts:
                part.reshard()
            for block in blocks:
                block.set_reshard_after_forward(True, recurse=False)

    def _why_not(self, device: torch.device) -> ModelError | None:
        """What is said of a model whose blocks another layer reaches into."""
        images = torch.zeros(1, *self._input_size, device=device)
        training = self._model.training
        try:
            with torch.no_grad():
                self._model.eval()(images)
        except RuntimeError as error:
            if "DTensor" not in str(error):
                raise
            return ModelError(
                f"--shard: this model computes with weights of layers that are divided by "
                f"themselves ({reason_of(error)}); train it without"
            )
        finally:
            self._model.train(training)
        return None
