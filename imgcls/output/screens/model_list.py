"""The catalogue as a table of plain text: loading rich takes longer than finding the models."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

from imgcls.config.list_models import ListModelsConfig
from imgcls.output.console import Console
from imgcls.results.models import ModelEntry


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
            entry.pretrained_tags,
        )
        for entry in entries
    ]
    titles = ("Name", "Family", "Parameters", "Input", ("Pretrained",))
    name_width, family_width = (
        max(len(titles[column]), *(len(row[column]) for row in rows)) for column in (0, 1)
    )
    lines = []
    for name, family, parameters, size, tags in (titles, *rows):
        start = f"{name:<{name_width}}  {family:<{family_width}}  {parameters:>10}  {size:>5}  "
        room = shutil.get_terminal_size().columns - len(start) if sys.stdout.isatty() else None
        lines.append(start + (_whole_tags(tags, room) or "-"))
    return lines


def _whole_tags(tags: Sequence[str], room: int | None) -> str:
    """The tags that fit, each whole because it is copied, and how many more there are."""
    for shown in range(len(tags), 0, -1):
        more = f" +{len(tags) - shown}" if shown < len(tags) else ""
        text = ", ".join(tags[:shown]) + more
        if room is None or len(text) <= room:
            return text
    return f"{len(tags)} tag{'s' * (len(tags) > 1)}" if tags else ""
