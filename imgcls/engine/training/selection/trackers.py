"""Running means and the best value so far."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from imgcls.errors import ConfigError
from imgcls.metrics.registry import lower_is_better


class AverageMeter:
    """A mean over samples that arrive in groups: `val` is the last, `avg` the mean of all.

    name: what it is the mean of.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.reset()

    def reset(self) -> None:
        """Set the mean back to none."""
        self.val = 0.0
        self.sum = 0.0
        self.count = 0

    def update(self, value: float, n: int = 1) -> None:
        """Take in the mean `value` of `n` samples, a number or a tensor of one."""
        # a loss itself would keep its whole graph in memory
        self.val = float(value.item() if hasattr(value, "item") else value)
        self.sum += self.val * n
        self.count += n

    def state_dict(self) -> dict[str, Any]:
        """The last value, the sum and the count."""
        return {"val": self.val, "sum": self.sum, "count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set the state to one that `state_dict` gave."""
        self.val = state["val"]
        self.sum = state["sum"]
        self.count = state["count"]

    @property
    def avg(self) -> float:
        """The mean of all samples; nan before the first."""
        return self.sum / self.count if self.count else math.nan


class MetricTracker:
    """The best epoch by one metric, and how long ago it was.

    Without a `mode`, columns of `history.csv` want to fall or rise as they are declared; of other
    metrics those whose name ends in "loss" want to fall, all others to rise. Epochs whose metric
    lies within one standard error (`<metric>_se`, where there is one) of the highest so far count
    as equal, since so few pictures cannot tell them apart, and the lowest loss among them wins:
    val_calibrated_loss, or else val_loss. That is the one-standard-error rule (Breiman et al.,
    Classification and Regression Trees, 1984). A nan or None never becomes the best and never hides
    a later one. best_epoch: None before there is one. Raises ConfigError for a mode other than
    "min" and "max".
    """

    def __init__(self, metric: str, mode: Literal["min", "max"] | None = None) -> None:
        if mode not in (None, "min", "max"):
            raise ConfigError(f"mode {mode!r} is neither min nor max")
        self.metric = metric
        self.mode = mode or ("min" if lower_is_better(metric) else "max")
        self.best_value: float | None = None
        self.best_loss: float | None = None
        self.best_epoch: int | None = None
        self.stale_epochs = 0
        # the metric of the epoch that is ahead by it alone, less its standard error; signed to rise
        self._top = -math.inf
        self._bar = -math.inf

    def update(self, epoch: int, metrics: Mapping[str, float | None]) -> bool:
        """Take in an epoch's metrics; True when it is the best so far.

        Raises ConfigError when the metric is not among them.
        """
        if self.metric not in metrics:
            raise ConfigError(
                f"early_stopping.metric (--eval-metric): {self.metric} is not one of "
                f"{', '.join(metrics)}"
            )
        value = _finite(metrics[self.metric])
        calibrated = _finite(metrics.get("val_calibrated_loss"))
        loss = _finite(metrics.get("val_loss")) if calibrated is None else calibrated
        if value is None or not self._is_better(value, loss, metrics.get(f"{self.metric}_se")):
            self.stale_epochs += 1
            return False
        self.best_value, self.best_loss, self.best_epoch = value, loss, epoch
        self.stale_epochs = 0
        return True

    def take(self, epoch: int, metrics: Mapping[str, float | None]) -> None:
        """Make an epoch with these metrics the best, whatever is."""
        self.best_value = self.best_loss = None
        self._top = self._bar = -math.inf
        self.update(epoch, metrics)

    def should_stop(self, patience: int) -> bool:
        """True when `patience` epochs have passed without a better one; never for 0."""
        return patience > 0 and self.stale_epochs >= patience

    def state_dict(self) -> dict[str, Any]:
        """Best value, its epoch and the epochs since."""
        return {
            "best_value": self.best_value,
            "best_loss": self.best_loss,
            "best": self.best_epoch,
            "stale_epochs": self.stale_epochs,
            "top": self._top,
            "bar": self._bar,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set the state to one that `state_dict` gave."""
        self.best_value = state["best_value"]
        self.best_loss = state["best_loss"]
        if "best_epoch" in state:
            # of versions that counted epochs from 0, with -1 for the fitted classifier and for none
            self.best_epoch = None if self.best_value is None else state["best_epoch"] + 1
        else:
            self.best_epoch = state["best"]
        self.stale_epochs = state["stale_epochs"]
        self._top = state["top"]
        self._bar = state["bar"]

    def _is_better(self, value: float, loss: float | None, error: float | None) -> bool:
        rising = -value if self.mode == "min" else value
        if rising > self._top:
            self._top, self._bar = rising, rising - (error or 0.0)
        if self.best_value is None:
            return True
        best = -self.best_value if self.mode == "min" else self.best_value
        if best < self._bar or rising < self._bar:
            # one of the two is left behind by more than chance
            return rising > best
        return loss is not None and (self.best_loss is None or loss < self.best_loss)


def count_from_one(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a history with `epoch` as completed epochs: 1 for the first.

    Earlier versions counted from 0, and the fitted classifier, which has no train_loss, as -1.
    """
    found = [dict(row) for row in rows]
    if found:
        first, trained = int(found[0]["epoch"]), found[0]["train_loss"] is not None
        shift = int(first < 0 or (first == 0 and trained))
        for row in found:
            row["epoch"] = int(row["epoch"]) + shift
    return found


def _finite(value: float | None) -> float | None:
    # float(): a NumPy scalar would not go through the checkpoint's JSON
    return float(value) if value is not None and math.isfinite(value) else None
