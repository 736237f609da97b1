"""What a run's folder says of itself, read as quickly as a list of a thousand runs wants.

Nothing is verified, and of each file only what the list shows is parsed, found by how imgcls writes
it. Where it is not written so, the file is read as everywhere else.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgcls.errors import ImgclsError, RunError

_DECODER = json.JSONDecoder()
# config.yaml as `dump_yaml` writes it; a value that goes on in the next line is none of these
_VALUE = r"((?![-'\"\[{&*!|>%@`#?,\s])(?:(?! #)[^\n])*)\n(?!    )"
_WITHIN, _BETWEEN = r"(?:  [^\n]*\n)*?", r"(?:[^\n]*\n)*?"
_CONFIG = re.compile(
    rf"data:\n{_WITHIN}  source: {_VALUE}{_WITHIN}  folds: (\d+)\n  fold: (all|\d+)\n"
    rf"{_BETWEEN}model:\n  name: {_VALUE}"
    rf"{_BETWEEN}optim:\n{_WITHIN}  epochs: (\d+)\n"
    rf"{_BETWEEN}early_stopping:\n  metric: (\w+)\n"
)
_STEP = re.compile(r"fold_(\d+)/checkpoints/(step-(\d+)(?:-(\d+))?)/checkpoint\.json")
# a checkpoint's state tree comes behind what it says of itself
_HEAD_BYTES = 1 << 14
_READ = {
    "config.yaml", "run.json", "summary.json", ".lock", "history.csv", "checkpoint.json",
    "test_metrics.json", "report.html", "trackers.json",
}  # fmt: skip


@dataclass(frozen=True)
class FolderContents:
    """What lies below a folder: bytes in all, links not followed, and the files that are read.

    names: their paths in the folder, with "/".
    """

    size_bytes: int
    names: AbstractSet[str]


@dataclass(frozen=True)
class RunSettings:
    """What the list shows of a run's config."""

    source: str
    model: str
    folds: tuple[int, ...]
    epochs: int | None
    monitor: str


@dataclass(frozen=True)
class Fold:
    """How far a fold has come: what its newest and its best checkpoint say of themselves."""

    last: Mapping[str, Any]
    best: Mapping[str, Any] | None = None
    best_name: str | None = None

    @property
    def epochs(self) -> int:
        """How many are behind it."""
        return int(self.last.get("epoch") or 0)

    @property
    def is_finished(self) -> bool:
        """Whether training was at its end."""
        return self.last.get("finished") is True


def contents_of(folder: str) -> FolderContents:
    """What lies below a folder; what goes while it is looked at is left out."""
    size, names = 0, set()
    pending = [("", folder)]
    for prefix, place in pending:
        try:
            entries = os.scandir(place)
        except OSError:
            continue
        with entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append((f"{prefix}{entry.name}/", entry.path))
                    continue
                if entry.name in _READ:
                    names.add(prefix + entry.name)
                try:
                    size += entry.stat(follow_symlinks=False).st_size
                except OSError:
                    continue
    return FolderContents(size, names)


def read_settings(config: str) -> RunSettings:
    """The settings in a config.yaml. Raises ImgclsError when it is none of a run."""
    try:
        match = _CONFIG.match(read_quickly(config))
    except (OSError, ValueError):
        match = None
    if match is None:
        return _read_whole(config)
    source, folds, fold, model, epochs, monitor = match.groups()
    return RunSettings(source, model, _planned(int(folds), fold), int(epochs), monitor)


def _planned(folds: int, fold: str | int) -> tuple[int, ...]:
    return tuple(range(max(folds, 1))) if fold == "all" else (int(fold),)


def _read_whole(config: str) -> RunSettings:
    from imgcls.config.load import load_config
    from imgcls.config.run import TrainConfig

    try:
        found = load_config(TrainConfig, Path(config))
    except ImgclsError as error:
        raise RunError(str(error).removeprefix("--config ")) from error
    epochs = found.optim.epochs
    return RunSettings(
        source=found.data.source,
        model=found.model.name,
        folds=_planned(found.data.folds, found.data.fold),
        epochs=epochs if isinstance(epochs, int) else None,
        monitor=found.early_stopping.metric,
    )


def folds_of(run: str, names: AbstractSet[str]) -> dict[int, Fold]:
    """The folds that have a checkpoint, by number. names: see FolderContents."""
    steps: dict[int, list[tuple[int, int, str]]] = {}
    for name in names:
        if name.endswith("/checkpoint.json") and (found := _STEP.fullmatch(name)):
            fold, step, order, again = found.groups()
            steps.setdefault(int(fold), []).append((int(order), int(again or 1), step))
    found_folds = {}
    for number, found_steps in steps.items():
        place = f"{run}/fold_{number}/checkpoints"
        newest = max(found_steps)[2]
        last = _facts(f"{place}/{newest}/checkpoint.json")
        if last is None or not os.path.islink(f"{place}/best"):  # noqa: PTH114
            slow = _slowly(place)
            if slow is not None:
                found_folds[number] = slow
        elif last.get("best") is True:
            found_folds[number] = Fold(last, last, newest)
        else:
            best = os.readlink(f"{place}/best")  # noqa: PTH115  a Path takes longer
            known = best in (step for _, _, step in found_steps)
            facts = _facts(f"{place}/{best}/checkpoint.json") if known else None
            found_folds[number] = Fold(last, facts, None if facts is None else best)
    return found_folds


def _slowly(checkpoints: str) -> Fold | None:
    """A fold that was copied without its links, or whose newest checkpoint is damaged."""
    from imgcls.storage.pointers import best_of, sidecar_of, sidecar_of_last

    last = sidecar_of_last(Path(checkpoints))
    if last is None:
        return None
    best = best_of(Path(checkpoints))
    sidecar = None if best is None else sidecar_of(best)
    if best is None or sidecar is None:
        return Fold(last.to_json())
    return Fold(last.to_json(), sidecar.to_json(), best.name)


def _facts(sidecar: str) -> dict[str, Any] | None:
    """What a checkpoint says of itself, from its epoch on; None for one that cannot be read."""
    for most in (_HEAD_BYTES, None):
        try:
            text = read_quickly(sidecar, most)
            # no text in JSON holds a quote without a backslash before it
            start = text.index('"epoch": ')
            facts: dict[str, Any] = _DECODER.raw_decode("{" + text[start:])[0]
            pictures = re.search(r'"val_pictures": (\d+)', text)
        except (OSError, ValueError, RecursionError):
            continue
        facts["val_pictures"] = None if pictures is None else int(pictures[1])
        return facts
    return None


def part_of(text: str, *names: str) -> Any:
    """The value that names lead to in a document as `write_json` writes it, from its top.

    Raises ValueError where there is none.
    """
    start, end, indent = 0, len(text), "\n  "
    for number, name in enumerate(names):
        key = f'{indent}"{name}": '
        start = text.index(key, start, end) + len(key)
        if number < len(names) - 1:
            end = text.index(indent + "}", start, end)
            indent += "  "
    return _DECODER.raw_decode(text, start)[0]


def read_quickly(file: str, most: int | None = None) -> str:
    """The text of a file, or what its first bytes hold of it. Raises OSError."""
    # O_NONBLOCK: a pipe in its place would be waited for
    descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        parts = [os.read(descriptor, most or _HEAD_BYTES)]
        while most is None and parts[-1]:
            parts.append(os.read(descriptor, _HEAD_BYTES))
    finally:
        os.close(descriptor)
    return b"".join(parts).decode(errors="replace")
