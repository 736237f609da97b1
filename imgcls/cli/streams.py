"""Standard streams that drop what cannot be written, so that no finished job loses its result.

A stream that is closed (`>&-`), full (/dev/full) or no longer read (`| head -1`) fails a write, in
the middle of whatever is going on. Here the write is dropped, the command goes on to its end, its
files are all there, and the exit code tells that the output is not.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO


class _Dropping(io.FileIO):
    """A file that forgets what it cannot write, and remembers why."""

    failure: OSError | None = None

    def write(self, data: object) -> int:
        """The number of bytes; all of them also when they are dropped."""
        if self.failure is None:
            try:
                return super().write(data)  # type: ignore[arg-type]
            except OSError as error:
                self.failure = error
        return memoryview(data).nbytes  # type: ignore[arg-type]


class GuardedStreams:
    """Put in place of `sys.stdout` and `sys.stderr` for the rest of the process."""

    def __init__(self) -> None:
        _open_closed()
        self._out, sys.stdout = _guarded(sys.stdout, 1)
        _, sys.stderr = _guarded(sys.stderr, 2)

    def exit_code(self, code: int) -> int:
        """The command's code, or 1 where all went well but its output could not be written.

        A reader that has gone took what it wanted, so that is none of the failures.
        """
        sys.stdout.flush()
        failure = None if self._out is None else self._out.failure
        if failure is None or isinstance(failure, BrokenPipeError):
            return code
        from imgcls.storage.durable import why_not_written

        reason = why_not_written(failure)
        sys.stderr.write(f"imgcls: the output cannot be written to stdout: {reason}\n")
        return code or 1


def _open_closed() -> None:
    """Fill the places of closed streams, which the next file that is opened would take."""
    # opened for reading alone, so that what is written to a closed stdout fails as it should
    for descriptor, how in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_RDWR)):
        if not _is_open(descriptor):
            os.open(os.devnull, how)  # takes the lowest number that is free


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _guarded(stream: TextIO | None, descriptor: int) -> tuple[_Dropping | None, TextIO]:
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    if stream is not None and not isinstance(raw, io.FileIO):  # a console of Windows
        return None, stream
    file = _Dropping(descriptor, "w", closefd=False)
    # a character that the encoding lacks is spelt out instead of an error
    errors = getattr(stream, "errors", None)
    text = io.TextIOWrapper(
        io.BufferedWriter(file),
        encoding=getattr(stream, "encoding", None) or "utf-8",
        errors="backslashreplace" if errors in (None, "strict") else errors,
        line_buffering=getattr(stream, "line_buffering", descriptor == 2),  # noqa: PLR2004
        write_through=getattr(stream, "write_through", False),
    )
    return file, text
