"""What a model's card says, gathered from its checkpoint and the run around it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from imgcls.config.base import OptionField, option_fields
from imgcls.config.files import read_json
from imgcls.config.run import TrainConfig
from imgcls.data.pixels.decode import MODES, DecodeSettings
from imgcls.engine.checkpoint.folder import Checkpoint
from imgcls.errors import DataError, RunError
from imgcls.jobs.checkpoint_config import checkpoint_config, decoding_of
from imgcls.jobs.export.subject import Subject
from imgcls.jobs.page.evaluated import (
    class_counts,
    findings,
    of_one_evaluation,
    read_evaluated,
)
from imgcls.models.hub import repository_of
from imgcls.output.metric_names import headline_names
from imgcls.output.pages.model_card import CONFIG_FILE
from imgcls.output.pages.model_description import ModelDescription, Scores, TrainingData
from imgcls.storage.evaluations import METRICS
from imgcls.storage.runs import PREFLIGHT, results_folder, run_of
from imgcls.storage.splits import differing, read_splits

# of history.csv, and as an evaluation calls them
_VALIDATION = {
    "val_accuracy": "accuracy",
    "val_balanced_accuracy": "balanced_accuracy",
    "val_macro_f1": "f1_macro",
    "val_loss": "nll",
}
_RECIPE = (
    "model.name",
    "model.img_size",
    "model.dropout",
    "data.resize_mode",
    "recipe.tune",
    "recipe.imbalance",
    "augment.preset",
    "augment.mixup",
    "augment.cutmix",
    "optim.opt",
    "optim.lr",
    "optim.weight_decay",
    "optim.sched",
    "optim.epochs",
    "optim.grad_accum",
    "optim.model_ema",
    "data.batch_size",
    "runtime.amp",
    "runtime.seed",
)
_USUAL_BITS = 8


def describe_model(subject: Subject) -> ModelDescription:
    """The model, its data, its scores and its training. Raises CheckpointError."""
    checkpoint, sidecar = subject.checkpoint, subject.checkpoint.sidecar
    weights, temperature = checkpoint.starting_weights, subject.temperature
    config = None if sidecar.config is None else checkpoint_config(checkpoint)
    data = _data(checkpoint, config)
    return ModelDescription(
        model_name=checkpoint.model_name,
        class_names=checkpoint.class_names,
        input_size=subject.preprocessing.input_size,
        weights=weights,
        base_model=repository_of(weights.name) if weights.name else None,
        data=data,
        scores=_evaluated(checkpoint, "test")
        or _evaluated(checkpoint, "val")
        or _of_training(checkpoint, data),
        temperature=subject.scorer.temperature,
        fitted_on=""
        if temperature is None
        else f"{temperature.samples:,} pictures of {temperature.fitted_on}",
        temperature_note=None if temperature is None else temperature.reason,
        imbalance=sidecar.prior.imbalance if sidecar.prior else "none",
        recipe=() if config is None else tuple(_recipe(config)),
        command=None
        if config is None
        else f"imgcls train {shlex.quote(_data_name(config))} --config {CONFIG_FILE}",
        decoding=tuple(_decoding(decoding_of(checkpoint))),
        versions=sidecar.versions or {},
    )


def without_places(config: TrainConfig) -> TrainConfig:
    """The config with names in place of paths, which say whose machine it was."""
    groups: dict[str, dict[str, Any]] = {}
    for option in option_fields(TrainConfig):
        value = _value(config, option)
        if isinstance(value, Path):
            groups.setdefault(option.group, {})[option.name] = Path(_last_part(str(value)))
    groups.setdefault("data", {})["source"] = _data_name(config)
    changed = {
        name: getattr(config, name).model_copy(update=update) for name, update in groups.items()
    }
    return config.model_copy(update=changed)


def _value(config: TrainConfig, option: OptionField) -> Any:
    return getattr(getattr(config, option.group), option.name)


def _data_name(config: TrainConfig) -> str:
    return _last_part(config.data.source)


def _last_part(path: str) -> str:
    """The last part of a path, of this system or of another."""
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1] or "data"


def _data(checkpoint: Checkpoint, config: TrainConfig | None) -> TrainingData:
    sidecar, run = checkpoint.sidecar, run_of(checkpoint.folder)
    about: dict[str, Any] = {
        "name": None if config is None else _data_name(config),
        "splitter": sidecar.splitter,
        "fold": checkpoint.fold,
        "folds": config.data.folds if config else 0,
        "fingerprint": sidecar.data_fingerprint,
    }
    if config is None or run is None:
        return TrainingData(**about)
    try:
        rows = read_splits(run)
        if differing(rows, sidecar.splits):
            return TrainingData(**about)  # another training's
        counts = class_counts(run, checkpoint.class_names, str(checkpoint.fold))
        found = findings(run / PREFLIGHT)
        copies = read_json(run / PREFLIGHT)["leaks"] if found else None
    except (RunError, OSError, ValueError, LookupError, TypeError):
        return TrainingData(**about)
    groups = {row.get("group") for row in rows} - {None, ""}
    return TrainingData(counts=counts, groups=len(groups), copies=copies, findings=found, **about)


def _evaluated(checkpoint: Checkpoint, split: str) -> Scores | None:
    """The run's evaluation of a split, where it is of this very checkpoint."""
    if checkpoint.sidecar.config is None:
        return None
    results = results_folder(checkpoint.folder)
    folder = results / split
    if not (folder / METRICS).is_file():
        return None
    try:
        with of_one_evaluation(folder):
            found, _, _ = read_evaluated(folder, results.parent)
            report = found.report
            of = Path(report["checkpoint"]).name, tuple(report["class_names"])
            metrics, intervals = report["metrics"], report["intervals"]
            names = headline_names(metrics)
            rows = [(name, metrics[name], intervals.get(name)) for name in names]
    except DataError:
        return None
    if of != (checkpoint.folder.name, checkpoint.class_names):
        return None
    return Scores(
        split=split,
        pictures=metrics["samples"],
        rows=rows,
        method=report["intervals_method"],
        report=report,
        per_class=found.per_class,
        confusions=found.confusions,
    )


