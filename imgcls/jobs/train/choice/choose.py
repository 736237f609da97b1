"""Choose a model: measure each on the training pictures, cheap ones first, while there is time.

Features are computed once a picture and model, of `MOST_PICTURES` pictures at most, and never of
those of val or test.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from imgcls.config.model import ModelConfig
from imgcls.config.run import TrainConfig
from imgcls.data.loading.bad_images import BadImages
from imgcls.engine.device.batches import ComputeSettings
from imgcls.engine.device.memory import is_out_of_memory
from imgcls.engine.device.runtime import derive_seed, device_label, get_device, resolve_precision
from imgcls.engine.training.events import (
    CandidateDone,
    ChoiceEvent,
    ChoiceStarted,
    FeaturesDone,
    ModelChosen,
)
from imgcls.errors import DataError, ModelError
from imgcls.jobs.plan.data import DataPlan
from imgcls.jobs.train.choice.candidates import Start, find_starts, too_few_left
from imgcls.jobs.train.choice.measuring import (
    Held,
    Pictures,
    cost_of,
    features_of,
    held_out,
    pictures_of,
)
from imgcls.jobs.train.choice.rule import decide
from imgcls.results.models import Candidate, ModelChoice

# enough for a standard error of about a point, few enough for a CPU
MOST_PICTURES = 2000
# of --max-minutes, what choosing may take; the rest is for the training
SHARE_OF_TIME = 0.25


@dataclass(frozen=True)
class Chosen:
    """The configs that train the chosen models, the best first, and what they were chosen by."""

    configs: tuple[TrainConfig, ...]
    choice: ModelChoice


def choose_model(
    config: TrainConfig, data: DataPlan, emit: Callable[[ChoiceEvent], None]
) -> Chosen:
    """Choose among the models of the config by the pictures that the run trains on.

    One, or as many as the config's ensemble has. Raises ModelError where there are not as many that
    can be taken, DataError for pictures that tell nothing about a
    model, and BadImageError.
    """
    begun_s = time.monotonic()
    config = _with_img_size(config, data)
    compute = _compute(config)
    starts = {start.name: start for start in find_starts(config.model)}
    costs = [_cost(start, config, data, compute) for start in starts.values()]
    fit = sorted((one for one in costs if one.left_out is None), key=_cost_order)
    count = config.model.ensemble_models or 1
    if len(fit) < count:
        raise too_few_left(((one.name, one.left_out) for one in costs), len(fit), count)
    rows = np.unique(np.concatenate([data.rows("train", fold) for fold in data.folds]))
    seed = derive_seed(config.runtime.seed, "choice", 0)
    pictures = pictures_of(data.table, rows, MOST_PICTURES, seed)
    if len(fit) > count:
        emit(ChoiceStarted(tuple(one.name for one in fit), len(pictures.rows), len(rows)))
        measuring = _Measuring(config, pictures, compute, seed, emit, begun_s)
        tried = [measuring.tried(one, starts[one.name]) for one in fit]
        held = measuring.held
    else:
        tried, held = fit, {}
    if held and len(held) < count:
        raise too_few_left(((one.name, one.left_out) for one in (*tried, *costs)), len(held), count)
    verdict = decide(tried, held, pictures, count)
    choice = ModelChoice(
        chosen=verdict.chosen[0],
        ensemble=verdict.chosen if count > 1 else (),
        reason=verdict.reason,
        candidates=(*verdict.candidates, *(one for one in costs if one.left_out is not None)),
        pictures=len(pictures.rows) if held else 0,
        of=len(rows),
        folds=max((one.folds for one in held.values()), default=0),
        device=device_label(compute.device),
        elapsed_s=time.monotonic() - begun_s,
        notes=(*_notes(verdict.candidates, starts, data),),
    )
    emit(ModelChosen(choice))
    found = [_chosen_config(config, starts[name], choice.elapsed_s) for name in verdict.chosen]
    return Chosen(tuple(found), choice)


def _with_img_size(config: TrainConfig, data: DataPlan) -> TrainConfig:
    """The config with the size of pictures that the data ask for, as the plan has it."""
    size = data.table.defaults.img_size
    if size is None or config.model.img_size != "auto":
        return config
    return config.model_copy(update={"model": config.model.model_copy(update={"img_size": size})})


def _compute(config: TrainConfig) -> ComputeSettings:
    device = get_device(config.runtime.device)
    return ComputeSettings(
        device,
        resolve_precision(config.runtime.amp, device),
        config.runtime.channels_last is not False,
    )


def _cost(start: Start, config: TrainConfig, data: DataPlan, compute: ComputeSettings) -> Candidate:
    """What the model costs, left out where it may not cost as much or cannot be built."""
    if start.left_out is not None:
        return Candidate(start.name, left_out=start.left_out)
    try:
        found = cost_of(start, config, len(data.class_names), compute)
    except (ModelError, RuntimeError) as error:
        return Candidate(start.name, left_out=_why(error, start.name))
    return replace(found, left_out=_over_the_limits(found, config.model))


def _over_the_limits(found: Candidate, model: ModelConfig) -> str | None:
    assert found.parameters is not None
    assert found.latency_ms is not None
    millions = found.parameters / 1e6
    if model.max_params is not None and millions > model.max_params:
        return f"{millions:.1f} million parameters, of --max-params {model.max_params:g}"
    if model.max_latency_ms is not None and found.latency_ms > model.max_latency_ms:
        return f"{found.latency_ms:.1f} ms, of --max-latency-ms {model.max_latency_ms:g}"
    return None


def _cost_order(one: Candidate) -> tuple[float, float]:
    return (math.inf if one.macs is None else one.macs, one.parameters or 0)


def _why(error: Exception, name: str) -> str:
    """An error as a reason to leave a model out. Raises what is none."""
    if isinstance(error, ModelError):
        return str(error).removeprefix(f"--model {name}: ")
    if is_out_of_memory(error):
        return "it takes more memory than there is"
    raise error


@dataclass(eq=False)
class _Measuring:
    """Candidates one behind the other, while there is time."""

    config: TrainConfig
    pictures: Pictures
    compute: ComputeSettings
    seed: int
    emit: Callable[[ChoiceEvent], None]
    begun_s: float

    def __post_init__(self) -> None:
        self.held: dict[str, Held] = {}
        self._bad_images = BadImages(skip=self.config.data.on_bad_image == "skip")
        self._last: Candidate | None = None

    def tried(self, one: Candidate, start: Start) -> Candidate:
        """The candidate with its scores, or left out. Raises BadImageError."""
        minutes = self.config.optim.max_minutes
        passed_s = time.monotonic() - self.begun_s
        if minutes is not None and self._last is not None:
            limit_s = 60 * minutes * SHARE_OF_TIME
            if passed_s + _expected_s(one, self._last) > limit_s:
                return self._told(
                    replace(
                        one,
                        left_out=f"not tried: choosing takes {SHARE_OF_TIME:.0%} of --max-minutes "
                        f"{minutes:g} at most",
                    )
                )
        try:
            return self._told(self._measured(one, start))
        except (ModelError, RuntimeError) as error:
            return self._told(replace(one, left_out=_why(error, one.name)))

    def _measured(self, one: Candidate, start: Start) -> Candidate:
        begun_s = time.monotonic()
        positions, features = features_of(
            start,
            self.config,
            self.pictures,
            self.compute,
            bad_images=self._bad_images,
            on_picture=lambda done, total: self.emit(FeaturesDone(done, total)),
        )
        had_s = time.monotonic()
        held = held_out(features, positions, self.pictures, self.seed)
        if not held.folds:
            raise DataError(
                "--model auto: no class has two pictures, or two groups of them, in train, so that "
                "none can be held out to compare models by; name a --model"
            )
        self.held[one.name] = held
        self._last = replace(
            one,
            features_s=had_s - begun_s,
            fitting_s=time.monotonic() - had_s,
            balanced_accuracy=held.balanced_accuracy(self.pictures),
            log_loss=held.log_loss(self.pictures),
        )
        return self._last

    def _told(self, one: Candidate) -> Candidate:
        self.emit(CandidateDone(one))
        return one


def _expected_s(one: Candidate, last: Candidate) -> float:
    """How long measuring one will take, by what the one before it took."""
    assert last.features_s is not None
    assert last.fitting_s is not None
    ratio = one.macs / last.macs if one.macs and last.macs else 1.0
    return last.features_s * ratio + last.fitting_s


def _notes(
    candidates: Sequence[Candidate], starts: Mapping[str, Start], data: DataPlan
) -> Iterator[str]:
    random = [one.name for one in candidates if starts[one.name].is_random]
    if random:
        yield (
            f"{', '.join(random)}: from scratch, so the features compared here are random ones; "
            "trained for long on many pictures, it may do better than this says"
        )
    if len(data.folds) > 1:
        yield (
            "the model was chosen by pictures that are the val of one fold each: their estimates "
            "are better by what the choice fits to them; test has no part in it"
        )


def _chosen_config(config: TrainConfig, start: Start, elapsed_s: float) -> TrainConfig:
    changes: dict[str, object] = {"model": start.config(config.model)}
    if (minutes := config.optim.max_minutes) is not None:
        # the models of an ensemble share what is left
        left = max(minutes - elapsed_s / 60, minutes * 0.01) / (config.model.ensemble_models or 1)
        changes["optim"] = config.optim.model_copy(update={"max_minutes": round(left, 2)})
    return config.model_copy(update=changes)
