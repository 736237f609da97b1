"""A script as people wrote them for the earlier system, with the import alone changed.

It knows torch and imgcls. Run as `python earlier_script.py FOLDER`; it trains, stops, goes on,
evaluates and times in the folder, checks by hand what can be, and prints the rest as JSON.
"""

import json
import math
import sys
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import imgcls
from imgcls import (
    AverageMeter,
    MetricsCalculator,
    MetricTracker,
    benchmark_inference_speed,
    compute_pr_curves,
    compute_roc_auc,
    create_model,
    evaluate_model,
    get_available_models,
    get_device,
    load_checkpoint,
    save_checkpoint,
    set_seed,
)

CLASSES = ["red", "green", "blue", "grey", "dark", "light"]
Loader = DataLoader[tuple[torch.Tensor, ...]]


def pictures(count: int, seed: int) -> Loader:
    """Coloured noise, in batches of which the last is short; targets of int32."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(count) % len(CLASSES)
    colours = torch.tensor(
        [[2.0, 0, 0], [0, 2.0, 0], [0, 0, 2.0], [0, 0, 0], [-1, -1, -1], [1, 1, 1]]
    )
    images = (
        torch.randn(count, 3, 32, 32, generator=generator)
        + 0.2 * colours[targets][:, :, None, None]
    )
    return DataLoader(TensorDataset(images, targets.int()), batch_size=16)


def build() -> tuple[nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    config = imgcls.ModelConfig(
        name="test_resnet", num_classes=len(CLASSES), pretrained=False, img_size=32
    )
    model = create_model(config)
    assert model.get_num_total_params() == sum(p.numel() for p in model.parameters())
    assert model.get_num_trainable_params() == model.get_num_total_params()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    return model, optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4)


def train(folder: Path, trainer: imgcls.Trainer, epochs: int) -> nn.Module:
    """Train until so many epochs are behind, from the last checkpoint where there is one."""
    device = get_device()
    set_seed(0)
    model, optimizer, scheduler = build()
    model.to(device)
    scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")
    loss_fn = nn.CrossEntropyLoss(label_smoothing=0.1)
    tracker = MetricTracker("val_accuracy", mode="max")
    last, start = folder / "last.pth", 1
    if last.exists():
        checkpoint = load_checkpoint(model, last, device=device, strict=True)
        optimizer.load_state_dict(checkpoint["optimizer_state_dict"])
        scheduler.load_state_dict(checkpoint["scheduler_state_dict"])
        scaler.load_state_dict(checkpoint["scaler_state_dict"])
        start = checkpoint.get("epoch", 0) + 1
        assert checkpoint["metrics"]["val_accuracy"] >= 0
    for epoch in range(start, epochs + 1):
        meter = AverageMeter("loss")
        model.train()
        for images, targets in pictures(50, seed=epoch):
            loss = loss_fn(model(images.to(device)), targets.long().to(device))
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            meter.update(loss.item(), images.size(0))
        scheduler.step()
        assert meter.count == 50
        assert math.isfinite(meter.avg)
        metrics = trainer.validate_epoch(model, pictures(40, seed=0), loss_fn, epoch)
        print(f"epoch {epoch}: " + ", ".join(f"{k} {v:.4f}" for k, v in metrics.items()))
        save_checkpoint(
            model, optimizer, epoch, metrics, last, scheduler, scaler, class_names=CLASSES
        )
        if tracker.update(epoch, metrics):
            save_checkpoint(
                model=model, optimizer=optimizer, epoch=epoch, metrics=metrics,
                checkpoint_path=folder / "best.pth", class_names=CLASSES,
            )  # fmt: skip
    return model


def by_hand(model: nn.Module, loader: Loader) -> tuple[torch.Tensor, torch.Tensor]:
    """(targets, logits) of a loader's pictures, by torch alone."""
    model.eval()
    with torch.no_grad():
        logits = torch.cat([model(images.to(get_device())).cpu() for images, _ in loader])
    return torch.cat([targets for _, targets in loader]).long(), logits


def main() -> None:
    folder = Path(sys.argv[1])
    assert "resnet18" in get_available_models()
    trainer = imgcls.Trainer.begin(
        imgcls.TrainConfig.model_validate(
            {
                "data": {"source": "digits"},
                "model": {"name": "test_resnet", "pretrained": False},
                "runtime": {"output": folder / "outputs", "workers": 0},
            }
        )
    )
    train(folder, trainer, epochs=2)
    stopped = train(folder, trainer, epochs=4)
    device = next(stopped.parameters()).device

    model, *_ = build()
    checkpoint = load_checkpoint(model, checkpoint_path=folder / "best.pth", device=str(device))
    loader = pictures(70, seed=100)
    metrics, calculator, all_targets, all_probs = evaluate_model(
        model, loader, device, len(CLASSES), CLASSES
    )
    targets, logits = by_hand(model, loader)
    preds = logits.argmax(1)
    assert all_targets.tolist() == targets.tolist()
    assert torch.allclose(torch.from_numpy(all_probs), logits.softmax(1), atol=1e-5)
    assert metrics["accuracy"] == (preds == targets).double().mean().item()
    assert calculator.compute() == metrics
    assert evaluate_model(
        model=model, dataloader=loader, device=str(device), num_classes=len(CLASSES),
        class_names=CLASSES,
    )[0] == metrics  # fmt: skip

    batchwise = MetricsCalculator(len(CLASSES), CLASSES)
    for first in range(0, 70, 32):
        rows = slice(first, first + 32)
        batchwise.update(preds[rows], targets[rows].int(), logits[rows].double().softmax(1))
    assert batchwise.compute()["f1_macro"] == metrics["f1_macro"]

    loss_fn = nn.CrossEntropyLoss()
    val = trainer.validate_epoch(model=model, dataloader=loader, loss_fn=loss_fn, epoch=4)
    assert math.isclose(val["val_loss"], loss_fn(logits, targets).item(), rel_tol=1e-4)

    areas = compute_roc_auc(all_targets, all_probs, len(CLASSES))
    curves = compute_pr_curves(targets, logits.softmax(1), len(CLASSES), CLASSES)
    speed = benchmark_inference_speed(model, loader, device, num_samples=60)
    again = benchmark_inference_speed(model=model, dataloader=loader, device=str(device))
    print(
        json.dumps(
            {
                "epoch": checkpoint["epoch"],
                "targets": all_targets.tolist(),
                "probs": all_probs.tolist(),
                "preds": preds.tolist(),
                "metrics": metrics,
                "val": val,
                "areas": areas,
                "curves": {curve.class_name: curve.average_precision for curve in curves},
                "speed": speed,
                "samples": again["samples_tested"],
            }
        )
    )


if __name__ == "__main__":
    main()
