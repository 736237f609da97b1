"""Options about the search for better settings, and the whole of `tune`."""

from __future__ import annotations

import difflib
import math
import re
from typing import Annotated, Any, ClassVar

from pydantic import Field, ValidationError, field_validator, model_validator

from imgcls.config.base import Config, Flag, option_fields
from imgcls.config.optim import OptimConfig
from imgcls.config.run import TrainConfig

_HIDDEN = "***"


def without_password(url: str) -> str:
    """The address of a database, with stars for its password, also for one behind a `?`."""
    url = re.sub(r"(?i)([?&](?:password|passwd|pwd)=)[^&]*", rf"\g<1>{_HIDDEN}", url)
    return re.sub(r"(://[^:/@]*:)[^@]*@", rf"\g<1>{_HIDDEN}@", url)


class Range(Config):
    """Numbers from `low` to `high`, both included.

    log: even in the logarithm. step: only low, low + step, ...
    """

    low: float
    high: float
    log: bool = False
    step: Annotated[float, Field(gt=0.0)] | None = None

    @model_validator(mode="after")
    def _is_a_range(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"with log, low must be above 0, not {self.low:g}")
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other")
        if self.step is not None and not _is_whole((self.high - self.low) / self.step):
            raise ValueError(f"steps of {self.step:g} from {self.low:g} miss high {self.high:g}")
        return self

    def holds(self, value: float) -> bool:
        """True for a value that the range can give."""
        inside = self.low <= value <= self.high
        return inside and (self.step is None or _is_whole((value - self.low) / self.step))


def _is_whole(number: float) -> bool:
    return math.isclose(number, round(number), abs_tol=1e-9)


# what changes neither the pictures that are compared on nor the machine
_SEARCHABLE = ("model.", "optim.", "augment.", "recipe.", "data.batch_size", "data.resize_mode")

Dimension = Range | tuple[Any, ...]


def read_space(tree: dict[str, Any]) -> dict[str, Dimension]:
    """The ranges (from mappings) and choices (from lists) of a search space, by option name.

    Raises ValueError, in one line, for what is neither and for options that do not exist.
    """
    known = [
        option.path
        for option in option_fields(TrainConfig)
        if option.path.startswith(_SEARCHABLE) and option.path != "recipe.preset"
    ]
    space: dict[str, Dimension] = {}
    for path, value in tree.items():
        if path not in known:
            near = difflib.get_close_matches(path, known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"search.space: {path} is not an option to search over{hint}")
        if isinstance(value, list) and value:
            space[path] = tuple(dict.fromkeys(value))
        elif isinstance(value, dict):
            try:
                space[path] = Range.model_validate(value)
            except ValidationError as error:
                problem = error.errors(include_url=False)[0]
                where = "".join(f".{part}" for part in problem["loc"][:1])
                reason = problem["msg"].removeprefix("Value error, ")
                raise ValueError(f"search.space: {path}{where}: {reason}") from None
        else:
            raise ValueError(
                f"search.space: {path}: {value!r} is neither a list of values nor a range such as "
                "{low: 1e-5, high: 1e-2, log: true}"
            )
    return space


class SearchConfig(Config):
    """How long to search, over what, and where the study is kept."""

    trials: Annotated[int, Flag(aliases=("--n-trials",))] = Field(
        default=20,
        ge=1,
        description=(
            "Trainings in all, by every process on the study together; about the first ten are "
            "random, so fewer than 20 leave little to learn from."
        ),
    )
    max_minutes: float | None = Field(
        default=None,
        gt=0.0,
        description=(
            "Stop after so many minutes, also within a trial, which is then saved; the same "
            "command goes on with as many more."
        ),
    )
    prune: bool = Field(
        default=True,
        description=(
            "End a trial early when it does worse than the median of the others at the same epoch."
        ),
    )
    storage: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9+]+://.+$",
        examples=["postgresql://user@host/database"],
        description=(
            "Database of the study, so that several machines share it; by default a SQLite file "
            "in the study's folder, which processes on one machine share."
        ),
    )
    space: Annotated[dict[str, Any] | None, Flag(exposed=False)] = Field(
        default=None,
        description=(
            "Option name -> list of values, or {low, high, log, step}. By default the options "
            "that matter most, without those that you set yourself."
        ),
    )

    @field_validator("storage")
    @classmethod
    def _outlives_the_process(cls, value: str | None) -> str | None:
        if value is not None and re.fullmatch(r"sqlite(\+\w+)?://(/|/?/?:memory:.*)?", value):
            raise ValueError("it names no file, and a study in memory ends with the process")
        if value is not None and any(s in value for s in (f":{_HIDDEN}@", f"={_HIDDEN}")):
            raise ValueError("its password is not kept in tune.yaml; give --storage with it again")
        return value

    @model_validator(mode="after")
    def _space_is_one(self) -> SearchConfig:
        if self.space is not None and not read_space(self.space):
            raise ValueError("search.space: empty; name at least one option")
        return self


class _Search(Config):
    search: SearchConfig = Field(default_factory=SearchConfig)


class _TrialOptimConfig(OptimConfig):
    # in a search --max-minutes is the whole search's
    max_minutes: Annotated[float | None, Flag(exposed=False)] = Field(
        default=None,
        description="Not in a search: trials are compared at the same number of epochs.",
    )


# pydantic takes fields from the last base first: the search heads the help
class TuneConfig(TrainConfig, _Search):
    """Everything `imgcls tune` may be told: what `train` may, and how to search."""

    COMMON: ClassVar[tuple[str, ...]] = (
        "data.source",
        "search.trials",
        "search.max_minutes",
        "search.prune",
        "search.storage",
        "model.name",
        "optim.epochs",
        "runtime.output",
        "runtime.experiment",
    )

    optim: _TrialOptimConfig = Field(default_factory=_TrialOptimConfig)

    @model_validator(mode="after")
    def _trials_are_single_runs(self) -> TuneConfig:
        if self.recipe.preset == "best":
            raise ValueError(
                "recipe.preset (--preset): best trains an average of folds, and a search compares "
                "single trainings; give --folds, or train its result with --preset best"
            )
        return self

    @model_validator(mode="after")
    def _trials_end_by_epochs(self) -> TuneConfig:
        if self.optim.max_minutes is not None:
            raise ValueError(
                f"optim.max_minutes: {self.optim.max_minutes:g} cannot bound a trial, which are "
                "compared at the same epochs; give --epochs, and --max-minutes for the search"
            )
        return self

    def base(self) -> TrainConfig:
        """The training that the search starts from and varies."""
        return TrainConfig.model_validate(self.model_dump(include=set(TrainConfig.model_fields)))

    def set_by_user(self, path: str) -> bool:
        """True when the option was given, in whichever way."""
        group, _, name = path.partition(".")
        return name in getattr(self, group).model_fields_set
