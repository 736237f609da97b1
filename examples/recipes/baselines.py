"""The other contestants: timm's recipe, and logistic regression on timm's features."""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss
from timm.data import create_transform, resolve_model_data_config
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from torch import nn
from torch.utils.data import DataLoader, Dataset

if TYPE_CHECKING:
    from compare import Task

BATCH_SIZE = 32
LR = 5e-4


class Pictures(Dataset[tuple[torch.Tensor, int]]):
    """The pictures of one split of a table of path, label, split."""

    def __init__(self, file: Path, split: str, transform: Any) -> None:
        with file.open(newline="", encoding="utf-8") as table:
            rows = list(csv.DictReader(table))
        classes = sorted({row["label"] for row in rows})
        own = [row for row in rows if row["split"] == split]
        self.num_classes = len(classes)
        self.labels = np.array([classes.index(row["label"]) for row in own])
        self._paths = [row["path"] for row in own]
        self._transform = transform

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = Image.open(self._paths[index]).convert("RGB")
        return self._transform(image), int(self.labels[index])


def pretrained(task: Task, num_classes: int) -> nn.Module:
    """The model with its ImageNet weights and, where it has classes, a new classifier."""
    model = timm.create_model(task.model, num_classes=num_classes)
    weights = load_file(task.weights)
    head = model.pretrained_cfg["classifier"] + "."
    kept = {name: value for name, value in weights.items() if not name.startswith(head)}
    missing, unknown = model.load_state_dict(kept, strict=False)
    if unknown or any(not name.startswith(head) for name in missing):
        raise SystemExit(f"{task.weights} holds no weights of {task.model}")
    return model


def pictures_of(task: Task, model: nn.Module, split: str, *, training: bool = False) -> Pictures:
    """A split as timm's train script prepares it."""
    facts = resolve_model_data_config(model)
    facts["input_size"] = (3, task.img_size, task.img_size)
    if training:
        # its defaults: crops of 8% and more of the area, any interpolation, colours by 0.4
        facts = {**facts, "interpolation": "random", "crop_pct": None}
    return Pictures(task.data, split, create_transform(**facts, is_training=training))


@torch.inference_mode()
def outputs(model: nn.Module, pictures: Pictures) -> np.ndarray:
    """float32 [N, outputs], in evaluation mode."""
    model.eval()
    batches = DataLoader(pictures, batch_size=64)
    return torch.cat([model(images) for images, _ in batches]).numpy()


def scores(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """float64 [N, C] and int64 [N] into the three scores of the comparison."""
    found = probabilities.argmax(axis=1)
    classes = range(probabilities.shape[1])
    return {
        "balanced_accuracy": float(balanced_accuracy_score(labels, found)),
        "f1_macro": float(f1_score(labels, found, average="macro")),
        "nll": float(log_loss(labels, probabilities, labels=classes)),
    }


def fit_logistic_regression(task: Task, grid: Sequence[float]) -> dict[str, Any]:
    """Balanced logistic regression on the features of the training pictures.

    grid: scikit-learn's C; of several, the one with the lowest log loss on val is taken.
    """
    begun = time.process_time()
    model = pretrained(task, 0)
    train, val = (pictures_of(task, model, split) for split in ("train", "val"))
    features, val_features = outputs(model, train), outputs(model, val)
    best, kept, chosen = np.inf, None, 0.0
    for c in grid:
        regression = LogisticRegression(C=c, class_weight="balanced", max_iter=2000)
        regression.fit(features, train.labels)
        nll = scores(regression.predict_proba(val_features), val.labels)["nll"]
        if nll < best:
            best, kept, chosen = nll, regression, c
    seconds = time.process_time() - begun
    test = pictures_of(task, model, "test")
    return {
        **scores(kept.predict_proba(outputs(model, test)), test.labels),
        "cpu_s": seconds,
        "c": chosen,
    }


class Training:
    """The loop of timm's train script, for AdamW and one epoch of warm-up."""

    def __init__(self, task: Task, epochs: int) -> None:
        torch.manual_seed(task.seed)
        num_classes = Pictures(task.data, "train", None).num_classes
        self.model = pretrained(task, num_classes)
        pictures = pictures_of(task, self.model, "train", training=True)
        self.loader = DataLoader(
            pictures, BATCH_SIZE, shuffle=True, drop_last=len(pictures) >= BATCH_SIZE
        )
        self.loss = LabelSmoothingCrossEntropy(0.1)
        self.optimizer = create_optimizer_v2(self.model, "adamw", lr=LR, weight_decay=2e-5)
        self.scheduler, self.epochs = create_scheduler_v2(
            self.optimizer,
            num_epochs=epochs,
            warmup_epochs=1,
            step_on_epochs=False,
            updates_per_epoch=len(self.loader),
        )
        self.updates = 0

    def epoch(self) -> None:
        """Train on every batch once, batch norm by the batch's own statistics."""
        self.model.train()
        for images, labels in self.loader:
            self.optimizer.zero_grad()
            self.loss(self.model(images), labels).backward()
            self.optimizer.step()
            self.updates += 1
            self.scheduler.step_update(self.updates)


def train_by_timm(task: Task, budget_s: float) -> dict[str, Any]:
    """As many epochs as fit into so many processor seconds, and the best by accuracy on val."""
    trial = Training(task, 2)
    val, test = (pictures_of(task, trial.model, split) for split in ("val", "test"))
    begun = time.process_time()
    trial.epoch()
    outputs(trial.model, val)
    epoch_s = time.process_time() - begun
    begun = time.process_time()
    training = Training(task, max(2, round(budget_s / epoch_s)))
    best, kept, at = -1.0, {}, 0
    for epoch in range(1, training.epochs + 1):
        training.epoch()
        accuracy = float((outputs(training.model, val).argmax(1) == val.labels).mean())
        if accuracy > best:
            best, at = accuracy, epoch
            kept = {name: value.clone() for name, value in training.model.state_dict().items()}
    seconds = time.process_time() - begun
    training.model.load_state_dict(kept)
    logits = torch.from_numpy(outputs(training.model, test)).double()
    return {
        **scores(torch.softmax(logits, dim=1).numpy(), test.labels),
        "cpu_s": seconds,
        "epochs": training.epochs,
        "best": at,
    }
