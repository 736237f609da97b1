"""Pictures kept decoded and shrunk: in shared memory, or in files that later runs use too.

FOLDER/
  pixels.bin   uint8 [N, H, W, C]: a slot for each picture
  entries.bin  int64 [N, 4]: its width and height before it was shrunk, the slot's checksum, a hash
               of the encoded picture; zeros while it is not there
"""

from __future__ import annotations

import errno
import hashlib
import math
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image

from imgcls.data.pixels.crops import BoxCrop, ChooseCrop, Crop
from imgcls.data.pixels.decode import decode_crop
from imgcls.data.pixels.resize import SHRINKABLE, shrink
from imgcls.data.table import ImageStore
from imgcls.errors import OutputError
from imgcls.storage.caches import Hold


class PixelSlots:
    """N slots for pictures of one shape, shared with loader processes.

    shape: (H, W) or (H, W, C). folder: where the files are or will be; None for memory.
    """

    def __init__(self, count: int, shape: tuple[int, ...], folder: Path | None) -> None:
        self._shape = (count, *shape)
        self._folder = folder
        self._tensors: tuple[torch.Tensor, torch.Tensor] | None = None
        # 1 for a slot that was filled or checked in this run
        self._checked: torch.Tensor | None = None

    def prepare(self) -> None:
        """Allocate the memory or files, once, before the loaders start. Raises OutputError."""
        if self._checked is not None:
            return
        count = self._shape[0]
        try:
            if self._folder is None:
                self._tensors = (
                    _shared(self._shape, torch.uint8),
                    _shared((count, 4), torch.int64),
                )
            else:
                self._hold = Hold(self._folder)
                _reserve(self._folder / "pixels.bin", math.prod(self._shape))
                _reserve(self._folder / "entries.bin", count * 4 * 8)
            self._checked = _shared((count,), torch.uint8)
            self._open()
        except (OSError, RuntimeError) as error:
            place = self._folder or "memory"
            reason = getattr(error, "strerror", None) or str(error)
            raise OutputError(f"--cache: it does not go into {place}: {reason}") from error

    def _open(self) -> None:
        if self._tensors is not None:
            self._pixels, self._entries = (tensor.numpy() for tensor in self._tensors)
        elif self._folder is not None:
            files = (self._folder / "pixels.bin", self._folder / "entries.bin")
            self._pixels = np.memmap(files[0], np.uint8, "r+", shape=self._shape)
            self._entries = np.memmap(files[1], np.int64, "r+", shape=(self._shape[0], 4))

    def __getstate__(self) -> dict[str, Any]:
        # maps are opened anew in another process; pickled, they would be copied
        own = ("_pixels", "_entries", "_hold")
        return {k: v for k, v in vars(self).items() if k not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open()

    def is_checked(self, slot: int) -> bool:
        """True for a slot that was filled or checked in this run."""
        return bool(self._flags[slot])

    def check(self, slot: int, content_hash: int) -> bool:
        """True when the slot holds, undamaged, the picture whose encoded bytes have that hash."""
        _, _, checksum, made_from = self._entries[slot].tolist()
        good = bool(made_from == content_hash and checksum == zlib.crc32(self._pixels[slot]))
        if good:
            self._flags[slot] = 1
        return good

    def fill(self, slot: int, size: tuple[int, int], pixels: np.ndarray, content_hash: int) -> None:
        """Keep the pixels, uint8 of the slots' shape, of a picture of (width, height)."""
        self._pixels[slot] = pixels
        # last: an entry promises that the pixels are there
        self._entries[slot] = (*size, zlib.crc32(self._pixels[slot]), content_hash)
        self._flags[slot] = 1

    @property
    def _flags(self) -> torch.Tensor:
        assert self._checked is not None, "prepare() comes first"
        return self._checked

    def read(self, slot: int) -> tuple[tuple[int, int], np.ndarray]:
        """The picture's (width, height) before it was shrunk, and its pixels."""
        width, height = self._entries[slot, :2].tolist()
        return (width, height), self._pixels[slot]


class CachedImages(ImageStore):
    """Some rows of another store, each decoded once.

    rows: int64, ascending. keep: what of a picture is kept. final: that is what is wanted; else
    what is wanted is cut out of it, in the place that the whole picture's size gives.
    """

    def __init__(
        self,
        images: ImageStore,
        rows: np.ndarray,
        slots: PixelSlots,
        keep: ChooseCrop,
        *,
        final: bool,
    ) -> None:
        self._images = images
        self._rows = rows
        self._slots = slots
        self._keep = keep
        self._final = final
        self.decoding = images.decoding
        self.outlives_fork = images.outlives_fork

    def content(self, index: int) -> bytes:
        """Row `index` as it is encoded. Raises UnreadableImageError with the reason."""
        return self._images.content(index)

    def location(self, index: int) -> str:
        """Where row `index` lies, for messages."""
        return self._images.location(index)

    def prepare(self) -> None:
        """Allocate the memory or files for the pixels. Raises OutputError."""
        self._images.prepare()
        self._slots.prepare()

    def open_crop(self, index: int, choose: ChooseCrop) -> Image.Image:
        """The part of row `index` that `choose` wants. Raises UnreadableImageError."""
        slot = int(np.searchsorted(self._rows, index))
        if not self._slots.is_checked(slot):
            self._make_sure(slot, self._images.content(index))
        size, pixels = self._slots.read(slot)
        if self._final:
            return Image.fromarray(pixels)
        crop = choose(size)
        part = crop.part(pixels.shape[1::-1]) if self.decoding.channels in SHRINKABLE else None
        if part is None:
            return crop.cut(Image.fromarray(pixels))
        return crop.frame(Image.fromarray(shrink(pixels, part)))

    def _make_sure(self, slot: int, content: bytes) -> None:
        digest = hashlib.blake2b(content, digest_size=8).digest()
        content_hash = int.from_bytes(digest, "big", signed=True)
        if self._slots.check(slot, content_hash):
            return
        sizes: list[tuple[int, int]] = []

        def keep(size: tuple[int, int]) -> Crop:
            sizes.append(size)
            return self._keep(size)

        pixels = np.asarray(decode_crop(content, self.decoding, keep))
        self._slots.fill(slot, sizes[0], pixels, content_hash)


@dataclass(frozen=True)
class Squeezed:
    """All of a picture in side x side pixels, from which crops come out with their own aspect."""

    side: int
    resample: Image.Resampling

    def __call__(self, size: tuple[int, int]) -> Crop:
        """The crop of a picture of (width, height)."""
        return BoxCrop(size, (0, 0, *size), (self.side, self.side), self.resample)


def _shared(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    tensor = torch.zeros(shape, dtype=dtype)
    return tensor.share_memory_()  # type: ignore[no-untyped-call,no-any-return]


def _reserve(file: Path, size_bytes: int) -> None:
    # not to append: where the file system cannot allocate, the C library writes in every block
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
    with os.fdopen(descriptor, "r+b") as stream:
        reserve(stream, size_bytes)


def reserve(stream: BinaryIO, size_bytes: int) -> None:
    """Make the file that long, on disk: a map of a file with holes kills when the disk is full.

    Raises OSError when there is no room.
    """
    if not hasattr(os, "posix_fallocate"):
        stream.truncate(size_bytes)
        return
    try:
        os.posix_fallocate(stream.fileno(), 0, size_bytes)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        stream.seek(0, os.SEEK_END)
        while (missing := size_bytes - stream.tell()) > 0:
            stream.write(bytes(min(missing, 2**20)))