def _of_training(checkpoint: Checkpoint, data: TrainingData) -> Scores | None:
    """What training took down of its best epoch on the val split."""
    metrics, pictures = checkpoint.sidecar.metrics, checkpoint.sidecar.val_pictures
    if not metrics or not pictures:
        return None
    accuracy = metrics.get("val_accuracy")
    interval = method = None
    # groups' pictures are not independent, and how many are in the val split is not known here
    if accuracy is not None and data.groups == 0:
        interval = exact_interval(accuracy, pictures)
        method = "exact binomial (Clopper-Pearson), of the accuracy alone"
    rows = [
        (name, metrics[column], interval if name == "accuracy" else None)
        for column, name in _VALIDATION.items()
        if metrics.get(column) is not None
    ]
    return Scores("val", pictures, rows, method) if rows else None


def exact_interval(share: float, pictures: int) -> tuple[float, float]:
    """The 95% interval of a share of so many independent pictures (Clopper and Pearson, 1934)."""
    from scipy.stats import binomtest

    found = binomtest(round(share * pictures), pictures).proportion_ci(0.95, "exact")
    return float(found.low), float(found.high)


def _recipe(config: TrainConfig) -> Iterator[tuple[str, str]]:
    by_path: Mapping[str, OptionField] = {o.path: o for o in option_fields(TrainConfig)}
    for path in _RECIPE:
        option = by_path[path]
        value = _value(config, option)
        said = {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value
        yield option.flag_names[0], str(said)
    if config.model.weights is not None:
        yield "--weights", _last_part(str(config.model.weights))


def deep_pictures(settings: DecodeSettings) -> str | None:
    """What a program has to do itself where the model's pictures had more than 8 bits."""
    if not settings.bit_depth or settings.bit_depth <= _USUAL_BITS:
        return None
    white = 2**settings.bit_depth - 1
    return (
        f"Its pictures had {settings.bit_depth} bits a sample, and its 8 are round(sample * 255 / "
        f"{white}). Other programs do otherwise: Pillow's convert() cuts grey samples off at 255"
    )


def _decoding(settings: DecodeSettings) -> Iterator[str]:
    """What a program has to do itself with pictures that are not plain."""
    if deep := deep_pictures(settings):
        yield f"{deep}. So may imgcls with these files alone, without --bit-depth."
    if not MODES[settings.channels].endswith("A"):
        yield (
            f"Transparent pictures were laid on {settings.background} in training; other programs "
            "may do otherwise."
        )
