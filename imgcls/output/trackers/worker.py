"""The process that a tracker lives in: a line of JSON asks, a line of JSON answers.

Trackers print, prompt, hang, draw random numbers and keep threads and global state. Here none of
that meets a training. When the asking process is gone, what it asked for is finished.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from imgcls.config.tune import without_password
from imgcls.output.trackers.tracker import EvaluationRecord, TrackedFold, Tracker, open_tracker

_TRAINING_WAITS_S, _OTHERS_WAIT_S, _POLL_S = 120.0, 5.0, 0.5


class Worker:
    """Holds the tracked run that is open, and what keeps others from it."""

    def __init__(self, name: str, asking: int) -> None:
        self._name = name
        self._asking = asking
        self._tracker: Tracker | None = None
        self._lock: FileLock | None = None

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Do what is asked; what the tracker wants to be kept. Raises what the tracker raises."""
        if "open" in request:
            fold = TrackedFold(**request["open"])
            # the process of a run that was killed may still be writing
            lock = FileLock(Path(fold.folder) / f".{self._name}.lock")
            _acquire(lock, _TRAINING_WAITS_S if fold.trains else _OTHERS_WAIT_S, self._asking)
            self._lock = lock
            self._tracker = open_tracker(self._name, fold)
        tracker = self._tracker
        assert tracker is not None, "a fold is opened first"
        if "rows" in request:
            tracker.log(request["rows"])
        if "evaluation" in request:
            tracker.evaluation(EvaluationRecord(**request["evaluation"]))
        if "end" in request:
            self.close(request["end"])
        return {"keep": dict(tracker.keep())}

    def close(self, status: Any) -> None:
        """End the tracked run that is open, if any, and leave it to others."""
        tracker, self._tracker = self._tracker, None
        lock, self._lock = self._lock, None
        try:
            if tracker is not None:
                tracker.end(status)
        finally:
            if lock is not None:
                lock.release()


def _acquire(lock: FileLock, longest_s: float, asking: int) -> None:
    """Take the lock. Raises TimeoutError; what a process asked that is gone is not begun."""
    until_s = time.monotonic() + longest_s
    while os.getppid() == asking and time.monotonic() < until_s:
        with contextlib.suppress(Timeout):
            lock.acquire(_POLL_S)
            return
    raise TimeoutError("another process logs to it")


def main() -> None:
    """Answer standard input's lines until its end; arguments: the tracker, and who asks."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"):
        if hasattr(signal, name):
            # they are meant for the training, which ends this process by closing its input
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    worker = Worker(sys.argv[1], int(sys.argv[2]))
    requests = os.fdopen(os.dup(0), "r", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for line in requests:
        try:
            answer = worker.answer(json.loads(line))
        except Exception as error:  # noqa: BLE001  trackers raise anything
            reason = " ".join(str(error).split()) or type(error).__name__
            answer = {"error": without_password(reason)[:300]}
        try:
            answers.write(json.dumps(answer) + "\n")
            answers.flush()
        except OSError:
            break
    worker.close("stopped")
