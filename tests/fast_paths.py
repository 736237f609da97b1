"""The tests with every fast path off, or every one on: `pytest --fast-paths off` and `... on`.

Off, pictures go whole through Pillow and timm's own evaluation transform, batches come in new
memory, trainings are in contiguous tensors with the optimizers' plain kernels, and glibc gives
memory back. On, what has to be asked for is the default: the cache, and channels last. Precision is
no path: it changes results, and tests name it where they mean another than float32. This holds for
what runs in the tests' own process; one that a test starts is as ever. Left out are the tests that
ask about a path itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# parts of pytest ids: what is measured and chosen, and the page that states the defaults
_ALWAYS = ("test_compute.py", "test_the_option_reference_is_true")
ABOUT = {
    "off": (*_ALWAYS, "test_handover.py"),
    "on": (
        *_ALWAYS,
        # a picture that is kept needs no file
        "test_a_file_deleted_while_training_is_one_line",
        # features are made of the pictures themselves, which are sharper than those kept
        "test_features_train_as_the_backbone_would",
    ),
}


def is_left_out(which: str, node: str) -> bool:
    """Whether the test of that pytest id asks about a path itself."""
    return any(name in node for name in ABOUT.get(which, ()))


def switch(which: str) -> None:
    """Put `off` or `on` in force for the rest of this process."""
    {"off": _off, "on": _on}[which]()


@dataclass(frozen=True)
class Whole:
    """A crop for which the whole picture is decoded, by Pillow."""

    cut: Any
    reduction: int = 1

    def part(self, size):
        return None

    def frame(self, image):
        return image


def _off() -> None:
    from timm.data import create_transform
    from torchvision.transforms import ColorJitter

    from imgcls.data.loading.handover import SharedBuffers
    from imgcls.data.pixels import transforms
    from imgcls.engine.device import runtime
    from imgcls.engine.training import optim

    def timms_crop(self, size):
        steps = create_transform(
            (3, *self._size[::-1]),
            use_prefetcher=True,
            interpolation=self._resample.name.lower(),
            mean=tuple(level / 255 for level in self._fill),
            crop_pct=self._crop_pct,
            crop_mode=self._crop_mode,
        ).transforms

        def cut(image):
            # the last makes an array of the picture
            for step in steps[:-1]:
                image = step(image)
            return image

        return Whole(cut)

    random_crop = transforms.TrainTransform.choose
    transforms.EvalTransform.choose = timms_crop
    transforms.TrainTransform.choose = lambda self, size: Whole(random_crop(self, size).cut)
    transforms.FusedColorJitter = lambda strength: ColorJitter(strength, strength, strength)
    SharedBuffers.take = lambda self, size_bytes: None
    optim._fused = lambda opt, device_type: {}
    runtime.keep_freed_memory = lambda: None
    _set_defaults({"runtime": {"amp": "off", "channels_last": False}})


def _on() -> None:
    _set_defaults({"data": {"cache": "ram"}, "runtime": {"amp": "off", "channels_last": True}})


def _set_defaults(groups: dict[str, dict[str, object]]) -> None:
    from imgcls.config.run import TrainConfig
    from imgcls.config.tune import TuneConfig

    for group, values in groups.items():
        kind = type(getattr(TrainConfig(), group))
        for name, value in values.items():
            kind.model_fields[name].default = value
        kind.model_rebuild(force=True)
    for whole in (TrainConfig, TuneConfig):
        whole.model_rebuild(force=True)
