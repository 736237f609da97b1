"""What `imgcls list-models` lists."""

from __future__ import annotations

from dataclasses import dataclass

from imgcls.results.record import Record


@dataclass(frozen=True)
class ModelEntry(Record):
    """One architecture of the catalogue. `parameters` counts with timm's own classifier."""

    name: str
    family: str
    parameters: int
    input_size: tuple[int, int, int]
    pretrained_tags: tuple[str, ...]
