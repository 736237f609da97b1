"""Whether an exported model, run by its own runtime, answers as its checkpoint does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from imgcls.errors import DataError, ExportError
from imgcls.jobs.export.pictures import ProofPictures, Seen, batch_of, held_size
from imgcls.jobs.export.subject import Subject
from imgcls.jobs.export.work import OnProgress, failing_as
from imgcls.metrics.predictions import Softmax
from imgcls.results.export import BatchProof, RuntimeProof

BATCH_SIZES = (1, 3, 8)
# what a probability may differ by: float32 in another order; and pixels resized by another library
LIMITS = {"tensor": 1e-5, "picture": 5e-3}

# runs a file: an array as the profile takes it, to what it gives, float32 [B, C]
Run = Callable[[np.ndarray], np.ndarray]


def prove(name: str, run: Run, pictures: ProofPictures, on_progress: OnProgress) -> RuntimeProof:
    """How the file's answers differ from the checkpoint's own, within the profile's limit.

    name: of the file, for messages. Every picture is scored as it is in a batch of 1, and in
    batches of 3 and 8, whose pictures have one size: that of the first, so that others are taken as
    resized copies, which the checkpoint scores, too. Large pictures are held as smaller copies
    there. The last batch is filled up from the first.

    Raises ExportError that names the picture whose probabilities differ most, where any differ by
    more than the limit or have another class on top that is not as likely; where the runtime fails,
    or no picture can be read.
    """
    comparison = _Comparison(name, run, pictures.subject, pictures.known)
    whole = pictures.subject.profile == "picture"
    held: list[Seen] = []
    total = len(BATCH_SIZES) * len(pictures)
    for one in pictures.read():
        comparison.add(1, [one], resized=0)
        size = held_size(one.size) if whole else one.size
        held.append(one if size == one.size else pictures.resized(one, size))
        on_progress(len(held), total)
    if not held:
        raise DataError(f"{name}: none of the {len(pictures):,} pictures to compare on can be read")
    done = len(held)
    for batch_size in BATCH_SIZES[1:]:
        for batch in _batches(sorted(held, key=lambda one: one.size), batch_size):
            size = batch[0].size
            alike = [one if one.size == size else pictures.resized(one, size) for one in batch]
            resized = sum(one.size != size for one in batch)
            comparison.add(batch_size, alike, resized)
            done += batch_size
            on_progress(min(done, total), total)
    return comparison.proof(pictures, len(held))


def _batches(pictures: Sequence[Seen], size: int) -> Iterator[list[Seen]]:
    """Batches of exactly this size; the last is filled up from the first."""
    for start in range(0, len(pictures), size):
        yield [pictures[index % len(pictures)] for index in range(start, start + size)]


@dataclass(frozen=True, eq=False)
class _Answers:
    """One batch of B pictures, scored by both sides.

    differences: float32 [B], the largest of a picture's probabilities. same: bool [B], whether both
    have the same class on top; tied: whether these are as likely, within the limit. tops: int64
    [B, 2], the file's class and the checkpoint's.
    """

    batch_size: int
    keys: tuple[str, ...]
    resized: int
    differences: np.ndarray
    same: np.ndarray
    tied: np.ndarray
    tops: np.ndarray


@dataclass(eq=False)
class _Comparison:
    """Batches that were scored by both, so far."""

    name: str
    run: Run
    subject: Subject
    known: dict[tuple[str, tuple[int, int]], np.ndarray]
    answers: list[_Answers] = field(default_factory=list)

    @property
    def limit(self) -> float:
        return LIMITS[self.subject.profile]

    def add(self, batch_size: int, pictures: list[Seen], resized: int) -> None:
        """Score a batch of pictures of one size by both."""
        scorer, profile = self.subject.scorer, self.subject.profile
        batch = batch_of(pictures)
        logits = self._logits(pictures)
        if profile == "picture":
            given = np.stack([one.whole for one in pictures])
        else:
            given = scorer.normalizer.images(batch).numpy()
        with failing_as(
            f"{self.name}: its runtime cannot score {pictures[0].key} in a batch of {batch_size}"
        ):
            found = np.asarray(self.run(given))
        expected = Softmax(logits, scorer.temperature)[:]
        if found.shape != expected.shape:
            raise ExportError(
                f"{self.name}: gives {list(found.shape)} for a batch of {batch_size}, where "
                f"{list(expected.shape)} is right"
            )
        if profile == "tensor":
            found = Softmax(found.astype(np.float32), scorer.temperature)[:]
        rows = np.arange(len(found))
        top, own = found.argmax(axis=1), logits.argmax(axis=1)
        self.answers.append(
            _Answers(
                batch_size=batch_size,
                keys=batch.keys,
                resized=resized,
                # nan is as far away as can be
                differences=np.nan_to_num(np.abs(found - expected), nan=np.inf).max(axis=1),
                same=top == own,
                tied=expected[rows, own] - expected[rows, top] <= self.limit,
                tops=np.stack([top, own], axis=1),
            )
        )

    def _logits(self, pictures: list[Seen]) -> np.ndarray:
        """The checkpoint's own, float32 [B, C]; a picture is scored once for all formats."""
        known = self.known
        if new := [one for one in pictures if (one.key, one.size) not in known]:
            [(_, scores)] = self.subject.scorer.scores([batch_of(new)])
            scores.require_finite()
            known.update(zip(((one.key, one.size) for one in new), scores.logits, strict=True))
        return np.stack([known[one.key, one.size] for one in pictures])

    def proof(self, pictures: ProofPictures, count: int) -> RuntimeProof:
        """What all batches come to. Raises ExportError for a mismatch."""
        self._require_equal()
        batches = tuple(
            self._of([one for one in self.answers if one.batch_size == size])
            for size in BATCH_SIZES
        )
        every = self._of(self.answers)
        worst = max(self.answers, key=lambda one: one.differences.max())
        return RuntimeProof(
            pictures=count,
            split=pictures.split,
            stand_in=pictures.why,
            limit=self.limit,
            top_1_agreement=every.top_1_agreement,
            ties=every.ties,
            largest_difference=every.largest_difference,
            largest_at=worst.keys[int(worst.differences.argmax())],
            batches=batches,
        )

    def _of(self, answers: Sequence[_Answers]) -> BatchProof:
        same = np.concatenate([one.same for one in answers])
        tied = np.concatenate([one.tied for one in answers])
        return BatchProof(
            batch_size=answers[0].batch_size,
            pictures=len(same),
            resized=sum(one.resized for one in answers),
            top_1_agreement=float(same.mean()),
            ties=int((tied & ~same).sum()),
            largest_difference=float(max(one.differences.max() for one in answers)),
        )

    def _require_equal(self) -> None:
        wrong = [
            (one.differences[row], one.batch_size, one.keys[row], one.tops[row])
            for one in self.answers
            for row in np.flatnonzero(
                (one.differences > self.limit) | ~(one.same | one.tied)
            ).tolist()
        ]
        if not wrong:
            return
        difference, batch_size, key, (top, own) = max(wrong, key=lambda one: one[0])
        names = self.subject.class_names
        classes = f"{names[top]} and not {names[own]}, " if top != own else ""
        rows = sum(len(one.keys) for one in self.answers)
        raise ExportError(
            f"{self.name}: does not answer as its checkpoint does for {len(wrong):,} of {rows:,} "
            f"pictures; the worst is {key} (in a batch of {batch_size}): {classes}a probability "
            f"differs by {difference:.2g}, where {self.limit:g} is allowed. Nothing was written"
        )
