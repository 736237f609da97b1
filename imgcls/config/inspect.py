"""Options of `imgcls inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from imgcls.config.base import Config, Flag
from imgcls.config.reading import ReadingConfig
from imgcls.config.runtime import WorkersField


class InspectConfig(Config):
    """Everything `imgcls inspect` may be told."""

    source: Annotated[str, Flag(names=("--data",), positional=True)] = Field(
        default="digits", description="The pictures, named as for `imgcls train`."
    )
    workers: WorkersField = Field(
        default="auto", description="Processes that read pictures; auto takes one a core."
    )
    html: Path | None = Field(
        default=None,
        description="Write what was found, with thumbnails, as one HTML page to this file.",
    )
    fix_manifest: Path | None = Field(
        default=None,
        description=(
            "Write a manifest (.csv) without the harmful rows and with duplicates tied into one "
            "group, ready for `imgcls train`; an existing file is not overwritten."
        ),
    )
    force: bool = Field(
        default=False, description="Let --html replace a file that imgcls did not write."
    )
    reading: ReadingConfig = Field(default_factory=ReadingConfig)
