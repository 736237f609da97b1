"""Options of `imgcls report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from imgcls.config.base import Config, Flag


class ReportConfig(Config):
    """Everything `imgcls report` may be told."""

    run: Annotated[Path | None, Flag(positional=True)] = Field(
        default=None, description="A run, fold or checkpoint folder; by default the newest run."
    )
    split: str = Field(
        default="test",
        pattern=r"^[^/\\]+$",
        examples=["test"],
        description="The evaluated split: the name of a folder in test_results/.",
    )
    fold: int | None = Field(default=None, ge=0, description="With a run folder: the fold.")
    results_dir: Path | None = Field(
        default=None,
        description=(
            "Write to DIR/<split>/ instead of the run's own test_results/; also reads what "
            "`imgcls evaluate --results-dir DIR` left there."
        ),
    )
    force: bool = Field(
        default=False, description="Also replace a report.html that imgcls did not write."
    )
    open: bool = Field(default=False, description="Show the page in the browser.")
    output: Annotated[Path, Flag(short="-o", aliases=("--project",))] = Field(
        default=Path("outputs"), description="Where to look for the newest run."
    )
