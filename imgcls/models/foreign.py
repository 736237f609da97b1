"""A file that another trainer saved, read without running anything of it."""

from __future__ import annotations

import argparse
import contextlib
import pickle
import sys
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from imgcls.config.files import SpecialFileError, check_regular, open_file
from imgcls.errors import RequestError, reason_of

_HEAD_BYTES = 512
# what lies beside tensors in an honest file is small, but takes more room than its bytes
_TIMES_ITS_BYTES, _ROOM_BYTES = 4, 2**30
# of the settings of a trainer; torch takes the square of it
_MOST_NAMES = 1000
_OF_WEIGHTS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_PAGES = (b"<!doctype html", b"<html", b"<?xml")
_PACKED = {b"\x1f\x8b": "gzip", b"7z\xbc\xaf": "7z", b"Rar!": "rar", b"\xfd7zX": "xz"}
# what trainers' settings and logs are made of; none of it is called here all the same
_HARMLESS_MODULES = {"argparse", "collections", "datetime", "decimal", "enum", "fractions"}
_HARMLESS_MODULES |= {"numbers", "pathlib", "typing", "uuid", "_codecs", "copyreg"}
_HARMLESS = {
    "functools.partial",
    "types.SimpleNamespace",
    *(f"builtins.{n}" for n in ("bytearray", "complex", "float", "frozenset", "getattr", "int")),
    *(f"builtins.{n}" for n in ("list", "object", "range", "set", "slice", "str", "tuple", "dict")),
}


class ForeignFileError(Exception):
    """Why a file cannot be read, in words that follow its name."""


def read_foreign(file: Path, check: Callable[[Sequence[str]], None] = lambda _names: None) -> Any:
    """The content of a safetensors file, or of what torch.save wrote, on the CPU.

    Tensors and plain types alone are made, by torch's own `weights_only` unpickler. check: is told
    the classes and functions beyond torch's own that a pickle names, before it is read; each of
    them is then replaced by one that does nothing. What would take far more memory than the file
    has bytes is refused, as a pickle may make much of little. Raises FileNotFoundError,
    ForeignFileError with the reason for anything that cannot be read, and what `check` raises of
    RequestErrors.
    """
    try:
        _look_at(file)
        with _memory_for(_TIMES_ITS_BYTES * file.stat().st_size + _ROOM_BYTES):
            if file.suffix == ".safetensors":
                return dict(load_file(file))
            _check_sizes(file)
            return _unpickle(file, check)
    except (FileNotFoundError, ForeignFileError, RequestError):
        raise
    except SpecialFileError as error:
        raise ForeignFileError(error.strerror) from error
    except pickle.UnpicklingError as error:
        raise ForeignFileError(
            "holds more than tensors, or is damaged; nothing is read that could run code: save its "
            "state_dict() alone, best as safetensors"
        ) from error
    except (SafetensorError, Exception) as error:
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            raise ForeignFileError(
                f"has {file.stat().st_size / 2**20:,.2f} MiB, and takes far more memory to read: "
                "what it holds is made to, or there is not enough"
            ) from error
        reason = reason_of(error)
        raise ForeignFileError(
            "is damaged, or neither a safetensors file nor a PyTorch state dict "
            f"({type(error).__name__}: {reason})"
        ) from error


