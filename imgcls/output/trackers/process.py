"""The training's end of a tracker's process: it asks, and never waits longer than it wants to."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

# how long a tracker may take to answer; its first answer waits for its imports, on a slow disk too,
# and for the process of a run that was killed
FIRST_ANSWER_S, ANSWER_S = 180.0, 60.0
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "
    "from imgcls.output.trackers.worker import main; main()"
)


class TrackerError(Exception):
    """A tracker failed, or did not answer in time."""


class TrackerProcess:
    """Asks one tracker, one question at a time. on_kept is told what it wants to be kept.

    Raises TrackerError, also for what went wrong with an earlier question; the process is gone
    then.
    """

    def __init__(self, name: str, on_kept: Callable[[Mapping[str, Any]], None]) -> None:
        self._on_kept = on_kept
        self._waiting: deque[Mapping[str, Any]] = deque()
        self._asked_at_s: float | None = None
        self._longest_s = FIRST_ANSWER_S
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        try:
            self._process = subprocess.Popen(  # noqa: S603  this very Python
                [sys.executable, "-c", _BOOT, json.dumps(sys.path), name, str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
                # the signals of a terminal or a job are meant for the training
                start_new_session=True,
            )
        except OSError as error:
            raise TrackerError(f"its process cannot be started: {error.strerror}") from error
        threading.Thread(target=self._listen, name=f"{name}-answers", daemon=True).start()

    def ask(self, **request: Any) -> None:
        """Have this done as soon as all that was asked before is done."""
        self._waiting.append(request)
        self.advance()

    def advance(self) -> None:
        """Hear the answer that is there, if any, and ask the next question."""
        if self._asked_at_s is not None:
            self._hear(0.0)
        if self._asked_at_s is None and self._waiting:
            self._send(self._waiting.popleft())

    def finish(self) -> None:
        """Return when all is done that was asked."""
        self.advance()
        while self._asked_at_s is not None:
            self._hear(self._longest_s)
            self.advance()

    def close(self) -> None:
        """End the process: it finishes what it was asked for, but is not waited for long."""
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        try:
            self._process.wait(ANSWER_S)
        except subprocess.TimeoutExpired:
            self._kill()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as answers:
            for line in answers:
                self._answers.put(line)
        self._answers.put("")

    def _send(self, request: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        self._asked_at_s = time.monotonic()
        try:
            # nothing stands in the pipe: the process reads this whole before it works on it
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except (OSError, ValueError):
            self._fail("its process ended")

    def _hear(self, timeout_s: float) -> bool:
        """Take an answer; False where there is none yet, and it may still come."""
        assert self._asked_at_s is not None
        left_s = self._asked_at_s + self._longest_s - time.monotonic()
        try:
            line = self._answers.get(timeout=max(min(timeout_s, left_s), 0.0))
        except queue.Empty:
            if left_s <= timeout_s:
                self._fail(f"no answer for {self._longest_s:.0f} s")
            return False
        self._asked_at_s, self._longest_s = None, ANSWER_S
        if not line:
            self._fail("its process ended")
        answer = json.loads(line)
        if "error" in answer:
            self._fail(answer["error"])
        self._on_kept(answer["keep"])
        return True

    def _fail(self, reason: str) -> None:
        self._kill()
        raise TrackerError(reason)

    def _kill(self) -> None:
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
