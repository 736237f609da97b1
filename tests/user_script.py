"""What a user writes around imgcls; mypy reads it in strict mode, nobody runs it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

import imgcls
from imgcls.engine.training.events import EpochDone, Event
from imgcls.errors import ConfigError, InterruptedRunError
from imgcls.results.training import TrainResult


def on_event(event: Event) -> None:
    if isinstance(event, EpochDone):
        print(event.epoch, event.history[-1]["val_loss"])


def train(photos: Path) -> TrainResult:
    try:
        return imgcls.train(
            photos, [on_event], model="convnext_tiny", epochs=5, lr="auto", amp="bf16",
            device=torch.device("cuda"), imbalance="logit-adjust", progress=False,
        )  # fmt: skip
    except InterruptedRunError:
        result = imgcls.resume("outputs/run", epochs=6)
        if result is None:
            raise
        return result


def main() -> None:
    result = train(Path("photos"))
    best: float | None = result.folds[0].best_metrics["val_accuracy"]
    report = imgcls.evaluate(result.run, split="val", top_k=(1, 5), fail_under={"accuracy": 0.5})
    print(best, report.metrics["accuracy"], report.page)
    for row in imgcls.predict(["a.jpg", Path("b.jpg")], checkpoint=result.run, sets=0.9).rows or ():
        print(row.path, row.labels[0], row.members)
    print(
        imgcls.benchmark(["resnet18", result.run.name], batch_size=[1, 8]).results[0].images_per_sec
    )
    print(imgcls.inspect("photos").findings, imgcls.export(result.run, format="onnx").exports)
    print(imgcls.tune("photos", trials=3, space={"optim.lr": [1e-3, 1e-2]}).best.params)
    print([entry.name for entry in imgcls.list_models("resnet*", max_params=20)])
    print([row.name for row in imgcls.list_runs().runs], imgcls.report(fold=0).page)
    print(imgcls.import_checkpoint("best.pt", model="resnet18", classes="names.txt"))
    print(imgcls.train(imgcls.TrainConfig()).run)

    model: imgcls.Model = imgcls.load(result.run, device="cpu", unlike=0.05)
    one: imgcls.Prediction = model.predict(Image.new("RGB", (9, 9)))
    several = model.predict(["a.jpg", Path("b.jpg"), np.zeros((9, 9), np.uint8)])
    label, probability = one.top[0]
    print(label.upper(), probability + several[0].probability, one.flag, one.set)
    probabilities: np.ndarray = model.predict_proba("a.jpg")
    features: np.ndarray = model.embed(["a.jpg"])
    print(probabilities.shape, features.shape, model.class_names[0], model.preprocessing.mean)
    with torch.inference_mode():
        print(model.module(torch.zeros(1, *model.preprocessing.input_size)))


try:
    main()
except ConfigError as error:
    print(error)
