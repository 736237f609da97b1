"""The config of an imported run: what it goes on with, as far as the file says it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from imgcls.config.import_ import ImportConfig
from imgcls.config.load import validate
from imgcls.config.run import TrainConfig
from imgcls.jobs.import_.optimizer import Optimizer, UnmatchedError, recognise
from imgcls.jobs.import_.schedule import planned_epochs, schedule_of
from imgcls.jobs.import_.source import Source


@dataclass(frozen=True)
class GoingOn:
    """What a resumed training takes from the old one."""

    optimizer: Optimizer
    schedule: dict[str, Any]
    schedule_note: str


def run_config(
    config: ImportConfig, data: str, source: Source
) -> tuple[TrainConfig, GoingOn | None, str]:
    """(the config of the run, what it goes on with, why it cannot go on)."""
    trained, fitted = source.trained, source.fitted
    done = trained.epochs or 0
    going_on, why_not = None, ""
    try:
        going_on = _going_on(config, source)
    except UnmatchedError as error:
        why_not = str(error)
    optim: dict[str, Any] = {"model_ema": fitted.raw is not None}
    if going_on is not None:
        optim.update(going_on.optimizer.settings, **going_on.schedule)
        decay = trained.settings.get("model_ema_decay")
        if isinstance(decay, float) and 0 <= decay < 1:
            optim["model_ema_decay"] = decay
    planned = config.epochs or planned_epochs(trained.settings, trained.scheduler)
    tree = {
        "data": {
            "source": data,
            "val_size": config.val_size,
            "test_size": config.test_size,
            "batch_size": config.batch_size,
            "resize_mode": config.resize_mode,
        },
        "reading": dict(config.reading),
        "model": {
            "name": source.name,
            "pretrained": False,
            "img_size": source.preprocessing.input_size[-1],
            "in_chans": source.preprocessing.input_size[0],
        },
        "recipe": {"tune": "full", "head": "linear", "norm_stats": "batch", "imbalance": "none"},
        "optim": {**optim, "epochs": max(planned or done, 1)},
        "augment": {"preset": config.augment},
        "runtime": {
            "device": config.device,
            "workers": config.workers,
            "seed": config.seed,
            "output": config.output,
            "experiment": config.experiment,
        },
    }
    return validate(TrainConfig, tree), going_on, why_not


def _going_on(config: ImportConfig, source: Source) -> GoingOn:
    """What a resumed training takes from the old one. Raises UnmatchedError."""
    trained = source.trained
    said = config.opt or trained.settings.get("opt")
    optimizer = recognise(trained.optimizer, said if isinstance(said, str) else None)
    if trained.epochs is None:
        raise UnmatchedError("the file does not say how many epochs are behind it")
    if not source.own_input:
        raise UnmatchedError("its input is not the model's own, which is the one that train takes")
    if config.lr is not None:
        optimizer = replace(optimizer, lr=config.lr, peak_lr=config.lr)
    if config.sched is None:
        schedule, note = schedule_of(trained.scheduler, optimizer, trained.settings, trained.epochs)
    else:  # behind the warm-up of the old training there is none to come
        schedule = {"sched": config.sched, "lr": optimizer.peak_lr, "warmup_epochs": 0}
        note = f"{config.sched} from {optimizer.peak_lr:.3g}, as given"
    if config.lr is not None:
        schedule["lr"] = config.lr
        note = f"{schedule['sched']} from {config.lr:.3g}, as given"
    return GoingOn(optimizer, schedule, note)
