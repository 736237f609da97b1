"""The table of epochs shows what chooses the best one."""

from __future__ import annotations

import pytest

from imgcls.engine.training.selection.trackers import MetricTracker
from imgcls.output.screens.epoch_table import (
    EpochTable,
    between_in_words,
    choice,
    deciding_numbers,
)
from imgcls.storage.tables import HISTORY_COLUMNS


def epoch(**numbers):
    values = dict.fromkeys(HISTORY_COLUMNS, 0.5) | {"epoch_time": 9.5}
    return values | {f"val_{name}": value for name, value in numbers.items()}


def test_a_best_epoch_is_better_by_the_rule_in_the_columns_shown():
    """Worse accuracy within its error, worse val loss: the calibrated loss says why it is best."""
    monitor = "val_balanced_accuracy"
    table, tracker = EpochTable(monitor, calibrates=True), MetricTracker(monitor)
    rows = [
        epoch(balanced_accuracy=0.9, balanced_accuracy_se=0.04, loss=0.4, calibrated_loss=0.39),
        epoch(balanced_accuracy=0.88, balanced_accuracy_se=0.04, loss=0.5, calibrated_loss=0.31),
    ]
    lines = [table.row(f"{n}/9", row, best=tracker.update(n, row)) for n, row in enumerate(rows, 1)]
    assert table.rule() == (
        "Best: highest bal. acc; of two within one standard error (±), lower cal. loss."
    )
    titles = table.header()
    for title, shown in (("cal. loss", "0.3100"), ("bal. acc", "0.8800±.040")):
        assert lines[1].index(shown) + len(shown) == titles.index(title) + len(title)
    assert lines[1].endswith(" best")
    assert deciding_numbers("val_balanced_accuracy", rows[1]) == (
        "bal. acc 0.8800±.040, cal. loss 0.3100"
    )


@pytest.mark.parametrize(
    ("monitor", "calibrates", "rule"),
    [
        ("val_loss", False, "Best: lowest val loss."),
        (
            "val_accuracy",
            True,
            "Best: highest acc; of two within one standard error (±), lower cal. loss.",
        ),
        ("val_loss", True, "Best: lowest val loss; of two equal ones, lower cal. loss."),
        ("val_calibrated_loss", True, "Best: lowest cal. loss."),
        ("val_macro_f1", False, "Best: highest F1; of two equal ones, lower val loss."),
        (
            "val_top_3_accuracy",
            True,
            "Best: highest top 3; of two equal ones, lower cal. loss.",
        ),
    ],
)
def test_every_metric_that_can_choose_has_a_column(monitor, calibrates, rule):
    """And its lines fit a terminal of 80 columns."""
    table = EpochTable(monitor, calibrates=calibrates)
    assert table.rule() == rule
    row = epoch(**{monitor.removeprefix("val_"): 0.1234}) | {"epoch_time": 12.3}
    assert "0.1234" in table.row("10/100", row, best=True)
    for line in (table.header(), table.row("10/100", row, best=True)):
        assert len(line) <= 80


def test_undefined_numbers_leave_a_dash():
    """The fitted head has no train loss."""
    table = EpochTable("val_accuracy", calibrates=False)
    assert " - " in table.row("head", {**epoch(), "train_loss": None}, best=False)


def test_the_reason_for_a_choice_agrees_with_the_table():
    """It names the epoch with the highest score, and is silent where that one was chosen."""
    monitor = "val_accuracy"
    rows = [
        epoch(accuracy=0.8, accuracy_se=0.05, loss=0.6, calibrated_loss=0.5) | {"epoch": 0},
        epoch(accuracy=0.84, accuracy_se=0.05, loss=0.7, calibrated_loss=0.6) | {"epoch": 1},
    ]
    said = choice(monitor, rows, ("the fitted head", rows[0]), competed=False)
    assert said == (
        "Chosen: the fitted head. Epoch 1 has acc 0.8400, which the val pictures cannot tell from "
        "it, and cal. loss 0.6000."
    )
    assert choice(monitor, rows, ("epoch 1", rows[1]), competed=False) is None
    said = choice(monitor, rows, (between_in_words(0.4, 1), rows[1]), competed=True)
    assert said == (
        "Chosen: 40% of the way from the head to epoch 1: of those within one standard error of "
        "the best acc and cal. loss, the nearest to the last epoch."
    )
