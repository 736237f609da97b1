"""Values and errors on their way between the processes of one command, as bytes.

They never come from a file or from outside: what packs them is this very command.
"""

from __future__ import annotations

import io
import pickle
import signal
import types
from collections.abc import Sequence
from typing import Any

import torch
from torch.serialization import default_restore_location

from imgcls.errors import ImgclsError, InterruptedRunError, RunFailedError


def packed(value: Any) -> bytes:
    """Any value, with its tensors, as bytes for processes of this same command."""
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def unpacked(sent: bytes, own_gpu: torch.device | None) -> Any:
    """What was packed; whatever was on a GPU, and every word of one, is on this process's own."""
    own = own_gpu or torch.device("cpu")

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if (module, name) == ("torch", "device"):
                return lambda *of: own if of[0] == "cuda" else torch.device(*of)
            return super().find_class(module, name)

    pickler = types.SimpleNamespace(Unpickler=Unpickler, load=pickle.load, __name__="pickle")
    return torch.load(
        io.BytesIO(sent),
        map_location=lambda storage, place: default_restore_location(  # type: ignore[no-untyped-call]
            storage, str(own_gpu) if own_gpu and place.startswith("cuda") else "cpu"
        ),
        pickle_module=pickler,
        weights_only=False,
    )


def packed_error(error: BaseException | None) -> bytes | None:
    """An error as bytes for other processes; None for none."""
    if error is None:
        return None
    told = error
    number = getattr(error, "signal_number", None)
    if number is not None:
        told = InterruptedRunError(f"stopped by {signal.Signals(number).name}", number)
    elif not isinstance(error, ImgclsError):
        said = " ".join(str(error).split()) or type(error).__name__
        told = RunFailedError(f"{type(error).__name__}: {said}")
    details: Sequence[str] = getattr(told, "details", ())
    return pickle.dumps((type(told), str(told), tuple(details), vars(told)))


def unpacked_error(error: bytes, rank: int) -> ImgclsError:
    """The error that the process of this rank has packed."""
    kind, message, details, attributes = pickle.loads(error)  # noqa: S301  from our own processes
    found: ImgclsError = kind.__new__(kind)
    Exception.__init__(found, message)
    vars(found).update(attributes)
    found.details = (*details, f"(told by process {rank})")
    return found
