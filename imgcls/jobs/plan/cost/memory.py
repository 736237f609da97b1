"""How much memory training takes at its peak: measured by its own updates, before it trains."""

from __future__ import annotations

import importlib
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import torch

from imgcls.config.run import TrainConfig
from imgcls.data.loading.sampling import largest_batch
from imgcls.engine.device.batches import ComputeSettings, Normalizer
from imgcls.engine.device.memory import (
    available_memory_mib,
    fits_when_tried,
    held_memory_mib,
    is_out_of_memory,
    peak_of,
)
from imgcls.engine.device.runtime import release_freed_memory, training_apart
from imgcls.engine.device.timing import peak_memory_mib, seconds
from imgcls.engine.device.world import world
from imgcls.engine.scoring.inference import predict
from imgcls.engine.training.probe import Noise, noise_batch
from imgcls.engine.training.step import train_step
from imgcls.errors import NonFiniteError
from imgcls.jobs.plan.cost.footprint import Counted, count, guess
from imgcls.jobs.plan.cost.timing import PictureTimes, time_pictures
from imgcls.jobs.plan.data import DataPlan
from imgcls.jobs.plan.learner import Built, build_learner
from imgcls.jobs.plan.pace import Pace
from imgcls.jobs.plan.recipe import Recipe

# on a CPU no update of more pictures is made: it would take seconds, and a line leads there
_MOST_PICTURES, _FEWEST_PICTURES = 16, 4
_LONGEST_S = 6.0
# the first of a size leaves holes that the next one cannot use
_UPDATES = 2
# what hundreds of updates take beyond two
_SCATTER = 1.05
# what a batch must leave free: beyond a measurement, and beyond a guess
_SPARE, _SPARE_OF_GUESS = 1.1, 1.5
# how far a guess may be short, beyond what is known of it
_MOST_OF_GUESS = 2.0
# an epoch in which nothing is frozen any more
_ALL_UNFROZEN = 10**9
GUESS = "a guess"


@dataclass(frozen=True)
class MemoryUse:
    """What training takes at its peak.

    mib: beyond what the process holds with a fold assembled, its model and average, of
    assembled_mib. known_by: how that is known, in words.
    """

    mib: float
    assembled_mib: float
    known_by: str
    is_guess: bool


