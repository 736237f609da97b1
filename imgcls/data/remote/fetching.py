"""Bytes behind URLs, by fsspec: what fails in passing is tried again, the rest told in one line.

A file system is made anew in each process: those of s3, gs and http have a thread of their own,
which does not live through a fork.
"""

from __future__ import annotations

import errno
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

from imgcls.data.remote.urls import HTTP, by_other_means, is_remote, protocol_of
from imgcls.errors import reason_of

T = TypeVar("T")

# between tries, each shortened by chance, so that many processes do not come back at once
_PAUSES_S = (0.5, 1.0, 2.0, 4.0)
# these try again by themselves before they tell
_PATIENT = {"s3", "s3a", "gs", "gcs"}
_SILENT_S = 20.0
_LONGEST_S = 300.0
# a longer answer would be lost as a whole where it is cut
_PIECE_BYTES = 8 * 2**20
_PASSING = (408, 425, 429)
_NO_ACCESS = (401, 403)
_GONE = (404, 410)
_SERVER_FAULT = 500
# of fewer bytes than were announced, aiohttp says 400 behind the first
_CUT = {"_CutError", "ClientPayloadError", "IncompleteRead"}
# what file systems call the state of a content, or when it got it
_MARKS = (
    "ETag", "etag", "Content-MD5", "Digest", "md5Hash", "generation", "blob_id", "sha256",
    "LastModified", "Last-Modified", "last_modified", "modified", "mtime", "updated", "created",
)  # fmt: skip


class RemoteState(NamedTuple):
    """A remote file's size, None where the server does not say it, and a mark of its content.

    mark: differs when the content differs; "" where the server has none.
    """

    size: int | None
    mark: str


class RemoteError(OSError):
    """A file behind a URL cannot be read; `strerror` is the reason.

    errno: ENOENT where there is none, and EIO where server, network or credentials are at fault:
    that is no fault of a picture. passing: another try may do.
    """

    def __init__(
        self, url: str, reason: str, code: int = errno.EIO, *, passing: bool = False
    ) -> None:
        super().__init__(code, reason, url)
        self.passing = passing

    def __reduce__(self) -> tuple[type[RemoteError], tuple[str, str, int]]:
        return RemoteError, (self.filename, self.strerror or "", self.errno or errno.EIO)


class _CutError(Exception):
    """Fewer bytes came than were asked for."""


def state_of(url: str) -> RemoteState:
    """What the server says of the file. Raises RemoteError."""

    def ask() -> RemoteState:
        system, path = _file_system(url)
        found = system.info(path)
        if found.get("type") == "directory":
            raise RemoteError(url, "is a folder", errno.EISDIR)
        marks = [f"{name} {found[name]}" for name in _MARKS if found.get(name)]
        size = found.get("size")
        return RemoteState(None if size is None else int(size), ", ".join(marks))

    return _trying(url, ask)


def fetch(url: str, size: int | None, start: int, stop: int) -> bytes:
    """The bytes from `start` to before `stop` of a file of so many; size None: all of it.

    Raises RemoteError.
    """
    if size is None:
        return _trying(url, lambda: _cat(url, None, None))
    pieces = [
        _piece(url, size, at, min(at + _PIECE_BYTES, stop))
        for at in range(start, stop, _PIECE_BYTES)
    ]
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _piece(url: str, size: int, start: int, stop: int) -> bytes:
    def ask() -> bytes:
        # not every server gives parts of files; all of one needs none
        content = _cat(url, None, None) if (start, stop) == (0, size) else _cat(url, start, stop)
        if len(content) < stop - start:
            raise _CutError
        if len(content) == stop - start:
            return content
        if len(content) != size:
            raise RemoteError(url, f"has changed: it was {size:,} bytes long")
        if size > _PIECE_BYTES:
            raise RemoteError(url, "the server gives no parts of files; download it")
        return content[start:stop]

    return _trying(url, ask)


def matches(pattern: str) -> list[str]:
    """The URLs that a pattern with * or [ finds, by name. Raises RemoteError."""

    def ask() -> list[str]:
        system, path = _file_system(pattern)
        return sorted(str(found) for found in system.glob(path))

    beginning = f"{pattern.partition('://')[0]}://"
    return [
        found if is_remote(found) else beginning + found.lstrip("/")
        for found in _trying(pattern, ask)
    ]


def _cat(url: str, start: int | None, stop: int | None) -> bytes:
    system, path = _file_system(url)
    options: dict[str, Any] = {}
    if system.async_impl:
        options["timeout"] = _LONGEST_S
    elif protocol_of(url) == "hf":
        options["cache_type"] = "none"  # no more than is asked for
    return bytes(system.cat_file(path, start=start, end=stop, **options))


