"""What runs the model of a prediction: the backend that was asked for, or the fastest that agrees.

step-00001200/
backend.json      added later, replaced atomically: what `auto` chose, and for what it holds
"""

from __future__ import annotations

import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from imgcls.config.files import read_json
from imgcls.data.loading.stream import InputBatch
from imgcls.engine.device.runtime import device_label
from imgcls.engine.scoring.backends import RUNTIMES
from imgcls.engine.scoring.scorer import Scorer
from imgcls.errors import ConfigError, DeviceError, RequestError
from imgcls.jobs.backends import Backends, RunModel, check_backend
from imgcls.jobs.predict.predictor import Predictor
from imgcls.jobs.scorer import are_prepared_alike, first_answers
from imgcls.metrics.predictions import Softmax
from imgcls.storage.durable import strict_json
from imgcls.storage.held_out import keep

CHOICE = "backend.json"
_FORMAT = "imgcls-backend"
# pictures from which on `auto` looks for another backend: converting tf_efficientnet_lite0 takes
# about the time that it wins in as many
WORTH_PICTURES = 1000
# batches that a backend is compared with torch on
CHECKED_BATCHES = 2
# how far a probability may be from torch's, in float32 and below; and what `auto` has to win
_TOLERANCE, _COARSE_TOLERANCE, _GAIN = 1e-3, 0.05, 1.1
_ROUNDS = 3
_PACKAGES = ("imgcls", "torch", "timm", "onnx", "onnxscript", "onnxruntime", "openvino")


@dataclass(frozen=True, eq=False)
class Chosen:
    """A backend and the scorer that runs by it; reason: what was measured, None for plain torch."""

    backend: str
    scorer: Scorer
    reason: str | None = None


@dataclass(frozen=True)
class _Tried:
    """How a backend did: pictures a second, and beside torch on so many of them."""

    images_per_sec: float
    pictures: int
    other_classes: int = 0
    difference: float = 0.0

    def agrees(self, tolerance: float) -> bool:
        return not self.other_classes and self.difference <= tolerance

    @property
    def words(self) -> str:
        told = "the same classes for"
        if self.other_classes:
            told = f"other classes for {self.other_classes:,} of"
        return (
            f"{told} the first {self.pictures:,} pictures, and probabilities that differ by "
            f"{self.difference:.1g} at most"
        )


