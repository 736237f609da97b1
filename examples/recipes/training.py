"""The loop that all recipes share: phases of epochs, a rate by the share done, what is kept."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from pictures import Task, channels_last, outputs
from torch import nn
from torch.utils.data import DataLoader

BATCH_SIZE = 32
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Phase:
    """Some epochs with one schedule.

    rates: the peak rate of each part of the optimizer. factor: of the share done, 0 to 1, what the
    rates are multiplied by. momentum: likewise, Adam's first beta. frozen: parts that do not train,
    but for the scales and biases of their batch norm. fixed: its epochs are not fitted to a budget.
    """

    epochs: int
    rates: Sequence[float]
    factor: Callable[[float], float]
    momentum: Callable[[float], float] | None = None
    frozen: Sequence[int] = ()
    fixed: bool = False


@dataclass
class Recipe:
    """A model, and how it is trained.

    parts: (part, parameters) of the optimizer, made by `optimizer` from groups with these, their
    weight decay and "part". keep: the last epoch, the best by accuracy on val, or the greedy soup
    (arXiv:2203.05482) of the three best looks at val, of which there are `looks` an epoch.
    patience: looks without a better one before it ends.
    """

    model: nn.Module
    transform: Any
    optimizer: torch.optim.Optimizer
    phases: Sequence[Phase]
    loss: nn.Module = field(default_factory=nn.CrossEntropyLoss)
    keep: Literal["last", "best", "soup"] = "best"
    looks: int = 1
    patience: int | None = None
    clip: float | None = None
    frozen_statistics: bool = False


def decay_groups(
    model: nn.Module, weight_decay: float, part_of: Callable[[str], int] | None = None
) -> list[dict[str, Any]]:
    """Parameter groups by part, norms and biases without weight decay."""
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        key = (part_of(name) if part_of else 0, parameter.ndim > 1)
        group = groups.setdefault(
            key,
            {"params": [], "part": key[0], "weight_decay": weight_decay if key[1] else 0.0},
        )
        group["params"].append(parameter)
    return list(groups.values())


class Training:
    """A recipe at work, until its phases or its patience end."""

    def __init__(self, task: Task, recipe: Recipe) -> None:
        self.recipe = recipe
        self._task = task
        self._val, self._val_labels = task.pictures("val"), task.labels("val")
        self._train = task.pictures("train", recipe.transform)
        recipe.model.to(memory_format=torch.channels_last)
        self._best: list[tuple[float, int, Weights]] = []
        self._looks = 0
        self.epochs = 0

    def fit(self) -> None:
        """Train, and give the model the weights that the recipe keeps."""
        for phase in self.recipe.phases:
            if not self._phase(phase):
                break
        if self.recipe.keep != "last":
            self._restore()

    def _phase(self, phase: Phase) -> bool:
        loader = self._loader()
        steps = phase.epochs * len(loader)
        self._freeze(phase.frozen)
        parts = self.recipe.looks
        look_after = {round(len(loader) * part / parts) for part in range(1, parts + 1)}
        for epoch in range(phase.epochs):
            for number, (images, labels) in enumerate(loader, start=1):
                self._set_rates(phase, (epoch * len(loader) + number - 1) / steps)
                self._step(images, labels)
                if number in look_after and self.recipe.keep != "last" and not self._look():
                    return False
            self.epochs += 1
        return True

    def _loader(self) -> DataLoader[tuple[torch.Tensor, int]]:
        whole = len(self._train) >= BATCH_SIZE
        return DataLoader(self._train, BATCH_SIZE, shuffle=True, drop_last=whole)

    def _freeze(self, parts: Sequence[int]) -> None:
        norms = {
            id(parameter)
            for module in self.recipe.model.modules()
            if isinstance(module, NORMS)
            for parameter in module.parameters()
        }
        for group in self.recipe.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.requires_grad = group["part"] not in parts or id(parameter) in norms

    def _set_rates(self, phase: Phase, done: float) -> None:
        for group in self.recipe.optimizer.param_groups:
            group["lr"] = phase.rates[group["part"]] * phase.factor(done)
            if phase.momentum is not None:
                group["betas"] = (phase.momentum(done), group["betas"][1])

    def _step(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        model, optimizer = self.recipe.model, self.recipe.optimizer
        model.train()
        if self.recipe.frozen_statistics:
            for module in model.modules():
                if isinstance(module, NORMS):
                    module.eval()
        optimizer.zero_grad()
        self.recipe.loss(model(channels_last(images)), labels).backward()
        if self.recipe.clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), self.recipe.clip)
        optimizer.step()

    def _look(self) -> bool:
        """Score on val; False when the patience is at its end."""
        self._looks += 1
        weights = copy.deepcopy(self.recipe.model.state_dict())
        self._best.append((self._accuracy(), self._looks, weights))
        self._best.sort(key=lambda look: (-look[0], look[1]))
        del self._best[3 if self.recipe.keep == "soup" else 1 :]
        patience = self.recipe.patience
        return patience is None or self._looks - self._best[0][1] < patience

    def _accuracy(self) -> float:
        return float((outputs(self.recipe.model, self._val).argmax(1) == self._val_labels).mean())

    def _restore(self) -> None:
        score, _, weights = self._best[0]
        self.recipe.model.load_state_dict(weights)
        kept = [weights]
        for _, _, further in self._best[1:]:
            self.recipe.model.load_state_dict(mean_of([*kept, further]))
            found = self._accuracy()
            if found >= score:
                score = found
                kept.append(further)
        self.recipe.model.load_state_dict(mean_of(kept))


def mean_of(states: Sequence[Mapping[str, torch.Tensor]]) -> Weights:
    """The average of each tensor; the first one's where they count something."""
    return {
        name: torch.stack([state[name] for state in states]).mean(0)
        if value.is_floating_point()
        else value
        for name, value in states[0].items()
    }


def train(
    task: Task, recipe_of: Callable[[int | None], Recipe], budget_s: float | None
) -> tuple[nn.Module, dict[str, Any]]:
    """A trained model, its processor seconds and its epochs.

    recipe_of: the recipe with this number of epochs, or its own. With a budget it has as many as
    fit: what comes before the epochs and one epoch are timed first.
    """
    epochs = None
    if budget_s is not None:
        torch.manual_seed(task.seed)
        begun = time.process_time()
        trial = Training(task, recipe_of(1))
        prepared_s = time.process_time() - begun
        begun = time.process_time()
        trial.fit()
        epoch_s = (time.process_time() - begun) / trial.epochs
        fixed = sum(phase.epochs for phase in trial.recipe.phases if phase.fixed)
        epochs = max(2, round((budget_s - prepared_s) / epoch_s) - fixed)
    torch.manual_seed(task.seed)
    random.seed(task.seed)  # timm's and torchvision's transforms draw from all three
    np.random.seed(task.seed)  # noqa: NPY002
    begun = time.process_time()
    training = Training(task, recipe_of(epochs))
    training.fit()
    return training.recipe.model, {
        "cpu_s": time.process_time() - begun,
        "epochs": training.epochs,
    }
