"""Options about reading pictures and what is said of each, the same wherever DATA is named."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from imgcls.config.base import Config

# what becomes of a picture that cannot be read
OnBadImage = Literal["error", "skip"]


class ReadingConfig(Config):
    """How the data are read: columns, splits, groups; None where the usual names are looked for."""

    layout: Literal["classes", "splits"] | None = Field(
        default=None,
        description=(
            "What the folders right below DATA are: the classes, or splits (train, Testing, "
            "seg_val) with the classes in them. By default their names and what is in them tell; "
            "where both are possible, this is asked for."
        ),
    )
    path_col: str | None = Field(
        default=None,
        description=(
            "The column with each picture's path, or the picture itself; in tar shards the "
            "picture's suffix. By default `path`, and `image` in Parquet."
        ),
    )
    label_col: str | None = Field(
        default=None,
        description=(
            "The column with each picture's class. By default `label`; in tar shards `cls`, else "
            "`label` of the json."
        ),
    )
    split_col: str | None = Field(
        default=None,
        description="The column that says train, val or test; by default `split`, if it is there.",
    )
    group_col: str | None = Field(
        default=None,
        description=(
            "The column that says what belongs together (patient, plant, video): a group is never "
            "divided between splits or folds. By default `group`, if it is there; an empty cell is "
            "a group of its own."
        ),
    )
    fold_col: str | None = Field(
        default=None,
        description="The column with each picture's fold; by default `fold`, if it is there.",
    )
    root: Path | None = Field(
        default=None, description="The folder that paths start from; by default the table's own."
    )
    group_regex: str | None = Field(
        default=None,
        description=(
            "Groups from the pictures' paths: what the expression's first (...) finds, or all that "
            "it finds."
        ),
        examples=[r"patient(\d+)"],
    )
    max_image_pixels: int | None = Field(
        default=None,
        ge=1,
        description=(
            "A picture with more pixels is refused as a decompression bomb. By default 178956970, "
            "where Pillow stops too."
        ),
    )

    bit_depth: Annotated[int, Field(ge=1, le=32)] | Literal["auto"] = Field(
        default="auto",
        description=(
            "The bits that a sample of a picture with more than 8 bits has, such as 12 of a camera "
            "in a 16-bit file; what a file declares wins. auto: the smallest of 8, 10, 12, 14 and "
            "16 that holds all pictures of the training data (1: floats from 0 to 1), then kept "
            "with the model."
        ),
    )

    @property
    def given(self) -> dict[str, Any]:
        """The options that say something, by name."""
        return {name: value for name, value in self if value not in (None, "auto")}

    @field_validator("group_regex")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(f"not a regular expression ({error})") from error
        return value

    @model_validator(mode="after")
    def _one_grouping(self) -> ReadingConfig:
        if self.group_col is not None and self.group_regex is not None:
            raise ValueError("--group-col and --group-regex both say what a group is; give one")
        return self
