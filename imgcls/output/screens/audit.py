"""The audit on the screen: the set in a few lines, then the findings in order of harm."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from imgcls.output.console import Console
from imgcls.output.numbers import counted, pictures_and_classes
from imgcls.output.screens.screen import facts_table
from imgcls.output.text import visible
from imgcls.results.audit import AuditPicture, AuditReport, Finding

_MOST_SETS = 3
_MOST_CLASSES = 12
_STYLES = {"high": "bold red", "medium": "yellow", "low": ""}


def show_audit(console: Console, report: AuditReport) -> None:
    """What the set holds, what is wrong with it, and what to type next."""
    found = _findings(report.findings) if report.findings else "Nothing wrong was found."
    fixed = ["", _fixed(report)] if report.fixed_manifest is not None else []
    console.result(report, Group(_facts(report), "", _classes(report), "", found, *fixed))
    if report.html is not None:
        console.path("Page", str(report.html))
    if report.fixed_manifest is not None:
        console.path("Manifest", str(report.fixed_manifest))
        console.path("Next", f"imgcls train {shlex.quote(str(report.fixed_manifest))}")
    for note in report.notes:
        console.warn(note)


def audit_facts(report: AuditReport) -> list[tuple[str, str]]:
    """Pairs of a name and what the set has under it."""
    groups = "" if report.groups is None else f", {counted(report.groups, 'group', 'groups')}"
    size = pictures_and_classes(report.pictures, len(report.class_names))
    facts = [("Data", f"{report.data}: {size}{groups}")]
    splits = split_counts(report)
    if set(splits) != {""}:
        counts = ", ".join(f"{count:,} {name or 'in none'}" for name, count in splits.items())
        facts.append(("Splits", counts))
    if report.widths is not None and report.heights is not None:
        facts += [("Width", _spread(report.widths)), ("Height", _spread(report.heights))]
    facts += [("Formats", _counts(report.formats)), ("Modes", _counts(report.modes))]
    if report.bit_depth is not None:
        facts.append(("Bit depth", report.bit_depth))
    rate = report.pictures / max(report.elapsed_s, 1e-9)
    return [*facts, ("Read in", f"{report.elapsed_s:.1f} s ({rate:,.0f} pictures/s)")]


def split_counts(report: AuditReport) -> dict[str, int]:
    """Pictures in each split of the report, "" for those in none."""
    counts: dict[str, int] = {}
    for row in report.class_counts.values():
        for split, count in row.items():
            counts[split] = counts.get(split, 0) + count
    return counts


def _facts(report: AuditReport) -> RenderableType:
    facts = facts_table()
    for name, fact in audit_facts(report):
        facts.add_row(name, fact)
    return facts


def _classes(report: AuditReport) -> RenderableType:
    rows = sorted(report.class_counts.items(), key=lambda row: sum(row[1].values()))
    splits = list(split_counts(report))
    some = len(rows) > _MOST_CLASSES
    title = f"The {_MOST_CLASSES} smallest classes" if some else "Classes, smallest first"
    table = Table(box=None, pad_edge=False)
    table.add_column("Class", overflow="fold")
    for split in splits:
        table.add_column(split or "Pictures", justify="right")
    for name, counts in rows[:_MOST_CLASSES]:
        table.add_row(name, *(f"{counts[split]:,}" for split in splits))
    # a table's own title would be folded to the width of the table
    return Group(Text(title, "italic"), table)


def _findings(findings: tuple[Finding, ...]) -> RenderableType:
    table = Table(box=None, pad_edge=False, title="Findings, most harmful first")
    table.title_justify = "left"
    table.add_column("Harm", no_wrap=True)
    table.add_column("Pictures", justify="right", no_wrap=True)
    table.add_column("What, and what to do", overflow="fold")
    for finding in findings:
        style = _STYLES[finding.harm]
        table.add_row(
            Text(finding.harm, style),
            f"{finding.pictures:,}" if finding.pictures else "-",
            Text("\n").join(_lines(finding)),
        )
    return table


def _lines(finding: Finding) -> Iterator[Text]:
    yield Text.assemble((visible(finding.title), "bold"), f": {visible(finding.advice)}")
    for pictures in finding.sets[:_MOST_SETS]:
        yield Text("  " + visible(" = ".join(map(picture_text, pictures[:_MOST_SETS]))))
    if len(finding.sets) > _MOST_SETS:
        more = len(finding.sets) - _MOST_SETS
        yield Text(f"  and {more:,} more (--html shows them, --json lists all)")


def picture_text(picture: AuditPicture) -> str:
    """The picture's path and, in brackets, what is to be said of it."""
    return f"{picture.path} ({picture.note})" if picture.note else picture.path


def _spread(values: tuple[int, int, int]) -> str:
    low, median, high = values
    return f"{low} to {high} pixels, median {median}" if low != high else f"{low} pixels"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "-"


def _fixed(report: AuditReport) -> str:
    words = {
        "unreadable": "unreadable",
        "label_conflict": "under two labels",
        "in_another_split": "with a duplicate in a more held-out split",
    }
    left_out = ", ".join(
        f"{report.fixed[name]:,} {w}" for name, w in words.items() if name in report.fixed
    )
    return f"The manifest keeps {report.fixed['kept']:,} pictures; left out: {left_out or 'none'}."
