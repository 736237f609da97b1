"""`--format int8-onnx`: what is calibrated on, and what int8 costs and brings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from imgcls.engine.scoring.backends import quiet
from imgcls.errors import ConfigError, DataError, ExportError, RunError
from imgcls.jobs.evaluate.pictures import Pictures, run_pictures
from imgcls.jobs.export.pictures import ProofPictures, Seen, batch_of, held_size, spread
from imgcls.jobs.export.proof import prove
from imgcls.jobs.export.runtimes import about_graph
from imgcls.jobs.export.subject import Subject, as_texts
from imgcls.jobs.export.work import Target, Work, failing_as
from imgcls.metrics.comparison import paired_accuracy
from imgcls.metrics.predictions import Predictions
from imgcls.metrics.resampling import Resampler
from imgcls.models.export.formats import FORMATS
from imgcls.models.export.int8 import quantization_of, quantize
from imgcls.models.export.onnx import open_onnx
from imgcls.results.comparison import Difference
from imgcls.results.export import BatchSpeed, QuantizationProof
from imgcls.storage.durable import TEMPORARY_PREFIX

_NAME = "--format int8-onnx"
# pictures to calibrate on: more change little, and each takes several passes
_FEWEST, _MOST = 300, 1000
# of val: beside so many the interval of a drop is a point wide at most
_MOST_COMPARED = 2000
_BATCH_SIZES = (1, 8)
_ROUNDS, _LONGEST_S = 30, 6.0
_RESAMPLES = 1000

Run = Callable[[np.ndarray], np.ndarray]


def write_int8(work: Work, file: Path, metadata: Mapping[str, Any]) -> None:
    """Write the file, and beside it the one in float32 that it is made of, for its proof.

    Raises ConfigError where the run has no pictures for it.
    """
    train = _of_run(work.subject, "train")
    _of_run(work.subject, "val")  # so that nobody waits for what cannot be proven
    rows = balanced(train.table.labels, train.indices)
    pictures = ProofPictures(work.subject, train.table, rows, "train")
    source = _fp32_beside(file)
    FORMATS["onnx"].write(work.module, work.example, source, {})
    quantize(source, lambda: _inputs(pictures), file, as_texts(metadata))


def prove_int8(work: Work, file: Path) -> QuantizationProof:
    """What int8 costs and brings beside float32, which is proven by itself first.

    Raises ExportError where it costs more than is allowed.
    """
    source = _fp32_beside(file)
    with failing_as(f"{_NAME}: its runtime cannot open the file"):
        int8, fp32 = (open_onnx(path, spins=False) for path in (file, source))
        known = quantization_of(file)
    plain = prove(f"{_NAME}, in float32", fp32, work.pictures, work.on_progress)
    answers = _answers(work, int8, fp32)
    accuracy = answers.accuracy()
    assert accuracy.interval is not None
    lowest, highest = (100 * end for end in accuracy.interval)
    one, other = answers.int8, answers.fp32
    differences = np.abs(one.probabilities - other.probabilities).max(axis=1)
    proof = QuantizationProof(
        fp32=plain,
        int8_weights=known["int8_weights"],
        calibrated_on=known["calibration_pictures"],
        pictures=len(one.keys),
        accuracy=accuracy,
        drop=100 * (accuracy.other - accuracy.this),
        interval=(-highest, -lowest),
        allowed=work.max_drop,
        top_1_agreement=float((one.predicted == other.predicted).mean()),
        mean_difference=float(differences.mean()),
        largest_difference=float(differences.max()),
        largest_at=one.keys[int(differences.argmax())],
        speed=tuple(_speed(int8, fp32, answers.given, size) for size in _BATCH_SIZES),
    )
    _require_allowed(proof)
    for part in (source, source.with_name(f"{source.name}.data")):
        part.unlink(missing_ok=True)
    return proof


def balanced(labels: np.ndarray, rows: np.ndarray) -> tuple[int, ...]:
    """Some of the rows, as many of each class as it has, up to the same number; always the same.

    About 300, and one of each class where there are more, up to 1,000.
    """
    rng = np.random.default_rng(0)
    most = min(max(_FEWEST, len(np.unique(labels[rows]))), _MOST)
    # the place of each row among its class's, in an order of chance
    order = rng.permutation(rows)
    places = np.zeros(len(order), np.int64)
    for label in np.unique(labels[order]):
        own = labels[order] == label
        places[own] = np.arange(own.sum())
    return tuple(order[np.argsort(places, kind="stable")][:most].tolist())


@dataclass(frozen=True, eq=False)
class _Answers:
    """What both files say of N val pictures: predictions of int8, and of fp32.

    groups: of the pictures, where they have some. given: the first one as the files take it.
    """

    int8: Predictions
    fp32: Predictions
    groups: tuple[str, ...] | None
    given: np.ndarray

    def accuracy(self) -> Difference:
        """Of both, with the interval of the difference."""
        resampler = None
        if self.groups is not None and len({*self.groups} - {""}) > 1:
            resampler = Resampler(self.int8.labels, _RESAMPLES, 0, self.groups)
        return paired_accuracy(self.int8.outcomes, self.fp32.outcomes, resampler)


def _answers(work: Work, int8: Run, fp32: Run) -> _Answers:
    subject = work.subject
    val = _of_run(subject, "val")
    pictures = ProofPictures(subject, val.table, spread(val.indices, _MOST_COMPARED), "val")
    seen: list[tuple[str, int]] = []
    scores: list[tuple[np.ndarray, np.ndarray]] = []
    first: np.ndarray | None = None
    for one in pictures.read():
        given = _given(subject, one)
        first = given if first is None else first
        with failing_as(f"{_NAME}: its runtime cannot score {one.key}"):
            scores.append((int8(given), fp32(given)))
        seen.append((one.key, one.row))
        work.on_progress(len(seen), len(pictures))
    if first is None:
        raise DataError(f"{_NAME}: none of the {len(pictures):,} val pictures can be read")
    keys, rows = zip(*seen, strict=True)
    labels = val.table.labels[list(rows)]
    temperature = subject.scorer.temperature
    found = [np.concatenate(side) for side in zip(*scores, strict=True)]
    if subject.profile == "picture":
        # what is 0 by rounding is as small as it can be
        found = [np.log(np.maximum(side, np.finfo(np.float32).tiny)) for side in found]
        temperature = 1.0
    groups = replace(val, indices=np.array(rows)).groups
    mine, plain = (Predictions(keys, side, labels, temperature) for side in found)
    return _Answers(mine, plain, groups, first)


def _given(subject: Subject, one: Seen) -> np.ndarray:
    """A batch of the picture alone, as the file takes it."""
    if subject.profile == "picture":
        return one.whole[None]
    return subject.scorer.normalizer.images(batch_of([one])).numpy()


def _inputs(pictures: ProofPictures) -> Iterator[np.ndarray]:
    """Batches of one picture each, of a size that is quickly gone through. Raises DataError."""
    one = None
    for one in pictures.read():
        whole = pictures.subject.profile == "picture"
        size = held_size(one.size) if whole else one.size
        yield _given(pictures.subject, one if size == one.size else pictures.resized(one, size))
    if one is None:
        raise DataError(
            f"{_NAME}: none of the {len(pictures):,} train pictures to calibrate on can be read"
        )


def _speed(int8: Run, fp32: Run, given: np.ndarray, batch_size: int) -> BatchSpeed:
    """The fastest run of each, in turn; others were held up by what else the machine does."""
    batch = np.repeat(given, batch_size, axis=0)
    times: tuple[list[float], list[float]] = ([], [])
    end_s = time.perf_counter() + _LONGEST_S
    with quiet():
        for run in (int8, fp32):
            run(batch)
        while not times[1] or (len(times[1]) < _ROUNDS and time.perf_counter() < end_s):
            for run, taken in zip((int8, fp32), times, strict=True):
                start_s = time.perf_counter()
                run(batch)
                taken.append(1000 * (time.perf_counter() - start_s))
    mine, plain = (min(side) for side in times)
    return BatchSpeed(batch_size, fp32_ms=plain, int8_ms=mine, ratio=plain / mine)


def _require_allowed(proof: QuantizationProof) -> None:
    lowest, highest = proof.interval
    if lowest <= proof.allowed:
        return
    raise ExportError(
        f"{_NAME}: accuracy on {proof.pictures:,} val pictures falls by {proof.drop:.1f} points "
        f"(95% interval {lowest:.1f} to {highest:.1f}), from {proof.accuracy.other:.1%} to "
        f"{proof.accuracy.this:.1%}, and --max-drop allows {proof.allowed:g}; nothing was written. "
        "Use --format onnx, train a model that takes 8 bits better (tf_efficientnet_lite0, "
        "resnet18), or allow more with --max-drop"
    )


def _of_run(subject: Subject, split: str) -> Pictures:
    """The run's pictures of a split. Raises ConfigError where there are none."""
    try:
        return run_pictures(subject.checkpoint, split, skip=True)
    except (DataError, RunError) as error:
        reason = str(error).partition("; ")[0]
        raise ConfigError(
            f"{_NAME}: is calibrated on the run's train pictures and measured on its val "
            f"pictures, and there are none of {split} ({reason}); --format onnx needs none"
        ) from error


def _fp32_beside(file: Path) -> Path:
    return file.with_name(f"{TEMPORARY_PREFIX}fp32.onnx")


INT8 = Target(
    file="model.onnx",
    write=write_int8,
    prove=prove_int8,
    about=lambda work: about_graph(work, onnx=True),
    extra=FORMATS["onnx"].extra,
    modules=FORMATS["onnx"].modules,
)
