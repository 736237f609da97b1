"""A fold that several processes train together: what the main one asks of the others."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import torch

from imgcls.config.run import TrainConfig
from imgcls.data.loading.bad_images import BadImage
from imgcls.data.loading.sampling import Share, smallest_batch
from imgcls.engine.device.divided import bring_together
from imgcls.engine.device.world import World, world
from imgcls.engine.training.fit import fit
from imgcls.engine.training.interrupt import StopRequest, stop_on_signals
from imgcls.engine.training.optim import is_second_order
from imgcls.engine.training.parallel.data_parallel import DataParallel
from imgcls.engine.training.parallel.divide import OPTIMIZERS, load_undivided, undivided
from imgcls.engine.training.parallel.sharded import Sharded
from imgcls.engine.training.parts import Checkpoints, FitSettings, Parts
from imgcls.engine.training.state import History, Progress, TrainState
from imgcls.errors import ConfigError
from imgcls.jobs.plan.plan import Plan
from imgcls.jobs.train.assemble import Assembly, assemble, shared_loaders


@dataclass(frozen=True)
class FoldTask:
    """What the other processes need to train a fold beside the main one, from where it stands.

    weights, state: of the fold's TrainState, on the CPU; with `--shard` without what is then
    divided.
    """

    plan: Plan
    settings: FitSettings
    weights: dict[str, torch.Tensor]
    state: dict[str, Any]


class SharedCheckpoints(Checkpoints, Protocol):
    """What saves a fold that several processes train."""

    def share(self, is_agreed: Callable[[bool], bool]) -> None:
        """Save with all of them, at the points where they agree to."""


def processes_of(plan: Plan) -> int:
    """Among how many processes of this command each batch of the training is divided.

    A training on features alone, which lie in one process, is that one's.
    """
    alone = plan.recipe.from_features or plan.config.runtime.parallel_folds
    return world().size if plan.epochs and not alone else 1


def require_shardable(config: TrainConfig) -> None:
    """Raise ConfigError where `--shard` does not go with the processes or with other options."""
    runtime, optim = config.runtime, config.optim
    if not runtime.shard:
        return
    option = "runtime.shard (--shard)"
    if world().size == 1:
        raise ConfigError(
            f"{option}: one process has nothing to divide its model with; give --devices 2 or more "
            "too, or --no-shard"
        )
    if optim.opt not in OPTIMIZERS:
        raise ConfigError(
            f"{option}: does not go with --opt {optim.opt}, whose updates take whole tensors; give "
            f"one of {', '.join(OPTIMIZERS)}"
        )
    for name, given in (("compile", runtime.compile), ("parallel-folds", runtime.parallel_folds)):
        if given:
            raise ConfigError(f"{option}: does not go with --{name}; leave one of them out")
    if optim.max_minutes is not None:
        raise ConfigError(
            f"{option}: does not go with --max-minutes, which times a model that one device has "
            "whole; give --epochs"
        )
    if config.data.batch_size == "auto":
        raise ConfigError(
            f"{option}: how many pictures fit is tried with a model that one device has whole; "
            "give --batch-size"
        )


def require_divisible(plan: Plan) -> None:
    """Raise ConfigError for a training that the processes of this command cannot share."""
    here = world()
    if plan.config.runtime.parallel_folds and here.size == 1:
        raise ConfigError(
            "runtime.parallel_folds (--parallel-folds): trains a fold in each of several "
            "processes; say how many with --devices"
        )
    if processes_of(plan) == 1:
        if plan.config.runtime.shard:
            raise ConfigError(
                "runtime.shard (--shard): the classifier alone is trained, on features that one "
                "process has; leave it out"
            )
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
    plan: Plan,
    assembly: Assembly,
    settings: FitSettings,
    checkpointer: SharedCheckpoints,
    stop: StopRequest,
) -> Iterator[tuple[Parts, StopRequest]]:
    """The parts to train with and the wish to stop that all share, while all others train too."""
    here, parts, shards = world(), assembly.parts, plan.config.runtime.shard
    if processes_of(plan) == 1 or parts.progress.trained:
        if shards:
            # `restore` has left it where there is room for all
            for model in (parts.learner.model, parts.eval_model):
                plan.compute.place(model)
        yield parts, stop
        return
    state = parts.train_state()
    weights, others = state.weights.state_dict(), state.state_dict()
    if shards:
        weights, others = {}, undivided(others)
    task = FoldTask(plan, settings, _on_cpu(weights), _on_cpu(others))
    del weights, others
    with here.everywhere(_train_beside, task):
        here.agree()  # the others are ready
        if shards:
            checkpointer.share(partial(_is_agreed, here))
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
    checkpoints: Checkpoints = _NoCheckpoints()
    if plan.config.runtime.shard:
        load_undivided(state, task.state)
        checkpoints = _PartOfCheckpoints(state, partial(_is_agreed, here))
    else:
        state.weights.load_state_dict(task.weights)
        state.load_state_dict(task.state)
    # they would be kept until the fold has ended
    task.weights.clear()
    task.state.clear()
    met: list[BadImage] = []
    assembly.bad_images.tell(met.append)
    here.agree()
    parts, stop = _shared(here, plan, assembly, heard, met)
    fit(parts, task.settings, checkpoints, lambda _event: None, stop)


def _shared(
    here: World, plan: Plan, assembly: Assembly, heard: StopRequest, met: list[BadImage]
) -> tuple[Parts, StopRequest]:
    """The parts with this process's share of each batch, and the wish to stop of all."""
    stop = StopRequest()

    def news() -> list[BadImage] | None:
        told = met[:]
        met.clear()
        return told or None

    runtime, parts = plan.config.runtime, assembly.parts
    kind: Callable[..., DataParallel] = DataParallel
    if runtime.shard:
        kind = partial(Sharded, learner=parts.learner, interpolation=parts.interpolation)
    parallel = kind(
        here,
        assembly.preprocessing.input_size,
        stop,
        heard,
        compresses=runtime.grad_compression == "bf16",
        news=news,
        on_news=assembly.bad_images.meet,
    )
    train, val = shared_loaders(plan, assembly, Share(here.rank, here.size))
    learner = replace(parts.learner, parallel=parallel)
    return replace(parts, learner=learner, train_batches=train, val_batches=val), stop


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


