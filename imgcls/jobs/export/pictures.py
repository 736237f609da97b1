"""The pictures that an exported model is compared on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from PIL import Image

from imgcls.config.reading import ReadingConfig
from imgcls.data.loading.dataset import Batch
from imgcls.data.open import open_source
from imgcls.data.pixels.decode import UnreadableImageError
from imgcls.data.pixels.transforms import eval_transform
from imgcls.data.table import SampleTable
from imgcls.errors import DataError, RunError
from imgcls.jobs.checkpoint_config import decoding_of
from imgcls.jobs.evaluate.pictures import run_pictures
from imgcls.jobs.export.subject import Subject

MOST_PICTURES = 200
# of a picture that is held in memory to stand in a batch beside others
_MOST_PIXELS = 640 * 480
_RGB = 3


@dataclass(frozen=True, eq=False)
class Seen:
    """A picture as each side takes it.

    row: of the table. whole: decoded RGB, uint8 [h, w, 3]; empty for the profile tensor. pixels: as
    the checkpoint's model takes them but for normalising, uint8 [C, H, W].
    """

    key: str
    row: int
    whole: np.ndarray
    pixels: torch.Tensor

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the whole picture."""
        return self.whole.shape[1], self.whole.shape[0]


@dataclass(frozen=True, eq=False)
class ProofPictures:
    """Pictures to compare two runtimes on; split: of the run, or `digits`, which stand in for it.

    why: in words, why digits stand in; None where they do not.
    """

    subject: Subject
    table: SampleTable
    rows: tuple[int, ...]
    split: str
    why: str | None = None
    # the checkpoint's logits of each picture, by its key and size, as far as they were asked for
    known: dict[tuple[str, tuple[int, int]], np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def read(self) -> Iterator[Seen]:
        """Each picture that can be read, one at a time. Raises ReadError for a failing disk.

        For the profile picture both sides take the decoded picture: of a large JPEG the checkpoint
        would take a short way, one level off here and there, which is no fault of the file's.
        """
        transform = eval_transform(self.subject.preprocessing)
        # the channels of a decoded picture, whatever the model takes
        images = self.table.decoded(replace(self.table.images.decoding, channels=_RGB)).images
        whole = np.zeros((0, 0, _RGB), np.uint8)
        for row in self.rows:
            try:
                if self.subject.profile == "picture":
                    image = images.open(row)
                    whole, pixels = _array(image), self._pixels(image)
                else:
                    part = self.table.images.open_crop(row, transform.choose)
                    pixels = transform.finish(part)
            except UnreadableImageError:
                continue
            yield Seen(self.table.keys[row], row, whole, pixels)

    def resized(self, seen: Seen, size: tuple[int, int]) -> Seen:
        """A copy of the picture, of (width, height) pixels, as each side takes it."""
        image = Image.fromarray(seen.whole).resize(size, Image.Resampling.BICUBIC)
        return Seen(seen.key, seen.row, _array(image), self._pixels(image))

    def _pixels(self, image: Image.Image) -> torch.Tensor:
        """What the checkpoint's model takes of a decoded RGB picture: uint8 [C, H, W]."""
        own = image if self.table.images.decoding.channels == _RGB else image.convert("L")
        return eval_transform(self.subject.preprocessing)(own)


def proof_pictures(subject: Subject) -> ProofPictures:
    """Up to 200 of the run's val pictures, spread evenly; the embedded digits where there are none.

    Raises CheckpointError for a config of the checkpoint that is not usable.
    """
    checkpoint = subject.checkpoint
    try:
        found = run_pictures(checkpoint, "val", skip=True)
        return ProofPictures(subject, found.table, spread(found.indices, MOST_PICTURES), "val")
    except (DataError, RunError) as error:
        table = open_source("digits", ReadingConfig(), decoding_of(checkpoint))
        rows = spread(np.arange(len(table)), MOST_PICTURES)
        # what to do about it is said of other commands
        return ProofPictures(subject, table, rows, "digits", str(error).partition("; ")[0])


def batch_of(pictures: list[Seen]) -> Batch:
    """The pictures as the checkpoint's scorer takes them."""
    return Batch(
        images=torch.stack([one.pixels for one in pictures]),
        labels=torch.zeros(len(pictures), dtype=torch.int64),
        keys=tuple(one.key for one in pictures),
        valid=torch.ones(len(pictures), dtype=torch.bool),
    )


def held_size(size: tuple[int, int]) -> tuple[int, int]:
    """The (width, height) of a picture's copy that is small enough to be held among others."""
    width, height = size
    factor = min(1.0, (_MOST_PIXELS / (width * height)) ** 0.5)
    return max(1, int(width * factor)), max(1, int(height * factor))


def spread(rows: np.ndarray, most: int) -> tuple[int, ...]:
    """Up to so many of the rows, evenly spread over them."""
    count = min(most, len(rows))
    return tuple(int(row) for row in rows[np.linspace(0, len(rows) - 1, count).astype(np.int64)])


def _array(image: Image.Image) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(image).reshape(image.height, image.width, -1))
