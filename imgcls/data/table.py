"""The SampleTable that every source gives, and the store of its pictures."""

from __future__ import annotations

import copy
import difflib
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image

from imgcls.columns.texts import BLOCK, Texts
from imgcls.config.reading import ReadingConfig
from imgcls.data.names import shortened
from imgcls.data.pixels.crops import ChooseCrop
from imgcls.data.pixels.decode import DecodeSettings, decode, decode_crop, why_unreadable
from imgcls.errors import DataError


class FileState(NamedTuple):
    """Size and time of a picture's file, known without reading it.

    size_bytes: as it is encoded, None where only reading tells. changed_s: when its file last got
    other content, another name or owner, in seconds since 1970.
    """

    size_bytes: int | None
    changed_s: float


class ImageStore(ABC):
    """Reads the pictures of a table, one at a time; may be sent to a loader process."""

    decoding: DecodeSettings = DecodeSettings()
    why_missing: str = ""
    # False where forked processes cannot read the pictures
    outlives_fork: bool = True

    @abstractmethod
    def content(self, index: int) -> bytes:
        """Row `index` as it is encoded. Raises UnreadableImageError with the reason."""

    def head(self, index: int, size: int) -> bytes:
        """The first bytes of row `index`. Raises UnreadableImageError with the reason."""
        return self.content(index)[:size]

    @abstractmethod
    def location(self, index: int) -> str:
        """Where row `index` lies, for messages."""

    def state(self, index: int) -> FileState | None:  # noqa: ARG002
        """Size and time of row `index`, without reading it; None where not known."""
        return None

    def missing(self) -> Sequence[int]:
        """Rows that were named and lead to no file; none where the source saw what is there."""
        return ()

    def prepare(self) -> None:  # noqa: B027  most have nothing to prepare
        """Allocate what loader processes share, once, before they start."""

    def open(self, index: int) -> Image.Image:
        """Row `index`, decoded. Raises UnreadableImageError with the reason, and ReadError."""
        try:
            return decode(self.content(index), self.decoding)
        except (OSError, MemoryError) as error:
            raise why_unreadable(error, self.location(index)) from error

    def open_crop(self, index: int, choose: ChooseCrop) -> Image.Image:
        """The part of row `index` that `choose` wants. Raises UnreadableImageError."""
        return decode_crop(self.content(index), self.decoding, choose)


class _SelectedImages(ImageStore):
    """Some rows of another store."""

    def __init__(self, images: ImageStore, rows: np.ndarray) -> None:
        self._images = images
        self._rows = rows
        self.decoding = images.decoding
        self.outlives_fork = images.outlives_fork

    def content(self, index: int) -> bytes:
        return self._images.content(int(self._rows[index]))

    def head(self, index: int, size: int) -> bytes:
        return self._images.head(int(self._rows[index]), size)

    def location(self, index: int) -> str:
        return self._images.location(int(self._rows[index]))

    def state(self, index: int) -> FileState | None:
        return self._images.state(int(self._rows[index]))


@dataclass(frozen=True)
class SourceDefaults:
    """What `auto` stands for with this source.

    hflip: the largest chance of mirroring; crop_scale: the smallest random crop; whatever the
    preset of --augment has.
    """

    pretrained: bool = True
    img_size: int | None = None
    hflip: float = 0.5
    crop_scale: float = 0.0
    in_memory: bool = False


