"""The table of epochs on the screen: its columns, its rows, and the rule that marks the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from imgcls.metrics.registry import VALIDATION, lower_is_better
from imgcls.storage.tables import HISTORY_COLUMNS

_TITLES = {
    "train_loss": "train loss",
    "val_calibrated_loss": "cal. loss",
    **{column.name: column.title for column in VALIDATION},
}
# the others are shown where one of them chooses
_SHOWN = (
    "train_loss",
    "val_loss",
    "val_calibrated_loss",
    *(column.name for column in VALIDATION if column.shown and column.name != "val_loss"),
)
_WITH_ERROR = len("0.1234±.123")


class EpochTable:
    """Lines of 80 columns for a fold whose best epoch is chosen by `monitor`.

    The metric that chooses always has a column, with its standard error where it has one, and so
    has the loss that decides between equals: val_calibrated_loss where training `calibrates`.
    """

    def __init__(self, monitor: str, *, calibrates: bool) -> None:
        names = [name for name in _SHOWN if calibrates or name != "val_calibrated_loss"]
        if monitor not in names:
            names[-1] = monitor
        self._monitor = monitor
        self._error = f"{monitor}_se" if f"{monitor}_se" in HISTORY_COLUMNS else None
        self._titles = {name: _title(name) for name in names}
        self._loss = _title("val_calibrated_loss" if calibrates else "val_loss")

    def rule(self) -> str:
        """How the best epoch is chosen, in one line."""
        lowest = lower_is_better(self._monitor)
        chosen = f"{'lowest' if lowest else 'highest'} {_title(self._monitor)}"
        if _title(self._monitor) == self._loss:
            return f"Best: {chosen}."
        equal = "two within one standard error (±)" if self._error else "two equal ones"
        return f"Best: {chosen}; of {equal}, lower {self._loss}."

    def header(self) -> str:
        """The titles of the columns."""
        return self._line("epoch", self._titles, "time")

    def row(
        self, name: str, metrics: Mapping[str, float | None], *, best: bool, timed: bool = True
    ) -> str:
        """The numbers of an epoch, a row of the history; timed: with its seconds."""
        cells = {column: _number(metrics[column]) for column in self._titles}
        cells[self._monitor] = _with_error(self._monitor, metrics)
        line = self._line(name, cells, f"{metrics['epoch_time']:.1f} s" if timed else "")
        return f"{line} best" if best else line

    def _line(self, first: str, cells: Mapping[str, str], last: str) -> str:
        # with all columns and "best" 80 characters are left only by single spaces
        gap = "  " if len(self._titles) < len(_SHOWN) else " "
        middle = "".join(f"{gap}{cells[name]:>{self._width(name)}}" for name in self._titles)
        return f"{first:>6} {middle[len(gap) :]}{gap}{last:>6}"

    def _width(self, name: str) -> int:
        width = max(len(self._titles[name]), len("0.1234"))
        return max(width, _WITH_ERROR) if self._error and name == self._monitor else width


def name_of(epoch: int) -> str:
    """An epoch in words; 0 is the fitted classifier before the first."""
    return f"epoch {epoch}" if epoch else "the fitted head"


def between_in_words(share: float, epoch: int) -> str:
    """Weights at a share of the way from the fitted head's to those of the last epoch."""
    return f"{share:.0%} of the way from the head to epoch {epoch}"


def choice(
    monitor: str,
    epochs: Sequence[Mapping[str, float | None]],
    best: tuple[str, Mapping[str, float | None]],
    *,
    competed: bool,
) -> str | None:
    """Why these weights were chosen; None where they have the highest metric of all epochs.

    epochs: rows of the history; best: what was chosen and what it scored. competed: weights between
    the fitted head's and the last epoch's did.
    """
    name, metrics = best
    loss = deciding_loss(metrics)
    if competed:
        compared = " and ".join(dict.fromkeys(map(_title, (monitor, loss))))
        return (
            f"Chosen: {name}: of those within one standard error of the best {compared}, the "
            "nearest to the last epoch."
        )
    sign = -1 if lower_is_better(monitor) else 1
    usable = [row for row in epochs if row[monitor] is not None]
    top = max(usable, key=lambda row: sign * (row[monitor] or 0.0))
    if top[monitor] == metrics[monitor] or loss == monitor:
        return None
    highest = name_of(int(top["epoch"] or 0))
    return (
        f"Chosen: {name}. {highest[0].upper()}{highest[1:]} has {_title(monitor)} "
        f"{_number(top[monitor])}, which the val pictures cannot tell from it, and {_title(loss)} "
        f"{_number(top[loss])}."
    )


def _with_error(name: str, metrics: Mapping[str, float | None]) -> str:
    error = metrics.get(f"{name}_se")
    # a share's error is below 1, and a terminal has 80 columns
    return _number(metrics[name]) + ("" if error is None else f"±{error:.3f}".replace("0.", ".", 1))


def _title(name: str) -> str:
    return _TITLES.get(name, name)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def deciding_loss(metrics: Mapping[str, float | None]) -> str:
    """The loss that decides between epochs within one standard error."""
    return "val_loss" if metrics.get("val_calibrated_loss") is None else "val_calibrated_loss"


def deciding_numbers(monitor: str, metrics: Mapping[str, float | None]) -> str:
    """The numbers of an epoch by which it became the best, or did not."""
    loss = deciding_loss(metrics)
    decided = f"{_title(monitor)} {_with_error(monitor, metrics)}"
    return decided if loss == monitor else f"{decided}, {_title(loss)} {_number(metrics[loss])}"
