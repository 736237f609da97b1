"""Size and speed of saving and loading a checkpoint, beside `torch.save` and `torch.load`.

Run by hand: `python tests/benchmarks/checkpoints.py`. Both sides hold the same weights and AdamW
moments and reach the disk (fsync); they take turns, and medians are printed. "Training stops"
is the copy of the state: imgcls writes it in the background, torch.save holds training up for all
of its time. imgcls's times include SHA-256 of every file, when writing and when reading.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import timm
import torch
from torch import nn

from imgcls.engine.checkpoint.folder import (
    load_checkpoint,
    read_checkpoint,
    read_state,
    save_checkpoint,
    take_snapshot,
)
from imgcls.engine.training.optim import OptimizerState
from imgcls.results.checkpoint import Sidecar

MODELS = ("resnet50", "vit_base_patch16_224")
ROUNDS = 5
SIDECAR = Sidecar(class_names=tuple(map(str, range(1000))))


def trained(name: str) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The model and an AdamW that has made a step, so that it has all its moments."""
    model = timm.create_model(name)
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    return model, optimizer


def seconds(action: Callable[[], object]) -> float:
    start_s = time.perf_counter()
    action()
    return time.perf_counter() - start_s


def size_mib(path: Path) -> float:
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files) / 2**20


def measure(name: str, folder: Path) -> None:
    model, optimizer = trained(name)
    ours, theirs = folder / "step-00000001", folder / "theirs.pt"
    times_s: dict[str, list[float]] = {}

    def timed(what: str, action: Callable[[], object]) -> None:
        times_s.setdefault(what, []).append(seconds(action))

    def snapshot() -> object:
        state = {"optimizer": OptimizerState(optimizer).state_dict()}
        return take_snapshot(model, {"architecture": name}, SIDECAR, state)

    def torch_save() -> None:
        with theirs.open("wb") as stream:
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, stream)
            stream.flush()
            os.fsync(stream.fileno())

    def load() -> None:
        checkpoint = load_checkpoint(model, ours)
        OptimizerState(optimizer).load_state_dict(read_state(checkpoint)["optimizer"])

    def torch_load() -> None:
        content = torch.load(theirs, weights_only=True)
        model.load_state_dict(content["model"])
        optimizer.load_state_dict(content["optimizer"])

    for _ in range(ROUNDS):
        shutil.rmtree(ours, ignore_errors=True)
        timed("stop", snapshot)
        taken = snapshot()
        timed("save", lambda taken=taken: save_checkpoint(taken, ours))
        timed("torch.save", torch_save)
        timed("load", load)
        timed("verify", lambda: read_checkpoint(ours))
        timed("torch.load", torch_load)
    median_s = {what: statistics.median(values) for what, values in times_s.items()}
    save_s, load_s = median_s["torch.save"], median_s["torch.load"]
    print(
        f"{name:<22} {size_mib(ours):>5.0f} / {size_mib(theirs):<5.0f}"
        f" {median_s['stop']:>8.2f} s ({median_s['stop'] / save_s:.2f}x)"
        f" {median_s['save']:>8.2f} / {save_s:.2f} s ({median_s['save'] / save_s:.2f}x)"
        f" {median_s['load']:>8.2f} / {load_s:.2f} s ({median_s['load'] / load_s:.2f}x)"
        f" {median_s['verify']:>8.2f} s"
    )


def save_speed() -> float:
    """Saves a second of resnet50 and AdamW, as far as training waits for them."""
    model, optimizer = trained(MODELS[0])
    state = {"optimizer": OptimizerState(optimizer).state_dict()}
    return 1 / seconds(lambda: take_snapshot(model, {"architecture": MODELS[0]}, SIDECAR, state))


def torch_save_speed() -> float:
    """The same by torch.save, which training waits for to the end."""
    model, optimizer = trained(MODELS[0])
    with tempfile.NamedTemporaryFile() as stream:

        def save() -> None:
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, stream)
            stream.flush()
            os.fsync(stream.fileno())

        return 1 / seconds(save)


def main() -> None:
    print(
        f"{'model + AdamW':<22} {'MiB':<13} {'training stops':<18} {'save / torch.save':<24}"
        f" {'load / torch.load':<24} of it hashes"
    )
    for name in MODELS:
        with tempfile.TemporaryDirectory() as folder:
            measure(name, Path(folder))


if __name__ == "__main__":
    main()
