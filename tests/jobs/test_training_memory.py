"""The memory that is announced before training, beside what training then takes."""

from __future__ import annotations

import copy
import random
import sys

import numpy as np
import pytest
import torch
from conftest import save_crops, tiny_config

from imgcls.engine.device import timing
from imgcls.jobs.plan.memory import TrainingMemory
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
        told.append(describe_plan(begun.plan, begun.run, begun.first))

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
    monkeypatch.setattr("imgcls.jobs.plan.memory.available_memory_mib", lambda: 1.0)
    monkeypatch.setattr("imgcls.jobs.plan.memory.train_step", pytest.fail)
    assert fresh(plan).of(16).is_guess


@on_linux
@pytest.mark.parametrize(("free", "fits"), [(1.09, False), (1.11, True)])
def test_the_largest_batch_that_fits_goes_by_the_measurement(memory, monkeypatch, free, fits):
    """A batch fits when what was measured of it, and a tenth, is free."""
    use = memory.of(8)
    free_mib = free * (use.mib + use.assembled_mib)
    monkeypatch.setattr("imgcls.jobs.plan.memory.available_memory_mib", lambda: free_mib)
    asked = copy.copy(memory)
    assert asked.fits(8) is fits
    assert asked.note(8).endswith(f"of {free_mib:,.0f} MiB, measured by a step")
