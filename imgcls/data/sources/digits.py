"""The embedded data set: scikit-learn's 1,797 handwritten digits of 8 x 8 pixels."""

from __future__ import annotations

import numpy as np

from imgcls.columns.texts import Texts
from imgcls.config.reading import ReadingConfig
from imgcls.data.table import ImageStore, SampleTable, SourceDefaults

_LARGEST_VALUE = 16


class DigitImages(ImageStore):
    """The pictures, held in memory: uint8 [N, 8, 8]."""

    def __init__(self, pixels: np.ndarray) -> None:
        self._pixels = pixels

    def content(self, index: int) -> bytes:
        """Row `index` as a binary PGM file: a line of header before the pixels."""
        pixels = self._pixels[index]
        return b"P5 %d %d 255\n" % pixels.shape[::-1] + bytes(pixels)

    def location(self, index: int) -> str:
        """The picture's number."""
        return f"digits/{index:04d}"


class DigitsSource:
    """`digits`; a folder of that name is meant by `./digits`."""

    options = frozenset[str]()

    def matches(self, spec: str) -> bool:
        """True for the word itself."""
        return spec == "digits"

    def read(self, spec: str, reading: ReadingConfig) -> SampleTable:  # noqa: ARG002  no options
        """The data set, with no splits of its own."""
        from sklearn.datasets import load_digits

        data = load_digits()
        pixels = np.round(data.images * (255 / _LARGEST_VALUE)).astype(np.uint8)
        return SampleTable(
            name=spec,
            keys=Texts.of(f"digits/{index:04d}" for index in range(len(pixels))),
            labels=data.target.astype(np.int64),
            class_names=tuple(str(digit) for digit in range(10)),
            images=DigitImages(pixels),
            defaults=SourceDefaults(
                pretrained=False, img_size=32, hflip=0.0, crop_scale=0.8, in_memory=True
            ),
        )
