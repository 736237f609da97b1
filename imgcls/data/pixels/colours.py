"""torchvision's colour jitter in one pass over the pixels."""

from __future__ import annotations

from PIL import Image, ImageStat
from torchvision.transforms import ColorJitter

# what PIL's grey is made of (ITU-R 601-2)
_GREY = (0.299, 0.587, 0.114)


class FusedColorJitter:
    """Brightness, contrast and saturation by random factors, with torchvision's very draws.

    Each of the three leaves a pixel at p * itself + q * its grey + r, so all three together do,
    in whatever order they are drawn. Levels are rounded and clipped once, at the end, and so are
    not lost between the steps. strength: factors come from 1 - strength to 1 + strength.
    """

    def __init__(self, strength: float) -> None:
        self._jitter = ColorJitter(strength, strength, strength)

    def __call__(self, image: Image.Image) -> Image.Image:
        """An RGB picture in other colours; others by torchvision, step by step."""
        if image.mode != "RGB":
            return self._jitter(image)
        jitter = self._jitter
        order, brightness, contrast, saturation, _ = ColorJitter.get_params(
            jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue
        )
        mean = int(ImageStat.Stat(image.convert("L")).mean[0] + 0.5)
        p, q, r = 1.0, 0.0, 0.0
        for step in order.tolist():
            if step == 0:
                p, q, r = brightness * p, brightness * q, brightness * r
            elif step == 1:
                middle = (p + q) * mean + r
                p, q, r = contrast * p, contrast * q, contrast * r + (1 - contrast) * middle
            elif step == 2:  # noqa: PLR2004  torchvision's numbers
                p, q = saturation * p, saturation * q + (1 - saturation) * (p + q)
        rows = [
            [q * grey + (p if into == of else 0.0) for of, grey in enumerate(_GREY)] + [r]
            for into in range(len(_GREY))
        ]
        return image.convert("RGB", [value for row in rows for value in row])
