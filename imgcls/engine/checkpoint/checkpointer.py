"""When checkpoints are written, which are kept, and what `best` and `last` lead to.

checkpoints/
  step-00000040/  step-00000080/    immutable once there
  best -> step-00000040             replaced atomically
  last -> step-00000080
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgcls.config.files import SpecialFileError
from imgcls.config.run import CheckpointConfig
from imgcls.engine.checkpoint.folder import (
    Checkpoint,
    Snapshot,
    read_checkpoint,
    save_checkpoint,
    take_snapshot,
)
from imgcls.engine.training.events import Event, Saved
from imgcls.engine.training.state import History, Progress, TrainState
from imgcls.errors import CheckpointError, OutputError, RunFailedError
from imgcls.results.checkpoint import Sidecar
from imgcls.storage.durable import TEMPORARY_PREFIX, point, remove_folder, writing
from imgcls.storage.model_folder import read_sidecar
from imgcls.storage.pointers import BEST, LAST, best_of, newest_first, says_best, set_aside

if TYPE_CHECKING:
    from typing_extensions import Self

# what stands where a file should
_DAMAGE = (SpecialFileError, IsADirectoryError, NotADirectoryError)


def go_on(run: Path) -> str:
    """What to do when a run has room to be written again."""
    return f"the checkpoints there are intact, go on with `imgcls resume {shlex.quote(str(run))}`"


class Checkpointer:
    """Owns the `checkpoints` folder of one fold; `best`: the best one there so far.

    sidecar: what each checkpoint says of itself, but for what changes from save to save.

    Writing runs in a thread, on a copy of the state; each save waits for the one before it, and
    `wait()` for the last. What goes wrong in the thread is raised by the next call, or at the end
    of the `with` block at the latest.
    """

    def __init__(
        self,
        folder: Path,
        *,
        policy: CheckpointConfig,
        state: TrainState,
        card: Mapping[str, Any],
        sidecar: Sidecar,
        emit: Callable[[Event], None],
        best: Path | None = None,
    ) -> None:
        self.folder = folder
        self._best = best
        self._policy = policy
        self._state = state
        self._card = card
        self._sidecar = sidecar
        self._emit = emit
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None
        self._pending: Saved | None = None
        self._saved_at_s = time.monotonic()
        self._steps_since_save = 0
        self._is_agreed: Callable[[bool], bool] = bool

    def share(self, is_agreed: Callable[[bool], bool]) -> None:
        """Save what is divided among processes, which all then bring together at the same points.

        is_agreed: a common point of all processes that tells them whether one wants to save.
        """
        self._is_agreed = is_agreed

    def after_step(self, progress: Progress, history: History) -> None:
        """Save inside an epoch when enough updates or minutes have passed since the last save.

        A checkpoint that has come to its end meanwhile is told of.
        """
        if self._thread is not None and not self._thread.is_alive():
            self.wait()
        self._steps_since_save += 1
        steps, minutes = self._policy.save_every_steps, self._policy.save_every_minutes
        due = (steps and self._steps_since_save >= steps) or (
            minutes and time.monotonic() - self._saved_at_s >= minutes * 60
        )
        if self._is_agreed(bool(due)):
            self.save(progress, history, is_best=False)

    def after_epoch(
        self,
        progress: Progress,
        history: History,
        *,
        improved: bool,
        share: float | None = None,
        metrics: Mapping[str, float | None] | None = None,
    ) -> None:
        """Save a completed epoch, as the policy says; the end of a run is always saved.

        share, metrics: of weights that are not the epoch's own, see Sidecar.
        """
        if self._is_agreed(improved or progress.finished or self._policy.save == "epoch"):
            self.save(progress, history, is_best=improved, share=share, metrics=metrics)

    def save(
        self,
        progress: Progress,
        history: History,
        *,
        is_best: bool,
        share: float | None = None,
        metrics: Mapping[str, float | None] | None = None,
    ) -> None:
        """Take a copy of the state now and write it in the background."""
        self.wait()
        self._is_agreed(True)
        sidecar = replace(
            self._sidecar,
            epoch=progress.epoch,
            step=progress.step,
            finished=progress.finished,
            metrics=dict(metrics or (history.rows[-1] if history.rows else {})),
            share=share,
            best=is_best,
        )
        snapshot = take_snapshot(self._state.weights, self._card, sidecar, self._state.state_dict())
        self._thread = threading.Thread(
            target=self._write, args=(snapshot, progress.step), name="checkpoint-writer"
        )
        self._thread.start()
        self._saved_at_s = time.monotonic()
        self._steps_since_save = 0

    def wait(self) -> None:
        """Return when the checkpoint under way is on disk. Raises OutputError when it is not."""
        self._end_writing()
        pending, self._pending = self._pending, None
        if pending is not None:
            self._emit(pending)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Let a checkpoint under way come to its end. Raises as `wait`, also instead of `error`.

        Only where the run failed anyway it does so by its own error, whose details tell of this
        one: a stop, say, is none that has saved.
        """
        try:
            self._end_writing()
        except OutputError as lost:
            if not isinstance(error, RunFailedError):
                raise
            error.details = (*error.details, str(lost))

    def _end_writing(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        failure, self._failure = self._failure, None
        if failure is not None:
            with writing(self.folder, go_on(self.folder.parents[1])):
                raise failure

    def _write(self, snapshot: Snapshot, step: int) -> None:
        try:
            saved = write_and_link(snapshot, self.folder, step)
            if snapshot.sidecar.best:
                self._best = saved
            # what is superfluous may wait: the checkpoint itself is saved
            problems = prune(self.folder, self._policy.keep, {saved, self._best})
            epoch, is_best = snapshot.sidecar.epoch or 0, snapshot.sidecar.best is True
            self._pending = Saved(saved, epoch, is_best, tuple(problems))
        except Exception as error:  # noqa: BLE001  raised again in the training thread
            self._failure = error


def write_and_link(snapshot: Snapshot, folder: Path, step: int) -> Path:
    """Save the snapshot in the `checkpoints` folder and point `last` at it; `best` if it says so.

    At every instant both lead to complete checkpoints, and what lies there says which they are.
    """
    name, number = f"step-{step:08d}", 1
    # a step can come twice: saved inside the epoch and at its end, or done again after damage
    while (folder / name).exists():
        number += 1
        name = f"step-{step:08d}-{number}"
    saved = save_checkpoint(snapshot, folder / name)
    if snapshot.sidecar.best:
        point(folder / BEST, name)
    point(folder / LAST, name)
    return saved


def prune(folder: Path, keep: str, kept: Collection[Path | None]) -> list[str]:
    """Remove checkpoints that neither `keep` ("all" or "last:N") nor `kept` names.

    Returns why some could not be removed.
    """
    for leftover in folder.glob(f"{TEMPORARY_PREFIX}*"):
        if leftover.is_symlink() or leftover.is_file():
            with contextlib.suppress(OSError):
                leftover.unlink()
        else:
            shutil.rmtree(leftover, ignore_errors=True)
    if keep == "all":
        return []
    found = newest_first(folder)
    problems = []
    for old in (*found[int(keep.removeprefix("last:")) :], *set_aside(folder)):
        if old not in kept:
            try:
                remove_folder(old)
            except OSError as error:
                problems.append(f"{old}: cannot be removed ({error.strerror})")
    return problems


@dataclass(frozen=True)
class Sound:
    """What of a `checkpoints` folder can be trusted.

    last: the newest checkpoint, its training state verified too; best: the best until then;
    problems: why others were passed over.
    """

    last: Checkpoint | None
    best: Path | None
    problems: tuple[str, ...]


def find_sound(folder: Path) -> Sound:
    """The newest checkpoint that can be trusted, and the best one until then that can.

    Raises CheckpointError for one that cannot be read at the moment, which is no damage.
    """
    problems: list[str] = []
    last: Checkpoint | None = None
    named = best_of(folder)
    for path in newest_first(folder):
        is_best = path == named or says_best(path)
        if last is not None and not is_best:
            continue
        try:
            read_sidecar(path)  # there are no other model folders here
            found = read_checkpoint(path, to_resume=last is None)
        except CheckpointError as error:
            if isinstance(error.__cause__, OSError) and not isinstance(error.__cause__, _DAMAGE):
                raise
            problems.append(str(error))
            continue
        last = last or found
        if is_best:
            return Sound(last, path, tuple(problems))
    return Sound(last, None, tuple(problems))
