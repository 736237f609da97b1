"""`--shard`: a model divided among processes trains, saves and goes on as one that is not."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import timm
import torch
from conftest import save_crops
from killing import differences, only_run, remains
from safetensors.torch import load_file
from worlds import Worlds, history, largest_difference

LOSSES = ("train_loss", "val_loss")


@pytest.fixture(scope="module")
def worlds():
    started = Worlds()
    yield started
    started.close()


@pytest.fixture(scope="module")
def photos(tmp_path_factory, crops):
    """The pictures of all runs here; nothing changes them."""
    return save_crops(crops, tmp_path_factory.mktemp("data") / "photos", (20, 16, 12))


def train(photos, *more, epochs=2, model="test_vit"):
    return [
        "train", photos, "--model", model, "--no-pretrained", "--img-size", 32, "--batch-size", 8,
        "--epochs", epochs, "--patience", 0, "--lr", "1e-3", "--device", "cpu", "--quiet",
        "--workers", 0, "--no-preflight", "--amp", "off", "--no-channels-last", "--experiment", "r",
        "--output", "outputs", *more,
    ]  # fmt: skip


def last_weights(run):
    return load_file(run / "fold_0/checkpoints/last/model.safetensors")


def largest_weight_difference(a, b):
    a, b = last_weights(a), last_weights(b)
    assert list(a) == list(b)
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a)


def before_step(step, act):
    """Let this process do something before it makes its update of this number."""
    fit = importlib.import_module("imgcls.engine.training.fit")
    real = fit.train_step

    def acting(learner, micro_batches, number):
        if number == step:
            act(learner)
        return real(learner, micro_batches, number)

    fit.train_step = acting


def killed_at_step_7():
    if os.environ["RANK"] == "1":
        before_step(7, lambda _learner: os.kill(os.getpid(), signal.SIGKILL))


def signalled_at_step_7():
    if os.environ["RANK"] == "1":
        before_step(7, lambda _learner: os.kill(os.getpid(), signal.SIGTERM))


def counting_bytes():
    before_step(2, write_bytes)


def write_bytes(learner):
    states = [v for state in learner.optimizer.state.values() for v in state.values()]
    tensors = [*learner.model.parameters(), *states]
    own = [t.to_local() if hasattr(t, "to_local") else t for t in tensors]
    held = sum(t.untyped_storage().nbytes() for t in own)
    Path(f"bytes-{os.environ.get('RANK', 0)}").write_text(str(held))


MANY = ("--model-ema", "--clip-grad", 0.5, "--grad-accum-steps", 2, "--dropout", 0.1,
        "--drop-path-rate", 0.1, "--mixup", 0.2)  # fmt: skip


@pytest.mark.parametrize("options", [(), MANY], ids=["plain", "many options"])
def test_a_divided_training_is_that_of_one_process(worlds, photos, tmp_path, options):
    """Its losses and weights are, but for rounding; its folder has the same files and opens."""
    asked = train(photos, *options)
    worlds.done(tmp_path / "one", 1, *asked)
    worlds.done(tmp_path / "two", 2, *asked, "--shard")
    one, two = only_run(tmp_path / "one"), only_run(tmp_path / "two")
    assert largest_difference(history(one), history(two), *LOSSES) < 1e-4
    assert largest_weight_difference(one, two) < 1e-3
    folder = two / "fold_0/checkpoints/best"
    assert remains(one).keys() == remains(two).keys()
    opened = timm.create_model(f"local-dir:{folder.resolve()}", pretrained=True)
    saved = load_file(folder / "model.safetensors")
    assert all(torch.equal(value, saved[name]) for name, value in opened.state_dict().items())


def test_a_killed_divided_training_goes_on_to_the_bit(worlds, photos, tmp_path):
    """In as many processes, killed inside an epoch: all that is saved is as if it never was."""
    asked = train(photos, "--shard", "--model-ema", "--save-every-steps", 3, epochs=3)
    worlds.done(tmp_path / "whole", 2, *asked)
    ended = worlds.run(tmp_path / "cut", 2, *asked, patches=("test_shard:killed_at_step_7",))
    assert any(ended.codes)
    worlds.done(tmp_path / "cut", 2, "resume", "--quiet")
    assert not differences(only_run(tmp_path / "whole"), only_run(tmp_path / "cut"))
