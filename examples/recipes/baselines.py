"""The other contestants, each as its source has it, on one loop.

Three things differ from the sources, all to the good of the contestants: batches of 32, since the
sets are small; a new classifier as torch makes one, where create_model gives an EfficientNet one so
wide that its first cross-entropy is 14; channels-last, which trains half as long again in the same
time. timm's script would train for 300 epochs: it has no row without a budget.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pictures import Task, outputs
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from timm.data import create_transform
from timm.loss import LabelSmoothingCrossEntropy
from torch import nn
from torchvision import transforms
from torchvision.transforms import InterpolationMode
from training import Phase, Recipe, decay_groups, train

C_GRID = tuple(10.0 ** (exponent / 2) for exponent in range(-6, 3))


@dataclass(frozen=True)
class Finding:
    """Probabilities, float64 [N, C], of the pictures of val and test, and how they came about."""

    val: np.ndarray
    test: np.ndarray
    facts: dict[str, Any]


def trained(
    task: Task, recipe: Callable[[Task, int | None], Recipe], budget_s: float | None
) -> Finding:
    """Train by a recipe, for so many processor seconds or for as many epochs as its source has."""
    model, facts = train(task, lambda epochs: recipe(task, epochs), budget_s)
    val, test = (
        softmax(outputs(model, task.pictures(split)).astype(np.float64), axis=1)
        for split in ("val", "test")
    )
    return Finding(val, test, facts)


def probe(task: Task) -> Finding:
    """scikit-learn's balanced logistic regression on frozen features, C by the log loss on val."""
    begun = time.process_time()
    model = task.pretrained(0)
    regression = fit_probe(task, model, "balanced")
    seconds = time.process_time() - begun
    val, test = (
        regression.predict_proba(outputs(model, task.pictures(split))) for split in ("val", "test")
    )
    return Finding(val, test, {"cpu_s": seconds, "c": float(regression.C)})


def fit_probe(task: Task, model: nn.Module, class_weight: str | None) -> LogisticRegression:
    """Logistic regression on the model's features, at the C of the lowest log loss on val."""
    features, val = (outputs(model, task.pictures(split)) for split in ("train", "val"))
    labels, val_labels = task.labels("train"), task.labels("val")
    candidates = [
        LogisticRegression(C=c, class_weight=class_weight, max_iter=2000).fit(features, labels)
        for c in C_GRID
    ]
    classes = range(len(task.classes))
    return min(
        candidates,
        key=lambda found: log_loss(val_labels, found.predict_proba(val), labels=classes),
    )


def cosine(done: float) -> float:
    """From 1 to 0."""
    return 0.5 * (1 + math.cos(math.pi * done))


def warm_cosine(warm_up: float) -> Callable[[float], float]:
    """A linear rise over this share, then a cosine to 0."""
    return lambda done: (
        done / warm_up if done < warm_up else cosine((done - warm_up) / (1 - warm_up))
    )


def timm_script(task: Task, epochs: int | None) -> Recipe:
    """timm's train script: crops of 8% and more, any interpolation, colours by 0.4, smoothing.

    Cosine with one epoch of warm-up, weight decay 2e-5, AdamW at 5e-4, the best epoch by accuracy.
    """
    model = task.pretrained(len(task.classes))
    config = {**task.preprocessing, "interpolation": "random", "crop_pct": None}
    epochs = epochs or 300
    return Recipe(
        model,
        create_transform(**config, is_training=True),
        torch.optim.AdamW(decay_groups(model, 2e-5)),
        [Phase(epochs, [5e-4], warm_cosine(1 / (epochs + 1)))],
        loss=LabelSmoothingCrossEntropy(0.1),
    )


def one_cycle(start: float, rise: float, end: float) -> Callable[[float], float]:
    """fastai's combined_cos: from start to 1 over the share `rise`, from there to end."""

    def value(done: float) -> float:
        if done < rise:
            return start + (1 - start) * (1 - cosine(done / rise))
        return end + (1 - end) * cosine((done - rise) / (1 - rise))

    return value


class FastaiHead(nn.Sequential):
    """fastai's create_head: both poolings, two layers with batch norm and dropout."""

    def __init__(self, features: int, num_classes: int) -> None:
        super().__init__(
            nn.BatchNorm1d(2 * features),
            nn.Dropout(0.25),
            nn.Linear(2 * features, 512, bias=False),
            nn.ReLU(inplace=True),
            nn.BatchNorm1d(512),
            nn.Dropout(0.5),
            nn.Linear(512, num_classes, bias=False),
        )
        for module in self:
            if isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight)


