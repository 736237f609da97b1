"""The catalogue as a table of plain text: loading rich takes longer than finding the models."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

from imgcls.config.list_models import ListModelsConfig
from imgcls.report.console import Console
from imgcls.results import ModelEntry


def show_models(
    console: Console,
    entries: Sequence[ModelEntry],
    config: ListModelsConfig,
) -> None:
    """One line a model."""
    console.result(list(entries), "\n".join(_lines(entries)))
    if not config.is_search:
        console.say("\nThese are the curated families; `imgcls list-models vit` searches all.")


def _lines(entries: Sequence[ModelEntry]) -> list[str]:
    rows = [
        (
            entry.name,
            entry.family,
            f"{entry.parameters / 1e6:.1f} M",
            str(entry.input_size[-1]),
            ", ".join(entry.pretrained_tags) or "-",
        )
        for entry in entries
    ]
    rows.insert(0, ("Name", "Family", "Parameters", "Input", "Pretrained"))
    name_width, family_width = (max(len(row[column]) for row in rows) for column in (0, 1))
    lines = [
        f"{name:<{name_width}}  {family:<{family_width}}  {parameters:>10}  {size:>5}  {tags}"
        for name, family, parameters, size, tags in rows
    ]
    if not sys.stdout.isatty():
        return lines
    # only the tags are cut at the edge of a terminal
    width = max(shutil.get_terminal_size().columns, len(lines[0]))
    return [line if len(line) <= width else f"{line[: width - 3]}..." for line in lines]
