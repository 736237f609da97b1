"""Train a run's folds, from the beginning or from where their checkpoints say they are."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imgcls.config.load import dump_yaml
from imgcls.config.run import ResumeConfig, TrainConfig
from imgcls.data.splits.assign import split_rows as rows_of
from imgcls.engine.training.events import Observer
from imgcls.engine.training.fit import broadcast, validate_epoch
from imgcls.engine.training.interrupt import SignalledError, StopRequest, stop_on_signals
from imgcls.errors import ConfigError, InterruptedRunError, RunError
from imgcls.jobs.evaluate.folds import summarize
from imgcls.jobs.plan.plan import Plan, make_plan
from imgcls.jobs.plan.tables import with_data_at
from imgcls.jobs.train.assemble import Assembly, assemble
from imgcls.jobs.train.features import FeatureStore
from imgcls.jobs.train.fold import train_fold
from imgcls.jobs.train.restore import require_terms
from imgcls.jobs.train.time_budget import fit_to_time
from imgcls.models.hub import check_can_be_had
from imgcls.results.training import FoldResult, TrainResult
from imgcls.storage.bad_images import add_bad_images, count_bad_images
from imgcls.storage.caches import remove_features
from imgcls.storage.durable import refused, write_text
from imgcls.storage.lock import lock_run
from imgcls.storage.pointers import facts_of, last_of
from imgcls.storage.runs import (
    CONFIG,
    PREFLIGHT,
    SPLITS,
    create_run_folder,
    epochs_trained,
    find_resumable,
    fold_folder,
    fold_is_finished,
    read_run_config,
)
from imgcls.storage.splits import checked_at_s, read_splits
from imgcls.storage.tables import SPLIT_COLUMNS, write_csv, write_json


def start_run(plan: Plan) -> Path:
    """A new run folder with its resolved config and its splits. Raises RunError."""

    def fill(folder: Path) -> None:
        write_csv(folder / SPLITS, SPLIT_COLUMNS, rows_of(plan.table, plan.assignment))
        if plan.preflight is not None:
            add_bad_images(folder, plan.preflight.unreadable)
            write_json(folder / PREFLIGHT, plan.preflight)
        write_text(folder / CONFIG, dump_yaml(plan.config))

    runtime = plan.config.runtime
    return create_run_folder(
        runtime.output, runtime.experiment, plan.table.name, plan.config.model.name, fill
    )


def reopen_run(run: Path, changes: ResumeConfig) -> Plan:
    """The plan of a run that was begun before, on the splits it was begun with.

    Raises RunError, DataError or CheckpointError when the run cannot go on as it was.
    """
    config = read_run_config(run)
    done = max(epochs_trained(run, config))
    if changes.epochs is not None and changes.epochs < done:
        raise ConfigError(
            f"--epochs {changes.epochs}: {done} are trained already; give as many or more, or "
            "train a new run"
        )
    for group, names in {
        "runtime": ("device", "workers", "amp"),
        "optim": ("epochs",),
        "data": ("batch_size", "on_bad_image", "cache"),
    }.items():
        wanted = {n: v for n in names if (v := getattr(changes, n)) is not None}
        updated = getattr(config, group).model_copy(update=wanted)
        config = config.model_copy(update={group: updated})
    moved = changes.data is not None or changes.root is not None
    return make_plan(
        with_data_at(config, changes.data, changes.root) if moved else config,
        read_splits(run),
        strict=not changes.force,
        since_s=None if moved else checked_at_s(run),
        class_names=_class_names(run) if moved else None,
    )


def _class_names(run: Path) -> tuple[str, ...] | None:
    """The order of classes that the run was begun with, as far as a checkpoint says it."""
    for fold in run.glob("fold_*"):
        last = last_of(fold / "checkpoints")
        names = None if last is None else (facts_of(last) or {}).get("class_names")
        if isinstance(names, list):
            return tuple(map(str, names))
    return None


@dataclass(frozen=True)
class Begun:
    """A run that is ready to train: its plan, its folder, and its first fold."""

    plan: Plan
    run: Path
    first: Assembly


def begin(plan: Plan) -> Begun:
    """A new run for this plan. Raises the RequestErrors of what cannot be built, fetched or made.

    Its first fold is assembled before anything is written, so that such an error leaves nothing.
    """
    plan = fit_to_time(plan)
    first = assemble(plan, plan.folds[0])
    return Begun(plan, start_run(plan), first)


def preview(
    config: TrainConfig, on_picture: Callable[[int, int], None] = lambda _done, _total: None
) -> tuple[Plan, Assembly]:
    """What `train` would do, and its first fold, built without fetching any weights.

    Raises the RequestErrors that `train` would, also for weights that cannot be had.
    """
    plan = fit_to_time(make_plan(config, on_picture=on_picture))
    if plan.pretrained:
        check_can_be_had(plan.config.model.name)
    return plan, assemble(plan, plan.folds[0], load_weights=not plan.pretrained)


def train(
    config: TrainConfig,
    observers: Sequence[Observer] = (),
    *,
    split_rows: Sequence[Mapping[str, str]] | None = None,
    on_picture: Callable[[int, int], None] = lambda _done, _total: None,
    on_begun: Callable[[Begun], None] = lambda _begun: None,
    on_signal: Callable[[int], None] | None = None,
    stop: StopRequest | None = None,
) -> TrainResult:
    """Plan, assemble, begin and train a run, as `imgcls train` does.

    split_rows and on_picture: see `make_plan`. on_begun is told once the run's folder is there;
    observers see the events of its folds. on_signal and stop, and what is raised: see `train_run`;
    RequestErrors come before anything is written.
    """
    begun = begin(make_plan(config, split_rows, on_picture=on_picture))
    on_begun(begun)
    return train_run(begun.plan, begun.run, observers, on_signal, first=begun.first, stop=stop)


def resume(
    changes: ResumeConfig,
    observers: Sequence[Observer] = (),
    *,
    on_reopened: Callable[[Plan, Path], None] = lambda _plan, _run: None,
    on_signal: Callable[[int], None] | None = None,
    stop: StopRequest | None = None,
) -> TrainResult | None:
    """Go on with the run that `changes` names, or the newest unfinished one; None without any.

    Raises as `reopen_run` and `train_run`.
    """
    run = find_resumable(changes.run, changes.output, extend=changes.epochs is not None).run
    if run is None:
        return None
    plan = reopen_run(run, changes)
    on_reopened(plan, run)
    return train_run(plan, run, observers, on_signal, force=changes.force, stop=stop)


def train_run(
    plan: Plan,
    run: Path,
    observers: Sequence[Observer] = (),
    on_signal: Callable[[int], None] | None = None,
    *,
    first: Assembly | None = None,
    force: bool = False,
    stop: StopRequest | None = None,
) -> TrainResult:
    """Train all folds that are not finished; with k-fold over all folds, sum them up.

    first: the first fold of a new run, where it was assembled already. force: go on from
    checkpoints whose data or config are not the plan's. stop: where the caller asks for a stop.

    Raises InterruptedRunError after SIGINT, SIGTERM, SIGHUP, SIGUSR1 or the caller's request, with
    everything saved, and the RunFailedErrors; whatever was saved before stays good.
    """
    trainer = Trainer(plan, run, observers, first=first, force=force)
    with _in_charge(run, on_signal, stop) as request:
        if not force:
            require_terms(plan, run)
        folds = tuple(trainer.train(fold, request) for fold in plan.folds)
        summary = summarize(plan, run) if len(plan.folds) > 1 else None
        remove_features(run)
    return TrainResult(
        run, plan.config.model.name, plan.class_names, folds, summary, count_bad_images(run)
    )


@contextlib.contextmanager
def _in_charge(
    run: Path, on_signal: Callable[[int], None] | None, stop: StopRequest | None
) -> Iterator[StopRequest]:
    """Hold the run, hear signals, and say of each stop how to go on."""
    go_on = f"go on with: imgcls resume {shlex.quote(str(run))}"
    with lock_run(run), stop_on_signals(on_signal, stop) as request:
        try:
            yield request
        except InterruptedRunError as error:
            raise InterruptedRunError(f"{error}; {go_on}", error.exit_code - 128) from error
        except SignalledError as error:
            raise InterruptedRunError(
                f"stopped by a signal before the first step; {go_on}", error.signal_number
            ) from None
        except KeyboardInterrupt:
            raise InterruptedRunError(
                f"stopped at once; the last checkpoint is good; {go_on}"
            ) from None
        except OSError as error:
            raise refused(error, run, f"the checkpoints so far are intact; {go_on}") from error


class Trainer:
    """Trains the folds of one run one by one, each from wherever its checkpoints say it is.

    From Python: `Trainer.begin(TrainConfig(...)).train_fold(0)`; `imgcls.train` trains all folds.
    """

    def __init__(
        self,
        plan: Plan,
        run: Path,
        observers: Sequence[Observer] = (),
        *,
        first: Assembly | None = None,
        force: bool = False,
    ) -> None:
        self.plan = plan
        self.run = run
        self._emit = broadcast(observers)
        self._force = force
        self._assembly = first
        self._store = FeatureStore(plan) if first is None else first.store

    @classmethod
    def begin(cls, config: TrainConfig, observers: Sequence[Observer] = ()) -> Trainer:
        """A trainer with a new run folder for this config; an error leaves nothing behind."""
        begun = begin(make_plan(config))
        return cls(begun.plan, begun.run, observers, first=begun.first)

    def train_fold(self, fold: int = 0) -> FoldResult:
        """Train a fold to its end and return where it lies and how its best epoch scored.

        As `imgcls train --fold`: the run is locked, `history.csv` kept, and in the main thread a
        signal saves and stops. Raises ConfigError for a fold that the run has not, RunError where
        another process trains it, and as `train_run`; called again, it goes on.
        """
        folds = range(max(self.plan.config.data.folds, 1))
        if fold not in folds:
            raise ConfigError(f"fold {fold}: the run has folds {folds[0]} to {folds[-1]}")
        with _in_charge(self.run, None, None) as stop:
            result = self.train(fold, stop)
            planned = self.plan.folds
            if all(fold_is_finished(fold_folder(self.run, n)) for n in planned):
                if len(planned) > 1:
                    summarize(self.plan, self.run)
                remove_features(self.run)
        return result

    def train(self, fold: int, stop: StopRequest) -> FoldResult:
        """Train a fold of a run that the caller holds, until it ends or `stop` is asked for."""
        result, self._assembly = train_fold(
            self.plan,
            self.run,
            fold,
            self._assembly,
            store=self._store,
            emit=self._emit,
            stop=stop,
            force=self._force,
        )
        return result

    def validate_epoch(self) -> dict[str, float | None]:
        """The `val_` metrics of the fold trained last, with its weights as they are now."""
        if self._assembly is None:
            raise RunError("validate_epoch: train a fold first")
        return validate_epoch(self._assembly.parts)
