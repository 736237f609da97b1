"""Rows of predictions on their way to their files: through a journal, so that a kill loses little.

.preds.csv.part      the rows so far; those of a .parquet as JSON lines
.preds.csv.journal   how many of them are good, and what they follow from
.preds.csv.lock      held by who writes them; stays
preds.csv            appears whole, at the end
preds.csv.json       beside it: what made the rows, and what they come to
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import BaseFileLock

from imgcls.config.files import read_json
from imgcls.errors import ConfigError
from imgcls.results.prediction import Tally
from imgcls.storage.durable import strict_json, sync_file, sync_folder, write_text, writing
from imgcls.storage.lock import take_lock
from imgcls.storage.tables import write_json

if TYPE_CHECKING:
    from typing_extensions import Self

FORMAT = "imgcls-predictions"
# what else than an option the rows follow from, in words for another one
_WORDS = {
    "weights_sha256": "another checkpoint",
    "temperatures": "another temperature",
    "decoding": "another way to decode",
    "device": "another kind of device",
    "inputs": "other inputs",
    "new_only_sha256": "another --new-only",
    "validation": "val pictures that were scored otherwise",
    "trained_features": "training pictures with other features",
}
Convert = Callable[[Path, Path], None]
_THEN = "what was written is whole: with room again, the same command goes on"


@dataclass(frozen=True)
class Progress:
    """How far the rows of a prediction have come.

    digest: a hash of their paths, in their order. unreadable, classes, flags, set_sizes: as in a
    Tally. sizes: bytes of each file, by its name. complete: these are all.
    """

    rows: int = 0
    digest: str = ""
    unreadable: int = 0
    classes: Mapping[str, int] = field(default_factory=dict)
    flags: Mapping[str, int] = field(default_factory=dict)
    set_sizes: Mapping[str, int] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    complete: bool = False

    @property
    def tally(self) -> Tally:
        """What the rows come to."""
        return Tally(self.rows, self.unreadable, self.classes, self.flags, self.set_sizes)


def digest_with(digest: str, path: str) -> str:
    """The digest of the paths so far, and of one more."""
    return hashlib.sha256(f"{digest}\0{path}".encode(errors="surrogateescape")).hexdigest()


class PartFile:
    """A file that grows beside its place, and takes its name when it is whole.

    convert: makes the file of its first path from what has grown at its second, where they differ.
    """

    def __init__(self, final: Path, convert: Convert | None = None) -> None:
        self.final = final
        self._convert = convert
        self.file = final.with_name(f".{final.name}.part")
        self.size = 0
        self._descriptor = -1

    def open(self, size: int) -> None:
        """Go on behind the first `size` bytes. Raises OSError, ValueError where they are gone."""
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
        self._descriptor = os.open(self.file, flags, 0o666)
        if os.fstat(self._descriptor).st_size < size:
            raise ValueError(f"{self.file}: has lost what its journal says of it")
        os.ftruncate(self._descriptor, size)
        os.lseek(self._descriptor, size, os.SEEK_SET)
        self.size = size

    def write(self, content: bytes) -> None:
        """Add it all. Raises OSError, and then nothing of it counts."""
        left = memoryview(content)
        while left:
            left = left[os.write(self._descriptor, left) :]
        self.size += len(content)

    def write_at_start(self, content: bytes) -> None:
        """Put it over the first bytes. Raises OSError."""
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        os.write(self._descriptor, content)
        os.lseek(self._descriptor, self.size, os.SEEK_SET)

    def sync(self) -> None:
        """Return when all is on the disk. Raises OSError."""
        os.fsync(self._descriptor)

    def publish(self) -> None:
        """Give the whole file its name; one that has it already stays. Raises OSError."""
        self.close()
        if not self.file.exists():
            return
        if self._convert is None:
            os.replace(self.file, self.final)  # noqa: PTH105  replaces on Windows too
            return
        # what has grown stays until the end, so that a kill finds either
        new = self.final.with_name(f".{self.final.name}.new")
        self._convert(new, self.file)
        sync_file(new)
        os.replace(new, self.final)  # noqa: PTH105

    def close(self) -> None:
        """Close it; what is in it stays."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class PredictionFiles:
    """The files of one prediction, all of them at one point; a context manager that locks them.

    parts: the files; the first gives its name to the journal. made_by: what the rows follow from,
    options by their names, and the names in _WORDS. adopts: those of these names that made_by lacks
    are taken from what is there. force: begin anew, whatever is there.

    Raises ConfigError for files that are another prediction's or nobody's, RunError while another
    process writes them.
    """

    def __init__(
        self,
        parts: Sequence[PartFile],
        made_by: Mapping[str, Any],
        *,
        force: bool,
        adopts: Collection[str] = (),
    ) -> None:
        self._parts = parts
        self._made_by = made_by
        self._adopts = adopts
        self._force = force
        self._first = parts[0].final
        self._journal = self._first.with_name(f".{self._first.name}.journal")
        self.sidecar = self._first.with_name(f"{self._first.name}.json")
        self._lock: BaseFileLock | None = None

    def __enter__(self) -> Self:
        lock = self._first.with_name(f".{self._first.name}.lock")
        with writing(self._first):
            # where it cannot be made, a lock would only be waited for
            lock.touch()
            self._lock = take_lock(lock, self._first)
        return self

    def __exit__(self, *_error: object) -> None:
        for part in self._parts:
            part.close()
        assert self._lock is not None
        self._lock.release()

    @property
    def made_by(self) -> Mapping[str, Any]:
        """What the rows follow from, with what was adopted of it."""
        return self._made_by

    def add_made_by(self, more: Mapping[str, Any]) -> None:
        """Say what else the rows follow from, before the first of them."""
        self._made_by = {**self._made_by, **more}

    @property
    def is_known(self) -> bool:
        """True where this or another prediction has written there, by its journal or document."""
        return _read(self._journal) is not None or _read(self.sidecar) is not None

    def finished(self) -> tuple[Progress, Mapping[str, Any]] | None:
        """The progress and the document of a prediction that is there already; None without one.

        Raises ConfigError for one that is not this one, or was changed since.
        """
        document = _read(self.sidecar)
        gone = not any(part.final.exists() for part in self._parts)
        if document is None or gone or self._force or self._journal.exists():
            return None
        self._require_same(document["made_by"], "was written by")
        progress = Progress(**document["progress"])
        for part in self._parts:
            final, size = part.final, progress.sizes.get(part.final.name)
            if not final.is_file() or final.stat().st_size != size:
                raise ConfigError(
                    f"{final}: is not as imgcls wrote it; name another, or begin anew with --force"
                )
        return progress, document

    def resume(self) -> Progress:
        """How far the rows have come; what is written goes on behind them. Raises OutputError."""
        found = None if self._force else _read(self._journal)
        with writing(self._first):
            if found is None:
                self._journal.unlink(missing_ok=True)
                progress = Progress()
            else:
                self._require_same(found["made_by"], "was begun by")
                progress = Progress(**found["progress"])
            try:
                for part in self._parts:
                    # one that has its name already has no part, and is not written to
                    if not progress.complete or part.file.exists():
                        part.open(progress.sizes.get(part.final.name, 0))
            except ValueError as error:
                raise ConfigError(f"{error}; begin anew with --force") from error
        return progress

    def commit(self, progress: Progress) -> None:
        """Make sure that the rows so far survive whatever comes. Raises OutputError."""
        with writing(self._first, _THEN):
            for part in self._parts:
                part.sync()
            document = {"format": FORMAT, "made_by": self._made_by, "progress": asdict(progress)}
            write_text(self._journal, strict_json(document) + "\n")

    def publish(self, progress: Progress, document: Mapping[str, Any]) -> None:
        """Give the whole files their names. Raises OutputError."""
        with writing(self._first, _THEN):
            for part in self._parts:
                part.publish()
            sync_folder(self._first.parent)
            sizes = {part.final.name: part.final.stat().st_size for part in self._parts}
            done = asdict(progress) | {"sizes": sizes}
            head = {"format": FORMAT, "made_by": self._made_by, "progress": done}
            write_json(self.sidecar, {**head, **document})
            self._journal.unlink(missing_ok=True)
            for part in self._parts:
                part.file.unlink(missing_ok=True)

    def _require_same(self, other: Mapping[str, Any], how: str) -> None:
        adopted = {name: other[name] for name in self._adopts if name in other}
        self._made_by = {**adopted, **self._made_by}
        if other == self._made_by:
            return
        differing = [
            name
            for name in {**self._made_by, **other}
            if self._made_by.get(name) != other.get(name)
        ]
        told = ", ".join(
            _WORDS.get(name)
            or f"--{name.replace('_', '-')} {_shown(other.get(name))} and not "
            f"{_shown(self._made_by.get(name))}"
            for name in differing
        )
        raise ConfigError(
            f"{self._first}: {how} {told}; name another file, or begin anew with --force"
        )


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)


def _read(file: Path) -> dict[str, Any] | None:
    """The document of a journal or a sidecar, None where it is none."""
    with contextlib.suppress(OSError, ValueError, TypeError, LookupError):
        found = read_json(file)
        if found["format"] == FORMAT and found["made_by"] is not None:
            Progress(**found["progress"])
            return dict(found)
    return None
