"""Builds a SampleTable from the texts that a source has of each picture."""

from __future__ import annotations

import itertools
import re
import shlex
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from imgcls.columns.texts import Texts
from imgcls.config.reading import ReadingConfig
from imgcls.data.names import folded, is_text, shortened
from imgcls.data.splits.words import is_plain, read_as_splits, split_of, splits_of
from imgcls.data.table import ImageStore, SampleTable
from imgcls.errors import DataError

_SHOWN = 10
_LONGEST_PLACE = 200
_WHOLE_NUMBER = re.compile(r"(-?(?:0|[1-9]\d*))(\.0+)?")
_COLUMNS_SHOWN = 30
# what UTF-8 would have for half of a surrogate pair
_HALF_PAIR = re.compile(rb"\xed[\xa0-\xbf]")
_NO_NAME = re.compile(_HALF_PAIR.pattern + rb"|\0")
_YES_OR_NO = ({"true", "false"}, {"1", "0"}, {"1.0", "0.0"}, {"yes", "no"})


@dataclass(frozen=True, eq=False)
class Rows:
    """N pictures as a source found them, in any order; `places` says where each row stands.

    columns: further texts of each row, N a column; those with a role (split, group, fold) among
    them. class_order: the classes in the source's own order, where it has one.
    """

    keys: Sequence[str]
    labels: Sequence[str]
    places: Sequence[str]
    splits: Sequence[str] | None = None
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    class_order: Sequence[str] | None = None
    notes: tuple[str, ...] = ()


def sample_table(
    spec: str,
    name: str,
    rows: Rows,
    images: Callable[[np.ndarray, Texts], ImageStore],
    reading: ReadingConfig,
) -> SampleTable:
    """The table of these rows, sorted by key.

    images: gets the rows' numbers in the table's order, and their keys, and gives their store.
    Raises DataError for no rows, a row without class, a split or fold that is none, and a name that
    no file could hold.
    """
    if not len(rows.keys):
        raise DataError(f"{spec}: no pictures in it")
    keys, said = Texts.of(rows.keys), Texts.of(rows.labels)
    columns = {title: Texts.of(texts) for title, texts in rows.columns.items()}
    refuse(spec, "rows without a label", (rows.places[row] for row in said.empty_rows()))
    if keys.holds(_NO_NAME):
        wrong = "names that are not UTF-8, which no table can hold, rename them"
        refuse(spec, wrong, (repr(key) for key in keys if not is_text(key)))
        wrong = "names with a NUL character, which no file can have"
        refuse(spec, wrong, (repr(key) for key in keys if "\0" in key))
    for title, texts in {"label": said, **columns}.items():
        if texts.holds(_HALF_PAIR):
            refuse(
                spec,
                f"cells of column {title!r} that hold half a surrogate pair, which is no text",
                (p for p, text in zip(rows.places, texts, strict=True) if not is_text(text)),
            )
    labels, numbers = _as_numbers(said.mapped(_composed))
    codes, distinct = labels.factorized()
    present = dict.fromkeys(distinct)
    order_of_classes = map(_composed, rows.class_order or ())
    class_names = tuple(c for c in dict.fromkeys((*order_of_classes, *present)) if c in present)
    position = {name: index for index, name in enumerate(class_names)}
    numbered = np.array([position[name] for name in present], dtype=np.int64)[codes]
    order = keys.order()
    splits, meant = _splits(spec, rows, columns, reading)
    groups = _groups(spec, keys, columns, reading)
    folds = _folds(spec, rows, columns, reading, splits)
    arranged = keys.select(order)
    return SampleTable(
        name=name,
        keys=arranged,
        labels=numbered[order],
        class_names=class_names,
        images=images(order, arranged),
        splits=None if splits is None else splits.select(order),
        groups=None if groups is None else groups.select(order),
        folds=None if folds is None else folds[order],
        columns={title: texts.select(order) for title, texts in columns.items()},
        notes=(*rows.notes, *numbers, *meant, *_notes(class_names, numbered, splits)),
    )


