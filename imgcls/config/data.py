"""Options about the pictures: where they are, how they are split, how they are fed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from imgcls.config.base import Config, Flag
from imgcls.config.reading import OnBadImage


class DataConfig(Config):
    """The pictures and how they are divided."""

    source: Annotated[str, Flag(names=("--data",), positional=True)] = Field(
        default="digits",
        description=(
            "A folder of class folders, a folder with train/ val/ test/ inside, a table (.csv, "
            ".tsv, .jsonl, .parquet), tar shards, URLs of tables and shards, or `digits` (1,797 "
            "pictures that ship with scikit-learn)."
        ),
    )
    val_size: float = Field(
        default=0.15,
        ge=0.0,
        lt=1.0,
        description=(
            "Share of each class kept for validation when the data have no val split; 0.15 "
            "leaves most pictures for training and still gives the best epoch a fair vote."
        ),
    )
    test_size: float = Field(
        default=0.15,
        ge=0.0,
        lt=1.0,
        description=(
            "Share of each class kept for the final test when the data bring no splits; "
            "never seen while training."
        ),
    )
    folds: int = Field(
        default=0,
        ge=0,
        description=(
            "Stratified k-fold over everything that is not the test split, by whole groups where "
            "the data have any; 0 trains once on one train/val split, or on the data's own folds."
        ),
    )
    fold: Annotated[int, Field(ge=0)] | Literal["all"] = Field(
        default="all", description="With --folds: the one fold to train (0 to K-1), or all in turn."
    )
    batch_size: Annotated[
        Annotated[int, Field(ge=1)] | Literal["auto"], Flag(short="-b", aliases=("--batch",))
    ] = Field(
        default=32,
        description=(
            "Pictures per step; 32 fits a laptop and gives small data sets enough steps. auto: the "
            "largest power of two up to 256 that fits into memory (tried on cuda, measured by "
            "small ones on a CPU) and leaves an epoch 32 updates; --lr auto follows it."
        ),
    )
    on_bad_image: OnBadImage = Field(
        default="error",
        description=(
            "What to do about a picture that cannot be read: stop and name it, before anything is "
            "trained where the pre-flight finds it; or leave it out, count it and list it in "
            "bad_images.csv. No other picture takes its place."
        ),
    )
    preflight: bool = Field(
        default=True,
        description=(
            "Read all pictures before training (of more than 200,000, or than 32 GiB, as many as "
            "that, drawn at random): are they whole, and has one a copy in another "
            "split? Costs a fraction of an epoch's loading; `imgcls inspect` looks closer."
        ),
    )
    cache: Literal["none", "ram", "disk", "auto"] = Field(
        default="none",
        description=(
            "Keep decoded pictures from the first epoch on: 256 pixels square for training crops "
            "of 224, which then come from fewer pixels, and the exact crops for validation. On "
            "disk later runs use them too. auto: ram, else disk, else none, by the room there is."
        ),
    )
    cache_limit: Annotated[float, Field(gt=0.0)] | Literal["auto"] = Field(
        default="auto",
        description="The most GiB that --cache may take; auto: half of what is free.",
    )
    resize_mode: Literal["crop", "squash", "pad"] = Field(
        default="crop",
        description=(
            "How a picture meets the model's square input in evaluation: crop the centre (what "
            "most weights were trained for), squash the sides, or pad to keep all of it."
        ),
    )
    background: str = Field(
        default="white",
        description="The colour below transparent pixels, by name or as #rrggbb.",
        examples=["black or #808080"],
    )
