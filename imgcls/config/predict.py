"""Options of `imgcls predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from imgcls.config.base import Config, Flag
from imgcls.config.benchmark import Backend
from imgcls.config.evaluate import EvaluateConfig
from imgcls.config.reading import OnBadImage, ReadingConfig
from imgcls.config.runtime import Amp, DeviceField, Devices, WorkersField

FORMATS = (".csv", ".jsonl", ".parquet")
_READING, _EVALUATE = ReadingConfig.model_fields, EvaluateConfig.model_fields


class PredictConfig(Config):
    """Everything `imgcls predict` may be told."""

    COMMON = (
        "inputs",
        "checkpoint",
        "output",
        "top_k",
        "tta",
        "sets",
        "max_error",
        "unlike",
        "new_only",
        "sort_into",
        "backend",
        "batch_size",
        "device",
    )

    inputs: Annotated[tuple[str, ...], Flag(positional=True)] = Field(
        default=(),
        description=(
            "Pictures: files, folders, globs, tables with their paths (.csv .tsv .jsonl .parquet), "
            "tar shards, Parquet with pictures in it, and - for a list of paths on stdin."
        ),
    )
    checkpoint: Path | None = Field(
        default=None,
        description="A checkpoint, fold or run folder; by default the best of the newest run.",
    )
    output: Annotated[Path | None, Flag(short="-o", metavar="FILE")] = Field(
        default=None,
        description=(
            "Write a row a picture to this .csv, .jsonl or .parquet. The same command goes on "
            "where it was stopped."
        ),
    )
    top_k: int = Field(
        default=3, ge=1, description="How many classes a row shows, the likeliest first."
    )
    ensemble: bool = Field(default=False, description="Average the probabilities of a run's folds.")
    tta: Literal["none", "hflip", "flips", "d4"] = Field(
        default="none", description=_EVALUATE["tta"].description
    )
    calibrate: Literal["auto", "none"] = Field(
        default="auto",
        description=(
            "auto: divide the logits by the temperature that is kept with the checkpoint, if any."
        ),
    )
    sets: Annotated[float | None, Field(gt=0, lt=1), Flag(metavar="SHARE")] = Field(
        default=None,
        description=(
            "Also list the classes that hold the right one with this probability. 0.9 is usual; by "
            "conformal prediction on the run's val pictures."
        ),
    )
    max_error: Annotated[float | None, Field(gt=0, lt=1), Flag(metavar="SHARE")] = Field(
        default=None,
        description=(
            "Flag pictures as unsure, so that no more than this share of the others is wrong. With "
            "95% confidence, by the run's val pictures."
        ),
    )
    unlike: Annotated[float | None, Field(gt=0, lt=1), Flag(metavar="SHARE")] = Field(
        default=None,
        description=(
            "Flag pictures unlike all training pictures, with this share of false alarms. By what "
            "the classifier is given: Mahalanobis distance, threshold by the run's val pictures."
        ),
    )
    new_only: Annotated[Path | None, Flag(metavar="PREVIOUS")] = Field(
        default=None,
        description="Leave out pictures that have a row in this earlier .csv, .jsonl or .parquet.",
    )
    sort_into: Annotated[Path | None, Flag(metavar="DIR")] = Field(
        default=None,
        description=(
            "Also link the pictures into a folder for each class, unreadable/, unsure/ and unlike/ "
            "among them. Nothing there is replaced; a name that is taken gets a number."
        ),
    )
    copy_files: Annotated[bool, Flag(names=("--copy",))] = Field(
        default=False, description="With --sort-into: copies instead of links."
    )
    features: Annotated[Path | None, Flag(metavar="FILE.npy")] = Field(
        default=None,
        description=(
            "Also write what the classifier is given of each picture, pooled float32 [N, D], with "
            "FILE.csv of their paths; rows of nan for what cannot be read."
        ),
    )
    on_bad_image: OnBadImage = Field(
        default="skip",
        description=(
            "What to do about a picture that cannot be read: write the reason into its row, or "
            "stop there."
        ),
    )
    batch_size: Annotated[int, Flag(short="-b", aliases=("--batch",))] = Field(
        default=32, ge=1, description=_EVALUATE["batch_size"].description
    )
    backend: Backend | Literal["auto"] = Field(
        default="torch",
        description=(
            "What runs the model; auto takes the fastest that agrees with torch. torch gives "
            "evaluate's probabilities to the last digit; compile, onnxruntime and openvino (the "
            "last two by the extras onnx and openvino) are compared with it on the first pictures, "
            "and refused where they differ. auto looks beyond torch on a CPU, for 1,000 pictures "
            "or more, at onnxruntime and openvino, and keeps its choice beside the checkpoint."
        ),
    )
    device: DeviceField = Field(default="auto", description=_EVALUATE["device"].description)
    devices: Devices | None = Field(default=None, description=_EVALUATE["devices"].description)
    amp: Amp = Field(default="off", description=_EVALUATE["amp"].description)
    channels_last: bool | Literal["auto"] = Field(
        default="auto", description=_EVALUATE["channels_last"].description
    )
    workers: WorkersField = Field(default="auto", description=_EVALUATE["workers"].description)
    path_col: str | None = Field(default=None, description=_READING["path_col"].description)
    root: Path | None = Field(
        default=None,
        description=(
            "The folder that paths of tables and of stdin start from; by default the table's own, "
            "and the current one."
        ),
    )
    max_image_pixels: int | None = Field(
        default=None, ge=1, description=_READING["max_image_pixels"].description
    )
    bit_depth: Annotated[int, Field(ge=1, le=32)] | Literal["auto"] = Field(
        default="auto",
        description=(
            "The bits that a sample of a picture with more than 8 bits has, where its file does "
            "not say. auto: as the model was trained; for a model folder of another trainer such a "
            "picture cannot be read."
        ),
    )
    force: bool = Field(
        default=False, description="Begin anew, and replace files that imgcls did not write."
    )

    @model_validator(mode="after")
    def _fit_together(self) -> PredictConfig:
        for option, file in (("--output", self.output), ("--new-only", self.new_only)):
            if file is not None and file.suffix.lower() not in FORMATS:
                raise ValueError(f"{option} {file}: must end in {', '.join(FORMATS)}")
        if self.features is not None and self.features.suffix.lower() != ".npy":
            raise ValueError(f"--features {self.features}: must end in .npy")
        if self.features is not None and (self.ensemble or self.tta != "none"):
            raise ValueError("--features: are those of one model on single views; leave the others")
        asked = {"--sets": self.sets, "--max-error": self.max_error, "--unlike": self.unlike}
        told = [option for option, value in asked.items() if value is not None]
        if self.ensemble and told:
            raise ValueError(
                f"{told[0]}: rests on pictures that the model was not trained on, and the val "
                "pictures of each fold were trained on by the others; name one fold by "
                "--checkpoint, without --ensemble"
            )
        if self.backend != "torch" and self.needs_features:
            option = "--unlike" if self.features is None else "--features"
            raise ValueError(
                f"--backend {self.backend}: {option} needs what the classifier is given, which "
                "torch alone tells; leave --backend out"
            )
        if self.copy_files and self.sort_into is None:
            raise ValueError("--copy: says how --sort-into puts pictures there; give both")
        return self

    @property
    def needs_features(self) -> bool:
        """Whether what the classifier is given has to be seen."""
        return self.features is not None or self.unlike is not None

    @property
    def reading(self) -> ReadingConfig:
        """What is said of the pixels."""
        return ReadingConfig(max_image_pixels=self.max_image_pixels, bit_depth=self.bit_depth)
