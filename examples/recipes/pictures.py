"""What all contestants are given: the pictures of a split, and the model with its weights."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from timm.data import create_transform, resolve_model_data_config
from torch import nn
from torch.utils.data import DataLoader, Dataset


@dataclass(frozen=True)
class Task:
    """A table of path, label, split; the model and its weights; the pixels and the seed."""

    data: Path
    model: str
    weights: Path
    img_size: int
    seed: int = 0

    @cached_property
    def rows(self) -> list[dict[str, str]]:
        """The rows of the table."""
        with self.data.open(newline="", encoding="utf-8") as table:
            return list(csv.DictReader(table))

    @cached_property
    def classes(self) -> list[str]:
        """In the order of the columns of all probabilities."""
        return sorted({row["label"] for row in self.rows})

    def labels(self, split: str) -> np.ndarray:
        """int64 [N]."""
        return np.array([self.classes.index(r["label"]) for r in self.rows if r["split"] == split])

    @cached_property
    def preprocessing(self) -> dict[str, Any]:
        """timm's data config of the model, for pictures of img_size."""
        config = resolve_model_data_config(timm.create_model(self.model))
        return {**config, "input_size": (3, self.img_size, self.img_size)}

    def pictures(self, split: str, transform: Any = None) -> Pictures:
        """A split; the transform is by default the one of timm's validation."""
        transform = transform or create_transform(**self.preprocessing)
        rows = [row for row in self.rows if row["split"] == split]
        return Pictures(rows, self.classes, transform)

    def pretrained(self, num_classes: int) -> nn.Module:
        """The model with its weights and, where it has classes, a new classifier."""
        model = timm.create_model(self.model, num_classes=0)
        head = model.pretrained_cfg["classifier"] + "."
        weights = load_file(self.weights)
        kept = {name: value for name, value in weights.items() if not name.startswith(head)}
        missing, unknown = model.load_state_dict(kept, strict=False)
        if unknown or missing:
            raise SystemExit(f"{self.weights} holds no weights of {self.model}")
        model.reset_classifier(num_classes)
        return model


class Pictures(Dataset[tuple[torch.Tensor, int]]):
    """Decoded once, transformed each time."""

    def __init__(self, rows: list[dict[str, str]], classes: list[str], transform: Any) -> None:
        self._images = [Image.open(row["path"]).convert("RGB") for row in rows]
        self._labels = [classes.index(row["label"]) for row in rows]
        self._transform = transform

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self._transform(self._images[index]), self._labels[index]


@torch.inference_mode()
def outputs(model: nn.Module, pictures: Pictures) -> np.ndarray:
    """float32 [N, outputs], in evaluation mode."""
    model.eval()
    batches = DataLoader(pictures, batch_size=64)
    return torch.cat([model(channels_last(images)) for images, _ in batches]).numpy()


def channels_last(images: torch.Tensor) -> torch.Tensor:
    """In the memory format in which convolutions are faster."""
    return images.contiguous(memory_format=torch.channels_last)
