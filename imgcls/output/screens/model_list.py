"""The catalogue as a table of plain text: loading rich takes longer than finding the models."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

from imgcls.config.list_models import ListModelsConfig
from imgcls.models.licences import licence_text
from imgcls.output.console import Console
from imgcls.results.models import ModelEntry


def show_models(
    console: Console,
    entries: Sequence[ModelEntry],
    config: ListModelsConfig,
) -> None:
    """One line a model."""
    console.result(list(entries), "\n".join(_lines(entries)))
    others = [entry for entry in entries if entry.default_tag not in {*entry.licences, None}]
    if others:
        first = others[0]
        console.say(
            f"\nThe plain names of {len(others)} of these take weights under another licence: give "
            f"the tag too, as in {first.name}.{first.pretrained_tags[0]}."
        )
    if not config.is_search:
        console.say("\nThese are the curated families; `imgcls list-models vit` searches all.")


def _lines(entries: Sequence[ModelEntry]) -> list[str]:
    rows = [
        (
            entry.name,
            entry.family,
            f"{entry.parameters / 1e6:.1f} M",
            str(entry.input_size[-1]),
            _licences(entry),
            entry.pretrained_tags,
        )
        for entry in entries
    ]
    titles = ("Name", "Family", "Parameters", "Input", "Licence", ("Pretrained",))
    name_width, family_width, licence_width = (
        max(len(titles[column]), *(len(row[column]) for row in rows)) for column in (0, 1, 4)
    )
    lines = []
    for name, family, parameters, size, licence, tags in (titles, *rows):
        start = (
            f"{name:<{name_width}}  {family:<{family_width}}  {parameters:>10}  {size:>5}  "
            f"{licence:<{licence_width}}  "
        )
        room = shutil.get_terminal_size().columns - len(start) if sys.stdout.isatty() else None
        lines.append(start + (_whole_tags(tags, room) or "-"))
    return lines


def _licences(entry: ModelEntry) -> str:
    """The licence of the first weights, and how many others the further weights have."""
    different = list(dict.fromkeys(map(licence_text, entry.licences.values())))
    more = f" +{len(different) - 1}" if len(different) > 1 else ""
    return f"{different[0]}{more}" if different else "-"


def _whole_tags(tags: Sequence[str], room: int | None) -> str:
    """The tags that fit, each whole because it is copied, and how many more there are."""
    for shown in range(len(tags), 0, -1):
        more = f" +{len(tags) - shown}" if shown < len(tags) else ""
        text = ", ".join(tags[:shown]) + more
        if room is None or len(text) <= room:
            return text
    return f"{len(tags)} tag{'s' * (len(tags) > 1)}" if tags else ""
