"""The error tree, and the exit code each branch ends the process with.

ImgclsError                 1   the base of everything imgcls raises on purpose
├── RequestError            2   the request was wrong; nothing was started
│   ├── ConfigError             an option, a config file or a --set value
│   ├── DataError               a folder, a table or a picture that cannot be used as asked
│   ├── ModelError              a model name, a weights file or a download
│   ├── DeviceError             a device or a precision that this machine does not have
│   ├── CheckpointError         a checkpoint that is incomplete, mixed, damaged or too new
│   └── RunError                a run folder that is missing, empty, finished or in use
├── RunFailedError          1   something broke while running
│   ├── BadImageError           a picture could not be read in the middle of a run
│   ├── ReadError               a file could not be read for want of memory, or by the disk's fault
│   ├── NonFiniteError          a loss, gradient or score became inf or nan
│   ├── DeviceMemoryError       the device ran out of memory
│   ├── WorkerError             a data-loading process died or could not load
│   ├── OutputError             the output folder could not be written
│   ├── ExportError             an exported file cannot be made, or does not answer as it should
│   └── ThresholdError          a metric is below its threshold of --fail-under
└── InterruptedRunError   130   stopped by a signal after saving (143 SIGTERM, 129 SIGHUP)

Every message is one line for the person who typed the command: what is wrong, the value seen,
what to do. `details` are further lines for a list that is too long for it.
"""

from __future__ import annotations

from collections.abc import Sequence

_LONGEST_REASON = 200


def reason_of(error: BaseException) -> str:
    """What an error of another library says, as one line that is short enough to be read."""
    return " ".join(str(error).split())[:_LONGEST_REASON]


class ImgclsError(Exception):
    """Base of every error imgcls raises on purpose; `exit_code` is the process's."""

    exit_code = 1

    def __init__(self, message: str, *, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.details = tuple(details)


class RequestError(ImgclsError):
    """The request was wrong and nothing was started."""

    exit_code = 2


class ConfigError(RequestError):
    """An option, a config file or a `--set` value is wrong."""


class DataError(RequestError):
    """The data cannot be used as asked."""


class ModelError(RequestError):
    """The model, its weights or their download cannot be had."""


class DeviceError(RequestError):
    """The device or precision is not available on this machine."""


class CheckpointError(RequestError):
    """The checkpoint is incomplete, mixed, damaged or from a newer format."""


class RunError(RequestError):
    """The run folder is missing, empty, finished or in use."""


class RunFailedError(ImgclsError):
    """Something broke while running; what was saved before is intact."""


class BadImageError(RunFailedError):
    """A picture could not be read in the middle of a run."""


class ReadError(RunFailedError):
    """A file could not be read by the machine's fault: memory, open files, a disk or a mount."""


class NonFiniteError(RunFailedError):
    """A loss, a gradient or a model's score became inf or nan; no weight was changed by it."""


class DeviceMemoryError(RunFailedError):
    """The device ran out of memory."""


class WorkerError(RunFailedError):
    """A data-loading process died, or met an error that is no unreadable picture's."""


class OutputError(RunFailedError):
    """The output folder could not be written."""


class ExportError(RunFailedError):
    """An exported file cannot be made, or does not answer as its checkpoint does; it is gone."""


class ThresholdError(RunFailedError):
    """A metric is below the threshold that `--fail-under` sets; the evaluation itself is done."""


class InterruptedRunError(ImgclsError):
    """The run was stopped by a signal, after its state was saved where that was possible."""

    exit_code = 130

    def __init__(self, message: str, signal_number: int = 2) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number
