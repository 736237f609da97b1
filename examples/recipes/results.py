"""Finished runs in a JSON-lines file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Results:
    """Runs that are finished; one line each, so that a comparison can stop and go on."""

    def __init__(self, file: Path, keys: Sequence[str]) -> None:
        self._file = file
        self._keys = keys
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in lines]

    def find(self, *key: object) -> dict[str, Any] | None:
        """The run with these values of the keys."""
        wanted = dict(zip(self._keys, key, strict=True))
        found = (row for row in self.rows if all(row[name] == wanted[name] for name in wanted))
        return next(found, None)

    def add(self, *key: object, **values: object) -> None:
        """Write a finished run down."""
        row = {**dict(zip(self._keys, key, strict=True)), **values}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")
        self.rows.append(row)