@dataclass(frozen=True, eq=False)
class SampleTable:
    """N samples sorted by key.

    keys: N names, stable across machines (POSIX paths below the root). labels: int64 [N], an index
    into class_names. splits: the split that the source itself gives each row, or None. groups: what
    may not be divided, "" for a row that is its own group, or None. folds: int64 [N], the fold that
    the source gives each row, -1 for a row that is in none, or None.
    digests: the sha256 of each picture as it is encoded, in hex, "" where not known, or None.
    columns: whatever else the source says of each row (site, camera, ...), N texts a column.
    Other sequences of texts may be given, and are kept as Texts.
    notes: what the user should know about the source. origin: what opens it again, `source` and the
    options of reading that were given.
    """

    name: str
    keys: Texts
    labels: np.ndarray
    class_names: tuple[str, ...]
    images: ImageStore
    splits: Texts | None = None
    groups: Texts | None = None
    folds: np.ndarray | None = None
    digests: Texts | None = None
    columns: Mapping[str, Texts] = field(default_factory=dict)
    defaults: SourceDefaults = field(default_factory=SourceDefaults)
    notes: tuple[str, ...] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("keys", "splits", "groups", "digests"):
            given = getattr(self, name)
            if given is not None:
                object.__setattr__(self, name, Texts.of(given))
        columns = {title: Texts.of(texts) for title, texts in self.columns.items()}
        object.__setattr__(self, "columns", columns)

    def __len__(self) -> int:
        return len(self.keys)

    def class_counts(self, indices: np.ndarray | None = None) -> np.ndarray:
        """Pictures of each class, among the rows given or all: int64 [C]."""
        labels = self.labels if indices is None else self.labels[indices]
        return np.bincount(labels, minlength=len(self.class_names))

    def select(self, rows: np.ndarray) -> SampleTable:
        """The table of these rows, int64, alone."""

        def chosen(texts: Texts | None) -> Texts | None:
            return None if texts is None else texts.select(rows)

        return replace(
            self,
            keys=self.keys.select(rows),
            labels=self.labels[rows],
            images=_SelectedImages(self.images, rows),
            splits=chosen(self.splits),
            groups=chosen(self.groups),
            digests=chosen(self.digests),
            folds=None if self.folds is None else self.folds[rows],
            columns={title: texts.select(rows) for title, texts in self.columns.items()},
        )

    def decoded(self, decoding: DecodeSettings) -> SampleTable:
        """The same samples, their pictures decoded otherwise; this table keeps its own way."""
        images = copy.copy(self.images)
        images.decoding = decoding
        return replace(self, images=images)

    def fingerprint(self) -> str:
        """A hash of which picture has which class name, whatever the order of rows."""
        digest = hashlib.sha256()
        order, fresh = self.keys.ranked()
        if not fresh.all():  # equal names by their labels
            order = order[np.lexsort((self.labels[order], np.cumsum(fresh)))]
        names = self.class_names
        for start in range(0, len(order), BLOCK):
            rows = order[start : start + BLOCK]
            labelled = zip(self.keys.select(rows), self.labels[rows].tolist(), strict=True)
            digest.update("".join(f"{key}\0{names[label]}\n" for key, label in labelled).encode())
        return digest.hexdigest()

    def relabel(self, class_names: Sequence[str]) -> SampleTable:
        """The same samples with labels in another order of classes, matched by name.

        A class without samples is fine. Raises DataError for one that `class_names` lacks.
        """
        unknown = [
            (name, int(count))
            for name, count in zip(self.class_names, self.class_counts(), strict=True)
            if count and name not in class_names
        ]
        if unknown:
            name, count = unknown[0]
            # case and stray spaces are what names differ by most often
            folded = {known.strip().casefold(): known for known in class_names}
            near = difflib.get_close_matches(name.strip().casefold(), folded, n=1, cutoff=0.7)
            hint = f" (did you mean {folded[near[0]]!r}?)" if near else ""
            others = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
            raise DataError(
                f"{self.name}: class {name!r}{hint}{others} with {count} pictures is not one the "
                f"model knows: {shortened(class_names)}"
            )
        position = {name: index for index, name in enumerate(class_names)}
        mapping = np.array([position.get(name, -1) for name in self.class_names], dtype=np.int64)
        return replace(self, labels=mapping[self.labels], class_names=tuple(class_names))


class Source(Protocol):
    """One kind of data that a user may name."""

    @property
    def options(self) -> frozenset[str]:
        """The fields of ReadingConfig that say something about data of this kind."""

    def matches(self, spec: str) -> bool:
        """True when `spec` names data of this kind."""

    def read(self, spec: str, reading: ReadingConfig) -> SampleTable:
        """The data as a table. Raises DataError when it cannot be used."""
