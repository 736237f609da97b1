"""How a training computes: what is measured, what is chosen, and what stays as it was."""

from __future__ import annotations

from itertools import product

import pytest
import timm
import torch
from conftest import tiny_config

from imgcls.config.optim import OptimConfig
from imgcls.config.run import ResumeConfig
from imgcls.engine.device.batches import ComputeSettings
from imgcls.engine.device.runtime import set_tf32, to_host
from imgcls.engine.training.events import EpochDone, StepDone, ValidationBatchDone
from imgcls.engine.training.probe import training_step
from imgcls.engine.training.step import train_step
from imgcls.errors import ModelError
from imgcls.jobs.benchmark.inference_speed import benchmark_inference_speed
from imgcls.jobs.plan import compute
from imgcls.jobs.plan.plan import make_plan
from imgcls.jobs.train.assemble import assemble
from imgcls.jobs.train.resume import reopen_run
from imgcls.jobs.train.start import start_run
from imgcls.jobs.train.trainer import Trainer

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def measured(monkeypatch, seconds):
    """Steps take as long as `seconds` says, and all training is long."""
    monkeypatch.setattr(compute, "_WORTH_S", 0.0)
    monkeypatch.setattr(
        compute, "_timed_step", lambda _model, settings, _images, trains: lambda: seconds[settings]
    )


def times(f32_last, f32_first, bf16_last, bf16_first):
    keys = (
        ComputeSettings(CPU, precision, layout)
        for precision, layout in product((None, torch.bfloat16), (True, False))
    )
    return dict(zip(keys, (f32_last, f32_first, bf16_last, bf16_first), strict=True))


@pytest.mark.parametrize(
    ("seconds", "amp", "channels_last", "says"),
    [
        (times(4.0, 4.4, 2.0, 2.2), "bf16", True, "bf16 channels last: 2.0x as fast as float32"),
        (times(4.0, 2.0, 5.0, 3.0), "off", False, "float32 channels first: 2.0x as fast as"),
        (times(4.0, 4.4, 3.8, 3.9), "off", True, "float32 channels last: as fast as"),
    ],
)
def test_the_fastest_is_taken_and_kept(monkeypatch, photos, seconds, amp, channels_last, says):
    """The answer and its reason are in the plan; resume reads the answer and measures nothing."""
    measured(monkeypatch, seconds)
    plan = make_plan(tiny_config(photos))
    assert plan.config.runtime.amp == amp
    assert plan.config.runtime.channels_last is channels_last
    assert any(reason.startswith(says) for reason in plan.reasons)
    run = start_run(plan)
    monkeypatch.setattr(compute, "_timed_step", None)
    again = reopen_run(run, ResumeConfig())
    assert again.compute == plan.compute


def test_what_was_asked_for_is_not_measured(monkeypatch, photos):
    """Only what is auto is tried."""
    tried = []
    monkeypatch.setattr(compute, "_WORTH_S", 0.0)
    monkeypatch.setattr(
        compute,
        "_timed_step",
        lambda _m, settings, _i, trains: lambda: float(tried.append(settings) or 1),
    )
    make_plan(tiny_config(photos, runtime={"amp": "off", "channels_last": False}))
    assert not tried
    make_plan(tiny_config(photos, runtime={"channels_last": False}))
    assert {settings.channels_last for settings in tried} == {False}
    assert {settings.precision for settings in tried} == {None, torch.bfloat16}


