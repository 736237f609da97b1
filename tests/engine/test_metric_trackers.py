"""The best epoch, and the running mean."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from imgcls.engine.training.selection.trackers import AverageMeter, MetricTracker, count_from_one
from imgcls.errors import ConfigError


def test_a_loss_wants_to_fall_and_a_score_to_rise():
    """The mode follows from the metric's name."""
    loss, score = MetricTracker("val_loss"), MetricTracker("val_accuracy")
    assert [loss.update(i, {"val_loss": v}) for i, v in enumerate([1.0, 0.5, 0.7])] == [
        True, True, False,
    ]  # fmt: skip
    assert [score.update(i, {"val_accuracy": v}) for i, v in enumerate([0.1, 0.3, 0.2])] == [
        True, True, False,
    ]  # fmt: skip
    assert (loss.best_epoch, score.best_epoch) == (1, 1)


def test_a_mode_may_be_given():
    """For a metric whose name does not say which way is better."""
    tracker = MetricTracker("val_ece", mode="min")
    assert tracker.update(0, {"val_ece": 0.2})
    assert tracker.update(1, {"val_ece": 0.1})
    with pytest.raises(ConfigError, match="'lower' is neither min nor max"):
        MetricTracker("val_ece", mode="lower")


def test_a_numpy_value_is_kept_as_a_plain_number():
    """The checkpoint's sidecar is JSON."""
    tracker = MetricTracker("val_loss")
    tracker.update(0, {"val_loss": np.float32(0.5)})
    assert json.dumps(tracker.state_dict())


@pytest.mark.parametrize("bad", [math.nan, None, math.inf])
def test_an_undefined_first_epoch_does_not_freeze_the_best(bad):
    """A NaN never becomes the best and never hides a later one."""
    tracker = MetricTracker("val_macro_f1")
    assert not tracker.update(0, {"val_macro_f1": bad})
    assert tracker.update(1, {"val_macro_f1": 0.1})
    assert not tracker.update(2, {"val_macro_f1": bad})
    assert (tracker.best_epoch, tracker.best_value, tracker.stale_epochs) == (1, 0.1, 1)


def followed(*epochs):
    """The best epoch after each of (accuracy, its standard error, loss)."""
    tracker, best = MetricTracker("val_accuracy"), []
    for epoch, (value, error, loss) in enumerate(epochs):
        tracker.update(
            epoch, {"val_accuracy": value, "val_accuracy_se": error, "val_calibrated_loss": loss}
        )
        # what a resumed run goes on from
        state = json.loads(json.dumps(tracker.state_dict()))
        tracker = MetricTracker("val_accuracy")
        tracker.load_state_dict(state)
        best.append(tracker.best_epoch)
    return best


def test_within_a_standard_error_the_lower_loss_decides():
    """A higher score by chance does not win, one beyond chance does."""
    assert followed((0.80, 0.05, 0.9), (0.78, 0.05, 0.7), (0.82, 0.05, 0.8)) == [0, 1, 1]
    assert followed((0.80, 0.05, 0.5), (0.88, 0.04, 0.9), (0.86, 0.04, 0.8)) == [0, 1, 2]


def test_the_best_cannot_slip_down_step_by_step():
    """Every candidate is measured against the highest score seen, not against the last best."""
    assert followed((0.80, 0.05, 0.9), (0.76, 0.05, 0.8), (0.72, 0.05, 0.7)) == [0, 1, 1]


def test_equal_scores_are_decided_by_the_lower_loss():
    """On small validation sets scores tie often."""
    tracker = MetricTracker("val_accuracy")
    tracker.update(0, {"val_accuracy": 0.9, "val_loss": 0.5})
    assert not tracker.update(1, {"val_accuracy": 0.9, "val_loss": 0.6})
    assert tracker.update(2, {"val_accuracy": 0.9, "val_loss": 0.4})


def test_patience_counts_epochs_without_improvement():
    """0 never stops; n stops after n."""
    tracker = MetricTracker("val_loss")
    tracker.update(0, {"val_loss": 1.0})
    for epoch in (1, 2):
        tracker.update(epoch, {"val_loss": 2.0})
    assert tracker.should_stop(2)
    assert not tracker.should_stop(3)
    assert not tracker.should_stop(0)


def test_its_state_goes_through_json():
    """Best value and patience survive a resume."""
    tracker = MetricTracker("val_loss")
    tracker.update(0, {"val_loss": 1.0})
    tracker.update(1, {"val_loss": 3.0})
    other = MetricTracker("val_loss")
    other.load_state_dict(json.loads(json.dumps(tracker.state_dict())))
    assert other.state_dict() == tracker.state_dict()
    assert not other.update(2, {"val_loss": 2.0})


def test_a_metric_that_is_not_there_is_an_error():
    """A typo does not silently never improve."""
    with pytest.raises(ConfigError, match="val_foo"):
        MetricTracker("val_foo").update(0, {"val_loss": 1.0})


def test_average_meter_weighs_by_samples():
    """The mean is over samples, not over updates."""
    meter = AverageMeter()
    assert math.isnan(meter.avg)
    meter.update(1.0, n=3)
    meter.update(5.0, n=1)
    assert (meter.val, meter.avg, meter.count) == (5.0, 2.0, 4)


def test_an_average_goes_on_from_its_state():
    """Through JSON, as a checkpoint keeps it."""
    meter, other = AverageMeter(), AverageMeter()
    meter.update(1.0, n=3)
    other.load_state_dict(json.loads(json.dumps(meter.state_dict())))
    other.update(5.0)
    assert (other.val, other.avg, other.sum, other.count) == (5.0, 2.0, 8.0, 4)
    other.reset()
    assert math.isnan(other.avg)


def test_epochs_counted_from_0_by_earlier_versions_are_counted_from_1():
    """Rows of a history and the tracker's best epoch; the fitted classifier is epoch 0."""

    def rows(*epochs, head):
        return [
            {"epoch": e, "train_loss": None if head and not i else 0.5}
            for i, e in enumerate(epochs)
        ]

    for head, before, now in ((False, (0, 1, 2), (1, 2, 3)), (True, (-1, 0, 1), (0, 1, 2))):
        for numbers in (before, now):
            assert count_from_one(rows(*numbers, head=head)) == rows(*now, head=head)
    assert count_from_one([]) == []
    for value, before, now in ((0.9, 0, 1), (0.9, -1, 0), (None, -1, None)):
        tracker = MetricTracker("val_accuracy")
        state = tracker.state_dict()
        del state["best"]
        tracker.load_state_dict({**state, "best_value": value, "best_epoch": before})
        assert tracker.best_epoch == now