class BackendChoice:
    """Chooses what runs a predictor's model, by its first batches of pictures."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        reduced = predictor.compute.precision is not None
        self._tolerance = _COARSE_TOLERANCE if reduced else _TOLERANCE

    def choose(self, backend: str, batches: Sequence[InputBatch], *, many: bool) -> Chosen:
        """What `--backend` stands for.

        batches: the first ones. many: there are as many pictures as make `auto` worth it. Raises
        CheckpointError for a model that cannot be loaded, ConfigError and DeviceError for a backend
        that is not there, cannot take the model, or disagrees with torch on the batches.
        """
        if backend not in ("torch", "auto"):
            check_backend(backend, self._predictor.compute)
        if backend != "torch" and not are_prepared_alike(self._predictor.checkpoints):
            why = "models whose pictures are prepared in different ways run by torch alone"
            if backend != "auto":
                raise ConfigError(f"--backend {backend}: {why}")
            plain = self._predictor.joined(self._predictor.load())
            return Chosen("torch", plain, f"--backend auto: torch; {why}")
        scorers = self._predictor.load()
        plain = self._predictor.joined(scorers)
        if backend == "torch" or not batches:
            return Chosen("torch", plain)
        if backend == "auto":
            return self._fastest(plain, scorers, batches, many=many)
        scorer = self._by(backend, scorers, self._backends(scorers, batches[0]))
        tried = self._compared(scorer, self._probabilities(plain, batches), batches)
        if not tried.agrees(self._tolerance):
            raise DeviceError(
                f"--backend {backend}: does not agree with torch: {tried.words}, where "
                f"{self._tolerance:g} is allowed; leave it to --backend torch"
            )
        return Chosen(backend, scorer, f"--backend {backend}: agrees with torch: {tried.words}")

    def _fastest(
        self,
        plain: Scorer,
        scorers: Sequence[Scorer],
        batches: Sequence[InputBatch],
        *,
        many: bool,
    ) -> Chosen:
        told = "--backend auto: torch"
        if not many:
            why = f"another one is converted for {WORTH_PICTURES:,} pictures or more"
            return Chosen("torch", plain, f"{told}; {why}")
        candidates, problems = self._candidates()
        if not candidates:
            return Chosen("torch", plain, f"{told}; {'; '.join(problems)}")
        kept = self._kept()
        if kept == "torch":
            return Chosen("torch", plain, f"{told}, the fastest when it was measured here")
        reference = self._probabilities(plain, batches)
        tried = {"torch": self._compared(plain, reference, batches, rounds=_ROUNDS)}
        running = {"torch": plain}
        backends = self._backends(scorers, batches[0])
        for name in [kept] if kept in candidates else candidates:
            try:
                running[name] = self._by(name, scorers, backends)
            except RequestError as error:
                problems.append(str(error).removeprefix("--backend "))
                continue
            tried[name] = self._compared(running[name], reference, batches, rounds=_ROUNDS)
            if not tried[name].agrees(self._tolerance):
                problems.append(f"{name} does not agree: {tried[name].words}")
                del running[name]
        best = max(running, key=lambda name: tried[name].images_per_sec)
        if kept in running:
            best = kept
        elif tried[best].images_per_sec < _GAIN * tried["torch"].images_per_sec:
            best = "torch"
        if kept is None:
            self._keep(best, tried)
        found = [", ".join(f"{name} {one.images_per_sec:,.0f}" for name, one in tried.items())]
        found += [tried[best].words] * (best != "torch") + problems
        how = "as before; " if kept in running else ""
        told = f"--backend auto: {best} ({how}pictures/s: {'; '.join(found)})"
        return Chosen(best, running[best], told)

    def _candidates(self) -> tuple[list[str], list[str]]:
        """The backends that `auto` tries, and why others cannot be."""
        found, problems = [], []
        for name in RUNTIMES:
            try:
                check_backend(name, self._predictor.compute)
                found.append(name)
            except RequestError as error:  # noqa: PERF203  of two
                problems.append(str(error).removeprefix("--backend "))
        return found, problems

    def _backends(self, scorers: Sequence[Scorer], batch: InputBatch) -> list[Backends]:
        compute = self._predictor.compute
        shape = (self._predictor.config.batch_size, *batch.images.shape[1:])
        example = torch.zeros(shape, device=compute.device).contiguous(
            memory_format=compute.memory_format
        )
        return [Backends(one.model.eval(), example, compute, shares_cores=True) for one in scorers]

    def _by(self, name: str, scorers: Sequence[Scorer], backends: Sequence[Backends]) -> Scorer:
        compute, size = self._predictor.compute, self._predictor.config.batch_size
        layout = torch.contiguous_format if name in RUNTIMES else compute.memory_format
        return self._predictor.joined(
            [
                scorer.with_model(RunModel(backend.runner(name), size, layout))
                for scorer, backend in zip(scorers, backends, strict=True)
            ]
        )

    def _probabilities(self, scorer: Scorer, batches: Sequence[InputBatch]) -> np.ndarray:
        """float32 [N, C]; nan where the model's output is no number."""
        logits = np.concatenate([scores.logits for _, scores in scorer.scores(batches)])
        answers = first_answers(logits)
        finite = np.isfinite(answers).all(axis=1)
        found = np.full(answers.shape, np.nan, np.float32)
        found[finite] = Softmax(answers[finite], scorer.temperature)[:]
        return found

    def _compared(
        self, scorer: Scorer, reference: np.ndarray, batches: Sequence[InputBatch], rounds: int = 1
    ) -> _Tried:
        found = self._probabilities(scorer, batches)
        known = np.isfinite(reference[:, 0])
        own, others = reference[known], np.nan_to_num(found[known], nan=np.inf)
        times_s = [
            sum(scores.time_s for _, scores in scorer.scores(batches)) for _ in range(rounds)
        ]
        return _Tried(
            len(found) / statistics.median(times_s),
            len(own),
            int((own.argmax(axis=1) != others.argmax(axis=1)).sum()),
            float(np.abs(own - others).max(initial=0.0)),
        )

    @property
    def _file(self) -> Path:
        return self._predictor.checkpoints[0].folder / CHOICE

    def _holds_for(self) -> dict[str, Any]:
        """What another choice could follow from."""
        one = self._predictor
        versions = {name: _version(name) for name in _PACKAGES}
        made_by = one.made_by()
        names = ("weights_sha256", "tta", "amp", "channels_last", "batch_size")
        machine = f"{platform.node()}: {device_label(one.compute.device)}"
        return {"machine": machine, "versions": versions, **{n: made_by[n] for n in names}}

    def _kept(self) -> str | None:
        """The backend that was chosen before for all that holds now."""
        try:
            found: Mapping[str, Any] = read_json(self._file)
            same = found["format"] == _FORMAT and found["holds_for"] == self._holds_for()
            return str(found["backend"]) if same else None
        except (OSError, ValueError, LookupError, TypeError):
            return None

    def _keep(self, backend: str, tried: Mapping[str, _Tried]) -> None:
        document = {
            "format": _FORMAT,
            "backend": backend,
            "holds_for": self._holds_for(),
            "tried": {name: asdict(one) for name, one in tried.items()},
        }
        # where it cannot be kept, it is measured again the next time
        keep(self._file.parent, CHOICE, (strict_json(document, indent=2) + "\n").encode())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
