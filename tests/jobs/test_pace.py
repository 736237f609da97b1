"""What `auto` stands for in batch, rate and epochs, and the reasons that are printed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from conftest import tiny_config
from hypothesis import given
from hypothesis import strategies as st

from imgcls.engine.device.memory import available_memory_mib, fits_when_tried
from imgcls.jobs.plan.pace import choose_batch_size, plan_pace
from imgcls.jobs.plan.plan import make_plan


def memory(largest):
    return SimpleNamespace(
        fits=lambda batch: batch <= largest, note=lambda batch: f"{batch} of {largest}"
    )


@given(pictures=st.integers(1, 10**6), grad_accum=st.integers(1, 8), largest=st.integers(1, 10**4))
def test_the_batch_found_is_the_largest_that_fits_and_leaves_enough_updates(
    pictures, grad_accum, largest
):
    """A power of two up to 256; twice as many would not fit, or leave fewer than 32 updates."""
    batch, _ = choose_batch_size(pictures, grad_accum, memory(largest))
    assert batch & (batch - 1) == 0
    assert batch <= min(largest, 256)
    assert batch <= 8 or pictures / (batch * grad_accum) >= 32
    twice_fits = 2 * batch <= largest
    twice_learns = pictures / (2 * batch * grad_accum) >= 32
    assert not (twice_fits and twice_learns) or batch == 256


def test_the_rate_does_not_follow_a_batch_beyond_the_set():
    """40 pictures in a batch of 1,000,000 are an update of 40."""
    config = tiny_config(data={"batch_size": 10**6}, optim={"lr": "auto"})
    pace = plan_pace(config, pictures=40, fine_tuning=False, memory=memory(1))
    assert pace.lr == pytest.approx(1e-3 * (40 / 32) ** 0.5)


@pytest.mark.parametrize(
    ("pictures", "largest", "reason"),
    [
        (1259, 999, "batch 32: fits (32 of 999); 64 would leave an epoch 20 updates"),
        (10**6, 999, "batch 256: fits (256 of 999); a larger one is hardly faster"),
        (10**6, 100, "batch 64: the largest that fits (64 of 100)"),
    ],
)
def test_the_reason_for_a_batch_is_told(pictures, largest, reason):
    """What bounds it."""
    assert choose_batch_size(pictures, 1, memory(largest))[1] == reason


def test_the_rate_follows_the_batch_that_was_found():
    """Four times the batch, twice the rate of adamw; a rate that was given stays."""
    config = tiny_config(data={"batch_size": "auto"}, optim={"lr": "auto"})
    pace = plan_pace(config, pictures=128 * 40, fine_tuning=False, memory=memory(999))
    assert (pace.batch_size, pace.lr) == (128, pytest.approx(2e-3))
    given_rate = tiny_config(data={"batch_size": "auto"}, optim={"lr": 0.5})
    assert plan_pace(
        given_rate, pictures=9999, fine_tuning=False, memory=memory(99)
    ).lr == 0.5  # fmt: skip


@pytest.mark.parametrize(("pictures", "epochs"), [(50, 40), (1259, 25), (50_000, 5)])
def test_small_sets_are_passed_more_often(pictures, epochs):
    """About a thousand updates, 5 to 40 epochs."""
    config = tiny_config(data={"batch_size": 32}, optim={"epochs": "auto"})
    pace = plan_pace(config, pictures=pictures, fine_tuning=True, memory=memory(99))
    assert pace.epochs == epochs
    assert pace.reasons == (f"{epochs} epochs: about 1,000 updates, but 5 to 40 epochs",)


def test_the_run_keeps_numbers_and_no_auto(photos):
    """So that its config repeats it, also on a machine with other memory."""
    config = tiny_config(
        photos, data={"batch_size": "auto"}, optim={"epochs": "auto", "lr": "auto"}
    )
    plan = make_plan(config)
    kept = plan.config
    assert (kept.data.batch_size, kept.optim.epochs) == (8, 40)
    assert kept.optim.lr == plan.pace.lr == pytest.approx(1e-3 / 2)
    assert len(plan.pace.reasons) == 3
    again = make_plan(kept).pace
    assert (again.batch_size, again.epochs, again.lr) == (8, 40, plan.pace.lr)


def test_a_size_that_runs_out_of_device_memory_does_not_fit():
    """Only that error says so; others are raised."""

    def step(batch_size):
        if batch_size > 12:
            raise torch.OutOfMemoryError
        if batch_size == 0:
            raise ValueError

    assert [fits_when_tried(step, b) for b in (8, 12, 13)] == [True, True, False]
    with pytest.raises(ValueError):
        fits_when_tried(step, 0)


def test_the_free_memory_is_a_sane_number():
    """More than torch took to get here, less than any machine has."""
    assert 100 < available_memory_mib() < 2**26
