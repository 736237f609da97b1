"""ROC and precision-recall curves: micro, macro, and the weakest classes by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from imgcls.metrics.curves import (
    CurvePoints,
    curve_points,
    mean_curves,
)
from imgcls.metrics.predictions import Predictions
from imgcls.output.plots.drawing import INK, LINES, Drawing, canvas, place_tooltips, shortened

_MOST_CELLS = 20_000_000  # a few seconds' work
_NAMED = 3
_MOST_THIN_LINES = 200
_GRID = np.linspace(0.0, 1.0, 1001)
_TOOLTIPS = 24

Line = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class ClassCurves:
    """One-vs-rest curves of the classes that have positives and negatives, and of all cells.

    With more than 20 million cells of pictures x classes, every k-th picture draws the lines; the
    areas written beside them are those of all pictures.
    """

    predictions: Predictions

    @property
    def step(self) -> int:
        """The stride through the pictures: 1 draws all, n every n-th where there are very many."""
        count, classes = self.predictions.logits.shape
        return int(-(-count * classes // _MOST_CELLS))

    @cached_property
    def _scores(self) -> np.ndarray:
        part = self.predictions
        if self.step > 1:
            rows = slice(None, None, self.step)
            part = Predictions(
                part.keys[rows], part.logits[rows], part.labels[rows], part.temperature
            )
        return part.probabilities

    @cached_property
    def by_class(self) -> dict[int, CurvePoints]:
        """Points by class index."""
        labels = self.predictions.labels[:: self.step]
        counts = np.bincount(labels, minlength=self._scores.shape[1])
        return {
            int(c): curve_points(labels == c, self._scores[:, c])
            for c in np.flatnonzero((counts > 0) & (counts < len(labels)))
        }

    @cached_property
    def micro(self) -> CurvePoints:
        """Points of the flattened one-hot matrix."""
        labels = self.predictions.labels[:: self.step]
        positive = np.zeros(self._scores.shape, dtype=bool)
        positive[np.arange(len(labels)), labels] = True
        return curve_points(positive.ravel(), self._scores.ravel())

    @cached_property
    def macro(self) -> tuple[np.ndarray, np.ndarray] | None:
        """(recall, precision) on the grid, means over the classes; None without any."""
        return mean_curves(list(self.by_class.values()), _GRID) if self.by_class else None


def draw_roc(
    curves: ClassCurves, metrics: Mapping[str, Any], per_class: Sequence[Mapping[str, Any]]
) -> Drawing:
    """True against false positive rate."""

    def line(points: CurvePoints) -> Line:
        start = [0.0]  # at the threshold that nothing reaches
        return (
            np.concatenate([start, points.false_positive_rate]),
            np.concatenate([start, points.recall]),
        )

    return _draw(
        "roc_curves",
        "ROC curves",
        "Recall against false alarms, each class against the rest. Up and left is better; the "
        "diagonal is guessing. Of the classes the weakest are named.",
        ("False positive rate", "True positive rate (recall)", "ROC AUC"),
        curves.step,
        lines={c: line(points) for c, points in curves.by_class.items()},
        macro=curves.macro and (_GRID, curves.macro[0]),
        micro=line(curves.micro),
        areas=[row["roc_auc"] for row in per_class],
        names=[row["class"] for row in per_class],
        totals=(metrics["roc_auc_macro"], metrics["roc_auc_micro"]),
        diagonal=True,
    )


def draw_precision_recall(
    curves: ClassCurves, metrics: Mapping[str, Any], per_class: Sequence[Mapping[str, Any]]
) -> Drawing:
    """Precision against recall."""
    return _draw(
        "pr_curves",
        "Precision-recall curves",
        "How clean the answers stay as more of a class is found, each class against the rest. Up "
        "and right is better. Of the classes the weakest are named.",
        ("Recall", "Precision", "AP"),
        curves.step,
        lines={c: (points.recall, points.precision) for c, points in curves.by_class.items()},
        macro=curves.macro and (_GRID, curves.macro[1]),
        micro=(curves.micro.recall, curves.micro.precision),
        areas=[row["average_precision"] for row in per_class],
        names=[row["class"] for row in per_class],
        totals=(metrics["average_precision_macro"], metrics["average_precision_micro"]),
        diagonal=False,
    )


def _draw(
    name: str,
    title: str,
    meaning: str,
    labels: tuple[str, str, str],
    step: int,
    *,
    lines: dict[int, Line],
    macro: Line | None,
    micro: Line,
    areas: Sequence[float | None],
    names: Sequence[str],
    totals: tuple[float | None, float],
    diagonal: bool,
) -> Drawing:
    x_label, y_label, area_label = labels
    style = "default" if diagonal else "steps-pre"
    weakest = sorted(lines, key=lambda c: (areas[c], c))
    named = weakest[:_NAMED]
    with canvas(5.6, 5.6) as figure:
        axes = figure.add_subplot()
        faint = max(0.04, 0.25 / (1 + len(lines) / 20))
        for c in weakest[_NAMED:_MOST_THIN_LINES]:
            axes.plot(*_thinned(lines[c]), color=INK, alpha=faint, linewidth=0.7, drawstyle=style)
        shown = [
            *([(f"macro, {area_label} {totals[0]:.4f}", macro)] if macro else []),
            (f"micro, {area_label} {totals[1]:.4f}", micro),
            *((f"{shortened(names[c])}, {area_label} {areas[c]:.4f}", lines[c]) for c in named),
        ]
        shown = [(label, _thinned(line)) for label, line in shown]
        boxes = []
        for (label, (x, y)), (color, dashes) in zip(shown, LINES, strict=False):
            axes.plot(x, y, color=color, linestyle=dashes, label=label, drawstyle=style)
            boxes += [
                (a - 0.012, b - 0.012, a + 0.012, b + 0.012, _tooltip(label, labels, a, b))
                for a, b in zip(
                    x[:: len(x) // _TOOLTIPS + 1], y[:: len(x) // _TOOLTIPS + 1], strict=True
                )
            ]
        if diagonal:
            axes.plot([0, 1], [0, 1], color=INK, alpha=0.4, linewidth=0.8, linestyle=":")
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02), xlabel=x_label, ylabel=y_label)
        axes.set_title(title if step == 1 else f"{title} (drawn by 1 picture in {step})")
        axes.grid(visible=True)
        figure.legend(loc="outside lower center", ncols=2, handlelength=3.2)
    return Drawing(name, title, meaning, figure, place_tooltips(figure, axes, boxes))


def _tooltip(label: str, labels: tuple[str, str, str], x: float, y: float) -> str:
    return f"{label}\n{labels[0]} {x:.3f}\n{labels[1]} {y:.3f}"


def _thinned(line: Line) -> Line:
    """The line without the points that could not be told from the one before."""
    places = np.round(np.stack(line) * 1000)
    moved = np.concatenate([[True], np.diff(places, axis=1).any(axis=0)])
    moved[-1] = True
    return line[0][moved], line[1][moved]