@contextlib.contextmanager
def _memory_for(more_bytes: int) -> Iterator[None]:
    """A block in which this process may take so many bytes more.

    What is beyond is refused to it: MemoryError, of torch a RuntimeError. Linux alone can do that;
    elsewhere nothing is bounded.
    """
    if sys.platform != "linux":
        yield
        return
    import resource

    kept = resource.getrlimit(resource.RLIMIT_AS)
    limits = [limit for limit in kept if limit != resource.RLIM_INFINITY]
    most = min([int(psutil.Process().memory_info().vms) + more_bytes, *limits])
    resource.setrlimit(resource.RLIMIT_AS, (most, kept[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, kept)


def _look_at(file: Path) -> None:
    """Raise ForeignFileError for what is no file of tensors by its first bytes."""
    check_regular(file)
    if file.is_dir():
        raise ForeignFileError("is a folder, not a file")
    with open_file(file) as stream:
        head = stream.read(_HEAD_BYTES)
    if not head:
        raise ForeignFileError("is empty")
    if head.startswith(b"version https://git-lfs"):
        raise ForeignFileError("is a pointer of Git LFS, not the file itself; get it: git lfs pull")
    if head.lstrip().lower().startswith(_PAGES):
        raise ForeignFileError("is a web page, as a failed download leaves it; download it again")
    packed = next((name for mark, name in _PACKED.items() if head.startswith(mark)), None)
    if packed is not None:
        raise ForeignFileError(f"is packed by {packed}; unpack it first")
    if _is_text(head):
        raise ForeignFileError("is a text file, not weights")


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        # a letter may be cut at the end
        if error.start < len(head) - 3:
            return False
        text = head[: error.start].decode()
    return all(letter.isprintable() or letter in "\r\n\t" for letter in text)


def _check_sizes(file: Path) -> None:
    """Raise ForeignFileError for an archive that says it holds more than its own bytes.

    torch.save packs nothing, so that each byte of a tensor is one of the file.
    """
    with open_file(file) as stream:
        if stream.read(len(_ZIP)) != _ZIP:
            return
        size = file.stat().st_size
        try:
            with zipfile.ZipFile(stream) as archive:
                declared = sum(entry.file_size for entry in archive.infolist())
                names = archive.namelist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError) as error:
            raise ForeignFileError(
                f"is cut off or damaged ({error}); copy or download it again"
            ) from error
    if declared > size:
        raise ForeignFileError(
            f"says that it holds {declared / 2**20:,.0f} MiB in a file of {size / 2**20:,.2f} MiB, "
            "as a zip bomb does; nothing of it is unpacked"
        )
    if any(name.endswith("/constants.pkl") for name in names):
        raise ForeignFileError(
            "is a TorchScript program; get its weights where you trust it: import torch; "
            f'torch.save(torch.jit.load({file.name!r}).state_dict(), "plain.pt")'
        )
    if not any(name.endswith("data.pkl") for name in names):
        raise ForeignFileError("is a zip archive that torch.save did not write")


def why_no_weights(value: torch.Tensor, own: torch.Tensor | None = None) -> str | None:
    """What keeps a tensor of a file from being a model's, in words that follow its name.

    own: the model's tensor in its place, whose kind of numbers it has to have. None for one that
    may be.
    """
    if (
        value.layout is not torch.strided
        or value.is_quantized
        or value.is_nested
        or value.device.type != "cpu"
    ):
        return "is sparse, quantised, nested or without values: no plain tensor of numbers"
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return (
            f"says that it is {list(value.shape)}, more than its bytes in the file; nothing of it "
            "is unpacked"
        )
    # a counter may be an average's, and a float
    if own is not None and own.is_floating_point() and value.dtype not in _OF_WEIGHTS:
        kind = str(value.dtype).removeprefix("torch.")
        return (
            f"holds numbers of kind {kind}, and weights are float32, float16, bfloat16 or float64; "
            "save the model as it was trained, not compressed"
        )
    return None


def calls_in(names: Sequence[str]) -> list[str]:
    """Of the names in a pickle those that no settings need: Python's own modules, functions."""
    return [name for name in names if not _is_harmless(name)]


def _is_harmless(name: str) -> bool:
    module, _, last = name.rpartition(".")
    if name in _HARMLESS or module in _HARMLESS_MODULES or module.startswith("numpy"):
        return True
    top = module.partition(".")[0]
    # by the custom of most packages a class begins with a capital, and a function does not
    return top not in sys.stdlib_module_names and last.lstrip("_")[:1].isupper()


class _Inert:
    """Stands for whatever a trainer saved beside its tensors, and does nothing at all."""

    def __new__(cls, *_args: Any, **_named: Any) -> Any:
        return object.__new__(cls)

    def __init__(self, *_args: Any, **_named: Any) -> None: ...

    def __setstate__(self, _state: Any) -> None: ...


class _InertMapping(_Inert):
    # torch's unpickler sets items of these alone
    def __new__(cls, *_args: Any, **_named: Any) -> Any:
        return OrderedDict()


class _InertList(list[Any]):
    def __init__(self, *_args: Any, **_named: Any) -> None: ...

    def __setstate__(self, _state: Any) -> None: ...


class _NumberKind(_Inert):
    """NumPy's dtype of one number, by its letter and size, such as f8."""

    def __init__(self, kind: Any = "", *_args: Any) -> None:
        self.kind = kind


def _number(kind: Any = None, data: Any = None) -> float | int | None:
    """NumPy's scalar as Python's number: metrics are made of them. None for any other kind."""
    if not isinstance(kind, _NumberKind) or kind.kind not in ("f8", "f4", "f2", "i8", "i4", "u8"):
        return None
    if not isinstance(data, bytes) or len(data) != int(kind.kind[1:]):
        return None
    number: float | int = np.frombuffer(data, f"<{kind.kind}")[0].item()
    return number


def _stand_in(name: str) -> tuple[Any, str]:
    if name == "argparse.Namespace":
        # timm's and torchvision's settings. The class is plain: made, it runs no code, and its
        # state becomes attributes
        return argparse.Namespace, name
    if name == "numpy.dtype":
        return _NumberKind, name
    if name in ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"):
        return _number, name
    kind = name.rpartition(".")[2].lower()
    bases = {"dict": _InertMapping, "list": _InertList}
    base = next((base for word, base in bases.items() if word in kind), _Inert)
    return type(name, (base,), {}), name


def _unpickle(file: Path, check: Callable[[Sequence[str]], None]) -> Any:
    """The content, read by torch's own unpickler for tensors and plain types.

    Every other class or function that the file names (a trainer's settings) is replaced by one that
    does nothing, so that no code of the file's choosing ever runs.
    """
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(file)
    except ValueError:  # from before PyTorch 1.6, which cannot be looked through beforehand
        names = []
    if len(names) > _MOST_NAMES:
        raise ForeignFileError(
            f"names {len(names):,} classes and functions, as no trainer's file does; it is not read"
        )
    check(sorted(names))
    stand_ins: list[Any] = [_stand_in(name) for name in names]
    # torch tells of each unusual thing, and goes on; what is of consequence is told here
    with torch.serialization.safe_globals(stand_ins), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(file, map_location="cpu", weights_only=True)
