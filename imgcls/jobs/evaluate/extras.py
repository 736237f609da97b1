"""The report of an evaluation: its metrics, and a list of functions for all that goes with them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from imgcls.config.evaluate import EvaluateConfig
from imgcls.engine.checkpoint.folder import Checkpoint
from imgcls.errors import DataError
from imgcls.jobs.evaluate.compare import compare_if_asked
from imgcls.jobs.evaluate.corruptions import corruptions_if_asked
from imgcls.jobs.evaluate.decisions import costs, decisions
from imgcls.jobs.evaluate.explain import explain_if_asked
from imgcls.jobs.evaluate.scored import Extra, Scored
from imgcls.jobs.evaluate.unknown import conformal_if_asked, unlike_if_asked
from imgcls.metrics.intervals import bootstrap_intervals, ranks_affordable
from imgcls.metrics.slices import slice_metrics
from imgcls.results.evaluation import EvalReport, Prior

# in the order in which their notes are shown
_ASKED = (
    conformal_if_asked,
    unlike_if_asked,
    corruptions_if_asked,
    explain_if_asked,
    compare_if_asked,
)


def asked_extras(config: EvaluateConfig, checkpoints: Sequence[Checkpoint]) -> tuple[Extra, ...]:
    """What the options ask for beyond what every report has. Raises ConfigError where it cannot."""
    made = (if_asked(config, checkpoints) for if_asked in _ASKED)
    return tuple(extra for extra in made if extra is not None)


def report_of(scored: Scored, extras: Iterable[Extra] = ()) -> EvalReport:
    """The report of what was scored, with what every report has, and these extras."""
    checkpoint, pictures, metrics = scored.checkpoints[0], scored.pictures, scored.metrics
    several = len(scored.checkpoints) > 1
    report = EvalReport(
        checkpoint=scored.session.path if several else checkpoint.folder,
        model_name=" + ".join(dict.fromkeys(one.model_name for one in scored.checkpoints)),
        split=pictures.split,
        fold="all" if several else checkpoint.fold,
        data=dict(pictures.table.origin),
        metrics=metrics.metrics,
        speed_metrics=scored.speed,
        undefined=metrics.undefined,
        class_names=scored.class_names,
        per_class=metrics.per_class,
        confusion_matrix=metrics.confusion_matrix,
        confusions=metrics.confusions,
        folder=scored.folder,
        bad_images=pictures.left_out,
        notes=pictures.notes,
        trained_on=pictures.trained_on,
    )
    for extra in (*_EVERY_REPORT, *extras):
        found = dict(extra(scored))
        notes = (*report.notes, *found.pop("notes", ()))
        report = replace(report, **found, notes=notes)
    return report


def intervals(scored: Scored) -> dict[str, Any]:
    """The 95% intervals and how they were made; none, with the reason, where none can be."""
    session, predictions = scored.session, scored.predictions
    samples = session.samples
    if not samples:
        return {}
    try:
        found = bootstrap_intervals(
            predictions,
            samples,
            session.config.seed,
            scored.groups,
            folds=scored.folds,
            top_k=session.config.top_k,
        )
    except DataError as error:
        return {"intervals_method": str(error)}
    what = "pictures" if scored.groups is None else "groups"
    method = f"bootstrap of {what} within each class, {samples:,} resamples"
    if scored.folds is not None:
        method += ", widened by the spread between the folds' models"
    if not ranks_affordable(predictions, samples):
        method += "; none for ROC AUC and average precision, they would take too long"
    return {"intervals": found, "intervals_method": method}


def slices(scored: Scored) -> dict[str, Any]:
    """The same metrics for the pictures of each value of `--by`.

    Raises ConfigError for a column that the data do not have.
    """
    config = scored.session.config
    found = {
        name: slice_metrics(
            scored.predictions,
            scored.pictures.column(name),
            samples=scored.session.samples,
            seed=config.seed,
            groups=None if name == "group" else scored.groups,
            folds=scored.folds,
        )
        for name in config.by
    }
    return {"slices": found}


def prior(scored: Scored) -> dict[str, Any]:
    """The shares of the classes that the model's probabilities take for granted, by class."""
    found = scored.checkpoints[0].sidecar.prior
    if found is None:
        return {}
    shares = dict(zip(scored.class_names, found.shares, strict=True))
    return {"prior": Prior(found.imbalance, shares)}


_EVERY_REPORT: tuple[Extra, ...] = (intervals, decisions, costs, slices, prior)
