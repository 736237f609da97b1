"""What scikit-learn calls X and y, as a table of pictures on disk."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from imgcls.storage.tables import write_csv

_GREY, _COLOUR, _CHANNELS = 2, 3, 3


def pictures_of(X: Any) -> list[Any]:  # noqa: N803
    """N paths or arrays. Raises ValueError for what is neither."""
    arrays = isinstance(X, np.ndarray) and X.dtype.kind not in "OUS"
    if arrays and X.ndim == _COLOUR and X.shape[2] == _CHANNELS and X.shape[1] > 1:
        raise ValueError(f"X is {_said(X)}, which looks like one picture; give a list of pictures")
    if not arrays and not (isinstance(X, Sequence) and all(isinstance(x, np.ndarray) for x in X)):
        paths = np.asarray(X, dtype=object)
        if paths.ndim == 2 and paths.shape[1] == 1:  # noqa: PLR2004  a column of a table
            paths = paths[:, 0]
        if paths.ndim != 1 or not all(isinstance(path, (str, os.PathLike)) for path in paths):
            raise ValueError(f"X is {_said(X)}; give paths, or pictures as uint8 arrays")
        found: list[Any] = [os.fspath(path) for path in paths]
    else:
        found = list(X)
    for number, picture in enumerate(found):
        _require_picture(number, picture)
    if not found:
        raise ValueError(f"Found array with 0 sample(s): X is {_said(X)}")
    return found


def _require_picture(number: int, picture: Any) -> None:
    if isinstance(picture, str):
        return
    shape: tuple[int, ...] = getattr(picture, "shape", ())
    kind = getattr(picture, "dtype", type(picture))
    is_colour = len(shape) == _COLOUR and shape[-1] == _CHANNELS
    if kind != np.uint8 or not (len(shape) == _GREY or is_colour):
        raise ValueError(
            f"X[{number}] is {kind} of shape {shape}; a picture is uint8 [height, width] or "
            "[height, width, 3]"
        )


def _said(X: Any) -> str:  # noqa: N803
    array = np.asarray(X, dtype=object) if not isinstance(X, np.ndarray) else X
    return f"{type(X).__name__} of {array.dtype}, shape {array.shape}"


def write_table(place: Path, pictures: Sequence[Any], labels: np.ndarray) -> tuple[Path, Path]:
    """(a table of the pictures, the folder its paths start from); arrays become PNG files."""
    if not isinstance(pictures[0], str):
        root = place / "pictures"
        root.mkdir()
        paths = [f"{number:08d}.png" for number in range(len(pictures))]
        for path, picture in zip(paths, pictures, strict=True):
            Image.fromarray(picture).save(root / path)
    else:
        root, paths = Path.cwd(), list(pictures)
        if len(set(paths)) < len(paths):
            more = len(paths) - len(set(paths))
            warnings.warn(f"{more} rows of X repeat a path and are trained on once", stacklevel=4)
    table = place / "pictures.csv"
    rows = ({"path": p, "label": str(n)} for p, n in zip(paths, labels, strict=True))
    write_csv(table, ("path", "label"), rows)
    return table, root


def require_names(names: Sequence[str], classes: np.ndarray) -> None:
    """Raise ValueError where labels do not survive as texts, such as one with a space around it."""
    lost = sorted({str(name) for name in classes} - set(names))
    if lost:
        raise ValueError(f"y: labels that a table cannot hold: {', '.join(map(repr, lost))}")
