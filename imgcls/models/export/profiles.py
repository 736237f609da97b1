"""What an exported model takes and gives: a module for exporters to read.

tensor: float32 [B, C, H, W], normalised -> logits float32 [B, classes].
picture: uint8 [B, h, w, 3], decoded RGB of any size -> probabilities float32 [B, classes].
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import nn

from imgcls.errors import ModelError
from imgcls.models.card import Preprocessing
from imgcls.models.export.resizing import FILTERS, Axis, resized_window

PROFILES = ("picture", "tensor")
_GREY, _RGB = 1, 3
# Pillow's weights of red, green and blue in grey, of 2**16 (ITU-R 601-2); their sums are exact
_GREY_OF = (19595.0, 38470.0, 7471.0)


class Exportable(nn.Module):
    """A model in evaluation mode, with the names that its input, output and free sizes go by."""

    input_name: ClassVar[str]
    output_name: ClassVar[str]
    # dimension of the input -> its name, of those that are not fixed
    free: ClassVar[Mapping[int, str]]


class TensorModel(Exportable):
    """float32 [B, C, H, W], normalised -> logits float32 [B, classes]."""

    input_name = "images"
    output_name = "logits"
    free = MappingProxyType({0: "batch"})

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The logits."""
        logits: torch.Tensor = self.model(images)
        return logits


class PictureModel(Exportable):
    """uint8 [B, h, w, 3] -> probabilities float32 [B, classes], as imgcls scores such pictures.

    The pictures are cropped, resized and rounded as data.pixels does it with Pillow.
    """

    input_name = "image"
    output_name = "probabilities"
    free = MappingProxyType({0: "batch", 1: "height", 2: "width"})
    mean: torch.Tensor
    std: torch.Tensor
    fill: torch.Tensor
    grey: torch.Tensor

    def __init__(self, model: nn.Module, preprocessing: Preprocessing, temperature: float) -> None:
        super().__init__()
        self.model = model
        self._preprocessing = preprocessing
        self._temperature = temperature
        mean, std = (
            torch.tensor(v).view(-1, 1, 1) for v in (preprocessing.mean, preprocessing.std)
        )
        self.register_buffer("mean", mean * 255)
        self.register_buffer("std", std * 255)
        levels = [float(round(255 * value)) for value in preprocessing.mean]
        self.register_buffer("fill", torch.tensor(levels).view(-1, 1, 1))
        self.register_buffer("grey", torch.tensor(_GREY_OF).view(-1, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The probabilities."""
        logits: torch.Tensor = self.model((self.pixels(images) - self.mean) / self.std)
        return (logits / self._temperature).softmax(dim=1)

    def pixels(self, images: torch.Tensor) -> torch.Tensor:
        """The model's input before it is normalised: levels, float32 [B, C, H, W]."""
        pixels = images.movedim(-1, 1)
        if self._preprocessing.input_size[0] == _GREY:
            total = (pixels.float() * self.grey).sum(dim=1, keepdim=True)
            pixels = ((total + 2**15) / 2**16).floor()
        across, down = _axes(images, self._preprocessing)
        window = resized_window(pixels, across, down, self._preprocessing.interpolation)
        return torch.where(down.inside[:, None] & across.inside, window, self.fill)


def exportable(
    model: nn.Module, preprocessing: Preprocessing, profile: str, temperature: float = 1.0
) -> Exportable:
    """A copy of the model in evaluation mode, in float32 on a CPU, behind a profile of PROFILES.

    temperature: divides the logits before the softmax of the profile picture; tensor's are as they
    are. Raises ModelError for a model that no decoded RGB picture can be given to.
    """
    check_profile(preprocessing, profile)
    own = copy.deepcopy(model).cpu().float().to(memory_format=torch.contiguous_format).eval()
    own.requires_grad_(requires_grad=False)
    if profile == "tensor":
        return TensorModel(own).eval()
    return PictureModel(own, preprocessing, temperature).eval()


def check_profile(preprocessing: Preprocessing, profile: str) -> None:
    """Raise ModelError for a model that the profile cannot be made of."""
    if profile != "picture":
        return
    channels = preprocessing.input_size[0]
    if channels not in (_GREY, _RGB):
        raise ModelError(
            f"--profile picture: takes RGB pictures, and this model takes {channels} channels, "
            "with transparency among them; export it with --profile tensor"
        )
    if preprocessing.interpolation not in FILTERS:
        raise ModelError(
            f"--profile picture: resizes by {', '.join(FILTERS)}, and this model's pictures by "
            f"{preprocessing.interpolation}, which takes or leaves whole pixels by the last bit of "
            "a number, and runtimes differ there; export it with --profile tensor"
        )


def example_of(profile: str, preprocessing: Preprocessing) -> torch.Tensor:
    """A batch for exporters to follow: of two, because they take a size of one for fixed."""
    if profile == "tensor":
        return torch.zeros(2, *preprocessing.input_size)
    # sides like no other in the model, or an exporter takes them for the same
    return torch.zeros(2, 61, 83, _RGB, dtype=torch.uint8)


def _axes(images: torch.Tensor, preprocessing: Preprocessing) -> tuple[Axis, Axis]:
    """What becomes of the columns and the rows, as evaluation_window in data.pixels.crops says it.

    As tensors, because a decision on a size would be fixed at the example's.
    """
    height, width = (_scalar(side, images) for side in images.shape[1:3])
    _, *sides = preprocessing.input_size
    goal_down, goal_across = (math.floor(side / preprocessing.crop_pct) for side in sides)
    if preprocessing.crop_mode == "squash":
        new = (_scalar(goal_across, images), _scalar(goal_down, images))
    elif preprocessing.crop_mode == "center" and goal_across == goal_down:
        short = torch.minimum(width, height)
        new = (goal_across * width // short, goal_down * height // short)
    else:
        # in float64 as Python has it, so that halves are rounded the same way
        exact = (width.double(), height.double())
        ratios = (exact[0] / goal_across, exact[1] / goal_down)
        choose = torch.maximum if preprocessing.crop_mode == "border" else torch.minimum
        ratio = choose(*ratios)
        # of a very long picture at least one row is left
        columns, rows = ((side / ratio).round().long().clamp(min=1) for side in exact)
        new = (columns, rows)
    return (
        Axis(width, new[0], _centred(new[0] - sides[1]), sides[1]),
        Axis(height, new[1], _centred(new[1] - sides[0]), sides[0]),
    )


def _centred(excess: torch.Tensor) -> torch.Tensor:
    """Where a window begins on an axis that is so much longer: half of it, halves to the even."""
    over, lacking = excess.clamp(min=0), (-excess).clamp(min=0)
    half = over // 2
    return half + (over % 2) * (half % 2) - lacking // 2


def _scalar(value: int, like: torch.Tensor) -> torch.Tensor:
    return torch.scalar_tensor(value, dtype=torch.int64, device=like.device)
