"""The files that a prediction writes: its rows, and the features with their index."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imgcls.config.files import sha256_of
from imgcls.config.predict import PredictConfig
from imgcls.data.inputs import Input
from imgcls.data.open import absolute_spec
from imgcls.errors import ConfigError
from imgcls.jobs.predict.counts import Counts
from imgcls.jobs.predict.predictor import Predictor, ScoredBatch
from imgcls.output.outputs import require_replaceable
from imgcls.results.prediction import PredictedRow, PredictReport, Tally
from imgcls.storage.durable import writing
from imgcls.storage.prediction_rows import csv_of, csv_titles, jsonl_of, parquet_of
from imgcls.storage.predictions import PartFile, PredictionFiles, Progress, digest_with

if TYPE_CHECKING:
    from typing_extensions import Self

_COMMIT_EVERY_S = 1.0
_HEAD_BYTES = 128
_THEN = "what was written is whole: with room again, the same command goes on"


class RowFiles:
    """Where the rows of a prediction go, and how far they have come; a context manager.

    Raises ConfigError for files that must not be replaced, RunError while another process writes
    them.
    """

    def __init__(self, config: PredictConfig, predictor: Predictor) -> None:
        self._columns = predictor.columns
        self._rows: PartFile | None = None
        self._features: PartFile | None = None
        self._index: PartFile | None = None
        if config.output is not None:
            is_parquet = config.output.suffix.lower() == ".parquet"
            convert = parquet_of(self._columns) if is_parquet else None
            self._rows = PartFile(config.output, convert)
        if config.features is not None:
            self._features = PartFile(config.features)
            self._index = PartFile(config.features.with_suffix(".csv"))
        self._parts = [p for p in (self._rows, self._features, self._index) if p is not None]
        finals = [part.final for part in self._parts]
        if len({final.absolute() for final in finals}) < len(finals):
            raise ConfigError(f"--features: writes {finals[-1]}, as --output does; name another")
        made_by = predictor.made_by() | _made_by(config)
        self._files = PredictionFiles(self._parts, made_by, force=config.force, adopts=("backend",))
        force = config.force or self._files.is_known
        read: list[Path | str] = [*config.inputs]
        if config.new_only is not None:
            read.append(config.new_only)
        for final in finals:
            option = "--output" if final == config.output else "--features"
            require_replaceable(option, final, force=force, inputs=read)
        self._progress = Progress()
        self._counts = Counts()
        self._committed_s = 0.0

    def __enter__(self) -> Self:
        self._files.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._files.__exit__(*error)

    @property
    def backend(self) -> str | None:
        """What runs the model; None where `--backend auto` has still to choose it."""
        found: str | None = self._files.made_by.get("backend")
        return found

    def decide(self, backend: str) -> None:
        """Run the model by this backend, now and whenever these files go on. Raises OutputError."""
        if self.backend is None:
            self._files.add_made_by({"backend": backend})
            self.commit()

    @property
    def rows(self) -> int:
        """Pictures that have a row."""
        return self._progress.rows

    @property
    def tally(self) -> Tally:
        """What the rows come to so far."""
        return self._counts.tally

    def finished(self, inputs: Iterator[Input]) -> bool:
        """True where all is there, by the same command on the same pictures.

        Raises ConfigError for files of another prediction, and for pictures that have changed.
        """
        found = self._files.finished()
        if found is None:
            return False
        self._progress = found[0]
        self._counts = Counts.of(found[0].tally)
        self._pass_over(inputs)
        if next(inputs, None) is not None:
            raise self._other_inputs()
        return True

    def resume(self, inputs: Iterator[Input]) -> None:
        """Go on behind the rows that are there, past the inputs that they belong to.

        Raises ConfigError for files of another prediction, and for inputs that have changed.
        """
        self._progress = self._files.resume()
        self._counts = Counts.of(self._progress.tally)
        self._pass_over(inputs)
        if not self._progress.sizes:
            with writing(self._parts[0].final, _THEN):
                if self._rows is not None and self._rows.final.suffix.lower() == ".csv":
                    self._rows.write(csv_titles(self._columns))
                if self._features is not None and self._index is not None:
                    self._features.write(b"\0" * _HEAD_BYTES)
                    self._index.write(csv_titles(("path",)))

    @property
    def complete(self) -> bool:
        """True where all rows are written, and only the names of the files are to be given."""
        return self._progress.complete

    def add(self, batch: ScoredBatch) -> None:
        """Write the rows of a batch, and make them last every second. Raises OutputError."""
        with writing(self._parts[0].final, _THEN):
            if self._rows is not None:
                is_csv = self._rows.final.suffix.lower() == ".csv"
                self._rows.write((csv_of if is_csv else jsonl_of)(self._columns, batch.rows))
            if self._features is not None and self._index is not None:
                features = batch.features
                if features is None:  # none of them could be read
                    width = _width(self._features.size, self.rows)
                    features = np.full((len(batch.rows), width), np.nan)
                self._features.write(features.astype("<f4").tobytes())
                paths = (PredictedRow(row.path) for row in batch.rows)
                self._index.write(csv_of(("path",), paths))
        digest = self._progress.digest
        for row in batch.rows:
            digest = digest_with(digest, row.path)
        self._counts.add(batch.rows)
        self._progress = replace(
            self._progress, rows=self._progress.rows + len(batch.rows), digest=digest
        )
        if time.monotonic() - self._committed_s > _COMMIT_EVERY_S:
            self.commit()

    def commit(self, *, complete: bool = False) -> None:
        """Make the rows so far last. Raises OutputError."""
        sizes = {part.final.name: part.size for part in self._parts}
        counted = {name: n for name, n in asdict(self.tally).items() if name != "pictures"}
        self._progress = replace(self._progress, **counted, sizes=sizes, complete=complete)
        self._files.commit(self._progress)
        self._committed_s = time.monotonic()

    def publish(self, report: PredictReport) -> None:
        """Give the files their names. Raises OutputError."""
        if not self.complete:
            if self._features is not None:
                with writing(self._features.final, _THEN):
                    self._features.write_at_start(_npy_head(self._features.size, self.rows))
            self.commit(complete=True)
        document = {
            name: getattr(report, name)
            for name in ("checkpoint", "model_name", "class_names", "folds", "tta", "temperatures")
        }
        versions = {name: version(name) for name in ("imgcls", "torch", "timm")}
        more = {
            "left_out": report.left_out,
            "drift": [one.to_json() for one in report.drift],
            "versions": versions,
            "notes": list(report.notes),
        }
        self._files.publish(self._progress, document | more)

    def _pass_over(self, inputs: Iterator[Input]) -> None:
        digest = ""
        for _ in range(self._progress.rows):
            found = next(inputs, None)
            digest = "" if found is None else digest_with(digest, found.path)
            if found is None:
                break
        if digest != self._progress.digest:
            raise self._other_inputs()

    def _other_inputs(self) -> ConfigError:
        return ConfigError(
            f"{self._parts[0].final}: the inputs have other pictures now than when its "
            f"{self._progress.rows:,} rows were written; name another file (--new-only leaves out "
            "what this one has), or begin anew with --force"
        )


def _made_by(config: PredictConfig) -> dict[str, Any]:
    """What else the files follow from, by names; see PredictionFiles."""

    def place(path: Path | None) -> str | None:
        return None if path is None else str(path.absolute())

    return {
        "inputs": [[spec, absolute_spec(spec)] for spec in config.inputs],
        "path_col": config.path_col,
        "root": place(config.root),
        "new_only_sha256": None if config.new_only is None else sha256_of(config.new_only),
        "sort_into": place(config.sort_into),
        "copy": config.copy_files,
        "features": place(config.features),
        **({} if config.backend == "auto" else {"backend": config.backend}),
    }


def _npy_head(size: int, rows: int) -> bytes:
    """The header of a .npy of float32 [rows, D], by NumPy's format 1.0, in 128 bytes."""
    width = _width(size, rows)
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {width}), }}"
    length = _HEAD_BYTES - 10
    return b"\x93NUMPY\x01\x00" + length.to_bytes(2, "little") + f"{text:<{length - 1}}\n".encode()


def _width(size: int, rows: int) -> int:
    """How many features a row has, in a file of so many bytes."""
    return (size - _HEAD_BYTES) // (4 * rows) if rows else 0
