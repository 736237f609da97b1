"""When checkpoints are written, which are kept, and what `best` and `last` lead to.

checkpoints/
  step-00000040/  step-00000080/    immutable once there
  best -> step-00000040             replaced atomically
  last -> step-00000080
"""

from __future__ import annotations

import errno
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from imgcls.config.run import CheckpointConfig
from imgcls.engine.checkpoint import Snapshot, read_checkpoint, save_checkpoint, take_snapshot
from imgcls.engine.durable import TEMPORARY_PREFIX, point, pointed_at, remove_folder
from imgcls.engine.events import Event, Saved
from imgcls.engine.state import History, Progress, TrainState
from imgcls.errors import CheckpointError, OutputError


class Checkpointer:
    """Owns the `checkpoints` folder of one fold.

    Writing runs in a thread, on a copy of the state; each save waits for the one before it, and
    `wait()` for the last. What goes wrong in the thread is raised by the next call.
    """

    def __init__(
        self,
        folder: Path,
        *,
        policy: CheckpointConfig,
        state: TrainState,
        card: Mapping[str, Any],
        facts: Mapping[str, Any],
        emit: Callable[[Event], None],
    ) -> None:
        self.folder = folder
        self._policy = policy
        self._state = state
        self._card = card
        self._facts = facts
        self._emit = emit
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None
        self._pending: Saved | None = None
        self._saved_at_s = time.monotonic()
        self._steps_since_save = 0

    def after_step(self, progress: Progress, history: History) -> None:
        """Save inside an epoch when enough updates or minutes have passed since the last save."""
        self._steps_since_save += 1
        steps, minutes = self._policy.save_every_steps, self._policy.save_every_minutes
        due = (steps and self._steps_since_save >= steps) or (
            minutes and time.monotonic() - self._saved_at_s >= minutes * 60
        )
        if due:
            self.save(progress, history, is_best=False)

    def after_epoch(self, progress: Progress, history: History, *, improved: bool) -> None:
        """Save a completed epoch, as the policy says; the end of a run is always saved."""
        if improved or progress.finished or self._policy.save == "epoch":
            self.save(progress, history, is_best=improved)

    def save(self, progress: Progress, history: History, *, is_best: bool) -> None:
        """Take a copy of the state now and write it in the background."""
        self.wait()
        facts = {
            **self._facts,
            "epoch": progress.epoch,
            "step": progress.step,
            "finished": progress.finished,
            "metrics": dict(history.rows[-1]) if history.rows else {},
        }
        snapshot = take_snapshot(self._state.weights, self._card, facts, self._state.state_dict())
        self._thread = threading.Thread(
            target=self._write, args=(snapshot, progress.step, is_best), name="checkpoint-writer"
        )
        self._thread.start()
        self._saved_at_s = time.monotonic()
        self._steps_since_save = 0

    def wait(self) -> None:
        """Return when the checkpoint under way is on disk. Raises OutputError when it is not."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        failure, self._failure = self._failure, None
        if failure is not None:
            raise explained(failure, self.folder)
        pending, self._pending = self._pending, None
        if pending is not None:
            self._emit(pending)

    def close(self) -> None:
        """Let a checkpoint under way come to its end; what went wrong with it is not raised."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _write(self, snapshot: Snapshot, step: int, is_best: bool) -> None:
        try:
            saved = write_and_link(snapshot, self.folder, step, is_best=is_best)
            prune(self.folder, self._policy.keep)
            self._pending = Saved(saved, is_best)
        except Exception as error:  # noqa: BLE001  raised again in the training thread
            self._failure = error


def write_and_link(snapshot: Snapshot, folder: Path, step: int, *, is_best: bool) -> Path:
    """Save the snapshot in the `checkpoints` folder and point `last`, and perhaps `best`, at it.

    At every instant both links lead to complete checkpoints.
    """
    name, number = f"step-{step:08d}", 1
    # a step can come twice: saved inside the epoch and at its end, or done again after damage
    while (folder / name).exists():
        number += 1
        name = f"step-{step:08d}-{number}"
    saved = save_checkpoint(snapshot, folder / name)
    if is_best:
        point(folder / "best", name)
    point(folder / "last", name)
    return saved


def prune(folder: Path, keep: str) -> None:
    """Remove checkpoints that `keep` ("all" or "last:N") does not name; never best or last."""
    for leftover in folder.glob(f"{TEMPORARY_PREFIX}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    if keep == "all":
        return
    newest_first = checkpoints_newest_first(folder)
    kept = set(newest_first[: int(keep.removeprefix("last:"))])
    kept |= {target for name in ("best", "last") if (target := pointed_at(folder / name))}
    for old in newest_first:
        if old not in kept:
            remove_folder(old)


def checkpoints_newest_first(folder: Path) -> list[Path]:
    """The step folders in a `checkpoints` folder; the highest step, last written, first."""

    def order(path: Path) -> tuple[int, int]:
        _, step, *again = path.name.split("-")
        return int(step), int(again[0]) if again else 1

    return sorted(
        (p for p in folder.glob("step-*") if p.is_dir() and p.name[5:].replace("-", "").isdigit()),
        key=order,
        reverse=True,
    )


def newest_sound_checkpoint(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint in a `checkpoints` folder that can be trusted, and why others cannot.

    `last` comes first, then the others by step. (None, []) when there is none at all.
    """
    last = pointed_at(folder / "last")
    candidates = [last] if last else []
    candidates += [path for path in checkpoints_newest_first(folder) if path != last]
    problems: list[str] = []
    for candidate in candidates:
        problem = _unsoundness(candidate)
        if problem is None:
            return candidate, problems
        problems.append(problem)
    return None, problems


def _unsoundness(folder: Path) -> str | None:
    try:
        read_checkpoint(folder)
    except CheckpointError as error:
        return str(error)
    return None


def explained(failure: Exception, folder: Path) -> Exception:
    """The failure, or for an OSError the OutputError that says what to do about it."""
    if not isinstance(failure, OSError):
        return failure
    reasons = {
        errno.ENOSPC: "the disk is full; free some space",
        errno.EDQUOT: "the disk quota is used up; free some space",
        errno.EROFS: "the disk is read-only",
        errno.EACCES: "no permission to write there",
        errno.EPERM: "no permission to write there",
        errno.ENOENT: "the folder is gone; put it back",
    }
    reason = reasons.get(failure.errno or 0, str(failure))
    error = OutputError(
        f"{folder}: cannot be written: {reason}; the checkpoints there are intact, go on with "
        "`imgcls resume`"
    )
    error.__cause__ = failure
    return error