class TrainingMemory:
    """What training takes at its peak, by batch size: measured when it is first asked for.

    The updates are those of the run, by its recipe and precision, but of a model with random
    weights that is thrown away, and of noise. On a CPU they are of a few pictures, from which a
    line leads to the batch; on cuda of the batch itself. Nothing stays of them: the memory is given
    back, and the process's random states are as they were. On mps, and where the system does not
    tell a process its peak, it is a guess.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: DataPlan,
        recipe: Recipe,
        compute: ComputeSettings,
        *,
        cache_mib: float = 0.0,
    ) -> None:
        """config: a resolved one but for its pace. cache_mib: of decoded pictures in memory."""
        self._data = data
        self._recipe = recipe
        self._compute = compute
        self._cache_mib = cache_mib
        self._grad_accum = config.optim.grad_accum
        # of more than one, the gradients of the first are there while the next passes through
        self._batches = 1 if recipe.from_features else min(self._grad_accum, 2)
        self._compiles = config.runtime.compile
        self._divided_among = world().size if config.runtime.shard else 1
        uncompiled = config.runtime.model_copy(update={"compile": False})
        config = config.model_copy(update={"runtime": uncompiled})
        # rates and epochs take no memory
        pace = Pace(1, self._grad_accum, lr=1e-4, epochs=1, warmup_epochs=0.0, reasons=())
        self._build = partial(
            build_learner, config, data, recipe, compute, data.folds[0], pace=pace
        )
        self._counted: Counted | None = None
        # of the process, beyond what it held before, by the pictures of a batch
        self._peaks_mib: dict[int, float] = {}
        self._too_large: set[int] = set()
        # the peak before anything was measured
        self._reached_mib = 0.0
        # of larger batches a line tells
        self._most_measured = 0
        # of a picture, by what was measured last; None where nothing was
        self.times: PictureTimes | None = None

    def held_mib(self) -> float:
        """MiB that the process holds now, on cuda of the device's, without what it has freed."""
        release_freed_memory(self._compute.device)
        return held_memory_mib(self._compute.device)

    def peak_mib(self, batch_size: int) -> tuple[float, str]:
        """(what the process holds at the peak of such a training, how that is known).

        No less than it has held before: choosing a precision takes models of its own.
        """
        use = self.of(batch_size)
        return max(self.held_mib() + use.mib, self._reached_mib), use.known_by

    def of(self, batch_size: int) -> MemoryUse:
        """What training in batches of that size takes."""
        return self._of(self._most_pictures(batch_size))

    def fits(self, batch_size: int) -> bool:
        """Whether training in such batches fits into what is free, with some to spare.

        On cuda a tenth more pictures are tried. Elsewhere running out would end the process.
        """
        size = self._most_pictures(batch_size)
        if self._compute.device.type == "cuda":
            size = math.ceil(_SPARE * size)
            self._measure(size)
            return size not in self._too_large
        use = self._of(size)
        spare = _SPARE_OF_GUESS if use.is_guess else _SPARE
        return spare * (use.mib + use.assembled_mib) <= self._free_mib

    def note(self, batch_size: int) -> str:
        """What `fits` went by, in words."""
        if self._compute.device.type == "cuda":
            return f"tried on {self._compute.device}"
        use = self.of(batch_size)
        needed_mib = use.mib + use.assembled_mib
        return f"about {needed_mib:,.0f} of {self._free_mib:,.0f} MiB, {use.known_by}"

    @cached_property
    def _free_mib(self) -> float:
        release_freed_memory(self._compute.device)
        return available_memory_mib()

    def _most_pictures(self, batch_size: int) -> int:
        """The pictures of the largest batch that comes of batches of at most batch_size."""
        pictures = len(self._data.rows("train", self._data.folds[0]))
        size = min(batch_size, pictures)
        if not (self._recipe.imbalance_method.balances_sampler or self._recipe.from_features):
            size = largest_batch(pictures, batch_size, self._grad_accum)
        # mixup takes pairs
        return size + size % 2 if self._recipe.augment.mixes else size

    def _of(self, size: int) -> MemoryUse:
        counted = self._measure(size)
        peak_mib, known_by = _peak_mib(self._peaks_mib, size)
        is_guess = peak_mib is None
        if peak_mib is None:
            peak_mib = counted.guessed_mib(size)
            if size in self._too_large:
                known_by += f": a step of {size} ran out of memory"
        elif self._compiles:
            known_by += ", not compiled"
        steps_mib = _SCATTER * (peak_mib - counted.assembled_mib) + counted.copy_mib
        taken_mib = max(steps_mib, counted.fit_mib) + counted.features_mib + self._cache_mib
        return MemoryUse(taken_mib, counted.assembled_mib, known_by, is_guess)

    def _measure(self, size: int) -> Counted:
        """Find out about batches of so many pictures, where that is not known."""
        if self._counted is not None and (
            size in self._peaks_mib or size in self._too_large or size > self._most_measured
        ):
            return self._counted
        if self._counted is None:
            self._reached_mib = peak_memory_mib(self._compute.device) or 0.0
        if self._recipe.fits_head:
            # what fitting the classifier will load is not what training takes
            importlib.import_module("sklearn.linear_model")
        with training_apart():
            held_mib = self.held_mib()
            try:
                self._counted = self._measure_built(self._build(load_weights=False), size, held_mib)
            finally:
                release_freed_memory(self._compute.device)
        return self._counted

    def _measure_built(self, built: Built, size: int, held_mib: float) -> Counted:
        device, learner = self._compute.device, built.learner
        learner.trainable.begin_epoch(learner.model, _ALL_UNFROZEN)
        guessed_mib = guess(built, self._compute.precision, divided_among=self._divided_among)
        step = self._step_of(built)
        taken_s: dict[int, float] = {}

        def timed(pictures: int) -> None:
            spent_s = seconds(partial(step, pictures), device)
            taken_s[pictures] = min(spent_s, taken_s.get(pictures, math.inf))

        try:
            for pictures in self._to_measure(step, size, guessed_mib):
                if device.type == "cuda" and not fits_when_tried(step, pictures):
                    self._too_large.add(pictures)
                    break
                peaks = [peak_of(partial(timed, pictures), device) for _ in range(_UPDATES)]
                if None in peaks:
                    break
                self._peaks_mib[pictures] = max(filter(None, peaks)) - held_mib
            if taken_s:
                most = max(taken_s)
                each_s = taken_s[most] / (most * self._batches)
                score = partial(self._score_of(built), most)
                self.times = time_pictures(
                    built, self._data, self._recipe, trained_s=each_s, score=score, pictures=most
                )
        except NonFiniteError:
            pass  # where training meets it too, it says so
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # behind the updates, which have made the optimizer's state
        return count(built, guessed_mib, self._data, self._recipe)

    def _to_measure(
        self,
        step: Callable[[int], object],
        size: int,
        guessed_mib: Callable[[int], float],
    ) -> Iterator[int]:
        """The pictures of the updates that tell of batches of that size."""
        # all of what is divided may be more than one device has
        kind = self._compute.device.type if self._divided_among == 1 else ""
        if kind == "cuda":
            self._most_measured = sys.maxsize
            yield size
        if kind != "cpu":
            return
        # running out of memory would end the process
        free_mib = available_memory_mib()
        if _MOST_OF_GUESS * guessed_mib(2) > free_mib:
            return
        # the first makes the optimizer's state, and loads kernels
        step(2)
        each_s = min(_unshared_s(step, 2) for _ in range(2)) / 2
        most = _MOST_PICTURES
        while most > _FEWEST_PICTURES and 1.25 * most * _UPDATES * each_s > _LONGEST_S:
            most //= 2
        self._most_measured = most
        # far apart, so that the line does not hang on what one of them is off by
        for pictures in (size,) if size <= most else (max(most // 4, 2), most):
            if _MOST_OF_GUESS * guessed_mib(pictures) > free_mib:
                return
            yield pictures

    def _step_of(self, built: Built) -> Callable[[int], object]:
        """A function that makes the run's most costly pass of so many pictures of noise."""
        if self._recipe.from_features:
            return self._score_of(built)
        noise = self._noise_of(built)
        return lambda pictures: train_step(built.learner, [noise(pictures)] * self._batches, 0)

    def _score_of(self, built: Built) -> Callable[[int], object]:
        """A function that scores so many pictures of noise."""
        preprocessing, noise = built.preprocessing, self._noise_of(built)
        normalizer = Normalizer(preprocessing.mean, preprocessing.std, self._compute)
        return lambda pictures: predict(built.whole, [noise(pictures)], normalizer, self._compute)

    def _noise_of(self, built: Built) -> Callable[[int], Noise]:
        return partial(noise_batch, built.preprocessing.input_size, len(self._data.class_names))


def _unshared_s(step: Callable[[int], object], pictures: int) -> float:
    """How long a step takes on a CPU that has nothing else to do."""
    start_s = time.process_time()
    step(pictures)
    return (time.process_time() - start_s) / torch.get_num_threads()


def _peak_mib(peaks_mib: Mapping[int, float], size: int) -> tuple[float | None, str]:
    """The peak for batches of that size, by a line through the two largest, and how it is known."""
    if size in peaks_mib:
        return peaks_mib[size], "measured by a step"
    if len(peaks_mib) < 2:  # noqa: PLR2004  of a line
        return None, GUESS
    (small, low), (large, high) = sorted(peaks_mib.items())[-2:]
    slope = max(high - low, 0.0) / (large - small)
    return high + slope * (size - large), f"measured by steps of {small} and {large}"
