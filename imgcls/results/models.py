"""What `imgcls list-models` lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from imgcls.results.record import Record


@dataclass(frozen=True)
class ModelEntry(Record):
    """One architecture of the catalogue. `parameters` counts with timm's own classifier.

    licences: of each tag's weights, as their publisher names it; None where timm states none.
    default_tag: the weights that the plain name takes; None where there are none at all.
    """

    name: str
    family: str
    parameters: int
    input_size: tuple[int, int, int]
    pretrained_tags: tuple[str, ...]
    licences: Mapping[str, str | None]
    default_tag: str | None
