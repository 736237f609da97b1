"""The memory that is announced before training, beside what training then takes."""

from __future__ import annotations

import copy
import random
import re
import subprocess
import sys
import weakref

import numpy as np
import pytest
import torch
from conftest import save_crops, tiny_config

from imgcls.engine.device import timing
from imgcls.engine.training.events import StepDone
from imgcls.jobs.plan.cost.memory import TrainingMemory
from imgcls.jobs.plan.plan import make_plan
from imgcls.jobs.train.describe import describe_plan
from imgcls.jobs.train.train import train

CPU = torch.device("cpu")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the memory is guessed")


def states():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()


@pytest.fixture(scope="module")
def config(tmp_path_factory, crops):
    root = save_crops(crops, tmp_path_factory.mktemp("memory") / "photos", (20, 16, 12))
    groups = {
        "model": {"img_size": 64},
        "augment": {"mixup": 0.2},
        "optim": {"epochs": 1, "model_ema": True},
        "runtime": {"output": str(root.parent / "outputs")},
    }
    return tiny_config(root, **groups)


@pytest.fixture(scope="module")
def plan(config):
    return make_plan(config)


@pytest.fixture(scope="module")
def memory(plan):
    return fresh(plan)


def fresh(plan):
    return TrainingMemory(plan.config, plan.data, plan.recipe, plan.compute)


@on_linux
def test_what_training_takes_is_measured_by_its_own_updates(memory):
    """More pictures take more."""
    small, large = memory.of(4), memory.of(16)
    assert small.known_by == "measured by a step"
    assert not large.is_guess
    assert 0 < small.assembled_mib < 10
    assert small.mib < large.mib


@on_linux
def test_measuring_leaves_the_random_states_as_they_were(plan):
    """Mixup draws from numpy's, dropout from torch's."""
    torch.manual_seed(7)
    before = states()
    fresh(plan).of(8)
    assert states() == before


def test_a_training_whose_memory_was_measured_ends_in_the_same_bits(config):
    """The plan is described between the first fold's assembly and its first update."""
    told = []

    def describe(begun):
        told.append(describe_plan(begun.plan, begun.run, begun.first, measure=True))

    results = [train(config), train(config, on_begun=describe)]
    assert told[0].memory_mib > 0
    files = [result.folds[0].last_checkpoint / "model.safetensors" for result in results]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_where_no_peak_can_be_told_it_is_a_guess(plan, monkeypatch):
    """As on mps, on Windows, and in sandboxes without /proc/self/clear_refs."""
    monkeypatch.setattr(timing, "_CLEAR_REFS", timing._CLEAR_REFS / "not" / "there")
    use = fresh(plan).of(16)
    assert (use.known_by, use.is_guess) == ("a guess", True)
    assert use.mib > 0


@on_linux
def test_a_step_that_may_not_fit_is_not_made(plan, monkeypatch):
    """Running out of a machine's memory would end the process."""
    monkeypatch.setattr("imgcls.jobs.plan.cost.memory.available_memory_mib", lambda: 1.0)
    monkeypatch.setattr("imgcls.jobs.plan.cost.memory.train_step", pytest.fail)
    assert fresh(plan).of(16).is_guess


@on_linux
@pytest.mark.parametrize(("free", "fits"), [(1.09, False), (1.11, True)])
def test_the_largest_batch_that_fits_goes_by_the_measurement(memory, monkeypatch, free, fits):
    """A batch fits when what was measured of it, and a tenth, is free."""
    use = memory.of(8)
    free_mib = free * (use.mib + use.assembled_mib)
    monkeypatch.setattr("imgcls.jobs.plan.cost.memory.available_memory_mib", lambda: free_mib)
    asked = copy.copy(memory)
    assert asked.fits(8) is fits
    assert asked.note(8).endswith(f"of {free_mib:,.0f} MiB, measured by a step")


def test_where_the_classifier_alone_is_fitted_no_update_is_measured(config, monkeypatch):
    """Its pictures pass through the model once; features and the fit on them are counted."""
    monkeypatch.setattr("imgcls.jobs.plan.cost.memory.train_step", pytest.fail)
    groups = {"recipe": config.recipe.model_copy(update={"tune": "head"})}
    groups["augment"] = type(config.augment)()
    plan = make_plan(config.model_copy(update=groups))
    counted = plan.memory._measure(8)
    width = plan.model.build().num_features
    pictures = int((plan.data.assignment.split != "test").sum())
    assert counted.features_mib == pytest.approx(pictures * width * 4 / 2**20)
    assert plan.memory.of(8).mib >= counted.features_mib + counted.fit_mib > 0


def test_a_cache_in_memory_is_part_of_what_training_takes(config, plan, memory):
    """`--cache ram` keeps all pictures decoded."""
    data = config.data.model_copy(update={"cache": "ram"})
    cached = make_plan(config.model_copy(update={"data": data}))
    side = round(64 * 8 / 7)
    train, val = len(plan.data.rows("train", 0)), len(plan.data.rows("val", 0))
    assert cached.loading.cache.memory_bytes == 3 * (train * side**2 + val * 64**2)
    with_cache = TrainingMemory(plan.config, plan.data, plan.recipe, plan.compute, cache_mib=100.0)
    vars(with_cache).update(_counted=memory._measure(8), _peaks_mib=memory._peaks_mib)
    assert with_cache.of(8).mib == pytest.approx(memory.of(8).mib + 100)


def test_a_fold_is_trained_without_the_one_before_it_in_memory(config):
    """The model, average and optimizer's state of a fold that is trained are given up."""
    first, there = [], []

    def look(event):
        if isinstance(event, StepDone):
            there.append(first[0]() is not None)

    train(
        config.model_copy(update={"data": config.data.model_copy(update={"folds": 2})}),
        [look],
        on_begun=lambda begun: first.append(weakref.ref(begun.first.parts.learner.model)),
    )
    assert there == sorted(there, reverse=True)
    assert there[0]
    assert not there[-1]


_ANNOUNCED_AND_TAKEN = """
import sys, torch
from imgcls.cli.boundary import run
from imgcls.engine.device.timing import peak_memory_mib
assert run(sys.argv[1:]) == 0
print("PEAK", peak_memory_mib(torch.device("cpu")))
"""


@on_linux
@pytest.mark.slow
def test_a_training_peaks_at_what_was_announced(photos, tmp_path):
    """Within 15% both ways; its activations are half of it."""
    command = [sys.executable, "-c", _ANNOUNCED_AND_TAKEN, "train", str(photos)]
    size = ("--model", "test_resnet", "--img-size", "448", "--batch-size", "32", "--epochs", "2")
    where = ("--no-pretrained", "--workers", "0", "--device", "cpu", "--output", str(tmp_path))
    done = subprocess.run([*command, *size, *where], capture_output=True, text=True, check=True)
    said = re.search(r"Memory +about ([\d,]+) MiB of the process at its peak", done.stderr)
    announced_mib = int(said[1].replace(",", ""))
    peak_mib = float(done.stdout.split("PEAK")[1])
    assert announced_mib == pytest.approx(peak_mib, rel=0.15)


@on_linux
def test_what_was_taken_before_training_is_not_announced_away(plan, monkeypatch):
    """The peak of a process is no less than what it has held already."""
    monkeypatch.setattr("imgcls.jobs.plan.cost.memory.peak_memory_mib", lambda _device: 1e6)
    assert fresh(plan).peak_mib(8) == (1e6, "measured by a step")
