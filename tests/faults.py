"""File-system operations of a job that are counted, and of which one fails or ends the process."""

from __future__ import annotations

import errno
import os
import resource
import sys
import traceback
from contextlib import contextmanager

from imgcls.errors import ImgclsError
from imgcls.storage.durable import why_not_written

STOP = "power cut"
FAULTS = {STOP: None, "ENOSPC": errno.ENOSPC, "EIO": errno.EIO}
_AUDITED = {
    "open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.symlink", "os.truncate",
}  # fmt: skip


@contextmanager
def largest_file(size):
    """No file may grow beyond so many bytes: the system stops whoever writes, in C or Rust too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class Injector:
    """Counts the operations that change a folder, and lets the n-th one fail.

    Python's audit events announce opens, renames, links, removals and new folders before they
    happen; what no event tells, such as a flush to the disk, is wrapped by who wants it counted.
    """

    def __init__(self) -> None:
        self.folder = ""
        self.armed = False
        self.seen: list[str] = []
        self.fail_at = 0
        self.fault: str | None = None
        sys.addaudithook(self._audit)

    def begin(self, folder, fail_at=0, fault=None) -> None:
        self.folder, self.fail_at, self.fault = str(folder), fail_at, fault
        self.seen = []
        self.armed = True

    def end(self) -> None:
        self.armed = False

    def count(self, folder, job) -> list[str]:
        """The operations of the job, in order."""
        self.begin(folder)
        try:
            job()
        finally:
            self.end()
        return list(self.seen)

    def fail(self, folder, number, fault, job) -> OSError | ImgclsError | None:
        """Do the job, while the operation of this number fails or ends the process doing it.

        Gives back what was raised, which tells of the fault; None where nothing was.
        """
        if fault == STOP:
            child = os.fork()
            if child == 0:
                self.begin(folder, number, fault)
                try:
                    job()
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
            return None
        self.begin(folder, number, fault)
        try:
            job()
        except OSError as error:
            assert error.errno == FAULTS[fault]
            return error
        except ImgclsError as error:
            assert why_not_written(_error_of(fault)) in str(error)
            return error
        finally:
            self.end()
        return None

    def operation(self, name: str) -> None:
        if not self.armed:
            return
        self.seen.append(name)
        if len(self.seen) != self.fail_at:
            return
        if self.fault == STOP:
            os._exit(9)
        self.armed = False  # clean-up is not part of the fault
        raise _error_of(self.fault)

    def _audit(self, event: str, arguments: tuple) -> None:
        if not self.armed or event not in _AUDITED:
            return
        if event == "open":
            path, _mode, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if not writes or not str(path).startswith(self.folder):
                return
        self.operation(event.removeprefix("os."))


def _error_of(fault: str) -> OSError:
    return OSError(FAULTS[fault], os.strerror(FAULTS[fault]))
