"""The names of a model's classes, in the order of its outputs, out of a file that says them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from imgcls.config.files import read_json, read_text
from imgcls.errors import ConfigError
from imgcls.results.checkpoint import are_names

_TABLES = {".csv": ",", ".tsv": "\t"}
_TITLES = {"name", "names", "class", "classes", "class_name", "label", "labels", "label_name"}
_NUMBERS = {"index", "id", "idx", "number", "class_id", "label_id", "output"}
_LARGEST_BYTES = 64 * 2**20
_SHOWN = 3


def read_class_names(file: Path) -> list[str]:
    """The names that a file lists, the first output's first.

    A text file with one name a line; JSON: a list, {"0": name} or {name: 0}; CSV or TSV: a column
    of names, or names and output numbers. Raises ConfigError, with the line, for names that are
    empty or come twice, and for anything else.
    """
    try:
        if file.is_file() and file.stat().st_size > _LARGEST_BYTES:
            raise ConfigError(f"--classes {file}: is far too large for a list of names")
        if file.suffix.lower() == ".json":
            named = _of_json(file, read_json(file))
        elif file.suffix.lower() in _TABLES:
            named = _of_table(file, read_text(file).removeprefix("\ufeff"))
        else:
            lines = read_text(file).removeprefix("\ufeff").rstrip().split("\n")
            named = [(f"line {number}", line.strip()) for number, line in enumerate(lines, 1)]
    except FileNotFoundError:
        raise ConfigError(f"--classes {file}: no such file") from None
    except UnicodeDecodeError:
        raise ConfigError(f"--classes {file}: is not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"--classes {file}: cannot be read ({error.strerror})") from error
    except (ValueError, csv.Error) as error:
        raise ConfigError(f"--classes {file}: cannot be read ({error})") from error
    return _different(file, named)


def _different(file: Path, named: Sequence[tuple[str, str]]) -> list[str]:
    """The names, checked; each comes with where it stands."""
    places: dict[str, str] = {}
    for place, name in named:
        if not name:
            raise ConfigError(f"--classes {file}: {place} is empty; every output has a name")
        if name in places:
            raise ConfigError(
                f"--classes {file}: {name!r} stands on {places[name]} and {place}; every output "
                "has a name of its own"
            )
        if not are_names([name]):
            raise ConfigError(f"--classes {file}: {place} holds characters that no file can")
        places[name] = place
    return list(places)


def _of_json(file: Path, content: Any) -> list[tuple[str, str]]:
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        return [(f"place {number}", name.strip()) for number, name in enumerate(content, 1)]
    if isinstance(content, dict) and content:
        by_number = all(key.isdecimal() for key in content)
        pairs = content.items() if by_number else ((v, k) for k, v in content.items())
        return _by_number(file, [(str(number), name, "") for number, name in pairs])
    raise ConfigError(
        f"--classes {file}: is no list of names; JSON holds [name, ...], {{output: name}} or "
        "{name: output}"
    )


def _of_table(file: Path, text: str) -> list[tuple[str, str]]:
    rows = list(csv.reader(io.StringIO(text), delimiter=_TABLES[file.suffix.lower()]))
    while rows and not any(cell.strip() for cell in rows[-1]):
        rows.pop()
    if not rows:
        return [("line 1", "")]
    title = [cell.strip().lower() for cell in rows[0]]
    has_title = set(title) <= _TITLES | _NUMBERS
    body = [(f"line {n}", [cell.strip() for cell in row]) for n, row in enumerate(rows, 1)]
    body = body[1:] if has_title else body
    width = len(title)
    for place, row in body:
        if len(row) != width and row:
            raise ConfigError(f"--classes {file}: {place} has {len(row)} cells, the first {width}")
    if width == 1:
        return [(place, row[0] if row else "") for place, row in body]
    if width == 2:  # noqa: PLR2004  names and numbers
        for names, numbers in ((1, 0), (0, 1)):
            if all(row and row[numbers].isdecimal() for _, row in body):
                return _by_number(file, [(row[numbers], row[names], at) for at, row in body])
    raise ConfigError(
        f"--classes {file}: has {width} columns; a column of names is wanted, or names and the "
        "numbers of their outputs"
    )


def _by_number(file: Path, pairs: Sequence[tuple[str, Any, str]]) -> list[tuple[str, str]]:
    """(where it stands, name) in the order of outputs, for (output, name, where it stands)."""
    numbered: dict[int, tuple[str, str]] = {}
    for number, name, place in pairs:
        at = place or f"output {number}"
        if not number.isdecimal() or not isinstance(name, str):
            raise ConfigError(f"--classes {file}: {at} is not a name with the number of its output")
        if int(number) in numbered:
            raise ConfigError(f"--classes {file}: output {number} stands there twice ({at})")
        numbered[int(number)] = (at, name.strip())
    missing = [number for number in range(len(numbered)) if number not in numbered]
    if missing:
        shown = ", ".join(map(str, missing[:_SHOWN])) + (", ..." if len(missing) > _SHOWN else "")
        counted = "; outputs are counted from 0" if missing == [0] else ""
        raise ConfigError(
            f"--classes {file}: has no name for output {shown} of {len(numbered)}{counted}"
        )
    return [numbered[number] for number in sorted(numbered)]
