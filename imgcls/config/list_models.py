"""Options of `imgcls list-models`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from imgcls.config.base import Config, Flag


class ListModelsConfig(Config):
    """Everything `imgcls list-models` may be told."""

    pattern: Annotated[str | None, Flag(positional=True)] = Field(
        default=None, description="A glob (`vit_*`) or part of a name; searches all of timm."
    )
    family: str | None = Field(default=None, description="Only models of this family, e.g. resnet.")
    max_params: float | None = Field(
        default=None, gt=0.0, description="Only models of at most so many million parameters."
    )
    img_size: Annotated[int | None, Flag(aliases=("--imgsz",))] = Field(
        default=None, ge=1, description="Only models made for pictures of this side, in pixels."
    )
    pretrained: bool = Field(default=False, description="Only models with pretrained weights.")
    licence: Annotated[tuple[str, ...] | None, Flag(aliases=("--license",), metavar="NAME,...")] = (
        Field(
            default=None,
            description=(
                "Only pretrained weights under these licences, in the list's words or as globs "
                "(`cc-by-*`), and the models that have some."
            ),
            examples=["apache-2.0,mit"],
        )
    )
    limit: int | None = Field(default=None, ge=1, description="Show at most so many.")

    @property
    def is_search(self) -> bool:
        """True when all of timm is searched, not the curated families listed."""
        return any(
            wish is not None
            for wish in (
                self.pattern,
                self.family,
                self.max_params,
                self.img_size,
                self.licence,
            )
        )
