"""How many of the scored pictures a model was trained on, or chosen by: told by their content."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from imgcls.columns.rows import TextRows
from imgcls.config.reading import ReadingConfig
from imgcls.data.audit.contents import digests_of
from imgcls.data.splits.recorded import DIGEST
from imgcls.engine.checkpoint.folder import Checkpoint
from imgcls.errors import ConfigError, DataError, RequestError
from imgcls.jobs.evaluate.pictures import Pictures
from imgcls.jobs.plan.tables import checkpoint_table
from imgcls.results.comparison import TrainedOn
from imgcls.storage.runs import run_of, splits_were_given
from imgcls.storage.splits import keys_in, read_splits, trained_by

# of more training pictures without a recorded content, none is read for this
_MOST_TO_READ = 200_000


@dataclass(frozen=True, eq=False)
class Seen:
    """What a model has seen of N pictures.

    train, val: bool [N], trained on, and of the split that chose the best epoch; a picture with an
    identical copy there counts. not_compared: training and val pictures whose content is not known,
    so that copies of them go unnoticed. reason: why nothing is known, "" where something is.
    """

    train: np.ndarray
    val: np.ndarray
    not_compared: int = 0
    reason: str = ""

    def counts(self) -> TrainedOn:
        """How many there are, None where that is not known."""
        known = not self.reason
        return TrainedOn(
            pictures=len(self.train),
            train=int(self.train.sum()) if known else None,
            val=int((self.val & ~self.train).sum()) if known else None,
            not_compared=self.not_compared,
            reason=self.reason or None,
            excluded=0,
        )


def trained_on(
    checkpoints: Sequence[Checkpoint], pictures: Pictures, workers: int | str = "auto"
) -> Seen:
    """What the checkpoints, folds of one run, have seen of these pictures.

    By the contents that the run recorded, and by name where the pictures are the run's own. Where
    other pictures meet training pictures without a recorded content, those of a scored picture's
    size are read, if they are still there and no more than 200,000.
    """
    try:
        rows = _rows(checkpoints[0])
    except RequestError as error:
        nothing = np.zeros(len(pictures.indices), dtype=bool)
        return Seen(nothing, nothing, reason=str(error))
    seen = {
        split: {key for checkpoint in checkpoints for key in keys_in(rows, split, checkpoint.fold)}
        for split in ("train", "val")
    }
    used = seen["train"] | seen["val"]
    digests = {row["path"]: row.get(DIGEST) or "" for row in rows}
    unknown = [key for key in used if not digests[key]]
    own = pictures.run is not None and pictures.run.absolute() == run_of(checkpoints[0].folder)
    scored = _scored_digests(pictures, workers) if not own or len(unknown) < len(used) else {}
    if not own:
        # within a run, copies are what the check before training looks for
        read = _digests_now(checkpoints[0], pictures, unknown, workers)
        digests.update(read)
        unknown = [key for key in unknown if key not in read]
    flags = {}
    for split, keys in seen.items():
        known = {digests[key] for key in keys} - {""}
        flags[split] = np.array(
            [
                (own and pictures.table.keys[row] in keys) or scored.get(row) in known
                for row in pictures.indices.tolist()
            ],
            dtype=bool,
        )
    if not own and len(unknown) == len(used):
        why = "its run has recorded no contents (--no-preflight), and its pictures cannot be read"
        return Seen(flags["train"], flags["val"], len(unknown), why)
    return Seen(flags["train"], flags["val"], len(unknown))


def with_trained_on(
    checkpoints: Sequence[Checkpoint], pictures: Pictures, *, exclude: bool, workers: int | str
) -> Pictures:
    """The pictures with what is known of them, in notes too; exclude: without those seen.

    Of a run's own val split, and of its own train split, what it is said to be is no finding.
    Raises ConfigError where they are to be left out and nothing is known, DataError where nothing
    is left.
    """
    found = trained_on(checkpoints, pictures, workers)
    own = pictures.run is not None and pictures.split in ("train", "val")
    train = found.train & (not own or pictures.split != "train")
    val = found.val & (not own) & ~found.train
    spoilt, counts = train | val, found.counts()
    if not exclude:
        notes = (*pictures.notes, *_notes(found, pictures, train, val))
        return replace(pictures, trained_on=counts, notes=notes)
    if found.reason:
        raise ConfigError(f"--exclude-trained: not known which were trained on: {found.reason}")
    if own and pictures.split == "train":
        raise ConfigError("--exclude-trained: leaves nothing of the train split; leave it out")
    if spoilt.all():
        raise DataError(
            f"--exclude-trained: all {len(spoilt):,} pictures were trained on, or chose the best "
            "epoch; there is nothing to score"
        )
    kept = int((~spoilt).sum())
    counts = replace(counts, pictures=kept, train=0, val=0, excluded=int(spoilt.sum()))
    note = (
        f"of these, {train.sum():,} that were trained on and {val.sum():,} that chose the best "
        f"epoch are left out; the other {kept:,} are scored"
        if spoilt.any()
        else "none of these was trained on or chose the best epoch; all are scored"
    )
    rest = replace(found, train=found.train[:0], val=found.val[:0])
    return replace(
        pictures,
        indices=pictures.indices[~spoilt],
        split=f"{pictures.split}-exclude-trained",
        trained_on=counts,
        notes=(*pictures.notes, note, *_notes(rest, pictures, train[:0], val[:0])),
    )


def pooled(parts: Sequence[TrainedOn | None]) -> TrainedOn | None:
    """What is known of several sets of pictures, each of a model of its own; None where it is not.

    A count is None as soon as one of them is.
    """
    known = [part for part in parts if part is not None]
    if not parts or len(known) < len(parts):
        return None

    def total(counts: Sequence[int | None]) -> int | None:
        given = [count for count in counts if count is not None]
        return sum(given) if len(given) == len(counts) else None

    return TrainedOn(
        pictures=sum(part.pictures for part in known),
        train=total([part.train for part in known]),
        val=total([part.val for part in known]),
        not_compared=sum(part.not_compared for part in known),
        reason=next((part.reason for part in known if part.reason), None),
        excluded=sum(part.excluded for part in known),
    )


def other_has_seen(other: Checkpoint, found: Seen) -> str | None:
    """A note on what the model that is compared with has seen of the pictures; None for nothing."""
    if found.reason:
        return f"whether {other.folder} was trained on these pictures is not known: {found.reason}"
    train, val = int(found.train.sum()), int((found.val & ~found.train).sum())
    if not train and not val:
        return None
    seen = [
        words
        for count, words in (
            (train, f"was trained on {train:,}"),
            (val, f"had its best epoch chosen by {val:,}"),
        )
        if count
    ]
    favours = "the comparison favours it, as far as this model has not seen them too"
    return f"{other.folder} {' and '.join(seen)} of these pictures: {favours}"


def _notes(found: Seen, pictures: Pictures, train: np.ndarray, val: np.ndarray) -> tuple[str, ...]:
    notes = []
    count, spoilt = len(train), int((train | val).sum())
    if found.reason:
        notes.append(f"whether these pictures were trained on is not known: {found.reason}")
    elif spoilt:
        copies = " (identical copies)" if pictures.run is not None else ""
        notes.append(
            f"{train.sum():,} of these {count:,} pictures were trained on{copies} and "
            f"{val.sum():,} chose the best epoch, so the scores look too good; "
            f"--exclude-trained scores the other {count - spoilt:,}"
        )
    if found.not_compared and not found.reason and pictures.run is None:
        notes.append(
            f"whether copies of {found.not_compared:,} training and val pictures are among these "
            "is not known: their contents were not recorded, and cannot be read now"
        )
    return tuple(notes)


def _rows(checkpoint: Checkpoint) -> TextRows:
    """The splits that the checkpoint was trained by. Raises RequestError."""
    run = run_of(checkpoint.folder)
    if run is None:
        raise DataError("the checkpoint lies outside its run")
    if not splits_were_given(run):
        raise DataError(
            "its run was made by `imgcls import`, which divided the pictures anew; what the "
            "training before was given is not recorded"
        )
    rows = trained_by(read_splits(run), checkpoint.sidecar.splits)
    if rows is None:
        raise DataError("rows of its run's splits.csv have come or gone")
    return rows


def _scored_digests(pictures: Pictures, workers: int | str) -> dict[int, str]:
    """The digest of each scored row, by row of the table."""
    rows = pictures.indices.tolist()
    given = pictures.table.digests
    known = {} if given is None else {row: given[row] for row in rows if given[row]}
    missing = [row for row in rows if row not in known]
    return {
        **known,
        **dict(zip(missing, digests_of(pictures.table, missing, workers), strict=True)),
    }


def _digests_now(
    checkpoint: Checkpoint, pictures: Pictures, keys: Collection[str], workers: int | str
) -> Mapping[str, str]:
    """The digests of pictures of the run whose content was not recorded, as far as they are there.

    "" for one whose size no scored picture has, which therefore is no copy of one.
    """
    if not keys or len(keys) > _MOST_TO_READ:
        return {}
    try:
        table = checkpoint_table(checkpoint, None, ReadingConfig(), keep_missing=True)
    except RequestError:
        return {}
    states = [pictures.table.images.state(row) for row in pictures.indices.tolist()]
    sizes = {None if state is None else state.size_bytes for state in states}
    position = {key: row for row, key in enumerate(table.keys)}
    found, candidates = {}, []
    for key in keys:
        row = position.get(key)
        if row is None:
            continue
        state = table.images.state(row)
        size = None if state is None else state.size_bytes
        if None in sizes or size is None or size in sizes:
            candidates.append(key)
        else:
            found[key] = ""
    rows = [position[key] for key in candidates]
    now = dict(zip(candidates, digests_of(table, rows, workers), strict=True))
    return {**found, **{key: digest for key, digest in now.items() if digest}}
