"""The classifier's fit in blocks beside scikit-learn's, on the same frozen features.

Run by hand: `python tests/benchmarks/head_losses.py WEIGHTS.safetensors`, the weights of
tf_efficientnet_lite0. Its features of scikit-learn's digits and of 78 characters in matplotlib's
fonts, and synthetic ones of 100 classes whose variances fall off as those of features do. A quarter
of each set is left out: the CPU's seconds that both fits take, the mean log loss there, and the
mean difference of a picture's losses with its standard error.
"""

from __future__ import annotations

import string
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import timm
import torch
from picture_sets import letters
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_digits

from imgcls.data.loading.features import FeatureSet
from imgcls.jobs.train.head.in_blocks import fit_in_blocks
from imgcls.jobs.train.head.logistic import fit_logistic, log_losses

SIDE = 96
CHARACTERS = string.ascii_letters + string.digits + "!#$%&+<=>?@[{}~*"


def features_of(model: torch.nn.Module, pictures: Sequence[Image.Image]) -> np.ndarray:
    """float32 [N, D], of pictures in [-1, 1] as the model was trained on."""
    found = []
    for begin in range(0, len(pictures), 64):
        some = [picture.convert("RGB").resize((SIDE, SIDE)) for picture in pictures[begin:][:64]]
        inputs = torch.from_numpy(np.stack(some)).permute(0, 3, 1, 2) / 127.5 - 1
        with torch.inference_mode():
            found.append(model(inputs).numpy())
    return np.concatenate(found)


def sets(weights: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(name, features float32 [N, D], labels int64 [N]), in random order."""
    model = timm.create_model("tf_efficientnet_lite0")
    model.load_state_dict(load_file(weights))
    model.reset_classifier(0)
    model.eval()
    rng = np.random.default_rng(0)
    images, labels = load_digits(return_X_y=True)
    pixels = (images.reshape(-1, 8, 8) * 15.9).astype(np.uint8)
    yield "digits", features_of(model, [Image.fromarray(picture) for picture in pixels]), labels
    drawn = list(letters(CHARACTERS))
    order = rng.permutation(len(drawn))
    found = features_of(model, [drawn[number].image for number in order])
    yield "characters", found, np.array([CHARACTERS.index(drawn[n].label) for n in order])
    labels = rng.integers(0, 100, 8000)
    axes, _ = np.linalg.qr(rng.normal(size=(256, 256)))
    noisy = 0.3 * rng.normal(size=(100, 256))[labels] + rng.normal(size=(8000, 256))
    falling = (noisy * np.arange(1, 257) ** -0.5) @ axes.T
    yield "synthetic", falling.astype(np.float32), labels


def main(weights: Path) -> None:
    print("set         pictures  classes  in blocks, s, C, loss      whole, s, C, loss  more")
    for name, features, labels in sets(weights):
        split, num_classes = len(labels) * 3 // 4, int(labels.max()) + 1
        train, test = features[:split], features[split:]
        rows, fits, losses = np.arange(split), [], []
        for in_blocks in (True, False):
            begun_cpu_s = time.process_time()
            if in_blocks:
                head = fit_in_blocks(
                    FeatureSet(rows, train[None]), rows, labels[:split], num_classes,
                    imbalance="none", seed=0, device=torch.device("cpu"),
                )  # fmt: skip
            else:
                head = fit_logistic(
                    train[None], labels[:split], num_classes, imbalance="none", seed=0
                )
            took_cpu_s = time.process_time() - begun_cpu_s
            logits = (test @ head.weight.T + head.bias).astype(np.float64)
            losses.append(log_losses(logits, labels[split:]))
            fits.append(f"{took_cpu_s:12.1f}  {head.c:7.3g}  {losses[-1].mean():.3f}")
        more = losses[0] - losses[1]
        print(
            f"{name:10}  {split:8,}  {num_classes:7}  {fits[0]}  {fits[1]}  "
            f"{more.mean():+.3f} +- {more.std() / len(more) ** 0.5:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
