"""Crops, worked out before decoding so that only the wanted part is decoded and resized."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from imgcls.data.pixels.resize import MODES, Part

# a JPEG can be decoded smaller by these factors, at a part of the time
_REDUCTIONS = (8, 4, 2)
_LEAST_SHRINK = 1.25
_HARD_EDGED = (Image.Resampling.NEAREST, Image.Resampling.BOX)
# from where on torch's resizing is within one level of Pillow's: a bicubic pass enlarges what the
# pass before it rounded otherwise, where few pixels make one
_LEAST_SHRINK_BY_TORCH = {Image.Resampling.BILINEAR: _LEAST_SHRINK, Image.Resampling.BICUBIC: 4.0}


class Crop(Protocol):
    """A crop and resize that is known before the picture is decoded."""

    @property
    def reduction(self) -> int:
        """The factor, 1, 2, 4 or 8, by which both sides may come smaller from the decoder."""

    def cut(self, image: Image.Image) -> Image.Image:
        """The wanted pixels of the picture, which may have come smaller by `reduction`."""

    def part(self, size: tuple[int, int]) -> Part | None:
        """What `cut` takes of a picture that comes in (width, height), if torch may resize it."""

    def frame(self, image: Image.Image) -> Image.Image:
        """The wanted pixels from the part's, with what is missing around them."""


# from the upright picture's (width, height)
ChooseCrop = Callable[[tuple[int, int]], Crop]


@dataclass(frozen=True)
class Window:
    """A window of `size` on the picture resized to `resized`, as (width, height), in one step.

    left, top: the window's corner on the resized picture; negative where there is a border to fill.
    It is timm's resize and crop without the resized pixels that the crop throws away: the same
    weights on the same pixels, so one level of 255 from it at most but for rarest roundings.
    """

    resized: tuple[int, int]
    left: int
    top: int
    size: tuple[int, int]
    resample: Image.Resampling
    fill: tuple[int, ...]
    reduction: int = 1

    def cut(self, image: Image.Image) -> Image.Image:
        """The window's pixels, with `fill` beyond the picture."""
        inner = self._inner
        size = (inner[2] - inner[0], inner[3] - inner[1])
        if (
            self.resample in _HARD_EDGED
            or any(
                _LEAST_SHRINK * new > old for new, old in zip(self.resized, image.size, strict=True)
            )
            or _vertical_first(image.size, size) != _vertical_first(image.size, self.resized)
        ):
            # where the last bit of the box could tell (filters that take or leave a whole pixel,
            # small pictures, with few and large weights for each pixel), and where PIL's two passes
            # would change places
            pixels = image.resize(self.resized, self.resample).crop(inner)
        else:
            across, down = image.width / self.resized[0], image.height / self.resized[1]
            box = (inner[0] * across, inner[1] * down, inner[2] * across, inner[3] * down)
            pixels = image.resize(size, self.resample, box=_within(box, image.size))
        return self.frame(pixels)

    def part(self, size: tuple[int, int]) -> Part | None:
        """The window without its border, where that is within one level of `cut`."""
        least = _LEAST_SHRINK_BY_TORCH.get(self.resample, math.inf)
        if _vertical_first(size, self.resized) or any(
            least * new > old for new, old in zip(self.resized, size, strict=True)
        ):
            return None
        return Part(size, (0, 0, *size), self.resized, self._inner, self.resample)

    def frame(self, image: Image.Image) -> Image.Image:
        """The picture with `fill` around it."""
        if image.size == self.size:
            return image
        # band by band, because PIL has no way to name a colour of grey and alpha
        levels = zip(image.getbands(), (*self.fill, 0), strict=False)
        canvas = Image.merge(
            image.mode, [Image.new("L", self.size, level) for _band, level in levels]
        )
        canvas.paste(image, (self._inner[0] - self.left, self._inner[1] - self.top))
        return canvas

    @property
    def _inner(self) -> tuple[int, int, int, int]:
        """What of the window lies on the resized picture, there."""
        return (
            max(self.left, 0),
            max(self.top, 0),
            min(self.left + self.size[0], self.resized[0]),
            min(self.top + self.size[1], self.resized[1]),
        )


