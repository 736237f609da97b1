"""What is trained, what a batch must have for it, and what is needed to compile it."""

from __future__ import annotations

import itertools

import pytest
import torch
from conftest import OFFLINE
from torch import nn

from imgcls.data.loading.sampling import EpochSampler, smallest_batch
from imgcls.engine.scoring import backends
from imgcls.engine.training.trainable import Trainable, trains_on_one_picture


def test_a_norm_without_parameters_belongs_to_what_is_around_it():
    """Frozen around it, its statistics stay; trained around it, they move."""
    frozen, trained = (
        nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, affine=False)) for _ in range(2)
    )
    frozen.requires_grad_(requires_grad=False)
    Trainable().begin_epoch(nn.Sequential(frozen, trained), 0)
    assert not frozen[1].training
    assert trained[1].training


def test_the_smallest_batch_is_the_one_that_is_dealt():
    """For all small sets, batch sizes and accumulations."""
    for pictures, size, accum in itertools.product(range(1, 40), (1, 2, 3, 5, 8), (1, 2, 3)):
        sampler = EpochSampler(
            pictures, batch_size=size, grad_accum=accum, seed=0, even_batches=False
        )
        dealt = min(len(part) for step in sampler.micro_batches(0) for part in step)
        assert smallest_batch(pictures, size, accum) == dealt, (pictures, size, accum)


def test_a_batch_of_one_is_refused_before_anything_is_written(command, tmp_path):
    """Where the batch norm is left one value a channel; with larger pictures it trains."""
    done = command("train", "--batch-size", "1", "--epochs", "1", "--device", "cpu")
    assert done.code == 2
    [line] = done.error_lines
    assert "--batch-size) 1: leaves single pictures of 32 pixels" in line
    assert "--batch-size 4 or more" in line
    assert not (tmp_path / "outputs").exists()


def test_one_picture_trains_where_the_model_can(command, photos):
    """A batch of one by itself is no mistake."""
    options = ["--batch-size", "1", "--epochs", "1", "--img-size", "64"]
    done = command("train", photos, *OFFLINE, *options)
    assert done.code == 0, done.err


@pytest.mark.parametrize("verb", ["train", "benchmark"])
def test_compiling_without_a_compiler_is_one_line(command, tmp_path, photos, monkeypatch, verb):
    """What is missing and what to do, before anything is written."""

    def no_compiler(*_arguments, **_options):
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found in (None, 'g++')\nx")

    monkeypatch.setattr(torch, "compile", no_compiler)
    backends.require_compiler.cache_clear()
    options = {
        "train": ("train", photos, *OFFLINE, "--compile"),
        "benchmark": ("benchmark", "test_resnet", "--compile", "--device", "cpu"),
    }
    done = command(*options[verb])
    assert done.code == 2
    [line] = done.error_lines
    assert "torch.compile does not work on this machine (InvalidCxxCompiler: No working C++" in line
    assert "it needs a C++ compiler (g++, clang or MSVC); install one, or leave --compile" in line
    assert not (tmp_path / "outputs").exists()


def test_a_model_that_needs_the_pixels_values_is_not_foretold():
    """It runs as it did before anybody asked; an error of ours would refuse a good training."""

    class Adaptive(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(3)

        def forward(self, images):
            return self.norm(images) if images.mean().item() > 0 else images

    assert trains_on_one_picture(Adaptive(), (3, 8, 8))