def _file_system(url: str) -> tuple[Any, str]:
    """The file system of fsspec, one for this process, and the path in it."""
    from fsspec.config import conf
    from fsspec.core import url_to_fs

    protocol = protocol_of(url)
    options: dict[str, Any] = {}
    if protocol in HTTP:
        import aiohttp

        silent = aiohttp.ClientTimeout(
            total=_LONGEST_S, sock_connect=_SILENT_S, sock_read=_SILENT_S
        )
        own = conf.get(protocol, {})
        # compressed, an answer has another length than the file
        options["headers"] = {"Accept-Encoding": "identity", **own.get("headers", {})}
        options["client_kwargs"] = {
            "trust_env": True,
            "timeout": silent,
            **own.get("client_kwargs", {}),
        }
    system, path = url_to_fs(url, **options)
    return system, str(path)


def _trying(url: str, ask: Callable[[], T]) -> T:
    """What `ask` gives, asked again where that may help. Raises RemoteError."""
    # libraries draw their own pauses from the state that a picture's changes come from
    randomness = random.getstate()
    pauses_s = _PAUSES_S[-1:] if protocol_of(url) in _PATIENT else _PAUSES_S
    try:
        for pause_s in pauses_s:
            told = _asked(url, ask)
            if not isinstance(told, RemoteError):
                return told
            time.sleep(pause_s * random.SystemRandom().uniform(0.5, 1.0))
        told = _asked(url, ask)
    finally:
        random.setstate(randomness)
    if isinstance(told, RemoteError):
        tries = len(pauses_s) + 1
        raise RemoteError(url, f"{told.strerror}, {tries} times in a row") from told.__cause__
    return told


def _asked(url: str, ask: Callable[[], T]) -> T | RemoteError:
    """What `ask` gives, or what failed in passing. Raises RemoteError for all else."""
    try:
        return ask()
    except Exception as error:
        told = _why(url, error)
        told.__cause__ = error
        if told.passing:
            return told
        raise told from error


def _why(url: str, error: Exception) -> RemoteError:
    """What a failure of any of the libraries means."""
    if isinstance(error, RemoteError):
        return error
    chain = list(_chain(error))
    names = {kind.__name__ for one in chain for kind in type(one).__mro__}
    if names & _CUT:
        return RemoteError(url, "the answer was cut off", passing=True)
    statuses = [status for one in chain if (status := _status(one)) is not None]
    if statuses:
        return _by_status(url, statuses[0])
    # fsspec's http says so of whatever goes wrong, with what it was behind it
    innermost = chain[-1] if isinstance(error, FileNotFoundError) else error
    return _in_passing(url, innermost, names) or _for_good(url, innermost, names)


def _in_passing(url: str, error: BaseException, names: set[str]) -> RemoteError | None:
    """What may be over soon; names: of the classes of the error and of what has led to it."""
    if any("Timeout" in name for name in names):
        return RemoteError(url, "timed out", passing=True)
    told = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
    if (isinstance(error, OSError) and not isinstance(error, told)) or any(
        word in name for name in names for word in ("Connection", "Disconnect", "Endpoint")
    ):
        said = reason_of(error) or type(error).__name__
        return RemoteError(url, f"cannot be reached ({said})", passing=True)
    return None


def _for_good(url: str, error: BaseException, names: set[str]) -> RemoteError:
    """What another try does not mend."""
    means = by_other_means(protocol_of(url))
    if any("Credential" in name or name == "RefreshError" for name in names):
        return RemoteError(url, f"needs credentials; {means}")
    if isinstance(error, PermissionError):
        return RemoteError(url, f"access is denied; {means}")
    if isinstance(error, FileNotFoundError):
        return RemoteError(url, "there is no such file", errno.ENOENT)
    if isinstance(error, (IsADirectoryError, NotADirectoryError)):
        return RemoteError(url, "is a folder", errno.EISDIR)
    return RemoteError(url, reason_of(error) or type(error).__name__)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what has led to it."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)


def _status(error: BaseException) -> int | None:
    """The HTTP status in an error of aiohttp, gcsfs, huggingface_hub or botocore."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        found = getattr(response, "status_code", None)
    code = getattr(error, "code", None) if type(error).__name__ == "HttpError" else None
    for value in (found, getattr(error, "status", None), code):
        if isinstance(value, int) and value >= 400:  # noqa: PLR2004  HTTP's errors begin here
            return value
    return None


def _by_status(url: str, status: int) -> RemoteError:
    if status in _GONE:
        return RemoteError(url, f"there is no such file ({status})", errno.ENOENT)
    if status in _NO_ACCESS:
        means = by_other_means(protocol_of(url))
        return RemoteError(url, f"access is denied ({status}); {means}")
    passing = status >= _SERVER_FAULT or status in _PASSING
    return RemoteError(url, f"the server answers {status}", passing=passing)
