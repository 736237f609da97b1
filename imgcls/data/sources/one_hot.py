"""Labels that a table writes as one column a class, 1 in the picture's own and 0 in the others."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from imgcls.data.names import shortened
from imgcls.data.rows import refuse

_YES = frozenset({"1", "1.0", "true", "yes"})
_NO = frozenset({"0", "0.0", "false", "no", ""})
_FEWEST = 2


def one_hot_labels(
    spec: str,
    columns: Mapping[str, Sequence[str]],
    places: Sequence[str],
    roles: Collection[str],
) -> tuple[list[str], list[str]] | None:
    """Each row's label and the columns that say it; None where there are no such columns.

    roles: columns that say something else. Raises DataError for a row with no label, or several.
    """
    titles = class_columns({t: values for t, values in columns.items() if t not in roles})
    if not titles:
        return None
    yes = {title: [_plain(cell) in _YES for cell in columns[title]] for title in titles}
    said = [[t for t in titles if yes[t][row]] for row in range(len(places))]
    refuse(
        spec,
        f"rows that do not have exactly one 1 in the columns {shortened(titles)}, which look like "
        "one class each; take out those that are none, or name one column by --label-col",
        (
            f"{place} has {len(own)}"
            for place, own in zip(places, said, strict=True)
            if len(own) != 1
        ),
    )
    return [own[0] for own in said], titles


def class_columns(columns: Mapping[str, Sequence[str]]) -> list[str]:
    """The columns that hold nothing but 1 and 0, yes and no; none where there is only one."""
    titles = []
    for title, values in columns.items():
        cells = set(map(_plain, set(values)))
        if cells <= _YES | _NO and not cells <= {""}:
            titles.append(title)
    return titles if len(titles) >= _FEWEST else []


def _plain(cell: str) -> str:
    return cell.strip().lower()
