"""What 50 epochs of the classifier cost beside one pass of the backbone: `--tune head`.

Run by hand: `python tests/benchmarks/frozen_features.py`. 1,500 crops of scikit-learn's photographs
at 224 pixels through tf_efficientnet_lite0 (random weights cost the same as trained ones), by the
real training job with its defaults, validation and checkpoints included.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from imgcls.config.load import validate
from imgcls.config.run import TrainConfig
from imgcls.engine.training.events import EpochDone, Event, FeaturesDone, FoldStarted
from imgcls.jobs.train.trainer import Trainer

PICTURES, EPOCHS, SIDE = 1500, 50, 256


def make_pictures(root: Path) -> None:
    """PICTURES JPEGs in two classes."""
    rng = np.random.default_rng(0)
    for name, photo in zip(("china", "flower"), load_sample_images().images, strict=True):
        (root / name).mkdir(parents=True)
        for index in range(PICTURES // 2):
            top, left = (rng.integers(0, size - SIDE) for size in photo.shape[:2])
            crop = photo[top : top + SIDE, left : left + SIDE]
            Image.fromarray(crop).save(root / name / f"{index:04d}.jpg", quality=90)


class Clock:
    """An observer that notes when features and epochs were done."""

    def __init__(self) -> None:
        self.start_s = self.features_s = self.end_s = 0.0
        self.pictures = 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, FoldStarted):
            self.start_s = time.monotonic()
        elif isinstance(event, FeaturesDone):
            self.features_s, self.pictures = time.monotonic(), event.total
        elif isinstance(event, EpochDone):
            self.end_s = time.monotonic()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        make_pictures(Path(folder) / "photos")
        config = validate(
            TrainConfig,
            {
                "data": {"source": f"{folder}/photos", "test_size": 0.0},
                "model": {"name": "tf_efficientnet_lite0", "pretrained": False},
                "recipe": {"tune": "head", "head": "linear"},
                "optim": {"epochs": EPOCHS},
                "early_stopping": {"patience": 0},
                "runtime": {"amp": "off", "output": f"{folder}/outputs"},
            },
        )
        clock = Clock()
        Trainer.begin(config, [clock]).train_fold(0)
    backbone_s, epochs_s = clock.features_s - clock.start_s, clock.end_s - clock.features_s
    print(f"one backbone pass over {clock.pictures:,} pictures: {backbone_s:.1f} s")
    print(
        f"{EPOCHS} epochs of the classifier: {epochs_s:.1f} s, {epochs_s / backbone_s:.2f} passes"
    )
    ratio = EPOCHS * backbone_s / (backbone_s + epochs_s)
    print(f"against a backbone pass in every epoch: {ratio:.0f}x as fast")


if __name__ == "__main__":
    main()
