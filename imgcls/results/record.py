"""The base of what jobs return: strict JSON of any record."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any


def to_plain(value: Any) -> Any:
    """The value as strict-JSON types: dataclasses become dicts, paths strings, nan and inf None.

    A field's metadata may say another `key`, and that it is `left_out` where it is None.
    """
    if is_dataclass(value) and not isinstance(value, type):
        held = [(f.metadata, f.name, getattr(value, f.name)) for f in fields(value)]
        return {
            metadata.get("key", name): to_plain(item)
            for metadata, name, item in held
            if item is not None or not metadata.get("left_out")
        }
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@dataclass(frozen=True)
class Record:
    """Base of the records; `to_json()` gives strict-JSON types."""

    def to_json(self) -> dict[str, Any]:
        """The record as a dict of strict-JSON types."""
        plain: dict[str, Any] = to_plain(self)
        return plain