def column(
    spec: str, columns: Mapping[str, object], wanted: str | None, usual: Iterable[str], flag: str
) -> str:
    """The name of a column that must be there. Raises DataError with the names that are."""
    for name in (wanted,) if wanted is not None else map(partial(titled, columns), usual):
        if name is not None and name in columns:
            return name
    sought = " or ".join(map(repr, usual if wanted is None else (wanted,)))
    there = f"its columns are {shortened(columns, _COLUMNS_SHOWN)}; name one by {flag}"
    raise DataError(f"{spec}: has no column {sought}; {there if columns else 'it is empty'}")


def titled(columns: Collection[str], usual: str) -> str | None:
    """The column of a usual name, or the only one that differs from it by case; None without."""
    if usual in columns:
        return usual
    alike = [title for title in columns if title.casefold() == usual]
    return alike[0] if len(alike) == 1 else None


def refuse(spec: str, what: str, found: Iterable[str]) -> None:
    """Raise DataError when anything was found, with the first ten and the count."""
    found = iter(found)
    first = list(itertools.islice(found, _SHOWN))
    if first:
        more = sum(1 for _ in found)
        shown = ", ".join(map(_clipped, first)) + (", ..." if more else "")
        raise DataError(f"{spec}: {len(first) + more} {what}: {shown}")


def _clipped(place: str) -> str:
    """The place without the middle of what fills a screen: what is wrong, and where it stands."""
    end = _LONGEST_PLACE // 2
    return place if len(place) <= _LONGEST_PLACE else f"{place[:end]}...{place[-end:]}"


def _composed(label: str) -> str:
    # macOS writes a letter and its accent apart in names of files
    return unicodedata.normalize("NFC", label)


def _as_numbers(labels: Texts) -> tuple[Texts, tuple[str, ...]]:
    """The labels with 0.0 as 0 where both are there: pandas writes one column in both ways.

    Only where all labels are whole numbers; and a note of what was read so.
    """
    matches = {label: _WHOLE_NUMBER.fullmatch(label) for label in labels.distinct()}
    whole = {
        label: match[1]
        for label, match in matches.items()
        if match is not None and match[2] and match[1] in matches
    }
    if not whole or None in matches.values():
        return labels, ()
    told = shortened(f"{label} as {number}" for label, number in sorted(whole.items()))
    note = f"labels that are one number are one class: {told}"
    return labels.mapped(lambda label: whole.get(label, label)), (note,)


def _role(
    spec: str, columns: dict[str, Texts], wanted: str | None, usual: str, flag: str
) -> Texts | None:
    """Take a role's column out of the others; None when it is not there and was not asked for."""
    if wanted is None and titled(columns, usual) is None:
        return None
    if wanted is not None and wanted not in columns and not columns:
        raise DataError(
            f"{spec}: has no column {wanted!r} beside those of path and label; leave {flag} out"
        )
    return columns.pop(column(spec, columns, wanted, (usual,), flag))


def _splits(
    spec: str, rows: Rows, columns: dict[str, Texts], reading: ReadingConfig
) -> tuple[Texts | None, Sequence[str]]:
    """The split of each row, None where nothing says it, and a note of words read as splits."""
    said = _role(spec, columns, reading.split_col, "split", "--split-col")
    if said is None:
        if rows.splits is not None:
            return Texts.of(rows.splits), ()
        return None, _unread_splits(columns)
    codes, distinct = said.factorized()
    texts = list(distinct)
    split_by = splits_of(texts)
    refuse(
        spec,
        f"words of column {reading.split_col or 'split'!r} that are not train, val or test",
        (
            f"{text!r} at {rows.places[int((codes == code).argmax())]}"
            for code, text in enumerate(texts)
            if split_by[text] is None
        ),
    )
    splits = {text: split for text, split in split_by.items() if split is not None}
    for split in sorted(set(splits.values())):
        alike = {text.strip().lower(): text for text in texts if splits[text] == split}
        if len(alike) > 1 and not all(map(is_plain, alike)):
            raise DataError(
                f"{spec}: {shortened(map(repr, alike.values()))} in column "
                f"{reading.split_col or 'split'!r} all mean {split}; write train, val and test, "
                "and leave out the rows that are in none"
            )
    return said.mapped(lambda text: splits.get(text, "")), read_as_splits(splits)


