"""A fold that several processes train together: what the main one asks of the others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from imgcls.data.loading.bad_images import BadImage
from imgcls.data.loading.sampling import Share, smallest_batch
from imgcls.engine.device.world import World, world
from imgcls.engine.training.data_parallel import DataParallel
from imgcls.engine.training.fit import fit
from imgcls.engine.training.interrupt import StopRequest, stop_on_signals
from imgcls.engine.training.optim import is_second_order
from imgcls.engine.training.parts import FitSettings, Parts
from imgcls.engine.training.state import History, Progress
from imgcls.errors import ConfigError
from imgcls.jobs.plan.plan import Plan
from imgcls.jobs.train.assemble import Assembly, assemble, shared_loaders


@dataclass(frozen=True)
class FoldTask:
    """What the other processes need to train a fold beside the main one, from where it stands.

    weights, state: of the fold's TrainState, on the CPU.
    """

    plan: Plan
    settings: FitSettings
    weights: Mapping[str, torch.Tensor]
    state: Mapping[str, Any]


def processes_of(plan: Plan) -> int:
    """Among how many processes of this command each batch of the training is divided.

    A training on features alone, which lie in one process, is that one's.
    """
    return world().size if plan.epochs and not plan.recipe.from_features else 1


def require_divisible(plan: Plan) -> None:
    """Raise ConfigError for a training that the processes of this command cannot share."""
    here = world()
    if processes_of(plan) == 1:
        return
    opt = plan.config.optim.opt
    if is_second_order(opt):
        raise ConfigError(
            f"optim.opt (--opt) {opt}: takes second derivatives, which torch's data parallel "
            "training does not add up; train in one process, or with another --opt"
        )
    batch_size, grad_accum = plan.pace.batch_size, plan.pace.grad_accum
    for fold in plan.data.folds:
        smallest = smallest_batch(len(plan.data.rows("train", fold)), batch_size, grad_accum)
        mixes = plan.recipe.augment.mixes
        if smallest // (2 if mixes else 1) < here.size:
            pairs = ", which mixup and cutmix take two by two" if mixes else ""
            raise ConfigError(
                f"data.batch_size (--batch-size) {batch_size}: deals batches of {smallest} "
                f"pictures{pairs}, too few for {here.size} processes; give a larger one, or fewer "
                "processes"
            )


@contextlib.contextmanager
def trained_together(
    plan: Plan, assembly: Assembly, settings: FitSettings, stop: StopRequest
) -> Iterator[tuple[Parts, StopRequest]]:
    """The parts to train with and the wish to stop that all share, while all others train too."""
    here = world()
    if processes_of(plan) == 1 or assembly.parts.progress.trained:
        yield assembly.parts, stop
        return
    state = assembly.parts.train_state()
    task = FoldTask(
        plan, settings, _on_cpu(state.weights.state_dict()), _on_cpu(state.state_dict())
    )
    with here.everywhere(_train_beside, task):
        here.agree()  # the others are ready
        yield _shared(here, plan, assembly, stop, [])


def _train_beside(task: FoldTask) -> None:
    """Train a fold as one of the processes that do, and save nothing."""
    heard = StopRequest()
    with stop_on_signals(request=heard):
        _fit_beside(task, heard)


def _fit_beside(task: FoldTask, heard: StopRequest) -> None:
    here, plan = world(), task.plan
    assembly = assemble(plan, task.settings.fold, load_weights=False)
    state = assembly.parts.train_state()
    state.weights.load_state_dict(task.weights)
    state.load_state_dict(task.state)
    met: list[BadImage] = []
    assembly.bad_images.tell(met.append)
    here.agree()
    parts, stop = _shared(here, plan, assembly, heard, met)
    fit(parts, task.settings, _NoCheckpoints(), lambda _event: None, stop)


def _shared(
    here: World, plan: Plan, assembly: Assembly, heard: StopRequest, met: list[BadImage]
) -> tuple[Parts, StopRequest]:
    """The parts with this process's share of each batch, and the wish to stop of all."""
    stop = StopRequest()

    def news() -> list[BadImage] | None:
        told = met[:]
        met.clear()
        return told or None

    parallel = DataParallel(
        here,
        assembly.preprocessing.input_size,
        stop,
        heard,
        compresses=plan.config.runtime.grad_compression == "bf16",
        news=news,
        on_news=assembly.bad_images.meet,
    )
    train, val = shared_loaders(plan, assembly, Share(here.rank, here.size))
    learner = replace(assembly.parts.learner, parallel=parallel)
    return replace(assembly.parts, learner=learner, train_batches=train, val_batches=val), stop


class _NoCheckpoints:
    """The main process saves, for all."""

    def after_step(self, progress: Progress, history: History) -> None:
        """Nothing."""

    def after_epoch(self, progress: Progress, history: History, **_about: Any) -> None:
        """Nothing."""

    def save(self, progress: Progress, history: History, *, is_best: bool) -> None:
        """Nothing."""

    def wait(self) -> None:
        """Nothing."""


def _on_cpu(tree: Any) -> Any:
    """The tree with its tensors on the CPU."""
    if isinstance(tree, torch.Tensor):
        return tree.detach().cpu()
    if isinstance(tree, Mapping):
        return {key: _on_cpu(value) for key, value in tree.items()}
    if type(tree) in (list, tuple):
        return type(tree)(_on_cpu(value) for value in tree)
    return tree
