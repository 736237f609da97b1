"""Names of classes, folders and files as they are told: short lists, and which look alike."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

_SHOWN = 10
_LONGEST = 80


def shortened(names: Iterable[str], shown: int = _SHOWN) -> str:
    """The first few names, none longer than a line has room for, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - shown:,} more" if len(every) > shown else ""
    clipped = (n if len(n) <= _LONGEST else f"{n[: _LONGEST - 3]}..." for n in every[:shown])
    return ", ".join(clipped) + more


def folded(name: str) -> str:
    """The name without what an eye does not see: case, spaces, marks without width, widths."""
    plain = unicodedata.normalize("NFKC", name)
    seen = "".join(c for c in plain if unicodedata.category(c) not in ("Cf", "Cc"))
    return " ".join(seen.split()).casefold()


def is_text(name: str) -> bool:
    """False for half of a surrogate pair, which no file can hold."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
