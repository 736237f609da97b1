"""Options of `imgcls runs` and of what it does with single runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from imgcls.config.base import Config, Flag

_FORMS: tuple[Literal["csv", "markdown", "latex"], ...] = ("csv", "markdown", "latex")
Column = Literal["when", "name", "data", "model", "epochs", "metric", "status", "size"]


class RunsConfig(Config):
    """Everything `imgcls runs` may be told."""

    folder: Annotated[Path, Flag(positional=True)] = Field(
        default=Path("outputs"), description="The folder of the runs; by default outputs."
    )
    sort: Column = Field(
        default="when",
        description=(
            "The column to sort by: the newest, longest, largest or best first, names and status "
            "from A to Z. metric: only numbers of one metric are compared."
        ),
    )
    limit: int | None = Field(default=None, ge=1, description="Show at most so many.")
    csv: bool = Field(default=False, description="Print CSV, with all digits.")
    markdown: bool = Field(default=False, description="Print a Markdown table.")
    latex: bool = Field(default=False, description="Print a LaTeX table (needs booktabs).")
    html: Path | None = Field(
        default=None, description="Write one static page of all runs, which sorts, to this file."
    )
    force: bool = Field(
        default=False, description="Let --html replace a file that imgcls did not write."
    )

    @model_validator(mode="after")
    def _one_form(self) -> RunsConfig:
        asked = [f"--{name}" for name in _FORMS if getattr(self, name)]
        if len(asked) > 1:
            raise ValueError(f"{' and '.join(asked)}: the list is printed in one form; give one")
        return self

    @property
    def form(self) -> Literal["csv", "markdown", "latex"] | None:
        """How the list is printed, where it is no table of plain text."""
        return next((name for name in _FORMS if getattr(self, name)), None)


_OUTPUT: Path = Field(
    default=Path("outputs"), description="The folder of the runs, for a run that its name names."
)


class RunsShowConfig(Config):
    """Everything `imgcls runs show` may be told."""

    run: Annotated[Path | None, Flag(positional=True)] = Field(
        default=None,
        description="A run's folder, or its name in the list; by default the newest run.",
    )
    output: Annotated[Path, Flag(short="-o", aliases=("--project",))] = _OUTPUT


class RunsPruneConfig(Config):
    """Everything `imgcls runs prune` may be told."""

    runs: Annotated[
        tuple[Path, ...], Flag(positional=True, names=("--run",), metavar="[RUN]...")
    ] = Field(
        default=(),
        description=(
            "Runs, by their folders or their names in the list; by default all in --output, and "
            "what is kept in your cache folder: decoded pictures of `--cache disk`, indexes of tar "
            "shards, and what was fetched from servers."
        ),
    )
    dry_run: bool = Field(default=False, description="Say what would go, and remove nothing.")
    yes: Annotated[bool, Flag(short="-y")] = Field(
        default=False, description="Remove without asking first."
    )
    output: Annotated[Path, Flag(short="-o", aliases=("--project",))] = _OUTPUT


class RunsDiffConfig(Config):
    """Everything `imgcls runs diff` may be told."""

    a: Annotated[Path | None, Flag(positional=True)] = Field(
        default=None, description="A run's folder, or its name in the list."
    )
    b: Annotated[Path | None, Flag(positional=True)] = Field(
        default=None, description="Another one; every difference is its number less the first's."
    )
    output: Annotated[Path, Flag(short="-o", aliases=("--project",))] = _OUTPUT

    @model_validator(mode="after")
    def _two(self) -> RunsDiffConfig:
        if self.a is None or self.b is None:
            raise ValueError("name two runs: imgcls runs diff A B")
        return self
