"""Files as the earlier system, timm and others saved them, made by plain torch and timm."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

CLASSES = ("china", "flower", "violet")


class Wrapped(nn.Module):
    """As the earlier system built its models: timm's without a classifier, and one behind it."""

    def __init__(self, name: str = "test_resnet", classes: int = len(CLASSES)) -> None:
        super().__init__()
        self.backbone = timm.create_model(name, pretrained=False, num_classes=0)
        features = getattr(self.backbone, "head_hidden_size", None) or self.backbone.num_features
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(features, classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.backbone(images))
        return logits


@dataclass
class Training:
    """A training by plain torch, some epochs in."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler | None

    def step(self, seed: int) -> None:
        """One update on random pictures."""
        generator = torch.Generator().manual_seed(seed)
        images = torch.randn(8, 3, 32, 32, generator=generator)
        targets = torch.arange(8) % len(CLASSES)
        self.optimizer.zero_grad()
        self.model.eval()  # dropout would make every step another one
        nn.functional.cross_entropy(self.model(images), targets).backward()
        self.optimizer.step()

    def content(self, epoch: int, **more: Any) -> dict[str, Any]:
        """What the earlier system saved behind an epoch."""
        scaler = torch.amp.GradScaler("cpu", enabled=False)
        return {
            "epoch": epoch,
            "model_state_dict": self.model.state_dict(),
            "optimizer_state_dict": self.optimizer.state_dict(),
            "scheduler_state_dict": self.scheduler and self.scheduler.state_dict(),
            "scaler_state_dict": scaler.state_dict(),
            "metrics": {"val_accuracy": 0.5, "val_loss": 1.25},
            **more,
        }


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.8, 0.95), weight_decay=0.02)


def trained(make_optimizer=adamw, *, epochs: int = 3, t_max: int | None = 6) -> Training:
    """A training of so many epochs of two updates each, by cosine where t_max is given."""
    torch.manual_seed(3)
    model = Wrapped()
    optimizer = make_optimizer(model)
    scheduler = None
    if t_max is not None:
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=t_max)
    training = Training(model, optimizer, scheduler)
    for epoch in range(epochs):
        training.step(2 * epoch)
        training.step(2 * epoch + 1)
        if scheduler is not None:
            scheduler.step()
    return training


def save_earlier(file: Path, training: Training | None = None, **more: Any) -> Training:
    """A file of the earlier system, three epochs in."""
    training = training or trained()
    torch.save(training.content(3, **more), file)
    return training


def of_timm(model: nn.Module, optimizer: torch.optim.Optimizer, **args: Any) -> dict[str, Any]:
    """What timm's train.py saves behind its fifth epoch."""
    settings = argparse.Namespace(model="test_resnet", opt="adamw", **args)
    return {
        "epoch": 4, "arch": "test_resnet", "state_dict": model.state_dict(), "version": 2,
        "optimizer": optimizer.state_dict(), "args": settings, "metric": 71.5,
    }  # fmt: skip
