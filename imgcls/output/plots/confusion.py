"""The confusion matrix as a picture: what is right in blue, what is not in vermilion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import to_rgb

from imgcls.output.numbers import percent
from imgcls.output.plots.drawing import (
    INK,
    RIGHT,
    WRONG,
    Box,
    Drawing,
    canvas,
    place_tooltips,
    shortened,
)

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_MOST_WITH_NUMBERS = 15
_MOST_IN_OWN_ORDER = 20
_MOST_CLASSES = 200
_MOST_SPOTS = 5000
_FAINTEST, _STRONG = 0.2, 0.75


def draw_confusion(
    confusion: csr_array, class_names: Sequence[str], *, normalized: bool
) -> Drawing:
    """Counts [C, C], sparse (rows true, columns predicted), or their share of the row.

    With more than 20 classes those that are taken for each other stand together; with more than
    200, the 200 with the most mistakes are shown.
    """
    chosen = _chosen(confusion)
    counts = _part(confusion, chosen)
    names = [class_names[i] for i in chosen]
    totals = confusion.sum(axis=1)[chosen]
    shares = counts / np.maximum(totals, 1)[:, None]
    values = shares if normalized else counts
    size = len(chosen)
    side = min(max(4.0, 2.5 + 0.30 * size), 7.0 if size <= _MOST_IN_OWN_ORDER else 14.0)
    font = min(9.0, max(3.5, 0.78 * 72 * (side - 1.4) / size))
    with canvas(side, side) as figure:
        axes = figure.add_subplot()
        axes.imshow(_colors(values), interpolation="none")
        shown = [shortened(name) for name in names]
        axes.set_xticks(range(size), shown, rotation=90, fontsize=font)
        axes.set_yticks(range(size), shown, fontsize=font)
        axes.tick_params(length=0 if size > _MOST_IN_OWN_ORDER else 2)
        axes.set(xlabel="Predicted class", ylabel="True class")
        for spine in axes.spines.values():
            spine.set_visible(True)
            spine.set_linewidth(0.5)
        if size <= _MOST_WITH_NUMBERS:
            _write_numbers(axes, values, normalized=normalized)
        what = "share of each true class, in %" if normalized else "pictures"
        left_out = confusion.shape[0] - size
        some = f", the {size} classes with the most mistakes" if left_out else ""
        axes.set_title(f"Confusion matrix\n({what}{some})")
    boxes: list[Box] = []
    for row, column in _largest(counts):
        what = f"{names[row]}, right" if row == column else f"{names[row]} as {names[column]}"
        share = percent(shares[row, column], totals[row])
        share = f"{counts[row, column]:,} of {totals[row]:,} ({share})"
        boxes.append((column - 0.5, row - 0.5, column + 0.5, row + 0.5, f"{what}\n{share}"))
    order = ""
    if size > _MOST_IN_OWN_ORDER:
        order = " Classes that are taken for each other stand together."
    return Drawing(
        "confusion_matrix_normalized" if normalized else "confusion_matrix",
        "Confusion matrix, " + ("share of each true class" if normalized else "pictures"),
        "Rows are the true classes, columns what the model said. The blue diagonal is right, "
        f"everything else a mistake; the colour grows with the square root.{order}",
        figure,
        place_tooltips(figure, axes, boxes),
    )


def _largest(counts: np.ndarray) -> list[tuple[int, int]]:
    rows, columns = np.nonzero(counts)
    order = np.argsort(-counts[rows, columns], kind="stable")[:_MOST_SPOTS]
    return list(zip(rows[order].tolist(), columns[order].tolist(), strict=True))


def _part(confusion: csr_array, chosen: np.ndarray) -> np.ndarray:
    """The counts among the chosen classes, dense."""
    return np.asarray(confusion[chosen][:, chosen].toarray())


def _chosen(confusion: csr_array) -> np.ndarray:
    """The classes to show, in the order to show them."""
    size = confusion.shape[0]
    if size <= _MOST_IN_OWN_ORDER:
        return np.arange(size)
    mistakes = confusion.sum(axis=0) + confusion.sum(axis=1) - 2 * confusion.diagonal()
    worst = np.argsort(-mistakes, kind="stable")[:_MOST_CLASSES]
    worst.sort()
    counts = _part(confusion, worst)
    both = (counts + counts.T).astype(float)
    np.fill_diagonal(both, 0)
    return np.asarray(worst[_grouped(both)])


def _grouped(confused: np.ndarray) -> np.ndarray:
    """An order in which classes that are often confused are neighbours: symmetric [C, C] >= 0."""
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import squareform

    distances = 1.0 / (1.0 + confused)
    np.fill_diagonal(distances, 0.0)
    flat = squareform(distances)
    return np.asarray(leaves_list(optimal_leaf_ordering(linkage(flat, "average"), flat)))


def _colors(values: np.ndarray) -> np.ndarray:
    """RGBA [C, C, 4], see-through where there is nothing, so that it suits any background."""
    colors = np.zeros((*values.shape, 4))
    diagonal = np.eye(len(values), dtype=bool)
    for part, color in ((diagonal, RIGHT), (~diagonal, WRONG)):
        colors[part, :3] = to_rgb(color)
    # a single mistake among many must still be seen
    strength = np.maximum(np.sqrt(values / values.max()), _FAINTEST)
    colors[..., 3] = np.where(values > 0, strength, 0.0)
    return colors


def _write_numbers(axes: Any, values: np.ndarray, *, normalized: bool) -> None:
    strength = _colors(values)[..., 3]
    for (row, column), value in np.ndenumerate(values):
        if value:
            text = f"{100 * value:.0f}" if normalized else str(value)
            color = "#ffffff" if strength[row, column] > _STRONG else INK
            axes.text(column, row, text, ha="center", va="center", fontsize=8.5, color=color)
