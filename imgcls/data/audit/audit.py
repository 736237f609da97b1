"""The audit of a table: hashes, sizes, depths and near duplicates of all its pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from imgcls.data.audit.depths import Depths
from imgcls.data.audit.duplicates import near_pairs, same_content
from imgcls.data.audit.picture import SIGNATURE_SIZE, PictureFacts, contrast_of
from imgcls.data.table import SampleTable

# with less contrast, in grey levels, pictures are alike because there is nothing on them
_LEAST_CONTRAST = 1.0


@dataclass(frozen=True, eq=False)
class Audit:
    """What was learnt of a table of N pictures, some 400 bytes a picture.

    unreadable: row -> reason. sizes: int32 [N, 2], width and height as stored, 0 where unknown.
    constant: rows of one colour. same: groups of rows with identical content. near: int64 [P, 2],
    pairs of rows that show nearly the same picture; identical content is not among them. depths: of
    those with more than eight bits.
    """

    table: SampleTable
    unreadable: dict[int, str]
    sizes: np.ndarray
    modes: Counter[str]
    formats: Counter[str]
    constant: tuple[int, ...]
    same: tuple[tuple[int, ...], ...]
    near: np.ndarray
    depths: Depths


def audit(table: SampleTable, facts: Iterable[PictureFacts], depths: Depths) -> Audit:
    """Take in the facts of the table's rows, in their order, one at a time."""
    count = len(table)
    digests: list[bytes] = []
    unreadable: dict[int, str] = {}
    constant: list[int] = []
    modes: Counter[str] = Counter()
    formats: Counter[str] = Counter()
    sizes = np.zeros((count, 2), dtype=np.int32)
    signatures = np.zeros((count, SIGNATURE_SIZE), dtype=np.float32)
    for row, fact in enumerate(facts):
        digests.append(fact.digest)
        if fact.reason:
            unreadable[row] = fact.reason
            continue
        modes[fact.mode] += 1
        formats[fact.format] += 1
        sizes[row] = fact.width, fact.height
        if fact.constant:
            constant.append(row)
        if fact.signature is not None:
            signatures[row] = fact.signature
    same = same_content([b"" if row in unreadable else d for row, d in enumerate(digests)])
    return Audit(
        table=table,
        unreadable=unreadable,
        sizes=sizes,
        modes=modes,
        formats=formats,
        constant=tuple(constant),
        same=tuple(tuple(group) for group in same),
        near=_near(table, signatures, same, leave_out=[*unreadable, *constant]),
        depths=depths,
    )


def _near(
    table: SampleTable, signatures: np.ndarray, same: list[list[int]], leave_out: list[int]
) -> np.ndarray:
    """Pairs of near duplicates, without identical files and pictures of one flat colour.

    Of identical ones, one of each split, fold and label is compared: none hides another's leak.
    """
    compared = contrast_of(signatures) >= _LEAST_CONTRAST
    compared[leave_out] = False
    content = np.arange(len(table))
    given = [v for v in (table.splits, table.folds, table.labels) if v is not None]
    for copies in same:
        content[copies] = copies[0]
        seen: set[tuple[object, ...]] = set()
        for row in copies:
            place = tuple(values[row] for values in given)
            compared[row] &= place not in seen
            seen.add(place)
    rows = np.flatnonzero(compared)
    pairs = near_pairs(rows, signatures[rows])
    one, other = content[pairs].T
    differ: np.ndarray = pairs[one != other]
    return differ
