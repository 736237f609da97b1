"""URLs of data: which texts are some, what can be read, and that no credentials are in them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from imgcls.errors import DataError, reason_of

_URL = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
HTTP = ("http", "https")
_CUT_URL = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)
# of this computer's own files, which have paths
_LOCAL = ("file", "local")
_SECRET = re.compile(
    r"signature|sig$|token|passw|secret|credential|access_?key|api_?key", re.IGNORECASE
)
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface_hub"}
_GIVE_BY = {
    "s3": "AWS_PROFILE, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws",
    "gs": "`gcloud auth application-default login` or GOOGLE_APPLICATION_CREDENTIALS",
    "hf": "`hf auth login` or HF_TOKEN",
    "http": "~/.netrc",
    "https": "~/.netrc",
}


def is_remote(spec: str) -> bool:
    """True for a URL."""
    return _URL.match(spec) is not None


def refuse_url(option: str, path: Path | None) -> None:
    """Raise DataError where a path is a URL that has lost a slash on its way through `Path`."""
    if path is not None and _CUT_URL.match(path.as_posix()):
        protocol, _, rest = path.as_posix().partition(":/")
        refuse_credentials(url := f"{protocol}://{rest.lstrip('/')}")
        raise DataError(
            f"{option} {url}: is a URL, and only a folder on disk can be named so; a table on a "
            "server names its pictures from its own folder there"
        )


def protocol_of(url: str) -> str:
    """What stands before ://, in lower case."""
    return url.partition("://")[0].lower()


def outlives_fork(places: Iterable[str]) -> bool:
    """False where files of these places are read by a thread, which a forked process lacks.

    fsspec's file systems of servers have one, with locks and connections that a fork would copy in
    any state. Its memory, on the other hand, is seen by a forked process alone.
    """
    return all(not is_remote(place) or protocol_of(place) == "memory" for place in places)


def without_query(url: str) -> str:
    """The URL up to its path's end; in other protocols than http a ? belongs to the name."""
    return url.partition("#")[0].partition("?")[0] if protocol_of(url) in HTTP else url


def check_url(url: str) -> None:
    """Raise DataError for a URL with credentials, or of a protocol that cannot be read."""
    refuse_credentials(url)
    protocol = protocol_of(url)
    if protocol in _LOCAL:
        raise DataError(f"{url}: is a file of this computer; name it by its path")
    try:
        import fsspec
    except ImportError:
        raise DataError(f'{url}: URLs are read by fsspec: pip install "imgcls[remote]"') from None
    from fsspec.registry import known_implementations

    if protocol not in {*known_implementations, *fsspec.available_protocols()}:
        raise DataError(
            f"{url}: the protocol {protocol!r} is not known; among those that are: s3, gs, hf, "
            "https, http"
        )
    try:
        if protocol in HTTP:
            import aiohttp  # noqa: F401
        fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        package = _PACKAGES.get(protocol)
        way = f"pip install {package}" if package else reason_of(error)
        if protocol in HTTP:
            way = 'pip install "imgcls[remote]"'
        raise DataError(f"{url}: a package that reads {protocol}:// is missing: {way}") from None


def refuse_credentials(url: str) -> None:
    """Raise DataError for a URL with credentials in it, without telling these."""
    protocol = protocol_of(url)
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise DataError(f"{protocol}://...: is no URL that can be read ({error})") from None
    keys = [key for key, _ in parse_qsl(parts.query)] if protocol in HTTP else []
    user, at, host = parts.netloc.rpartition("@")
    if at and (":" in user or protocol in HTTP):
        raise DataError(_holds_credentials(f"{protocol}://{host}{parts.path}", protocol))
    if any(map(_SECRET.search, keys)):
        raise DataError(_holds_credentials(without_query(url), protocol))


def _holds_credentials(url: str, protocol: str) -> str:
    return (
        f"{url}: was given with credentials in it, which would be written into config.yaml and "
        f"logs; {by_other_means(protocol)}"
    )


def by_other_means(protocol: str) -> str:
    """How to give what a protocol asks for, as the end of a message."""
    means = _GIVE_BY.get(protocol, "the environment")
    return f"give them by {means}, or by fsspec's own configuration"


def has_pattern(url: str) -> bool:
    """True where * or [ stand for several files; a ? is a query's or a name's."""
    path = url.partition("://")[2]
    if protocol_of(url) in HTTP:
        path = path.partition("/")[2]  # a server's number may stand in brackets
    return "*" in path or "[" in path
