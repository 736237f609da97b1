"""The screen of an evaluation: what a person reads and copies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from imgcls.metrics.calculator import MetricsCalculator
from imgcls.metrics.predictions import Predictions
from imgcls.output.metric_names import headline_names
from imgcls.output.screens.evaluation import _confusions, _kinds_of_mistakes, _next
from imgcls.results.evaluation import CrossValidation, EvalReport


def report_of(labels, said, split="test"):
    names = tuple("abcd")
    logits = np.eye(4, dtype=np.float32)[said]
    keys = tuple(map(str, range(len(labels))))
    scored = MetricsCalculator(names).compute(Predictions(keys, logits, np.array(labels)))
    return EvalReport(
        checkpoint=Path("my runs/r/fold_0/checkpoints/step-00000001"),
        model_name="tiny",
        split=split,
        fold=0,
        data={},
        metrics=scored.metrics,
        speed_metrics={},
        undefined=scored.undefined,
        class_names=names,
        per_class=scored.per_class,
        confusion_matrix=scored.confusion_matrix,
        confusions=scored.confusions,
    )


def test_it_says_how_many_confusions_it_leaves_out():
    """Seven pairs, five are shown; with five or fewer there is nothing to say."""
    report = report_of([0, 0, 0, 1, 1, 1, 2, 2], [1, 2, 3, 0, 2, 3, 0, 2])
    assert _kinds_of_mistakes(report) == 7
    assert "5 of 7 pairs of classes" in _confusions(report).renderables
    few = report_of([0, 0, 1], [1, 2, 1])
    assert not any("of" in str(part) for part in _confusions(few).renderables if part != "")


def test_top_k_of_fewer_classes_has_no_row():
    """Of 4 classes the top 5 always hold the right one; the top 3 may not."""
    names = headline_names(report_of([0, 1], [1, 1]).metrics)
    assert "top_3_accuracy" in names
    assert "top_5_accuracy" not in names


def test_the_next_command_goes_on_from_the_split_that_was_scored():
    """From val to test, from test to the speed; quoted for a shell."""
    step = "'my runs/r/fold_0/checkpoints/step-00000001'"
    assert _next(report_of([0], [0], "val")) == f"imgcls evaluate {step} --split test"
    assert _next(report_of([0], [0])) == "imgcls benchmark 'my runs/r/fold_0'"


def test_the_next_command_after_all_folds_is_about_one_of_them():
    """benchmark takes no run of several folds."""
    pooled = replace(
        report_of([0], [0], "val"),
        checkpoint=Path("runs/r"),
        fold="all",
        cross_validation=CrossValidation(
            folds=2,
            splitter=None,
            mean={},
            std={},
            interval={},
            per_fold=({"fold": 1}, {"fold": 2}),
        ),
    )
    assert _next(pooled) == "imgcls benchmark runs/r/fold_1"
