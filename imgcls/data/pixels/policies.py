"""timm's policies of random changes, as --aa names them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from PIL import Image, ImageOps

from imgcls.errors import ConfigError


def timm_policy(
    auto_augment: str,
    *,
    input_size: tuple[int, int, int],
    interpolation: str,
    mean: tuple[float, ...],
    color_jitter: float,
) -> Callable[[Image.Image], Image.Image]:
    """Timm's random changes of colours and shape by that policy, for one picture.

    Raises ConfigError for a policy that timm does not know.
    """
    from timm.data import create_transform

    try:
        _, policy, _ = create_transform(
            input_size,
            is_training=True,
            use_prefetcher=True,
            interpolation=interpolation,
            mean=mean,
            color_jitter=color_jitter or None,
            auto_augment=auto_augment,
            separate=True,
        )
    except (AssertionError, KeyError, ValueError, IndexError) as error:
        raise ConfigError(
            f"augment.auto_augment (--aa): timm has no policy {auto_augment!r}; try "
            "rand-m9-mstd0.5, augmix-m3 or original"
        ) from error
    for op in _ops(policy):
        if op.name.startswith("Posterize"):
            op.aug_fn = _posterize
    return policy  # type: ignore[no-any-return]


def _ops(part: Any) -> Iterator[Any]:
    """All single changes that a policy is made of."""
    from timm.data.auto_augment import AugmentOp

    if isinstance(part, AugmentOp):
        yield part
    elif isinstance(part, (list, tuple)):
        for each in part:
            yield from _ops(each)
    elif hasattr(part, "__dict__"):
        yield from _ops(list(vars(part).values()))


def _posterize(image: Image.Image, bits: int, **_others: Any) -> Image.Image:
    """timm's, whose strongest keeps no bits at all: black, which Pillow 13 refuses to make."""
    if bits >= 8:  # noqa: PLR2004  of a byte
        return image
    return ImageOps.posterize(image, bits) if bits > 0 else image.point(lambda _value: 0)
