"""What a page says of sets of classes, and of pictures unlike those of training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from imgcls.output.numbers import Share, percent, reach
from imgcls.output.pages.page import Column, Section, Table
from imgcls.output.screens.unknown import few_val_in_words, fitted_in_words


def unknown_sections(report: Mapping[str, Any]) -> Iterator[Section]:
    """What `--conformal` and `--fit-unlike` have added to test_metrics.json."""
    if found := report.get("conformal"):
        yield Section(
            f"Sets at {found['wanted']:.4g}",
            "Sets of classes that hold the right one with this probability, by conformal "
            "prediction.",
            facts=_conformal(found),
            tables=[_conformal_table(found)],
        )
    if found := report.get("unlike"):
        yield Section(
            "Unlike the training pictures",
            "By the distance of what the classifier is given (Mahalanobis).",
            facts=_unlike(found),
            tables=[_unlike_table(found)] if found["classes"] else [],
        )


def _conformal(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    def written(share: float) -> str:
        return percent(share, found["pictures"])

    rows = [
        ("Coverage", f"{written(found['coverage'])} {_within(found, written)}"),
        ("Mean of classes", written(found["macro_coverage"])),
        ("Classes in a set", f"{found['mean_size']:.2f} on average"),
        ("Sets of one class", written(found["single"])),
        ("Fit", fitted_in_words(found["fitted_on"], found["units"])),
    ]
    if alone := found["marginal_only"]:
        rows.append(("Few pictures", few_val_in_words(alone, len(found["classes"]))))
    return rows


def _unlike(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    def written(share: float) -> str:
        return percent(share, found["pictures"])

    alarms = f"{written(found['false_alarms'])} {_within(found, written)}"
    rows = [
        ("False alarms", f"{alarms}, {found['rate']:.0%} expected"),
        ("Trained on", f"{found['trained']:,} pictures"),
        ("Fit", fitted_in_words(found["fitted_on"], found["units"])),
    ]
    if found["caught"] is not None:
        rows.append(("Unknown classes", f"{found['caught']:.0%} caught, the mean of classes"))
    return rows


def _within(found: Mapping[str, Any], written: Callable[[float], str]) -> str:
    interval = reach(found["interval"], written)
    return f"(95% interval {interval})" if interval else "(no interval: pictures have groups)"


def _conformal_table(found: Mapping[str, Any]) -> Table:
    """Coverage and size of the sets of each class."""
    columns = (
        Column("Class"),
        Column("Pictures", "count"),
        Column("Coverage", "percent", "share of the class's pictures whose set holds it"),
        Column("Classes in a set", "score", "mean over the class's pictures"),
        Column("Covered", "text", "by a threshold of its own, or together with other classes only"),
    )
    rows = [
        (
            row["class"],
            row["pictures"],
            Share(row["coverage"], row["pictures"]),
            row["mean_size"],
            "by itself" if row["own"] else "with others",
        )
        for row in found["classes"]
    ]
    return Table(columns, rows)


def _unlike_table(found: Mapping[str, Any]) -> Table:
    """How many pictures of each class are caught where it is unknown."""
    columns = (
        Column("Class"),
        Column("Val pictures", "count"),
        Column("Caught", "percent", "called unlike by what knows the other classes only"),
    )
    rows = [
        (row["class"], row["pictures"], Share(row["caught"], row["pictures"]))
        for row in found["classes"]
    ]
    return Table(columns, rows, "Unknown classes, each left out in turn")
