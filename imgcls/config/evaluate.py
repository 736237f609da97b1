"""Options of `imgcls evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from imgcls.config.base import Config, Flag
from imgcls.config.reading import OnBadImage, ReadingConfig
from imgcls.config.runtime import Amp, DeviceField, Devices, WorkersField


class EvaluateConfig(Config):
    """Everything `imgcls evaluate` may be told."""

    COMMON = (
        "checkpoint",
        "split",
        "data",
        "exclude_trained",
        "fold",
        "ensemble",
        "tta",
        "calibrate",
        "by",
        "compare",
        "explain",
        "open",
        "device",
    )

    checkpoint: Annotated[Path | None, Flag(positional=True)] = Field(
        default=None,
        description="A checkpoint, fold or run folder; by default the best of the newest run.",
    )
    split: Literal["train", "val", "test"] = Field(
        default="test", description="The pictures to score."
    )
    data: str | None = Field(
        default=None,
        description=(
            "Score these pictures instead of the run's own; classes are matched by name. With "
            "--split, where they are the run's own in another place, the run's split of them."
        ),
    )
    exclude_trained: bool = Field(
        default=False,
        description=(
            "Leave out what the model was trained on, and what chose the best epoch, told by "
            "content; the results lie beside those of all."
        ),
    )
    fold: Annotated[int, Field(ge=0)] | Literal["all"] | None = Field(
        default=None,
        description=(
            "With a run folder: the fold to evaluate; all pools each fold's own val pictures, and "
            "averages the folds on the test split."
        ),
    )
    ensemble: bool = Field(
        default=False,
        description="Average the probabilities of a run's folds on the test split or --data.",
    )
    tta: Literal["none", "hflip", "flips", "d4"] = Field(
        default="none",
        description=(
            "Average over views of each picture. hflip: as it is and mirrored; flips: mirrored "
            "both ways (4); d4: all quarter turns and mirrors (8), for pictures without an upright."
        ),
    )
    calibrate: Literal["auto", "temperature", "none"] = Field(
        default="auto",
        description=(
            "temperature: fit one on the val split, keep it with the checkpoint, and divide the "
            "logits by it; auto: use the one that is kept, if any."
        ),
    )
    conformal: Annotated[float | None, Field(gt=0, lt=1), Flag(metavar="SHARE")] = Field(
        default=None,
        description=(
            "Also score sets of classes that hold the right one with this probability. Fitted on "
            "the run's val pictures, and kept with the checkpoint for `imgcls predict --sets`."
        ),
    )
    fit_unlike: bool = Field(
        default=False,
        description=(
            "Also score how unknown classes are told, by features. Fitted on the run's training "
            "pictures, and kept with the checkpoint for `imgcls predict --unlike`."
        ),
    )
    top_k: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(1, 3, 5),
        min_length=1,
        description="Also the share of pictures whose class is among the k highest scores.",
    )
    by: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(),
        description="Also score apart the pictures of each value of a column: site,group.",
    )
    costs: Path | None = Field(
        default=None,
        description=(
            "CSV of what a decision costs: a row for each true class, a column for each decided."
        ),
    )
    compare: Path | None = Field(
        default=None,
        description=(
            "Another run or checkpoint to score on the same pictures: differences, McNemar's test, "
            "and the pictures that changed sides."
        ),
    )
    fail_under: dict[str, float] = Field(
        default={},
        examples=["balanced_accuracy=0.8,f1_macro=0.75"],
        description=(
            "Exit with 1 when a metric is below its threshold, such as balanced_accuracy=0.8; for "
            "CI."
        ),
    )
    corruptions: bool = Field(
        default=False,
        description=(
            "Also score noisy, blurred, compressed, brighter and paler pictures, each at five "
            "severities."
        ),
    )
    ci: Literal["bootstrap", "none"] = Field(
        default="bootstrap",
        description=(
            "95% intervals: pictures (with groups: whole groups) are drawn anew within each class."
        ),
    )
    ci_samples: int = Field(
        default=1000,
        ge=100,
        description="Resamples for --ci; 1000 settle both ends to about two digits.",
    )
    seed: int = Field(
        default=0, ge=0, lt=2**31, description="Of the resamples; the same one repeats them."
    )
    batch_size: Annotated[int, Flag(short="-b", aliases=("--batch",))] = Field(
        default=32, ge=1, description="Pictures per batch; changes speed, not results."
    )
    device: DeviceField = Field(
        default="auto",
        description="auto takes cuda, then mps, then cpu; a named one must be there.",
    )
    devices: Devices | None = Field(
        default=None,
        description=(
            "Score on so many GPUs of this machine, or all; on a CPU, in so many processes. Each "
            "picture is scored once, in the batches of one process, so the scores are its own."
        ),
    )
    amp: Amp = Field(
        default="off", description="Mixed precision; off by default, so that scores are exact."
    )
    workers: WorkersField = Field(
        default="auto", description="Processes that load pictures; never changes results."
    )
    on_bad_image: OnBadImage = Field(
        default="error",
        description=(
            "What to do about a picture that cannot be read: stop and name it, or leave it out and "
            "list it in bad_images.csv beside the results."
        ),
    )
    channels_last: bool | Literal["auto"] = Field(
        default="auto", description="Memory layout that is faster for most convolutions. auto: yes."
    )
    explain: bool = Field(
        default=False,
        description=(
            "Show what the model looked at beside its worst mistakes (extra explain): by attention "
            "rollout for plain vision transformers, for all others by Grad-CAM."
        ),
    )
    report: bool = Field(
        default=True,
        description="Draw the pictures and report.html; a few seconds that a script may save.",
    )
    open: bool = Field(default=False, description="Show report.html in the browser.")
    output: Annotated[Path, Flag(short="-o", aliases=("--project",))] = Field(
        default=Path("outputs"), description="Where to look for the newest run."
    )
    results_dir: Path | None = Field(
        default=None,
        description=(
            "Write the results to DIR/<split>/ instead of the run's own test_results/; for a run "
            "that is read-only."
        ),
    )
    force: bool = Field(
        default=False,
        description="With --results-dir: also into a folder that holds what is no evaluation.",
    )
    reading: ReadingConfig = Field(default_factory=ReadingConfig)

    @model_validator(mode="after")
    def _page_to_open(self) -> EvaluateConfig:
        if self.open and not self.report:
            raise ValueError("--open: there is no page to show with --no-report")
        return self

    @field_validator("fail_under")
    @classmethod
    def _thresholds_can_be_met(cls, value: dict[str, float]) -> dict[str, float]:
        for name, threshold in value.items():
            if threshold > 1:
                raise ValueError(f"{name} is at most 1: 90% is 0.9")
        return value

    @model_validator(mode="after")
    def _scores_what_nothing_was_fitted_on(self) -> EvaluateConfig:
        fitted = self.calibrate == "temperature" and self.fold != "all"
        if fitted and self.data is None and self.split == "val":
            raise ValueError(
                "--calibrate temperature: is fitted on val, so val cannot be scored with it; score "
                "--split test, or other pictures with --data"
            )
        return self

    @property
    def names_split(self) -> bool:
        """True when the split was asked for, and is not the default."""
        return "split" in self.model_fields_set
