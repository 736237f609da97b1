"""What the columns of a Parquet file say: cells as texts, and the names of numbered classes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from imgcls.columns.texts import Texts
from imgcls.data.remote.files import StoredFile
from imgcls.data.rows import column
from imgcls.errors import DataError


class PictureColumn(NamedTuple):
    """The column of pictures; leaf: of their bytes, None where they are paths of files.

    names: of the embedded pictures' own names, None where they have none.
    """

    title: str
    leaf: str | None
    names: str | None


def picture_column(spec: str, path: StoredFile, schema: Any, wanted: str | None) -> PictureColumn:
    """The column of a file's pictures, by its name. Raises DataError where there is none."""
    from pyarrow import types

    titles = {field.name: field.type for field in schema}
    if len(titles) < len(schema.names):
        twice = next(name for name in schema.names if schema.names.count(name) > 1)
        raise DataError(f"{path}: two columns are called {twice!r}")
    title = column(spec, titles, wanted, ("image", "path"), "--path-col")
    kind = titles[title]
    if not types.is_struct(kind):
        return PictureColumn(title, title if is_bytes(kind) else None, None)
    children = {child.name: child.type for child in kind}
    if "bytes" not in children or not is_bytes(children["bytes"]):
        raise DataError(f"{path}: column {title!r} has no `bytes`, so no pictures in it")
    return PictureColumn(title, f"{title}.bytes", f"{title}.path" if "path" in children else None)


def is_bytes(kind: Any) -> bool:
    from pyarrow import types

    return bool(
        types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    )


def column_texts(path: StoredFile, title: str, batches: Callable[[], Iterable[Any]]) -> Texts:
    """A column as texts. Raises DataError for one that has no values Python could hold.

    batches: gives its values, a part at a time; called again where the first way leads nowhere, so
    that all are written in one way.
    """
    from pyarrow import ArrowException, string

    try:
        return Texts.of(text for values in batches() for text in texts_of(values))
    except (ValueError, OverflowError):
        pass  # times in nanoseconds, and years that Python has not
    try:
        return Texts.of(text for values in batches() for text in texts_of(values.cast(string())))
    except (ValueError, ArrowException) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: column {title!r} cannot be read as text ({reason})") from error


def texts_of(values: Any) -> list[str]:
    """Each value as a text, null empty, truth values as JSON writes them."""
    return [_text(value) for value in values.to_pylist()]


def _text(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def class_names_of(metadata: Mapping[bytes, bytes], label: str) -> list[str] | None:
    """The names of numbered classes, as the `datasets` library writes them; None without."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        names = features[label]["names"]
        return [str(name) for name in names] if isinstance(names, list) else None
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
