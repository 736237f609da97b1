"""A block that holds a run while it is trained, hears signals, and says how to go on."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

from imgcls.engine.training.interrupt import SignalledError, StopRequest, stop_on_signals
from imgcls.errors import InterruptedRunError, RequestError
from imgcls.storage.durable import refused
from imgcls.storage.lock import lock_run
from imgcls.storage.runs import note_failure


@contextlib.contextmanager
def in_charge(
    run: Path, on_signal: Callable[[int], None] | None, stop: StopRequest | None
) -> Iterator[StopRequest]:
    """A block that holds the run and hears signals; its errors say how to go on.

    Raises RunError where another process holds it. Only an OSError that says so is told as one of
    writing.
    """
    go_on = f"go on with: imgcls resume {shlex.quote(str(run))}"
    with lock_run(run), stop_on_signals(on_signal, stop) as request, _noting_failure(run):
        try:
            yield request
        except InterruptedRunError as error:
            raise InterruptedRunError(f"{error}; {go_on}", error.exit_code - 128) from error
        except SignalledError as error:
            raise InterruptedRunError(
                f"stopped by a signal before the first step; {go_on}", error.signal_number
            ) from None
        except KeyboardInterrupt:
            raise InterruptedRunError(
                f"stopped at once; the last checkpoint is good; {go_on}"
            ) from None
        except OSError as error:
            raise refused(error, run, f"the checkpoints so far are intact; {go_on}") from error


@contextlib.contextmanager
def _noting_failure(run: Path) -> Iterator[None]:
    """Keep with the run why the block failed; a stop or a refusal is no failure."""
    note_failure(run, None)
    try:
        yield
    except (RequestError, InterruptedRunError):
        raise
    except Exception as error:
        note_failure(run, " ".join(f"{error}".split()) or type(error).__name__)
        raise
