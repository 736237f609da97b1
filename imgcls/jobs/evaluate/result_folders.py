"""Where an evaluation's files go: the run's `test_results/`, or the folder of `--results-dir`.

--results-dir DIR
  test/            in place of <run>/fold_0/test_results/test/
  fold_0/val/ ...  the folds of a run of several
  val/ test/       their pooled pictures and their average
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgcls.config.files import read_json
from imgcls.engine.checkpoint.temperature import Temperature, temperature_file
from imgcls.errors import ConfigError, OutputError, RunError
from imgcls.results.evaluation import EvalReport
from imgcls.storage.durable import READ_ONLY, why_not_written
from imgcls.storage.evaluations import METRICS, is_evaluation, is_evaluation_file
from imgcls.storage.pointers import CHECKPOINTS
from imgcls.storage.runs import results_folder
from imgcls.storage.staging import StagedFolders, not_cleared
from imgcls.storage.tables import json_text

if TYPE_CHECKING:
    from imgcls.engine.checkpoint.folder import Checkpoint


class ResultFolders(StagedFolders):
    """The folders of one evaluation, staged; a context manager.

    results_dir: in place of the run's own. needed: False where the caller can do without files
    when the run is read-only; `kept` tells. force: also put them into a folder of results_dir that
    is no evaluation.
    """

    def __init__(
        self, results_dir: Path | None = None, *, needed: bool = True, force: bool = False
    ) -> None:
        super().__init__(is_evaluation_file)
        self._results_dir = results_dir
        self._needed = needed
        self._force = force
        self._notes: list[str] = []
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    @property
    def kept(self) -> bool:
        """False when nothing could be written, and nothing will be there after `commit`."""
        return self._temporary is None

    def of_fold(self, checkpoint: Checkpoint, name: str) -> Path:
        """The staged folder for the results called `name` of one checkpoint.

        Raises RunError or ConfigError when it cannot be, or must not be, written.
        """
        if self._results_dir is None:
            final = results_folder(checkpoint.folder) / name
            _require_own(final, checkpoint.folder)
            return self._open(final)
        folds = (checkpoint.sidecar.config or {}).get("data", {}).get("folds", 0)
        inner = f"fold_{checkpoint.fold}" if folds else ""
        return self._open(self._results_dir / inner / name)

    def of_run(self, run: Path, name: str) -> Path:
        """The staged folder for the results called `name` of several folds together."""
        return self._open((self._results_dir or run / "test_results") / name)

    def shown(self, report: EvalReport) -> EvalReport:
        """The report with its folder and page where they are after `commit`."""
        if not self.kept:
            self._notes.append(
                f"{report.checkpoint}: is read-only, so no files were written; --results-dir DIR "
                "writes them elsewhere"
            )
        report = replace(report, notes=(*report.notes, *self._notes))
        if not self.kept:
            return replace(report, folder=None, page=None)
        assert report.folder is not None
        page = None if report.page is None else self.final(report.page)
        return replace(report, folder=self.final(report.folder), page=page)

    def keep(self, checkpoint: Checkpoint, temperature: Temperature) -> None:
        """Let `commit` keep a temperature with its checkpoint; a note says where it cannot."""
        why = "is read-only"
        if self.kept:
            try:
                tempfile.TemporaryFile(dir=checkpoint.folder).close()
            except OSError as error:
                if error.errno not in READ_ONLY:
                    raise
                why = f"cannot be written: {why_not_written(error)}"
            else:
                self.put(*temperature_file(checkpoint, temperature))
                return
        self._notes.append(
            f"{checkpoint.folder}: {why}, so the temperature is not kept with it; --calibrate "
            "temperature fits it again"
        )

    def keep_json(self, file: Path, document: Any) -> None:
        """Let `commit` write a document beside the results."""
        self.put(file, json_text(document))

    def commit(self) -> OSError | None:
        """Give every staged folder its name, and keep what is to be kept. Raises OSError."""
        error = super().commit() if self.kept else None
        if error is not None:
            self._notes.append(not_cleared("the results are", error))
        return error

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        if self._temporary is not None:
            self._temporary.cleanup()

    def _open(self, final: Path) -> Path:
        if self._results_dir is not None and not self._force:
            _require_free(final)
        if self._temporary is not None:
            return self.stage(Path(self._temporary.name) / f"{len(self._final)}" / final.name)
        try:
            return self.stage(final)
        except OSError as error:
            if error.errno not in READ_ONLY:
                raise OutputError(f"{final}: cannot be made: {why_not_written(error)}") from error
            why = why_not_written(error)
            if self._results_dir is not None:
                raise ConfigError(
                    f"--results-dir {self._results_dir}: cannot be written: {why}; name another "
                    "folder"
                ) from error
            if self._needed:
                raise RunError(
                    f"{final}: cannot be written: {why}; name a folder for the results with "
                    "--results-dir DIR"
                ) from error
            self._temporary = tempfile.TemporaryDirectory(prefix="imgcls-")
            return self._open(final)


def _require_own(final: Path, checkpoint: Path) -> None:
    """Raise RunError for another model's evaluation; those that lie in a fold are of one model."""
    if checkpoint.parent.name == CHECKPOINTS:
        return
    try:
        other = Path(read_json(final / METRICS)["checkpoint"]).name
    except (OSError, ValueError, LookupError, TypeError):
        return  # none, or a damaged one
    if other != checkpoint.name:
        raise RunError(
            f"{final}: holds the evaluation of {other}, which lies beside {checkpoint.name}; name "
            "a folder for the results with --results-dir DIR"
        )


def _require_free(final: Path) -> None:
    """Raise ConfigError for a folder that holds something, and no evaluation."""
    try:
        taken = final.exists() and (not final.is_dir() or any(final.iterdir()))
    except OSError:
        return  # told when it is to be written
    if taken and not is_evaluation(final):
        raise ConfigError(
            f"{final}: imgcls did not write it; name another --results-dir, or add the results to "
            "it with --force"
        )