def _unread_splits(columns: Mapping[str, Texts]) -> list[str]:
    """Notes of columns that look like splits by another name, so that none is lost in silence."""
    notes = []
    for title, values in columns.items():
        may_say = split_of(title) or split_of(values[0])
        # before all of a column of names are looked at
        splits = splits_of(values.distinct()) if may_say else {values[0]: None}
        told = set(splits.values())
        if None not in told and len(told) > 1:
            notes.append(
                f"column {title!r} says {shortened(splits)} and is not read; --split-col "
                f"{shlex.quote(title)} takes it for the splits"
            )
        elif split_of(title) and {text.strip().lower() for text in splits} in _YES_OR_NO:
            notes.append(
                f"column {title!r} may tell the splits and is not read; write train, val and test "
                "into a column split"
            )
    return notes


def _groups(
    spec: str, keys: Texts, columns: dict[str, Texts], reading: ReadingConfig
) -> Texts | None:
    if reading.group_regex is None:
        return _role(spec, columns, reading.group_col, "group", "--group-col")
    search = re.compile(reading.group_regex).search
    refuse(
        spec,
        f"paths in which --group-regex {reading.group_regex!r} finds nothing",
        (key for key in keys if search(key) is None),
    )
    found = (match for key in keys if (match := search(key)) is not None)
    return Texts.of(match[1 if match.re.groups else 0] or "" for match in found)


def _folds(
    spec: str,
    rows: Rows,
    columns: dict[str, Texts],
    reading: ReadingConfig,
    splits: Texts | None,
) -> np.ndarray | None:
    said = _role(spec, columns, reading.fold_col, "fold", "--fold-col")
    if said is None:
        return None
    # a picture of a given split needs no fold: train is always trained on, test never
    codes, texts = said.factorized()
    outside = [splits is not None and text.strip() in ("", "-1") for text in texts]
    wrong = np.array(
        [
            # a column with gaps comes from pandas as 0.0, by way of some spreadsheets as 0,0
            not out and not re.fullmatch(r"\s*\d{1,9}([.,]0*)?\s*", text)
            for text, out in zip(texts, outside, strict=True)
        ]
    )
    refuse(
        spec,
        "rows whose fold is not a whole number from 0",
        (f"{said[row]!r} at {rows.places[row]}" for row in np.flatnonzero(wrong[codes]).tolist()),
    )
    if all(outside):
        return None
    numbers = (re.split("[.,]", text)[0] for text in texts)
    folds = [-1 if out else int(n) for n, out in zip(numbers, outside, strict=True)]
    given: np.ndarray = np.array(folds, np.int64)[codes]
    return given


def _notes(class_names: Sequence[str], labels: np.ndarray, splits: Texts | None) -> Iterable[str]:
    first: dict[str, str] = {}
    twins = [
        f"{twin!r} and {name!r}"
        for name in class_names
        if (twin := first.setdefault(folded(name), name)) != name
    ]
    if twins:
        yield f"classes {shortened(twins)} differ only by case or spaces"
    if splits is None:
        return
    codes, given = splits.factorized()
    for code, split in enumerate(given):
        counts = np.bincount(labels[codes == code], minlength=len(class_names))
        absent = [name for name, count in zip(class_names, counts, strict=True) if not count]
        if absent:
            yield f"the {split} split has no pictures of {shortened(absent)}"
