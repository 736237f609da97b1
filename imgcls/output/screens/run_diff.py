"""Two runs side by side, as a screen of 80 columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from rich.console import RenderableType

from imgcls.output.console import Console
from imgcls.output.metric_names import metric_title, metric_writer
from imgcls.output.numbers import MISSING, counted, reach
from imgcls.output.screens.runs import score_in_words, where_in_words
from imgcls.output.screens.screen import facts_table, option_value, prose, titled_table
from imgcls.results.run_details import DataDiff, RunDiff, SplitDiff
from imgcls.results.runs import RunRow

_MOST_MOVED = 5


def show_diff(console: Console, found: RunDiff) -> None:
    """What they were told, their pictures, and their scores."""
    screens: list[RenderableType] = [f"A  {found.a.path}", f"B  {found.b.path}", ""]
    if found.settings:
        table = titled_table("Settings that differ", "Option", "A", "B")
        for each in found.settings:
            table.add_row(each.name, option_value(each.a), option_value(each.b))
        screens.append(table)
    else:
        screens.append("The settings are the same.")
    screens += ["", *_data(found.data), "", _chosen_by(found.a, found.b)]
    for split in found.splits:
        screens += ["", *_split(split)]
    if not found.splits:
        screens += ["", "No split was evaluated in both; `imgcls evaluate` does that."]
    console.result(found, *screens)
    for note in found.notes:
        console.warn(note)


def _data(data: DataDiff) -> Iterator[RenderableType]:
    facts = facts_table()
    if data.same is not None:
        facts.add_row("Pictures", "the same" if data.same else "others, by their fingerprints")
    for name, counts in (("A", data.pictures_a), ("B", data.pictures_b)):
        facts.add_row(f"Split of {name}", ", ".join(f"{n:,} {s}" for s, n in counts.items()))
    for name, classes in (("A", data.classes_only_a), ("B", data.classes_only_b)):
        if classes:
            facts.add_row(f"Classes only in {name}", ", ".join(classes))
    for what, count in (
        ("Only in A", data.only_a),
        ("Only in B", data.only_b),
        ("Of another class", data.relabelled),
    ):
        if count:
            facts.add_row(what, counted(count, "picture", "pictures"))
    ways = Counter((picture.a, picture.b) for picture in data.moved)
    for (was, now), count in ways.most_common():
        facts.add_row(
            "Other split", f"{counted(count, 'picture', 'pictures')}: {was} in A, {now} in B"
        )
    yield facts
    if data.moved:
        named = ", ".join(picture.path for picture in data.moved[:_MOST_MOVED])
        more = len(data.moved) - _MOST_MOVED
        yield prose(f"Such as {named}" + (f" and {more:,} more" if more > 0 else ""))


def _chosen_by(a: RunRow, b: RunRow) -> RenderableType:
    facts = facts_table()
    for name, row in (("A", a), ("B", b)):
        if row.score is not None:
            said = score_in_words(row.score, named=True)
            facts.add_row(f"Score of {name}", f"{said} on {where_in_words(row.score, row.folds)}")
    return facts


def _split(split: SplitDiff) -> Iterator[RenderableType]:
    pictures = split.pictures_a
    title = f"On {split.split}, {counted(pictures, 'picture', 'pictures')}"
    if not split.paired:
        title = f"On {split.split}, {split.pictures_a:,} and {split.pictures_b:,} pictures"
    table = titled_table(title, "", "A", "B", "B - A", "95% interval")
    for name, row in split.metrics.items():
        a, b = (metric_writer(name, n) for n in (split.pictures_a, split.pictures_b))
        interval = reach(row.interval, a) or MISSING
        table.add_row(metric_title(name), a(row.a), b(row.b), a(row.difference), interval)
    yield table
    if split.mcnemar is not None:
        test = split.mcnemar
        yield prose(
            f"Paired: right only in B {test.only_this_right}, right only in A "
            f"{test.only_other_right}: McNemar's exact p = {test.p_value:.3g}"
        )
    if split.note is not None:
        yield prose(split.note)
