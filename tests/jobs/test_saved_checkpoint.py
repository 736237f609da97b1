"""Checkpoints of a script's own training: saved, loaded again, and used by every command."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from conftest import tiny_config
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from torch import nn
from torch.optim import lr_scheduler

import imgcls
from imgcls.errors import CheckpointError, ConfigError, DeviceError, ModelError, OutputError
from imgcls.storage import durable

NAMES = ["china", "flower", "violet"]
SIZE = {"input_size": (3, 32, 32), "crop_pct": 1.0}


def make(**options):
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=3, **options)


def train_one(model, optimizer, scheduler=None):
    """One epoch of one update on the same pictures each time."""
    images = torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)
    model.train()

    def closure():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), torch.tensor([0, 2]))
        loss.backward(create_graph=getattr(optimizer, "is_second_order", False))
        return loss

    loss = optimizer.step(closure)
    if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
        scheduler.step(loss.item())
    elif isinstance(scheduler, lr_scheduler.LRScheduler):
        scheduler.step()


def save(folder, model=None, **changes):
    given = {
        "model": model or make(), "optimizer": None, "epoch": 1, "metrics": {"accuracy": 0.5},
        "checkpoint_path": folder, "class_names": NAMES, **SIZE, **changes,
    }  # fmt: skip
    return imgcls.save_checkpoint(**given)


def load(model, path, **options):
    return imgcls.load_checkpoint(model, path, **{"device": "cpu", **options})


OPTIMIZERS = {
    "torch adamw": lambda m: torch.optim.AdamW(m.parameters(), lr=1e-3, amsgrad=True),
    "torch sgd": lambda m: torch.optim.SGD(m.parameters(), lr=1e-2, momentum=0.9, nesterov=True),
    "torch plain sgd": lambda m: torch.optim.SGD(m.parameters(), lr=1e-2),
    "torch rmsprop": lambda m: torch.optim.RMSprop(m.parameters(), lr=1e-3, centered=True),
    "torch lbfgs": lambda m: torch.optim.LBFGS(m.fc.parameters(), lr=1e-2, max_iter=2),
    "timm adamw": lambda m: create_optimizer_v2(m, "adamw", lr=1e-3, layer_decay=0.7),
    "timm lamb": lambda m: create_optimizer_v2(m, "lamb", lr=1e-3),
    "timm lion": lambda m: create_optimizer_v2(m, "lion", lr=1e-4),
    "timm adafactorbv": lambda m: create_optimizer_v2(m, "adafactorbv", lr=1e-3),
    "timm lookahead": lambda m: create_optimizer_v2(m, "lookahead_radam", lr=1e-3),
}
SCHEDULERS = {
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=7),
    "multi step": lambda o: lr_scheduler.MultiStepLR(o, [1, 2, 4], gamma=0.5),
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, max_lr=0.1, total_steps=9),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 0.9**epoch),
    "plateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0),
    "restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=3),
    "sequence": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o), lr_scheduler.ExponentialLR(o, 0.9)], milestones=[2]
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_goes_on_as_if_it_had_not_stopped(tmp_path, name):
    """Bit for bit, torch's own and timm's; also those without any state."""
    model = make()
    optimizer = OPTIMIZERS[name](model)
    train_one(model, optimizer)
    saved = imgcls.save_checkpoint(
        model, optimizer, 1, {}, tmp_path / "last.pth", class_names=NAMES, **SIZE
    )
    other = make()
    nn.init.zeros_(other.fc.weight)
    again = OPTIMIZERS[name](other)
    checkpoint = load(other, saved)
    again.load_state_dict(checkpoint["optimizer_state_dict"])
    for one, its in ((model, optimizer), (other, again)):
        train_one(one, its)
    for key, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_goes_on_as_if_it_had_not_stopped(tmp_path, name):
    """The same rates in the epochs to come."""
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = SCHEDULERS[name](optimizer)
    for _ in range(2):
        train_one(model, optimizer, scheduler)
    saved = save(tmp_path / "last", model, optimizer=optimizer, scheduler=scheduler)
    other = make()
    again = torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9)
    follows = SCHEDULERS[name](again)
    checkpoint = load(other, saved)
    again.load_state_dict(checkpoint["optimizer_state_dict"])
    follows.load_state_dict(checkpoint["scheduler_state_dict"])
    for _ in range(4):
        train_one(model, optimizer, scheduler)
        train_one(other, again, follows)
        assert again.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]


@pytest.mark.parametrize("sched", ["cosine", "step", "poly"])
def test_a_scheduler_of_timm_goes_on(tmp_path, sched):
    """Stepped by the epoch to go on with."""

    def build():
        model = make()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        return model, optimizer, create_scheduler_v2(optimizer, sched, num_epochs=9)[0]

    model, optimizer, scheduler = build()
    for epoch in (1, 2):
        scheduler.step(epoch, 1.0 / epoch)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    saved = save(tmp_path / "x", model, optimizer=optimizer, epoch=2, scheduler=scheduler,
                 scaler=scaler)  # fmt: skip
    other, again, follows = build()
    checkpoint = load(other, saved)
    again.load_state_dict(checkpoint["optimizer_state_dict"])
    follows.load_state_dict(checkpoint["scheduler_state_dict"])
    start = checkpoint.get("epoch", 0) + 1
    assert start == 3
    for epoch in range(start, 9):
        scheduler.step(epoch, 1.0)
        follows.step(epoch, 1.0)
        assert again.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
    of_device = torch.amp.GradScaler("cpu", init_scale=2.0)
    of_device.load_state_dict(checkpoint["scaler_state_dict"])
    assert of_device.get_scale() == 8.0


def test_a_run_of_imgcls_is_gone_on_with_by_a_script(tmp_path, photos):
    """Its epochs count from 1; its optimizer, schedule and scaler fit those of its kind."""
    from imgcls.engine.training.schedule import Schedule

    config = tiny_config(photos, runtime={"output": str(tmp_path / "out")})
    run = imgcls.train(config).run
    model = imgcls.create_model(
        imgcls.ModelConfig(name="test_resnet", num_classes=3, pretrained=False, img_size=32)
    )
    checkpoint = load(model, run / "fold_0" / "checkpoints" / "last", strict=True)
    assert checkpoint["epoch"] == checkpoint["metrics"]["epoch"] == 2
    assert checkpoint.get("epoch", 0) + 1 == 3
    assert checkpoint["metrics"]["val_accuracy"] == checkpoint.sidecar.metrics["val_accuracy"]
    assert checkpoint["class_names"] == list(checkpoint.class_names)
    optimizer = create_optimizer_v2(model, "adamw", lr=1e-3, weight_decay=0.05)
    optimizer.load_state_dict(checkpoint["optimizer_state_dict"])
    rate = optimizer.param_groups[0]["lr"]
    scheduler = lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5**epoch)
    scheduler.load_state_dict(checkpoint["scheduler_state_dict"])
    assert scheduler.get_last_lr() == [rate] * len(optimizer.param_groups)
    train_one(model, optimizer, scheduler)
    assert scheduler.last_epoch == 3
    assert optimizer.param_groups[0]["lr"] == scheduler.base_lrs[0] * 0.5**3
    cosine = lr_scheduler.CosineAnnealingLR(optimizer, T_max=9)
    cosine.load_state_dict(checkpoint["scheduler_state_dict"])
    assert cosine.last_epoch == 2
    timms, _ = create_scheduler_v2(optimizer, "cosine", num_epochs=9)
    timms.load_state_dict(checkpoint["scheduler_state_dict"])
    ours = Schedule(optimizer, sched="cosine", epochs=9, warmup_epochs=0, min_lr=0,
                    steps_per_epoch=2)  # fmt: skip
    ours.load_state_dict(checkpoint["scheduler_state_dict"])
    assert ours.updates > 0
    torch.amp.GradScaler("cpu", enabled=False).load_state_dict(checkpoint["scaler_state_dict"])
    with pytest.raises(CheckpointError, match="is a file, not a checkpoint folder"):
        load(model, run / "config.yaml")
    with pytest.raises(ConfigError, match="was trained by imgcls, so it is not replaced"):
        save(checkpoint.folder, model)


def test_a_copy_without_its_state_has_weights_alone(tmp_path):
    """The keys are not there, and say why; a model folder of others has no epoch either."""
    model = make()
    saved = save(tmp_path / "x", model, optimizer=torch.optim.Adam(model.parameters()))
    assert "optimizer_state_dict" in load(make(), saved)
    (saved / "state.safetensors").unlink()
    checkpoint = load(make(), saved)
    assert "optimizer_state_dict" not in checkpoint
    assert checkpoint.get("optimizer_state_dict") is None
    assert checkpoint["epoch"] == 1
    with pytest.raises(KeyError, match="holds no such training state"):
        checkpoint["optimizer_state_dict"]
    with pytest.raises(KeyError, match="nonsense"):
        checkpoint["nonsense"]
    (saved / "checkpoint.json").unlink()
    checkpoint = load(make(), saved)
    assert (checkpoint.get("epoch", 0) + 1, checkpoint["metrics"]) == (1, {})


def test_a_damaged_state_is_refused_when_it_is_asked_for(tmp_path):
    """The weights beside it are good."""
    model = make()
    saved = save(tmp_path / "x", model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    os.truncate(saved / "state.safetensors", 3)
    checkpoint = load(make(), saved)
    with pytest.raises(CheckpointError, match=r"state\.safetensors: damaged"):
        checkpoint["optimizer_state_dict"]


def test_metrics_come_back_as_they_were_given(tmp_path):
    """Tensors and numpy's numbers as numbers; nan, arrays and texts too."""
    numbers = {"accuracy": torch.tensor(0.5), "f1": np.float64(0.25), "n": 3, "auc": None}
    found = load(make(), save(tmp_path / "x", metrics=numbers))["metrics"]
    assert found == {"accuracy": 0.5, "f1": 0.25, "n": 3, "auc": None}
    assert type(found["accuracy"]) is float
    odd = {"loss": float("nan"), "confusion": np.eye(2, dtype=np.int64), "by": {"a": [1, "b"]}}
    checkpoint = load(make(), save(tmp_path / "x", metrics=odd))
    found = checkpoint["metrics"]
    assert np.isnan(found["loss"])
    assert np.array_equal(found["confusion"], odd["confusion"])
    assert found["by"] == odd["by"]
    assert checkpoint.sidecar.metrics == {"loss": None}
    assert load(make(), save(tmp_path / "x", metrics=None))["metrics"] == {}


