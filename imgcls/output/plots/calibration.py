"""Reliability diagram and confidence histogram."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from imgcls.metrics.calibration import expected_calibration_error, reliability_bins
from imgcls.metrics.predictions import Predictions
from imgcls.output.numbers import percent
from imgcls.output.plots.drawing import INK, RIGHT, WRONG, Box, Drawing, canvas, place_tooltips

_BINS = 20


def draw_reliability(panels: Sequence[tuple[str, Predictions]]) -> Drawing:
    """Accuracy against confidence, side by side, e.g. before and after calibration.

    panels: a title (may be empty) and the predictions of each.
    """
    tooltips = []
    with canvas(0.6 + 4.4 * len(panels), 4.9) as figure:
        grid = figure.subplots(
            2, len(panels), sharex=True, sharey="row", squeeze=False, height_ratios=[3, 1]
        )
        for column, (title, shown) in enumerate(panels):
            bins = reliability_bins(shown)
            above, below = grid[0, column], grid[1, column]
            width = bins.upper - bins.lower
            above.bar(bins.lower, bins.accuracy, width, align="edge", color=RIGHT, alpha=0.85,
                      edgecolor=INK, linewidth=0.5, label="accuracy")  # fmt: skip
            above.plot(bins.confidence, bins.accuracy, "o", color=INK, markersize=3,
                       label="at mean confidence")  # fmt: skip
            above.plot([0, 1], [0, 1], color=WRONG, linestyle="--", linewidth=1.2,
                       label="perfectly calibrated")  # fmt: skip
            error = percent(expected_calibration_error(bins), len(shown.labels))
            error = f"expected calibration error {error}"
            above.set_title(f"{title}\n{error}" if title else error)
            below.bar(bins.lower, bins.counts, width, align="edge", color=INK, alpha=0.35)
            below.yaxis.get_major_locator().set_params(integer=True)
            below.set(xlabel="Confidence", xlim=(0, 1))
            above.set(ylim=(0, 1.02))
            for axes in (above, below):
                axes.grid(visible=True, axis="y")
        grid[0, 0].set_ylabel("Accuracy")
        grid[1, 0].set_ylabel("Pictures")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        for column, (_, shown) in enumerate(panels):
            bins = reliability_bins(shown)
            rows = zip(
                bins.lower, bins.upper, bins.counts, bins.confidence, bins.accuracy, strict=True
            )
            boxes: list[Box] = []
            for lower, upper, count, confidence, accuracy in rows:
                text = (
                    f"confidence {lower:.2f} to {upper:.2f}: {count} pictures\n"
                    f"mean confidence {confidence:.1%}, accuracy {percent(accuracy, count)}"
                )
                boxes.append((lower, 0, upper, 1, text))
            tooltips += place_tooltips(figure, grid[0, column], boxes)
    return Drawing(
        "reliability",
        "Reliability diagram",
        "Of the pictures that the model is 80% sure of, 80% should be right: bars that end below "
        "the dashed line are overconfident, above it underconfident.",
        figure,
        tooltips,
    )


def draw_confidences(predictions: Predictions) -> Drawing:
    """How sure the model was, of right and of wrong answers."""
    tooltips = []
    with canvas(5.6, 3.8) as figure:
        rows = figure.subplots(2, 1, sharex=True)
        edges = np.linspace(0.0, 1.0, _BINS + 1)
        for axes, what, chosen, color, hatch in (
            (rows[0], "right", predictions.correct, RIGHT, ""),
            (rows[1], "wrong", ~predictions.correct, WRONG, "///"),
        ):
            counts, _ = np.histogram(predictions.confidences[chosen], edges)
            axes.bar(edges[:-1], counts, 1 / _BINS, align="edge", color=color, hatch=hatch,
                     edgecolor=INK, linewidth=0.4)  # fmt: skip
            axes.set_ylabel("Pictures")
            axes.set_ylim(0, max(1, counts.max() * 1.08))
            axes.set_title(f"{counts.sum():,} {what}", loc="left")
            axes.grid(visible=True, axis="y")
            axes.yaxis.get_major_locator().set_params(integer=True)
        rows[1].set(xlabel="Confidence", xlim=(0, 1))
        for axes, chosen in ((rows[0], predictions.correct), (rows[1], ~predictions.correct)):
            counts, _ = np.histogram(predictions.confidences[chosen], edges)
            top = axes.get_ylim()[1]
            tooltips += place_tooltips(
                figure,
                axes,
                [
                    (edges[i], 0, edges[i + 1], top,
                     f"confidence {edges[i]:.2f} to {edges[i + 1]:.2f}: {counts[i]} pictures")
                    for i in np.flatnonzero(counts)
                ],
            )  # fmt: skip
    return Drawing(
        "confidence",
        "Confidence of right and wrong answers",
        "Wrong answers should sit to the left; those at the far right are the ones to look at.",
        figure,
        tooltips,
    )
