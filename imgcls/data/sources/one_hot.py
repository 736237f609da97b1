"""Labels that a table writes as one column a class, 1 in the picture's own and 0 in the others."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from imgcls.columns.texts import Texts
from imgcls.data.names import shortened
from imgcls.data.rows import refuse

_YES = frozenset({"1", "1.0", "true", "yes"})
_NO = frozenset({"0", "0.0", "false", "no", ""})
_FEWEST = 2


def one_hot_labels(
    spec: str,
    columns: Mapping[str, Texts],
    places: Sequence[str],
    roles: Collection[str],
) -> tuple[Texts, list[str]] | None:
    """Each row's label and the columns that say it; None where there are no such columns.

    roles: columns that say something else. Raises DataError for a row with no label, or several.
    """
    titles = class_columns({t: values for t, values in columns.items() if t not in roles})
    if not titles:
        return None
    own, counts = np.zeros(len(places), np.int32), np.zeros(len(places), np.int32)
    for number, title in enumerate(titles):
        codes, cells = columns[title].factorized()
        yes = np.array([_plain(cell) in _YES for cell in cells])[codes]
        own[yes] = number
        counts += yes
    refuse(
        spec,
        f"rows that do not have exactly one 1 in the columns {shortened(titles)}, which look like "
        "one class each; take out those that are none, or name one column by --label-col",
        (f"{places[row]} has {counts[row]}" for row in np.flatnonzero(counts != 1).tolist()),
    )
    return Texts.numbered(own, titles), titles


def class_columns(columns: Mapping[str, Texts]) -> list[str]:
    """The columns that hold nothing but 1 and 0, yes and no; none where there is only one."""
    titles = []
    for title, values in columns.items():
        if not len(values) or _plain(values[0]) not in _YES | _NO:
            continue  # before all of a column of names are looked at
        cells = set(map(_plain, values.distinct()))
        if cells <= _YES | _NO and not cells <= {""}:
            titles.append(title)
    return titles if len(titles) >= _FEWEST else []


def _plain(cell: str) -> str:
    return cell.strip().lower()