def test_every_command_takes_it(command, tmp_path, photos):
    """Evaluated on pictures, classified with and timed, by its names and its preprocessing."""
    saved = save(tmp_path / "runs" / "best.pth", mean=(0.5,) * 3, std=(0.5,) * 3)
    common = ("--device", "cpu", "--workers", "0")
    done = command(
        "evaluate", saved, "--data", photos, "--ci", "none", "--no-report", *common, "--json"
    )
    assert done.code == 0, done.err
    done = command(
        "predict", photos, "--checkpoint", saved, "--output", tmp_path / "p.csv", *common
    )
    assert done.code == 0, done.err
    with (tmp_path / "p.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 48
    assert {row["label"] for row in rows} <= set(NAMES)
    done = command("benchmark", saved, "--num-samples", "4", "--device", "cpu")
    assert done.code == 0, done.err
    done = command("evaluate", saved)
    assert done.code == 2
    assert "--data" in done.error_lines[0]


def test_class_names_are_told_or_their_lack_is(tmp_path):
    """A loaded model knows them; else they are numbers, with one warning."""
    model = make()
    load(model, save(tmp_path / "named", mean=(0.25,) * 3))
    saved = imgcls.save_checkpoint(model, None, 2, {}, tmp_path / "again")
    checkpoint = load(make(), saved)
    assert checkpoint.class_names == tuple(NAMES)
    assert checkpoint.card["pretrained_cfg"]["mean"] == [0.25] * 3
    with pytest.warns(UserWarning, match="called 0 to 2; give class_names") as caught:
        saved = imgcls.save_checkpoint(make(), None, 2, {}, tmp_path / "unnamed")
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert load(make(), saved).class_names == ("0", "1", "2")


def test_a_checkpoint_is_replaced_and_nothing_else(tmp_path):
    """As a script saves its best again and again; no other file or folder is touched."""
    saved = save(tmp_path / "best.pth", epoch=1)
    saved = save(tmp_path / "best.pth", epoch=2)
    assert load(make(), saved)["epoch"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["best.pth"]
    old = tmp_path / "old.pth"
    old.write_bytes(b"weights")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("best.pth")
    for name in ("old.pth", "folder", "link"):
        with pytest.raises(ConfigError, match="is no checkpoint, so it is not replaced"):
            save(tmp_path / name)
    assert old.read_bytes() == b"weights"
    with pytest.raises(OutputError, match="is a file, not a folder"):
        save(old / "x")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the script forks")
def test_a_script_that_is_killed_while_it_saves_leaves_a_whole_checkpoint(tmp_path):
    """At whatever instant; the next save removes what it had begun."""
    script = tmp_path / "script.py"
    script.write_text(SAVED_UNTIL_KILLED, encoding="utf-8")
    done = subprocess.run([sys.executable, script, tmp_path], check=True, capture_output=True)
    assert done.stdout.split() == [b"whole"] * 12
    save(tmp_path / "best", epoch=7)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "script.py"]


SAVED_UNTIL_KILLED = """
import itertools, os, signal, sys, time, timm, imgcls
names, path = ["a", "b", "c"], sys.argv[1] + "/best"
model = timm.create_model("test_resnet", num_classes=3)
imgcls.save_checkpoint(model, None, 0, {}, path, class_names=names)
for number in range(12):
    child = os.fork()
    while not child:
        imgcls.save_checkpoint(model, None, 1, {}, path, class_names=names)
    time.sleep(0.1 + 0.013 * number)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    imgcls.load_checkpoint(model, path, "cpu")
    print("whole")
"""


def test_a_checkpoint_is_there_at_every_instant_while_it_is_replaced(tmp_path):
    """Seen by another thread that never stops to look."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    if not durable._exchange(one, other):
        pytest.skip("this file system cannot let two folders change places")
    saved = save(tmp_path / "best")
    missed, done = [], threading.Event()

    def watch():
        while not done.is_set():
            if not (saved / "checkpoint.json").is_file():
                missed.append(time.monotonic())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for epoch in range(2, 12):
            save(saved, epoch=epoch)
    finally:
        done.set()
        watcher.join()
    assert missed == []


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_earlier_checkpoint_comes_back_where_the_next_cannot_take_its_place(
    tmp_path, monkeypatch, error
):
    """Where two folders cannot change places: a rename that fails, or a Ctrl-C between the two."""
    saved, rename = save(tmp_path / "best"), Path.rename

    def fail(self, target):
        if Path(target) == saved and "next" in self.name:
            raise error
        return rename(self, target)

    monkeypatch.setattr(durable, "_exchange", lambda one, other: False)
    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else OutputError):
        save(saved, epoch=2)
    assert load(make(), saved)["epoch"] == 1
    monkeypatch.setattr(Path, "rename", rename)
    assert load(make(), save(saved, epoch=3))["epoch"] == 3


def changed_head():
    model = make()
    model.fc = nn.Sequential(nn.Dropout(0.1), nn.Linear(96, 3))
    return model


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"epoch": "runs/x"}, ConfigError, "epoch is a str; the call is save_checkpoint"),
        ({"epoch": -1}, ConfigError, "epoch is -1"),
        ({"metrics": 0.5}, ConfigError, "metrics is a float"),
        ({"optimizer": 3}, ConfigError, "optimizer is a int"),
        ({"scheduler": torch.amp.GradScaler("cpu")}, ConfigError, "scheduler is a GradScaler"),
        ({"model": nn.Linear(2, 3)}, ModelError, "not a timm model"),
        ({"model": changed_head}, ModelError, r"fc\.1\.bias is \[3\] in the model and None"),
        ({"class_names": ["a", "b"]}, ModelError, "2 class names for 3 outputs"),
        ({"class_names": ["a", "b", "a"]}, ConfigError, "not all different texts"),
        ({"input_size": (1, 32, 32)}, ConfigError, r"\(input_size=\(1, 32, 32\), crop_pct=1.0\)"),
        ({"input_size": 32}, ConfigError, "no usable preprocessing"),
        ({"crop_pct": "all"}, ConfigError, "no usable preprocessing"),
        ({"size": 3}, ModelError, "size is no part of a preprocessing"),
        ({"metrics": {"x": object()}}, ConfigError, "no encoding for object"),
    ],
)
def test_what_cannot_be_saved_is_refused(tmp_path, changes, error, words):
    """In one line, and nothing is written."""
    changes = {k: v() if v is changed_head else v for k, v in changes.items()}
    with pytest.raises(error, match=words):
        save(tmp_path / "runs" / "x", **changes)
    assert list(tmp_path.iterdir()) == []


def test_a_model_built_for_another_size_is_told_so(tmp_path):
    """A ViT's position tables are of one size; the random numbers of the script stay its own."""
    model = timm.create_model("test_vit", num_classes=3, img_size=32)
    with pytest.raises(ModelError, match=r"pos_embed is .*input_size=\(channels"):
        imgcls.save_checkpoint(model, None, 1, {}, tmp_path / "x", class_names=NAMES)
    before = torch.get_rng_state()
    saved = save(tmp_path / "x", model)
    assert torch.equal(torch.get_rng_state(), before)
    load(timm.create_model("test_vit", num_classes=3, img_size=32), saved)


def test_a_wrapped_model_is_saved_and_loaded_as_it_is_inside(tmp_path):
    """What DataParallel and torch.compile put around it is no part of it."""
    model = make()
    saved = save(tmp_path / "x", nn.DataParallel(model))
    other = make()
    nn.init.zeros_(other.fc.weight)
    load(nn.DataParallel(other), saved)
    assert torch.equal(other.fc.weight, model.fc.weight)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_the_default_device_is_cuda_where_there_is_one(tmp_path):
    """Else the model stays where it is, with a warning; a device that was named is an error."""
    saved, model = save(tmp_path / "x"), make()
    with pytest.warns(UserWarning, match="no CUDA device, so the model stays on cpu") as caught:
        imgcls.load_checkpoint(model, saved)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert load(model, saved, device=torch.device("cpu"))["epoch"] == 1
    for device in ("cuda", torch.device("cuda", 0)):
        with pytest.raises(DeviceError, match="available: cpu"):
            imgcls.load_checkpoint(model, saved, device)


def test_what_is_missing_can_be_passed_over(tmp_path):
    """By position as by name; a file that shares no tensor with the model never is."""
    saved = save(tmp_path / "x")
    other = timm.create_model("test_resnet", num_classes=3)
    other.extra = nn.Linear(2, 2)
    with pytest.raises(CheckpointError, match=r"extra\.weight is missing in the file"):
        imgcls.load_checkpoint(other, saved, "cpu", True)
    imgcls.load_checkpoint(other, saved, "cpu", False)
    with pytest.raises(CheckpointError, match="is missing in the file"):
        load(nn.Sequential(make()), saved, strict=False)
    with pytest.raises(CheckpointError, match="in the file and"):
        load(timm.create_model("test_resnet", num_classes=4), saved, strict=False)
