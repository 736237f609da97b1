"""The findings of an audit, the most harmful first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator

import numpy as np

from imgcls.data.audit.audit import Audit
from imgcls.data.audit.duplicates import linked
from imgcls.data.audit.sets import RowSets, group_sets, near_sets, places, straddling
from imgcls.data.names import folded, shortened
from imgcls.data.table import SampleTable
from imgcls.results.audit import AuditPicture, Finding

# at 15% for the test split, fewer leave one picture to score a class by, or none
_FEW_PICTURES = 10
_IMBALANCE = 10.0
# a square centre crop shows less than a quarter of such a picture
_ASPECT = 4.0
_TINY_SIDE = 32
_LISTED = 5

_HARMS = ("high", "medium", "low")

_TIE = "a split at random may part them; --fix-manifest ties them together"
# kind -> harm, what is wrong, what to do
_WORDS = {
    "unreadable": (
        "high",
        "unreadable or truncated",
        "repair them or take them away; --on-bad-image skip trains without them",
    ),
    "leak": (
        "high",
        "identical copy in another split or fold",
        "their scores tell what was learnt by heart; keep each in one split",
    ),
    "label_conflict": (
        "high",
        "identical copy under another label",
        "one of the labels is wrong, or both are true; decide, or take them away",
    ),
    "group_leak": (
        "high",
        "group in more than one split or fold",
        "pictures of one patient, plant or video must stay together",
    ),
    "near_leak": (
        "high",
        "near duplicate in another split or fold",
        "the same picture re-encoded, resized or a moment later; keep them in one split",
    ),
    "near_label_conflict": (
        "medium",
        "near duplicate under another label",
        "look at them: one of the labels may be wrong",
    ),
    "negative_values": (
        "medium",
        "with values below zero",
        "each is stretched over its own range; shift them to 0 and above for one common scale",
    ),
    "dim": (
        "medium",
        "darker than a sixteenth of the others' range",
        "saved in another bit depth, or by another camera? All are scaled by one --bit-depth",
    ),
    "unit_floats": (
        "high",
        "with numbers from 0 to 1 beside pictures of a larger range",
        "they have no scale in common; save all in one of the two ways",
    ),
    "constant": ("medium", "of one colour", "there is nothing on them to learn"),
    "duplicates": ("medium", "identical copy under the same label", _TIE),
    "duplicates_in_split": (
        "low",
        "identical copy in the same split and fold",
        "they count more than once",
    ),
    "near_duplicates": ("medium", "near duplicate under the same label", _TIE),
    "near_duplicates_in_split": (
        "low",
        "near duplicate in the same split and fold",
        "they count nearly twice",
    ),
    "aspect": (
        "low",
        f"more than {_ASPECT:.0f} times as long as wide",
        "a centre crop shows little of them; see --resize-mode squash or pad",
    ),
    "tiny": (
        "low",
        f"less than {_TINY_SIDE} pixels wide or high",
        "they are enlarged; an --img-size far above theirs wins nothing",
    ),
}


def findings(audit: Audit) -> tuple[Finding, ...]:
    """All findings, the most harmful first."""
    found = (finding for find in _SEARCHES for finding in find(audit))
    return tuple(sorted(found, key=lambda finding: _HARMS.index(finding.harm)))


def picture(table: SampleTable, row: int, note: str = "") -> AuditPicture:
    """The AuditPicture of row `row`: its path, label and a note."""
    return AuditPicture(
        path=table.keys[row],
        label=table.class_names[table.labels[row]],
        split=None if table.splits is None else table.splits[row],
        group=None if table.groups is None else table.groups[row],
        note=note,
    )


def _unreadable(audit: Audit) -> Iterator[Finding]:
    bad = audit.unreadable
    yield from _finding(audit, "unreadable", [(row,) for row in bad], note=bad.__getitem__)


def _apart(audit: Audit) -> Iterator[Finding]:
    table, near = audit.table, near_sets(audit)
    where = places(table)
    yield from _finding(audit, "leak", straddling(where, audit.same))
    yield from _finding(audit, "label_conflict", straddling(table.labels, audit.same))
    yield from _finding(audit, "group_leak", straddling(where, group_sets(table)))
    yield from _finding(audit, "near_leak", straddling(where, near))
    yield from _finding(audit, "near_label_conflict", straddling(table.labels, near))


def _classes(audit: Audit) -> Iterator[Finding]:
    table = audit.table
    if table.splits is not None:
        given = np.array([split or "" for split in table.splits])
        for split in sorted(set(given) - {""}):
            counts = table.class_counts(np.flatnonzero(given == split))
            absent = [name for name, n in zip(table.class_names, counts, strict=True) if n == 0]
            if absent:
                verb = "learnt" if split == "train" else "scored"
                yield Finding(
                    "missing_class",
                    "medium",
                    f"the {split} split has no pictures of {shortened(absent, _LISTED)}",
                    f"they cannot be {verb} there",
                    class_names=tuple(absent),
                )
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for name in table.class_names:
        alike[folded(name)].append(name)
    for names in alike.values():
        if len(names) > 1:
            yield Finding(
                "class_twins",
                "medium",
                f"classes {' and '.join(map(repr, names))} differ only by case or spaces",
                "if they are one class, give them one name",
                class_names=tuple(names),
            )


def _constant(audit: Audit) -> Iterator[Finding]:
    yield from _finding(audit, "constant", [(row,) for row in audit.constant])


def _together(audit: Audit) -> Iterator[Finding]:
    table = audit.table
    where = places(table)
    suffix = "" if where is None else "_in_split"
    for kind, sets in (("duplicates", list(audit.same)), ("near_duplicates", near_sets(audit))):
        apart = {*straddling(where, sets), *straddling(table.labels, sets)}
        rest = linked(len(table), [rows for rows in sets if rows not in apart])
        yield from _finding(audit, kind + suffix, rest)


def _class_sizes(audit: Audit) -> Iterator[Finding]:
    table = audit.table
    counts = table.class_counts()
    few = {
        name: int(count)
        for name, count in zip(table.class_names, counts, strict=True)
        if count < _FEW_PICTURES
    }
    if few:
        yield Finding(
            "few_pictures",
            "medium",
            f"fewer than {_FEW_PICTURES} pictures of "
            + shortened([f"{name} ({count})" for name, count in few.items()], _LISTED),
            "too few to score a class by; use --folds, or add pictures",
            class_names=tuple(few),
        )
    if len(table.class_names) == 1:
        yield Finding(
            "one_class",
            "high",
            f"only one class, {shortened(table.class_names)}",
            "a classifier needs at least two classes with pictures",
            class_names=table.class_names,
        )
    most, least = int(counts.argmax()), int(np.where(counts, counts, counts.max() + 1).argmin())
    ratio = counts[most] / counts[least]
    if ratio >= _IMBALANCE:
        names = table.class_names[most], table.class_names[least]
        # two that look alike are told apart by what is not seen
        told = map(repr, names) if folded(names[0]) == folded(names[1]) else names
        larger, smaller = told
        yield Finding(
            "imbalance",
            "low",
            f"{larger} has {ratio:.0f} times the pictures of {smaller}",
            "go by balanced accuracy and the table of classes, not by accuracy",
            class_names=names,
        )


def _depths(audit: Audit) -> Iterator[Finding]:
    depths = audit.depths
    for kind, odd in (
        ("unit_floats", depths.unit_floats),
        ("negative_values", depths.negative),
        ("dim", depths.dim),
    ):
        yield from _finding(
            audit,
            kind,
            [(row,) for row in odd],
            note=lambda row: "{0.low:,.6g} to {0.high:,.6g}".format(depths.by_row[row]),
        )
    plain = len(audit.table) - len(audit.unreadable) - len(depths.by_row)
    if depths.by_row and (plain or len({d.declared for d in depths.by_row.values()}) > 1):
        eight = f"{plain:,} have 8 bits; " if plain else ""
        yield Finding(
            "mixed_depths",
            "medium",
            f"pictures of different bit depths: {eight}{depths.words()}",
            "right if they come from cameras that differ; a class per camera would be learnt",
        )
    elif depths.undeclared and depths.bits not in (None, 1, 16):
        yield Finding(
            "bit_depth",
            "low",
            f"bit depth: {depths.words()}",
            "a program that takes all 16 bits for used shows them too dark; see --bit-depth",
        )


def _shapes(audit: Audit) -> Iterator[Finding]:
    width, height = audit.sizes.T
    known = width > 0
    long, short = audit.sizes.max(axis=1), audit.sizes.min(axis=1)
    for kind, odd in (("aspect", long > _ASPECT * short), ("tiny", short < _TINY_SIDE)):
        rows: RowSets = [(int(row),) for row in np.flatnonzero(known & odd)]
        yield from _finding(
            audit, kind, rows, note=lambda row: f"{width[row]} x {height[row]} pixels"
        )


# those of one harm stay in this order
_SEARCHES: tuple[Callable[[Audit], Iterator[Finding]], ...] = (
    _unreadable,
    _apart,
    _classes,
    _constant,
    _together,
    _class_sizes,
    _depths,
    _shapes,
)


def _finding(
    audit: Audit, kind: str, sets: RowSets, note: Callable[[int], str] = lambda _row: ""
) -> Iterator[Finding]:
    if not sets:
        return
    harm, title, advice = _WORDS[kind]
    yield Finding(
        kind,
        harm,
        title,
        advice,
        len({row for rows in sets for row in rows}),
        tuple(tuple(picture(audit.table, row, note(row)) for row in rows) for rows in sets),
    )