def test_real_steps_are_timed_and_the_model_stays_as_it_was(monkeypatch, photos):
    """A measurement leaves no trace in the training: weights and randomness are the same."""
    monkeypatch.setattr(compute, "_LONGEST_S", 0.0)
    weights = []
    for worth_s in (1e9, 0.0):
        monkeypatch.setattr(compute, "_WORTH_S", worth_s)
        plan = make_plan(tiny_config(photos))
        assert bool(plan.reasons) == (worth_s == 0.0)
        weights.append(assemble(plan, 0).parts.learner.model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_checkpointed_gradients_are_the_same_gradients(photos):
    """Less is kept, nothing else changes, in a model whose layers have no running statistics."""
    losses, gradients = [], []
    for grad_checkpointing in (False, True):
        config = tiny_config(
            photos,
            model={"name": "test_vit"},
            runtime={"grad_checkpointing": grad_checkpointing},
        )
        parts = assemble(make_plan(config), 0).parts
        assert getattr(parts.learner.model, "grad_checkpointing", False) is grad_checkpointing
        kept = 0

        def count(tensor):
            nonlocal kept
            kept += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            losses.append(train_step(parts.learner, next(iter(parts.train_batches.steps(0))), 0))
        gradients.append([p.grad.clone() for p in parts.learner.model.parameters()])
        losses[-1] = (*losses[-1], kept)
    assert losses[0][0] == losses[1][0]
    assert losses[1][2] < losses[0][2]
    for one, two in zip(*gradients, strict=True):
        assert torch.allclose(one, two, atol=1e-6)


def test_a_model_without_checkpointing_is_named(photos):
    """One line that says what to do instead."""
    config = tiny_config(
        photos,
        model={"name": "inception_v3", "img_size": 96},
        runtime={"grad_checkpointing": True},
    )
    with pytest.raises(ModelError, match=r"--grad-checkpointing\).* inception_v3; .*--batch-size"):
        assemble(make_plan(config), 0)


@pytest.mark.parametrize(
    ("groups", "trains", "share"),
    [
        ({"data": {"folds": 4, "fold": 1}}, True, 1),
        ({"data": {"folds": 4, "fold": "all"}}, True, 4),
        ({"recipe": {"tune": "head", "head": "linear", "feature_views": 1}}, False, None),
    ],
)
def test_what_is_measured_is_what_will_be_done(photos, monkeypatch, groups, trains, share):
    """The folds that are trained, and a pass without gradients where only features are computed."""
    seen = {}

    def measure(_model, _candidates, pictures, *, trains):
        seen.update(pictures=pictures, trains=trains)
        return {}

    monkeypatch.setattr(compute, "_measure", measure)
    plan = make_plan(tiny_config(photos, optim={"epochs": 3}, **groups))
    assert seen["trains"] == trains
    train, val = (
        len(plan.data.assignment.indices(split, plan.data.folds[0])) for split in ("train", "val")
    )
    assert seen["pictures"] == (train + val if share is None else train * 3 * share)


@pytest.fixture
def tf32():
    """What torch is told about TF32: (matrix products, convolutions), put back after the test."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield lambda: (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32)
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


def test_tf32_is_for_training_on_gpus(tf32):
    """Products and convolutions alike; on a CPU nothing is told."""
    before = tf32()
    set_tf32(torch.device("cpu"), allowed=True)
    assert tf32() == before
    set_tf32(torch.device("cuda"), allowed=True)
    assert tf32() == ("high", True)
    set_tf32(torch.device("cuda"), allowed=False)
    assert tf32() == ("highest", False)


def test_what_scores_and_times_forbids_tf32(monkeypatch):
    """float32 is exact in evaluate and benchmark; what training times is its own."""
    told = []
    for module in ("jobs.plan.compute", "engine.device.runtime", "engine.training.probe"):
        monkeypatch.setattr(
            f"imgcls.{module}.set_tf32", lambda _device, *, allowed: told.append(allowed)
        )
    settings = compute.compute_settings("cpu", "off", channels_last=False)
    benchmark_inference_speed(timm.create_model("test_resnet"), (3, 32, 32), num_samples=1)
    assert told == [False, False]
    training_step(timm.create_model("test_resnet"), settings, OptimConfig())
    assert told[2:] == [True]


def test_training_has_its_own_float32_whatever_was_scored_before(photos, monkeypatch):
    """An evaluation between `begin` and `train_fold`, or in an observer, does not switch it off."""
    told, seen = [], []
    for module in (
        "jobs.plan.compute",
        "engine.training.step",
        "engine.training.selection.validation",
    ):
        monkeypatch.setattr(
            f"imgcls.{module}.set_tf32", lambda _device, *, allowed: told.append(allowed)
        )

    def score(event):
        if isinstance(event, (StepDone, ValidationBatchDone)):
            seen.append(told[-1])
        elif isinstance(event, EpochDone):
            compute.compute_settings("cpu", "off", channels_last=False)

    trainer = Trainer.begin(tiny_config(photos), [score])
    compute.compute_settings("cpu", "off", channels_last=False)
    assert told[-1] is False
    trainer.train_fold(0)
    assert len(seen) > 2
    assert all(seen)
    trainer.validate_epoch()
    assert told[-1] is True


def test_a_copy_is_awaited_on_the_stream_of_its_own_device(monkeypatch):
    """On cuda:1 as well: the current device is cuda:0, whose stream knows nothing of the copy."""

    class Tensor:
        device = torch.device("cuda:1")
        shape = ()
        dtype = torch.float32

    class Event:
        def record(self, stream=None):
            self.stream = stream

        def synchronize(self):
            waited.append(self.stream)

    class Host:
        def copy_(self, tensor, non_blocking):
            assert non_blocking

    waited = []
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: f"stream of {device}")
    monkeypatch.setattr(torch, "empty", lambda *_shape, **_kinds: Host())
    wait = to_host(Tensor())
    assert waited == []
    assert isinstance(wait(), Host)
    assert waited == ["stream of cuda:1"]
