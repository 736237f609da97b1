"""Finished runs in a JSON-lines file, and their tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

SCORES = ("balanced_accuracy", "f1_macro", "nll")


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


def table(rows: Sequence[dict[str, Any]], column: str, baseline: str) -> str:
    """A Markdown table of mean and standard deviation over seeds for each value of `column`.

    Accuracy and F1 in percent; the processor time is the seeds' median. The last column has the
    differences in balanced accuracy to `baseline`, seed by seed: both saw the same pictures.
    """
    lines = [
        f"| {column} | seeds | balanced accuracy | macro F1 | NLL | processor | to {baseline} |",
        "|---|---|---|---|---|---|---|",
    ]
    reference = {row["seed"]: row for row in rows if row[column] == baseline}
    for name in dict.fromkeys(row[column] for row in rows):
        own = sorted((row for row in rows if row[column] == name), key=lambda row: row["seed"])
        cells = [name, str(len(own))]
        for score in SCORES:
            values = np.array([row[score] for row in own])
            scale, digits = (1, 2) if score == "nll" else (100, 1)
            spread = values.std(ddof=1) if len(values) > 1 else 0.0
            cells.append(f"{values.mean() * scale:.{digits}f} ± {spread * scale:.{digits}f}")
        cells.append(f"{np.median([row['cpu_s'] for row in own]):.0f} s")
        gains = [
            100 * (row["balanced_accuracy"] - reference[row["seed"]]["balanced_accuracy"])
            for row in own
            if row["seed"] in reference
        ]
        cells.append("" if name == baseline else ", ".join(f"{gain:+.1f}" for gain in gains))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
