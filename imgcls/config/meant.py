"""What a value that an option does not take was most likely meant as."""

from __future__ import annotations

import difflib
import re
from typing import Any

from annotated_types import Le, Lt
from pydantic.fields import FieldInfo

from imgcls.config.base import alternatives, choices, takes_whole_numbers_only

_LIKENESS = 0.7
_PERCENT, _FEWEST_PERCENT = 100, 5
_LONG_ENOUGH = 3
_LONGEST = 100


def meant_by(given: Any, field: FieldInfo) -> str | None:
    """A value that the field takes, or None where nobody knows what was meant.

    One of the field's words for a part of it (`f1`, `accuracy`) or other capitals; 0.2 for the
    shares `20` and `20%`; 224 for `224x224`; 0.001 for `0,001`.
    """
    # a file may hold lists of lists whose text takes gigabytes, or numbers of a million digits
    if not isinstance(given, str) or len(given) > _LONGEST:
        return None
    text = given.strip()
    return _word(text, choices(field)) or _number(text, field)


def _word(text: str, words: tuple[str, ...]) -> str | None:
    low = text.lower().replace("-", "_")
    alike = {word.replace("-", "_"): word for word in words}
    if not low or low in alike:
        return alike.get(low)
    # the shortest word with this part says the least that was not said
    having = sorted((w for w in alike if f"_{low}_" in f"_{w}_"), key=len)
    begun = [w for w in alike if len(w) >= _LONG_ENOUGH and low.startswith(w)]
    near = difflib.get_close_matches(low, alike, n=1, cutoff=_LIKENESS)
    return next((alike[word] for word in (*having, *begun, *near)), None)


def _number(text: str, field: FieldInfo) -> str | None:
    kinds = {part for part, _ in alternatives(field)}
    if takes_whole_numbers_only(field):
        twice = re.fullmatch(r"(\d+)[x,*](\d+)", text)
        return twice[1] if twice and twice[1] == twice[2] else None
    if float not in kinds:
        return None
    if re.fullmatch(r"\d+,\d+", text):
        return text.replace(",", ".")
    percent = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%?", text)
    bounds = [item for _, metadata in alternatives(field) for item in metadata]
    is_share = any(
        getattr(b, "lt", getattr(b, "le", None)) == 1 for b in bounds if isinstance(b, (Lt, Le))
    )
    if percent and is_share and _FEWEST_PERCENT <= float(percent[1]) < _PERCENT:
        return f"{float(percent[1]) / _PERCENT:g}"
    return None