class _PartOfCheckpoints(_NoCheckpoints):
    """The main process saves what all bring together: this one's part in it."""

    def __init__(self, state: TrainState, is_agreed: Callable[[bool], bool]) -> None:
        self._state = state
        self._is_agreed = is_agreed

    def after_step(self, progress: Progress, history: History) -> None:
        """Take part in saving where the main process saves."""
        if self._is_agreed(False):
            self.save(progress, history, is_best=False)

    def after_epoch(self, progress: Progress, history: History, **_about: Any) -> None:
        """Take part in saving where the main process saves."""
        self.after_step(progress, history)

    def save(self, progress: Progress, history: History, *, is_best: bool) -> None:
        """Take part in a copy of the state, in the order in which the main process takes it."""
        del progress, history, is_best
        self._is_agreed(False)
        bring_together(self._state.state_dict())
        bring_together(self._state.weights.state_dict())


def _is_agreed(here: World, wish: bool) -> bool:
    """Whether any process wants it: a common point."""
    return here.agree(float(wish)).total > 0


def _on_cpu(tree: Any) -> Any:
    """The tree with its tensors on the CPU."""
    if isinstance(tree, torch.Tensor):
        return tree.detach().cpu()
    if isinstance(tree, Mapping):
        return {key: _on_cpu(value) for key, value in tree.items()}
    if type(tree) in (list, tuple):
        return type(tree)(_on_cpu(value) for value in tree)
    return tree
