"""A run around another training's checkpoint: data, splits, and where it goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from imgcls.config.import_ import ImportConfig
from imgcls.data.loading.loader import EvalLoader
from imgcls.data.pixels.transforms import eval_transform
from imgcls.engine.checkpoint.checkpointer import write_and_link
from imgcls.engine.checkpoint.folder import take_snapshot
from imgcls.engine.device.batches import Normalizer
from imgcls.engine.scoring.inference import predict
from imgcls.errors import DataError
from imgcls.jobs.import_.going_on import GoingOn, run_config
from imgcls.jobs.import_.optimizer import UnmatchedError, as_torch_writes_it, carried_over
from imgcls.jobs.import_.order import in_another_order, in_order_of, reorder
from imgcls.jobs.import_.schedule import planned_epochs
from imgcls.jobs.import_.source import BEGAN_WITH, Source
from imgcls.jobs.plan.plan import Plan, make_plan
from imgcls.jobs.plan.tables import training_table
from imgcls.jobs.train.assemble import Assembly, assemble
from imgcls.jobs.train.fold import sidecar_of_fold
from imgcls.jobs.train.start import start_run
from imgcls.metrics.calculator import validation_metrics
from imgcls.metrics.predictions import Predictions
from imgcls.models.build import classifier_names
from imgcls.results.training import ImportReport
from imgcls.storage.durable import sync_folder
from imgcls.storage.pointers import BEST, CHECKPOINTS
from imgcls.storage.runs import IMPORTED, fold_folder
from imgcls.storage.tables import write_history, write_json

_FOLD = 0


def import_run(
    config: ImportConfig, data: str, source: Source, on_picture: Callable[[int, int], None]
) -> ImportReport:
    """A new run whose only checkpoint is the imported one.

    Raises DataError where the data have other classes, and what `train` raises of its options.
    """
    train_config, going_on, why_not = run_config(config, data, source)
    source = in_order_of(training_table(train_config).class_names, data, source)
    plan = make_plan(train_config, starting_weights=BEGAN_WITH, on_picture=on_picture)
    done = source.trained.epochs or 0
    predictions = _validate(plan, source)
    row = {
        "epoch": done,
        "train_loss": None,
        **validation_metrics(predictions),
        "lr": None if going_on is None else going_on.optimizer.lr,
        "epoch_time": None,
    }
    state: dict[str, Any] | None = None
    if going_on is not None:
        try:
            state = _train_state(plan, source, row)
        except UnmatchedError as error:
            why_not = str(error)
    epochs = plan.epochs if state is not None else None
    sidecar = replace(
        sidecar_of_fold(plan, _FOLD),
        epoch=done,
        step=done * _steps(plan),
        # what cannot go on is at its end
        finished=state is None or done >= plan.epochs,
        metrics=row,
        best=True,
    )
    snapshot = take_snapshot(source.fitted.model, source.card(), sidecar, state)
    facts, notes = _told(plan, source, going_on, why_not, predictions)
    origin = {
        "file": source.file.name,
        "sha256": source.sha256,
        "layout": source.trained.layout,
        "epoch": source.trained.epochs,
        "metrics": source.trained.metrics,
        "splits": "given" if plan.data.table.splits is not None else "made",
        "facts": facts,
    }

    def fill(folder: Path) -> None:
        fold = fold_folder(folder, _FOLD)
        (fold / CHECKPOINTS).mkdir(parents=True)
        write_and_link(snapshot, fold / CHECKPOINTS, sidecar.step or 0)
        write_history(fold / "history.csv", [row])
        sync_folder(fold)
        write_json(folder / IMPORTED, origin)

    run = start_run(plan, fill)
    return source.report(
        fold_folder(run, _FOLD) / CHECKPOINTS / BEST,
        run=run,
        epochs=epochs,
        validation=dict(row),
        val_pictures=len(predictions.labels),
        facts=facts,
        notes=notes,
    )


def _validate(plan: Plan, source: Source) -> Predictions:
    """The model's scores of the run's val pictures."""
    rows = plan.data.rows("val", _FOLD)
    if not len(rows):
        raise DataError(f"--data {plan.config.data.source}: its val split has no pictures")
    transform = eval_transform(source.preprocessing)
    batches = EvalLoader(
        plan.data.table,
        rows,
        transform,
        batch_size=plan.pace.batch_size,
        workers=plan.loading.workers,
        device_type=plan.compute.device.type,
    )
    normalizer = Normalizer(source.preprocessing.mean, source.preprocessing.std, plan.compute)
    model = plan.compute.place(source.fitted.model)
    return predict(model, batches, normalizer, plan.compute).predictions


def _train_state(plan: Plan, source: Source, row: Mapping[str, float | None]) -> dict[str, Any]:
    """The state of a training of `imgcls train` at this point. Raises UnmatchedError."""
    trained, fitted = source.trained, source.fitted
    if fitted.from_wrapper and len(classifier_names(fitted.model)) > 1:
        raise UnmatchedError(f"timm's {source.name} has two classifiers, the file's model one")
    assembly = assemble(plan, _FOLD, load_weights=False)
    learner = assembly.parts.learner
    learner.model.load_state_dict(fitted.raw or fitted.weights)
    if learner.average is not None:
        learner.average.model.load_state_dict(fitted.weights)
    assert trained.optimizer is not None
    heads = [n for n in fitted.parameters if n.rpartition(".")[0] in classifier_names(fitted.model)]
    learner.optimizer.load_state_dict(
        carried_over(
            trained.optimizer,
            learner.optimizer,
            learner.model,
            order=fitted.parameters,
            heads=heads,
            reorder=lambda name, value: reorder(source, name, value, source.order),
        )
    )
    _set_position(plan, assembly, trained.epochs or 0, row)
    if trained.scaler and learner.scaler.is_enabled():
        with as_torch_writes_it():
            learner.scaler.load_state_dict(dict(trained.scaler))
    return assembly.parts.train_state().state_dict()


def _set_position(
    plan: Plan, assembly: Assembly, done: int, row: Mapping[str, float | None]
) -> None:
    """Put the parts behind so many epochs."""
    parts, steps = assembly.parts, _steps(plan)
    parts.progress.epoch, parts.progress.step = done, done * steps
    parts.progress.lr = float(row["lr"] or 0.0)
    parts.learner.schedule.load_state_dict({"updates": done * steps})
    parts.history.append(row)
    parts.tracker.update(done, row)
    parts.progress.decide(plan.epochs, out_of_patience=False)


def _steps(plan: Plan) -> int:
    return plan.pace.steps_per_epoch(len(plan.data.rows("train", _FOLD)))


def _told(
    plan: Plan,
    source: Source,
    going_on: GoingOn | None,
    why_not: str,
    predictions: Predictions,
) -> tuple[dict[str, str], tuple[str, ...]]:
    """(what was found, what the user should know or check)."""
    trained, done = source.trained, source.trained.epochs or 0
    facts = source.facts()
    counts = {split: len(plan.data.rows(split, _FOLD)) for split in ("train", "val", "test")}
    facts["Split"] = (
        ", ".join(f"{n:,} {split}" for split, n in counts.items())
        + f" ({plan.data.assignment.splitter})"
    )
    notes = list(plan.data.assignment.notes)
    if going_on is not None and not why_not:
        optimizer = going_on.optimizer
        facts["Optimizer"] = (
            f"{optimizer.opt} with its state, weight decay {optimizer.weight_decay:g}"
        )
        planned = planned_epochs(trained.settings, trained.scheduler)
        its_own = f", its own had {planned}" if planned not in (None, plan.epochs) else ""
        facts["Schedule"] = f"{going_on.schedule_note}; {plan.epochs} epochs in all{its_own}"
        if trained.scaler and plan.config.runtime.amp != "fp16":
            facts["Scaler"] = f"left out: this run computes with --amp {plan.config.runtime.amp}"
        facts["Goes on"] = (
            f"with epoch {done + 1}; not exactly as it would have: shuffling, augmentation "
            f"({plan.recipe.augment.preset}), loss and dropout are imgcls's"
        )
        if optimizer.note:
            notes.append(optimizer.note)
    else:
        notes.append(f"it cannot be resumed: {why_not}; it can be evaluated, used and exported")
    notes += in_another_order(predictions, source)
    given = plan.data.table.splits
    if given is None or "val" not in given:
        which = "the splits are" if given is None else "the val split is"
        of = "val and test" if given is None else "val"
        notes.append(
            f"{which} new: the old training may have been given {of} pictures, and then scores on "
            "them look too good"
        )
    return facts, tuple(notes)