@dataclass(frozen=True)
class BoxCrop:
    """The box (left, upper, right, lower) of a picture of `whole` pixels, resized to `size`."""

    whole: tuple[int, int]
    box: tuple[int, int, int, int]
    size: tuple[int, int]
    resample: Image.Resampling

    @property
    def reduction(self) -> int:
        """The largest factor that leaves the box no smaller than the result."""
        width, height = self.box[2] - self.box[0], self.box[3] - self.box[1]
        smallest = min(width / self.size[0], height / self.size[1])
        return next((factor for factor in _REDUCTIONS if factor <= smallest), 1)

    def cut(self, image: Image.Image) -> Image.Image:
        """The box's pixels."""
        if image.size == self.whole:
            # timm's order, to the pixel: nothing from beyond the box is blended in
            return image.crop(self.box).resize(self.size, self.resample)
        box = _within(self._box_in(image.size), image.size)
        return image.resize(self.size, self.resample, box=box)

    def part(self, size: tuple[int, int]) -> Part | None:
        """The box to the nearest pixels, in any of torch's filters."""
        if self.resample not in MODES:
            return None
        left, upper, right, lower = (round(edge) for edge in self._box_in(size))
        if left == right or upper == lower:
            return None
        box, window = (left, upper, right, lower), (0, 0, *self.size)
        return Part(size, box, self.size, window, self.resample)

    def frame(self, image: Image.Image) -> Image.Image:
        """The picture: nothing is missing."""
        return image

    def _box_in(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        across, down = size[0] / self.whole[0], size[1] / self.whole[1]
        left, upper, right, lower = self.box
        return left * across, upper * down, right * across, lower * down


def _vertical_first(old: tuple[int, int], new: tuple[int, int]) -> bool:
    """Whether Pillow from 13 on resizes rows of pixels before columns.

    Each pass rounds to whole levels, so pixels depend on their order. Before 13 it never does.
    """
    return old[1] - new[1] > 2 * (old[0] - new[0])


def _within(
    box: tuple[float, float, float, float], size: tuple[int, int]
) -> tuple[float, float, float, float]:
    # a product may pass the edge by its last bit, which PIL refuses
    return box[0], box[1], min(box[2], size[0]), min(box[3], size[1])


def evaluation_window(
    whole: tuple[int, int],
    *,
    size: tuple[int, int],
    crop_pct: float,
    crop_mode: str,
    resample: Image.Resampling,
    fill: tuple[int, ...],
) -> Window:
    """Timm's evaluation crop of a picture of `whole` = (width, height) pixels.

    crop_mode: center resizes the short side to size / crop_pct, border the long side, squash both.
    """
    target = [math.floor(side / crop_pct) for side in size]
    ratios = [side / wanted for side, wanted in zip(whole, target, strict=True)]
    if crop_mode == "squash":
        resized = (target[0], target[1])
    elif crop_mode == "border":
        # of a very long picture at least one row is left
        resized = (
            max(round(whole[0] / max(ratios)), 1),
            max(round(whole[1] / max(ratios)), 1),
        )
    elif target[0] == target[1]:
        short = min(whole)
        width, height = (target[0] if s == short else int(target[0] * s / short) for s in whole)
        resized = (width, height)
    else:
        resized = (round(whole[0] / min(ratios)), round(whole[1] / min(ratios)))
    left, top = (_centred(inner, outer) for inner, outer in zip(size, resized, strict=True))
    return Window(resized, left, top, size, resample, fill)


def _centred(inner: int, outer: int) -> int:
    return round((outer - inner) / 2.0) if outer >= inner else -((inner - outer) // 2)


def random_resized_crop(
    whole: tuple[int, int],
    *,
    size: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    resample: Image.Resampling,
) -> BoxCrop:
    """The random crop of Szegedy et al. 2014 (arXiv:1409.4842), with timm's very draws.

    scale: range of its share of the area; ratio: range of width over height. Draws from python's
    global random state.
    """
    width, height = whole
    logs = (math.log(ratio[0]), math.log(ratio[1]))
    for _attempt in range(10):
        area = random.uniform(*scale) * (width * height)  # noqa: S311  no secret
        aspect = math.exp(random.uniform(*logs))  # noqa: S311
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if w <= width and h <= height:
            top = random.randint(0, height - h)  # noqa: S311
            left = random.randint(0, width - w)  # noqa: S311
            return BoxCrop(whole, (left, top, left + w, top + h), size, resample)
    # no draw fits a very long picture: its middle, as near to it as the ratios allow
    w = min(width, round(height * ratio[1]))
    h = min(height, round(width / ratio[0]))
    left, top = (width - w) // 2, (height - h) // 2
    return BoxCrop(whole, (left, top, left + w, top + h), size, resample)