class FastaiModel(nn.Module):
    """fastai's create_timm_model: timm's features under fastai's own head."""

    def __init__(self, body: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.body = body
        self.head = FastaiHead(body.num_features, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.body.forward_features(images)
        return self.head(torch.cat([features.amax((2, 3)), features.mean((2, 3))], dim=1))


def fastai_transform(task: Task) -> Any:
    """fastai's aug_transforms: flip, 10 degrees, zoom to 1.1, warp and lighting by 0.2."""
    config = task.preprocessing
    size = task.img_size
    # the border is mirrored, as by fastai's reflection padding; the warp is a share of the whole
    border = size // 4
    warp = 0.2 * size / (size + 2 * border)
    return transforms.Compose([
        transforms.Resize(size, InterpolationMode.BICUBIC),
        transforms.CenterCrop(size),
        transforms.RandomHorizontalFlip(),
        transforms.Pad(border, padding_mode="reflect"),
        transforms.RandomApply([transforms.RandomAffine(10, scale=(1.0, 1.1))], 0.75),
        transforms.RandomPerspective(warp, 0.75),
        transforms.CenterCrop(size),
        transforms.RandomApply([transforms.ColorJitter(0.2, 0.2)], 0.75),
        transforms.ToTensor(),
        transforms.Normalize(config["mean"], config["std"]),
    ])  # fmt: skip


def fastai_fine_tune(task: Task, epochs: int | None) -> Recipe:
    """fastai's Learner.fine_tune: one epoch of the head and all batch norms, then of all layers.

    base_lr 2e-3 and half of it, a hundredth of that for the body; one-cycle; the last epoch is
    kept. Its documents leave the number of epochs to the user: 10 without a budget.
    """
    model = FastaiModel(task.pretrained(0), len(task.classes))
    groups = decay_groups(model, 0.01, lambda name: int(name.startswith("head.")))
    base = 2e-3
    return Recipe(
        model,
        fastai_transform(task),
        torch.optim.AdamW(groups, betas=(0.95, 0.99), eps=1e-5),
        [
            Phase(
                1,
                [base / 10, base],
                one_cycle(1 / 25, 0.99, 1e-5),
                momentum=lambda done: 0.95 - 0.1 * one_cycle(0.0, 0.99, 0.0)(done),
                frozen=[0],
                fixed=True,
            ),
            Phase(
                epochs or 10,
                [base / 2 / 100, base / 2],
                one_cycle(1 / 5, 0.3, 1e-5),
                momentum=lambda done: 0.95 - 0.1 * one_cycle(0.0, 0.3, 0.0)(done),
            ),
        ],
        keep="last",
    )


def layers_from_the_top(model: nn.Module) -> Callable[[str], int]:
    """AutoGluon's layer ids: the first number in a parameter's name counts; 0 is the head.

    As its rules have it, all names with "bn2" or "head" are the head's, what is before the numbered
    blocks is the deepest layer.
    """
    names = [name for name, _ in model.named_parameters()]
    of_head = ("head", "norm", "bn2", "classifier", "fc.")
    of_input = ("embed", "cls_token", "stem", "bn1", "conv1")

    def block(name: str) -> str | None:
        if any(word in name for word in of_head):
            return None
        parts = name.split(".")
        number = next((n for n, part in enumerate(parts) if part.isdigit()), None)
        return None if number is None else ".".join([parts[0], parts[number]])

    blocks = list(dict.fromkeys(found for found in map(block, names) if found))

    def layer(name: str) -> int:
        found = block(name)
        if found is not None:
            return len(blocks) - blocks.index(found)
        return len(blocks) + 1 if any(word in name for word in of_input) else 0

    return layer


class TrivialAugment(transforms.TrivialAugmentWide):
    """One of 14 changes at a strength by lot (arXiv:2103.10158), in AutoGluon's narrower ranges."""

    def _augmentation_space(self, num_bins: int) -> dict[str, tuple[torch.Tensor, bool]]:
        strength = torch.linspace(0.0, 1.0, num_bins)
        enhanced = (1.7 * strength - 0.9, False)
        return {
            "Identity": (torch.tensor(0.0), False),
            "AutoContrast": (torch.tensor(0.0), False),
            "Equalize": (torch.tensor(0.0), False),
            "Rotate": (30 * strength, True),
            "Solarize": (255 * (1 - strength), False),
            "Posterize": ((4 * (1 - strength)).round().int().clamp(min=1), False),
            **dict.fromkeys(("Color", "Contrast", "Brightness", "Sharpness"), enhanced),
            **dict.fromkeys(("ShearX", "ShearY"), (0.3 * strength, True)),
            **dict.fromkeys(("TranslateX", "TranslateY"), ((10 * strength).int(), True)),
        }


def autogluon(task: Task, epochs: int | None) -> Recipe:
    """AutoGluon multimodal's defaults: AdamW at 1e-4, layer decay 0.9, weight decay 1e-3, clip 1.

    20 epochs, cosine after a tenth of warm-up, TrivialAugment; val twice an epoch, ten looks of
    patience, the greedy soup of the three best.
    """
    model = task.pretrained(len(task.classes))
    layer = layers_from_the_top(model)
    depth = max(layer(name) for name, _ in model.named_parameters())
    config = task.preprocessing
    transform = transforms.Compose([
        transforms.Resize(task.img_size, InterpolationMode.BICUBIC),
        transforms.CenterCrop(task.img_size),
        TrivialAugment(),
        transforms.ToTensor(),
        transforms.Normalize(config["mean"], config["std"]),
    ])  # fmt: skip
    return Recipe(
        model,
        transform,
        torch.optim.AdamW(decay_groups(model, 1e-3, layer)),
        [Phase(epochs or 20, [1e-4 * 0.9**n for n in range(depth + 1)], warm_cosine(0.1))],
        keep="soup",
        looks=2,
        patience=10,
        clip=1.0,
    )


def lp_ft(task: Task, epochs: int | None) -> Recipe:
    """LP-FT (arXiv:2202.10054): the probe as the classifier, then all layers by SGD with a cosine.

    20 epochs at 1e-3 and the best by accuracy, batch norm as in evaluation.
    Its authors' sweep over six rates is left out, which would cost six times as much; 1e-3 "does
    well in practice", their code says.
    """
    model = task.pretrained(len(task.classes))
    regression = fit_probe(task, task.pretrained(0), None)
    classifier = model.get_classifier()
    with torch.no_grad():
        classifier.weight.copy_(torch.from_numpy(regression.coef_))
        classifier.bias.copy_(torch.from_numpy(regression.intercept_))
    groups = decay_groups(model, 0.0)
    return Recipe(
        model,
        create_transform(**task.preprocessing, is_training=True, color_jitter=None),
        torch.optim.SGD(groups, lr=1e-3, momentum=0.9),
        [Phase(epochs or 20, [1e-3], cosine)],
        frozen_statistics=True,
    )
