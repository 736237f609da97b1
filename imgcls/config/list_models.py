"""Options of `imgcls list-models`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from imgcls.config.base import Config, Flag


class ListModelsConfig(Config):
    """Everything `imgcls list-models` may be told."""

    pattern: Annotated[str | None, Flag(positional=True)] = Field(
        None, description="A glob (`vit_*`) or part of a name; searches all of timm."
    )
    family: str | None = Field(None, description="Only models of this family, e.g. resnet.")
    pretrained: bool = Field(False, description="Only models with pretrained weights.")
    limit: int | None = Field(None, ge=1, description="Show at most so many.")
