"""The pictures that a config or a checkpoint speaks of, as a table, decoded for its model."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from imgcls.config.reading import ReadingConfig
from imgcls.config.run import TrainConfig
from imgcls.data.open import (
    checkpoint_decoding,
    decode_settings,
    find_source,
    open_source,
)
from imgcls.data.splits.recorded import find_recorded
from imgcls.data.table import SampleTable
from imgcls.engine.checkpoint.folder import Checkpoint
from imgcls.errors import ConfigError, DataError, RequestError
from imgcls.jobs.checkpoint_config import OF_PIXELS, checkpoint_config, decoding_of
from imgcls.jobs.plan.bit_depth import of_one_depth
from imgcls.storage.runs import read_run_config, run_of

# what other tables of the same hand have in common with the one that was trained on
_INHERITED = ("path_col", "label_col", "root", "max_image_pixels", "bit_depth")

_SHOWN = 5


def training_table(config: TrainConfig, *, begun: bool = False) -> SampleTable:
    """The pictures to train on; begun: by a run that decodes them as it did before.

    Raises DataError, and ConfigError for a colour that is none or a fold that is not there.
    """
    if not begun:
        require_outside(config.data.source, config.runtime.output, "--output")
    decoding = (checkpoint_decoding if begun else decode_settings)(config)
    table = open_source(
        config.data.source,
        config.reading,
        decoding,
        keep_missing=config.data.on_bad_image == "skip",
    )
    _check_fold(config, table)
    return table


def require_outside(source: str, folder: Path, option: str) -> None:
    """Raise ConfigError for results that would lie among the data's class folders.

    The pictures in them would be a class of the next training.
    """
    data = Path(source).expanduser()
    if (
        source.strip()
        and os.path.isdir(data)  # noqa: PTH112  False, too, for a list of shards, too long to ask
        and folder.absolute().resolve().is_relative_to(data.resolve())
    ):
        raise ConfigError(
            f"{option} {folder}: lies in the folder of the data, where the pictures of results "
            f"would become a class; name one outside {source}"
        )


def _check_fold(config: TrainConfig, table: SampleTable) -> None:
    """Refuse a --fold that neither --folds nor the data have."""
    fold = config.data.fold
    if config.data.folds or fold == "all":
        return
    own = 0 if table.folds is None else len({int(n) for n in table.folds if n >= 0})
    if fold and not own:
        raise ConfigError(f"data.fold (--fold): {fold} needs --folds K, or data with folds")
    if own and fold >= own:
        raise ConfigError(
            f"data.fold (--fold): {fold} is out of range; the data's own folds are 0 to {own - 1}"
        )


def checkpoint_table(
    checkpoint: Checkpoint,
    data: str | None,
    reading: ReadingConfig,
    *,
    keep_missing: bool = False,
) -> SampleTable:
    """The pictures of `data`, or of the run, with labels in the model's order of classes.

    They are decoded as the model's training pictures were; what `reading` leaves open is as the run
    had it. keep_missing: as `open_source`. Raises DataError, and CheckpointError when the
    checkpoint's config is not usable.
    """
    config = checkpoint_config(checkpoint)
    if data is None:
        config = _where_the_run_is(checkpoint, config)
        names = tuple(ReadingConfig.model_fields)
    else:
        names = tuple(n for n in _INHERITED if n in find_source(data).options | OF_PIXELS)
    before = {name: getattr(config.reading, name) for name in names}
    reading = ReadingConfig(**{**before, **reading.given})
    with naming_the_way() if data is None else contextlib.nullcontext():
        table = open_source(
            config.data.source if data is None else data,
            reading,
            checkpoint_decoding(config),
            keep_missing=keep_missing,
        )
    return _by_own_depth(checkpoint, table, reading).relabel(checkpoint.class_names)


def with_data_at(config: TrainConfig, data: str | None, root: Path | None) -> TrainConfig:
    """The config of a run with its pictures in another place.

    data: None for the same table. root: where its paths start from; of another table, its own
    folder. What was said about reading stays, as far as it says something of data of that kind.
    """
    source = config.data.source if data is None else data
    readable = find_source(source).options | OF_PIXELS
    kept = {n: v for n, v in config.reading if n in readable and (n != "root" or data is None)}
    reading = ReadingConfig(**{**kept, **({} if root is None else {"root": root})})
    moved = config.data.model_copy(update={"source": source})
    return config.model_copy(update={"data": moved, "reading": reading})


@contextlib.contextmanager
def naming_the_way() -> Iterator[None]:
    """A block whose DataErrors say what to do where a run's own data have moved."""
    try:
        yield
    except DataError as error:
        raise DataError(
            f"{error}; if the run's pictures have moved, say where to by --data",
            details=error.details,
        ) from error


def _where_the_run_is(checkpoint: Checkpoint, config: TrainConfig) -> TrainConfig:
    """The config, with the data where the run found them last: a resumed run may have moved."""
    run = run_of(checkpoint.folder)
    try:
        now = config if run is None else read_run_config(run)
    except (RequestError, OSError):
        return config
    source = config.data.model_copy(update={"source": now.data.source})
    return config.model_copy(update={"data": source, "reading": now.reading})


def recorded_table(
    table: SampleTable,
    rows: Sequence[Mapping[str, str]],
    *,
    since_s: float | None,
    strict: bool = True,
    skip: bool = False,
    compare: Collection[str] | None = None,
    workers: int | str = "auto",
) -> SampleTable:
    """The table under the names that a run's splits.csv has for its pictures.

    skip: those that are gone stay, as ones that cannot be read. strict: raises DataError for
    pictures with other content than was recorded. The rest as `find_recorded`.
    """
    found = find_recorded(
        table, rows, since_s=since_s, compare=compare, keep_gone=skip, workers=workers
    )
    if strict and found.changed:
        shown = ", ".join(found.changed[:_SHOWN]) + (", ..." if len(found.changed) > _SHOWN else "")
        are = "1 picture is not" if len(found.changed) == 1 else f"{len(found.changed)} are not"
        raise DataError(
            f"{table.name}: {are} what the run began with (their content differs): {shown}; put "
            "the data back as it was, or begin a new run"
        )
    if found.renamed:
        note = f"{found.renamed:,} pictures have other names now, and were found by their content"
        return replace(found.table, notes=(*found.table.notes, note))
    return found.table


def table_for(checkpoint: Checkpoint, table: SampleTable, reading: ReadingConfig) -> SampleTable:
    """A table that was opened for another model, decoded and labelled for this checkpoint's.

    reading: what was asked for now. Raises DataError for classes that the model does not know, and
    CheckpointError when its config is not usable.
    """
    decoded = table.decoded(decoding_of(checkpoint, reading))
    return _by_own_depth(checkpoint, decoded, reading).relabel(checkpoint.class_names)


def _by_own_depth(
    checkpoint: Checkpoint, table: SampleTable, reading: ReadingConfig
) -> SampleTable:
    """The table as it is; for a model that imgcls did not train, scaled by its pictures' depth.

    Nothing says what such a model was trained on, so 12 bits must not pass for a dark 16.
    """
    if checkpoint.sidecar.config is not None or "bit_depth" in reading.given:
        return table
    table.images.decoding = replace(table.images.decoding, declared=True)
    config = checkpoint_config(checkpoint)
    table, reason = of_one_depth(config, table, lambda _done, _total: None)
    return table if reason is None else replace(table, notes=(*table.notes, reason))
