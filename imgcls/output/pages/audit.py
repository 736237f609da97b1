"""The audit as one HTML page: the set, then each finding with thumbnails of what it found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from imgcls.output.numbers import counted
from imgcls.output.pages.page import Column, Table, Thumbnail, render_page
from imgcls.output.screens.audit import audit_facts, split_counts
from imgcls.results.audit import AuditPicture, AuditReport, Finding

# a page is to open at once; --json has every one
_MOST_THUMBNAILS = 48
_MOST_ROWS = 1000


@dataclass(frozen=True)
class _Section:
    finding: Finding
    galleries: Sequence[Sequence[Thumbnail]]
    table: Table | None


def audit_page(report: AuditReport, picture_uri: Callable[[AuditPicture], str | None]) -> str:
    """The page. picture_uri: the data URI of a picture's thumbnail, None where there is none."""
    harms = [finding.harm for finding in report.findings]
    return render_page(
        "audit.html",
        report=report,
        cards=[
            (
                "Pictures",
                f"{report.pictures:,}",
                counted(len(report.class_names), "class", "classes"),
            ),
            *(
                (f"{harm.capitalize()} harm", harms.count(harm), _findings(harms.count(harm)))
                for harm in ("high", "medium", "low")
            ),
        ],
        facts=audit_facts(report),
        classes=_class_table(report),
        sections=[_section(finding, picture_uri) for finding in report.findings],
    )


def _findings(count: int) -> str:
    return "finding" if count == 1 else "findings"


def _class_table(report: AuditReport) -> Table:
    splits = list(split_counts(report))
    return Table(
        [Column("Class"), *(Column(split or "Pictures", "count") for split in splits)],
        [[name, *(counts[s] for s in splits)] for name, counts in report.class_counts.items()],
    )


def _section(finding: Finding, picture_uri: Callable[[AuditPicture], str | None]) -> _Section:
    shown: list[list[Thumbnail]] = []
    for pictures in finding.sets:
        if sum(map(len, shown)) + len(pictures) > _MOST_THUMBNAILS and shown:
            break
        shown.append([_thumbnail(picture, picture_uri) for picture in pictures[:_MOST_THUMBNAILS]])
    # pictures that stand alone need no row of their own
    alone = all(len(thumbnails) == 1 for thumbnails in shown)
    galleries = [[t for thumbnails in shown for t in thumbnails]] if alone and shown else shown
    complete = len(shown) == len(finding.sets)
    return _Section(finding, galleries, None if complete else _path_table(finding))


def _thumbnail(
    picture: AuditPicture, picture_uri: Callable[[AuditPicture], str | None]
) -> Thumbnail:
    return Thumbnail(picture_uri(picture), picture.label, tuple(_lines(picture)), picture.path)


def _lines(picture: AuditPicture) -> Iterator[str]:
    if picture.split:
        yield f"split {picture.split}"
    if picture.group:
        yield f"group {picture.group}"
    if picture.note:
        yield picture.note


def _path_table(finding: Finding) -> Table:
    rows = [
        [number, picture.path, picture.label, picture.split or "", picture.note]
        for number, pictures in enumerate(finding.sets, 1)
        for picture in pictures
    ]
    more = f"; the first {_MOST_ROWS:,}, --json has all" if len(rows) > _MOST_ROWS else ""
    return Table(
        [
            Column("Set", "count", "pictures of one number belong together"),
            Column("Path"),
            Column("Label"),
            Column("Split"),
            Column("Note"),
        ],
        rows[:_MOST_ROWS],
        caption=f"{len(finding.sets):,} sets{more}",
    )
