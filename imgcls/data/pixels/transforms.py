"""Pictures to uint8 pixels; normalising happens on the device, on whole batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from PIL import Image

from imgcls.config.augment import Augmentation
from imgcls.data.pixels.colours import FusedColorJitter
from imgcls.data.pixels.crops import ChooseCrop, Crop, evaluation_window, random_resized_crop
from imgcls.data.pixels.policies import timm_policy

_RATIO = (3 / 4, 4 / 3)


# decodes a picture, as far as the crop that is chosen of its size needs it
OpenCrop = Callable[[ChooseCrop], Image.Image]


class PixelReader(Protocol):
    """From a picture to the pixels that are batched."""

    def read(self, open_crop: OpenCrop) -> torch.Tensor:
        """The pixels of a picture, uint8."""


class Transform(ABC):
    """A transform in two steps: choose a crop before decoding, finish its pixels afterwards."""

    @abstractmethod
    def choose(self, size: tuple[int, int]) -> Crop:
        """The part of a picture of (width, height) pixels that is wanted."""

    @abstractmethod
    def finish(self, image: Image.Image) -> torch.Tensor:
        """The pixels of that part as uint8 [C, H, W]."""

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Both steps, for a picture that is decoded already."""
        return self.finish(self.choose(image.size).cut(image))

    def read(self, open_crop: OpenCrop) -> torch.Tensor:
        """Both steps, with the decoding between them: uint8 [C, H, W]."""
        return self.finish(open_crop(self.choose))


class SideBySide:
    """The pixels that several transforms make of one picture, one behind the other in a row.

    Each is decoded as it would be alone, to the same pixels.
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self._transforms = tuple(transforms)

    def read(self, open_crop: OpenCrop) -> torch.Tensor:
        """The pixels: uint8 [the sum of C x H x W]."""
        return torch.cat([one.read(open_crop).flatten() for one in self._transforms])


class PreprocessingLike(Protocol):
    """What a model wants of its pictures, in timm's words."""

    @property
    def input_size(self) -> tuple[int, int, int]:
        """Channels, height, width."""

    @property
    def mean(self) -> tuple[float, ...]:
        """Of the input, in 0 to 1."""

    @property
    def interpolation(self) -> str:
        """The resampling filter."""

    @property
    def crop_pct(self) -> float:
        """Share of the resized picture that the crop keeps."""

    @property
    def crop_mode(self) -> str:
        """center, squash or border."""


class EvalTransform(Transform):
    """timm's evaluation transform up to uint8, at most one level of 255 from it."""

    def __init__(self, preprocessing: PreprocessingLike) -> None:
        _, height, width = preprocessing.input_size
        self._size = (width, height)
        self._crop_pct = preprocessing.crop_pct
        self._crop_mode = preprocessing.crop_mode
        self._resample = _resampling(preprocessing.interpolation)
        self._fill = tuple(round(255 * value) for value in preprocessing.mean)

    def choose(self, size: tuple[int, int]) -> Crop:
        """The part that the model is evaluated on."""
        return evaluation_window(
            size,
            size=self._size,
            crop_pct=self._crop_pct,
            crop_mode=self._crop_mode,
            resample=self._resample,
            fill=self._fill,
        )

    def finish(self, image: Image.Image) -> torch.Tensor:
        """The pixels as they are."""
        return _pixels(image)


class TrainTransform(Transform):
    """timm's training transform up to uint8, with the same draws.

    The pixels are the same too, but for JPEGs, which come smaller from their decoder when the crop
    is at least twice as large as the input, and for colours that are rounded once, not three times.
    """

    def __init__(
        self,
        preprocessing: PreprocessingLike,
        augment: Augmentation,
        colours: Callable[[Image.Image], Image.Image],
    ) -> None:
        _, height, width = preprocessing.input_size
        self._size = (width, height)
        self._scale = (augment.scale, 1.0)
        self._resample = _resampling(preprocessing.interpolation)
        self._flips = (
            (augment.hflip, Image.Transpose.FLIP_LEFT_RIGHT),
            (augment.vflip, Image.Transpose.FLIP_TOP_BOTTOM),
        )
        self._colours = colours

    def choose(self, size: tuple[int, int]) -> Crop:
        """A random part."""
        return random_resized_crop(
            size, size=self._size, scale=self._scale, ratio=_RATIO, resample=self._resample
        )

    def finish(self, image: Image.Image) -> torch.Tensor:
        """The pixels, perhaps mirrored, with other colours."""
        for chance, way in self._flips:
            if chance > 0 and float(torch.rand(1)) < chance:
                image = image.transpose(way)
        return _pixels(self._colours(image))


def eval_transform(preprocessing: PreprocessingLike) -> Transform:
    """RGB picture to uint8 [3, H, W], the way the model is evaluated."""
    return EvalTransform(preprocessing)


def train_transform(preprocessing: PreprocessingLike, augment: Augmentation) -> Transform:
    """RGB picture to uint8 [3, H, W] with the random changes to single pictures.

    Raises ConfigError for a policy that timm does not know.
    """
    if augment.keeps_pictures:
        return eval_transform(preprocessing)
    colours: Callable[[Image.Image], Image.Image] = _unchanged
    if augment.auto_augment is not None:
        colours = timm_policy(
            augment.auto_augment,
            input_size=preprocessing.input_size,
            interpolation=preprocessing.interpolation,
            mean=preprocessing.mean,
            color_jitter=augment.color_jitter,
        )
    elif augment.color_jitter:
        colours = FusedColorJitter(augment.color_jitter)
    return TrainTransform(preprocessing, augment, colours)


def _unchanged(image: Image.Image) -> Image.Image:
    return image


def _resampling(interpolation: str) -> Image.Resampling:
    return Image.Resampling[interpolation.upper()]


def _pixels(image: Image.Image) -> torch.Tensor:
    pixels = np.array(image)
    # rows of whole pixels, seen as channels first: the layout that batches keep
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1)
