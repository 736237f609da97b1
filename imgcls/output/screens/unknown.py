"""Sets of classes, and pictures unlike those of training, on an evaluation's screen."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType

from imgcls.output.numbers import percent, reach
from imgcls.output.screens.screen import prose, titled_table
from imgcls.results.unknown import Conformal, Unlike

_MOST_ROWS = 12
_MOST_NAMED = 10


def conformal_lines(found: Conformal) -> list[RenderableType]:
    """How often the sets hold the right class, and how large they are; worst classes first."""
    count = found.pictures
    title = f"Sets that hold the right class with probability {found.wanted:g}, worst class first"
    table = titled_table("", "Class", "Pictures", "Coverage", "Classes in a set")
    rows = sorted(
        (row for row in found.classes if row.pictures), key=lambda row: row.coverage or 0.0
    )
    for row in rows[:_MOST_ROWS]:
        table.add_row(
            row.class_name,
            f"{row.pictures:,}",
            percent(row.coverage, row.pictures),
            f"{row.mean_size:.2f}",
        )
    table.add_row("all", f"{count:,}", percent(found.coverage, count), f"{found.mean_size:.2f}")
    within = reach(found.interval, lambda share: percent(share, count))
    words = (
        f"Coverage {percent(found.coverage, count)}{within and f' (95% interval {within})'}, mean "
        f"of classes {percent(found.macro_coverage, count)}; {percent(found.single, count)} of the "
        "sets hold one class."
    )
    lines: list[RenderableType] = [
        prose(title, "italic"),
        table,
        *_more(len(rows)),
        prose(words),
        prose(fitted_in_words(found.fitted_on, found.units)),
    ]
    if found.marginal_only:
        lines.append(prose(few_val_in_words(found.marginal_only, len(found.classes))))
    return lines


def unlike_lines(found: Unlike) -> list[RenderableType]:
    """False alarms, and what is caught of classes that are left out; worst classes first."""
    count = found.pictures
    within = reach(found.interval, lambda share: percent(share, count))
    words = (
        f"Unlike the {found.trained:,} training pictures: {percent(found.false_alarms, count)} of "
        f"these pictures{within and f' (95% interval {within})'}, {found.rate:.0%} expected."
    )
    fitted = fitted_in_words(found.fitted_on, found.units)
    lines: list[RenderableType] = [prose(words), prose(fitted)]
    if not found.classes:
        return lines
    title = "Classes left out in turn, and how many of their pictures are then called unlike"
    table = titled_table("", "Class", "Val pictures", "Caught")
    rows = sorted(found.classes, key=lambda row: row.caught)
    for row in rows[:_MOST_ROWS]:
        table.add_row(row.class_name, f"{row.pictures:,}", percent(row.caught, row.pictures))
    table.add_row("mean", "", percent(found.caught, sum(row.pictures for row in rows)))
    return [*lines, "", prose(title, "italic"), table, *_more(len(rows))]


def fitted_in_words(pictures: int, units: int) -> str:
    """How many val pictures, and what counts as one of them."""
    if units == pictures:
        return f"Fitted on {pictures:,} val pictures."
    return (
        f"Fitted on {pictures:,} val pictures of {units:,} groups; each group counts once, "
        "whatever its size, so what is promised is for a picture of a new group."
    )


def few_val_in_words(class_names: Sequence[str], classes: int) -> str:
    """The classes that have too few val pictures to be covered by themselves."""
    if len(class_names) == classes:
        return "No class has enough val pictures to be covered by itself: only all together are."
    shown = ", ".join(class_names[:_MOST_NAMED])
    more = len(class_names) - _MOST_NAMED
    return (
        "Too few val pictures to be covered by themselves, only together with the others: "
        f"{shown}{f' and {more:,} more' if more > 0 else ''}."
    )


def _more(rows: int) -> list[str]:
    more = rows - _MOST_ROWS
    return [f"and {more:,} more in test_metrics.json"] if more > 0 else []
