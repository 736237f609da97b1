"""Weights between the fitted classifier's and the last epoch's compete for the best."""

from __future__ import annotations

import copy
import signal

import numpy as np
import pytest
import timm
import torch
from conftest import tiny_config
from killing import differences, remains
from safetensors.torch import load_file, save_file

from imgcls.config.run import ResumeConfig
from imgcls.engine.checkpoint.folder import read_checkpoint, read_state
from imgcls.engine.training.events import (
    EpochDone,
    Interpolated,
    StepDone,
    Stopped,
    ValidationBatchDone,
)
from imgcls.engine.training.interrupt import StopRequest
from imgcls.engine.training.selection import validation
from imgcls.engine.training.selection.choice import Validated, first_as_good
from imgcls.engine.training.selection.interpolation import SHARES, Interpolation
from imgcls.errors import InterruptedRunError
from imgcls.jobs.train.resume import resume_run
from imgcls.jobs.train.trainer import Trainer
from imgcls.storage.runs import is_finished


def model_of(seed):
    torch.manual_seed(seed)
    return timm.create_model("test_resnet", num_classes=3)


def test_a_share_of_the_way_is_the_weighted_mean_of_both_ends():
    """Of each floating tensor, running statistics too; the ends come back to the bit."""
    model = model_of(0)
    line = Interpolation(model)
    line.begin()
    start = copy.deepcopy(model.state_dict())
    model.load_state_dict(model_of(1).state_dict())
    end = copy.deepcopy(model.state_dict())
    for share in (0.3, 0.8):
        line.go_to(share)
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                torch.testing.assert_close(value, (1 - share) * start[name] + share * end[name])
    line.go_back()
    assert all(torch.equal(value, end[name]) for name, value in model.state_dict().items())


def test_what_is_saved_on_the_way_leads_back_to_the_trained_weights():
    """A model that has the weights of the way gets its own ones with the state."""
    model = model_of(0)
    line = Interpolation(model)
    line.begin()
    model.load_state_dict(model_of(1).state_dict())
    line.go_to(0.4)
    state, other = copy.deepcopy(line.state_dict()), copy.deepcopy(model)
    later = Interpolation(other)
    later.load_state_dict(state)
    line.go_back()
    assert differences(dict(model.state_dict()), dict(other.state_dict())) == []
    line.go_to(0.4)
    later.go_to(0.4)
    assert differences(dict(model.state_dict()), dict(other.state_dict())) == []


def scored(losses, units=None, **metrics):
    losses = np.array(losses, dtype=float)
    return Validated({"val_loss": losses.mean(), **metrics}, losses, units)


def test_the_first_that_chance_cannot_tell_from_the_best_is_taken():
    """By the mean of the paired differences and its standard error, both by hand."""
    best = scored([1.0, 1.0, 1.0, 1.0], val_accuracy=0.5)
    # differences -0.1, 0, 0.1, 0.4: mean 0.1, standard deviation 0.216, standard error 0.108
    near = scored([0.9, 1.0, 1.1, 1.4], val_accuracy=0.5)
    # 0, 0.1, 0.2, 0.3: mean 0.15, standard deviation 0.129, standard error 0.065
    far = scored([1.0, 1.1, 1.2, 1.3], val_accuracy=0.5)
    assert first_as_good([near, best], "val_accuracy") == 0
    assert first_as_good([far, best], "val_accuracy") == 1
    assert first_as_good([far, near, best], "val_accuracy") == 1


def test_pictures_of_a_group_are_one_observation():
    """Two alike tell no more than one: standard error 0.108 of four groups, 0.071 of eight."""
    best, losses = [1.0] * 8, [0.9, 0.9, 1.0, 1.0, 1.1, 1.1, 1.4, 1.4]
    alone = [scored(each, val_accuracy=0.5) for each in (losses, best)]
    assert first_as_good(alone, "val_accuracy") == 1
    units = np.arange(8) // 2
    grouped = [scored(each, units, val_accuracy=0.5) for each in (losses, best)]
    assert first_as_good(grouped, "val_accuracy") == 0


def test_what_the_monitored_metric_tells_apart_is_left_out_first():
    """Within one standard error of the highest the loss decides, and beyond it does not."""
    high = scored([2.0, 2.1], val_accuracy=0.9, val_accuracy_se=0.1)
    low = scored([1.0, 1.0], val_accuracy=0.79, val_accuracy_se=0.2)
    assert first_as_good([low, high], "val_accuracy") == 1
    within = scored([1.0, 1.0], val_accuracy=0.81, val_accuracy_se=0.2)
    assert first_as_good([high, within], "val_accuracy") == 1
    undefined = scored([0.5, 0.5], val_accuracy=None)
    assert first_as_good([undefined, within], "val_accuracy") == 1
    assert first_as_good([scored([1.0]), scored([2.0])], "val_loss") == 0


def test_losses_of_other_pictures_are_not_compared():
    """A file that went bad in between leaves the earlier candidate."""
    fewer = scored([1.0, 1.0], val_accuracy=0.5)
    more = scored([2.0, 2.0, 2.0], val_accuracy=0.5)
    assert first_as_good([more, fewer], "val_accuracy") == 0


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Weights of another training, from which a run fits its classifier first."""
    file = tmp_path_factory.mktemp("start") / "weights.safetensors"
    torch.manual_seed(7)
    save_file(timm.create_model("test_resnet").state_dict(), file)
    return file


def config_of(photos, start, output, **optim):
    return tiny_config(
        photos,
        model={"weights": start},
        early_stopping={"metric": "val_loss", "patience": 0},
        optim={"epochs": 2, **optim},
        runtime={"output": output},
    )


@pytest.fixture
def losses(monkeypatch):
    """What is said of the weights on the way, one loss each; all else of them is as it is."""
    wanted = []
    real = validation.validate_epoch

    def validate(parts, on_batch):
        validated = real(parts, on_batch)
        if not parts.progress.trained:
            return validated
        loss = wanted[round((1 - share_of(parts)) * 5) - 1]
        metrics = {**validated.metrics, "val_loss": loss, "val_calibrated_loss": loss}
        return Validated(metrics, np.full_like(validated.losses, loss), validated.units)

    monkeypatch.setattr(validation, "validate_epoch", validate)
    return wanted


def share_of(parts):
    """How far the model is on its way, by its own weights."""
    state = parts.interpolation.state_dict()
    name = max(state["end"], key=lambda k: (state["end"][k] - state["start"][k]).abs().max())
    start, end, now = (
        tensor.double()
        for tensor in (
            state["start"][name],
            state["end"][name],
            parts.eval_model.state_dict()[name],
        )
    )
    return float(((now - start).abs().sum()) / ((end - start).abs().sum()))


def trained(config):
    """(the trainer of fold 0, its result, events)."""
    events = []
    trainer = Trainer.begin(config, [events.append])
    return trainer, trainer.train_fold(0), events


def tried_in(events):
    return [event for event in events if isinstance(event, Interpolated)]


def test_the_best_checkpoint_holds_the_weights_that_its_metrics_are_of(
    photos, start, tmp_path, losses
):
    """Chosen by the rule of the epochs, and said by the events, the result and the sidecar."""
    losses += [0.03, 0.02, 0.01, 0.04]
    trainer, result, events = trained(config_of(photos, start, tmp_path))
    assert tuple(event.share for event in tried_in(events)) == SHARES
    assert [event.metrics["val_loss"] for event in tried_in(events)] == losses
    best = SHARES[2]
    checkpoint = read_checkpoint(result.best_checkpoint.resolve())
    [stopped] = [event for event in events if isinstance(event, Stopped)]
    assert stopped.chosen.share == result.share == checkpoint.sidecar.share == best
    assert checkpoint.sidecar.metrics["val_loss"] == losses[2]
    again = trainer.validate_epoch()
    for name in ("val_macro_f1", "val_balanced_accuracy", "val_temperature"):
        assert checkpoint.sidecar.metrics[name] == again[name]
    weights = load_file(checkpoint.folder / "model.safetensors")
    line = read_state(checkpoint)["interpolation"]
    for name, value in line["end"].items():
        expected = (1 - best) * line["start"][name] + best * value
        torch.testing.assert_close(weights[name], expected)
    assert result.best_epoch == 2


def test_where_none_is_better_the_epochs_own_weights_stay(photos, start, tmp_path, losses):
    """The last checkpoint holds them, whichever is the best."""
    losses += [9.0, 9.0, 9.0, 9.0]
    _, result, events = trained(config_of(photos, start, tmp_path))
    assert not any(event.improved for event in tried_in(events))
    last = read_checkpoint(result.last_checkpoint.resolve())
    assert last.sidecar.share is result.share is None
    assert last.sidecar.metrics["val_loss"] < 9
    assert read_state(last)["interpolation"]["end"] == {}


def test_the_head_is_kept_where_all_else_is_worse(photos, start, tmp_path, losses):
    """Its own checkpoint stays the best; the last one holds the last epoch's weights."""
    losses += [9.0, 9.0, 9.0, 9.0]
    _, result, _ = trained(config_of(photos, start, tmp_path, lr=1e-2))
    assert result.best_epoch == 0
    assert result.share is None
    assert read_checkpoint(result.best_checkpoint.resolve()).sidecar.epoch == 0


def test_a_stop_between_the_weights_changes_nothing(photos, start, tmp_path, losses):
    """The trained weights are saved then, and the resumed run tries all of them again."""
    losses += [0.01, 0.02, 0.03, 0.04]
    _, straight, _ = trained(config_of(photos, start, tmp_path / "straight"))
    stop, batches = StopRequest(), []

    def after_some(event):
        if isinstance(event, EpochDone) and event.epoch == 2:
            batches.append(event)
        elif batches and isinstance(event, ValidationBatchDone):
            batches.append(event)
            if len(batches) == 3:
                stop.signal_number = signal.SIGTERM

    trainer = Trainer.begin(config_of(photos, start, tmp_path / "stopped"), [after_some])
    with pytest.raises(InterruptedRunError, match="in epoch 2; everything is saved"):
        trainer.train(0, stop)
    assert not is_finished(trainer.run)
    events = []
    [resumed] = resume_run(trainer.run, ResumeConfig(), [events.append]).folds
    assert is_finished(trainer.run)
    assert not any(isinstance(event, StepDone) for event in events)
    assert len(tried_in(events)) == len(SHARES)
    assert resumed.share == straight.share
    runs = [result.folder.parent for result in (straight, resumed)]
    assert differences(*map(remains, runs)) == []


def test_more_epochs_go_on_from_the_trained_weights(photos, start, tmp_path, losses):
    """And not from those that were the best: as if the run had been that long from the start."""
    losses += [0.04, 0.03, 0.02, 0.01]
    optim = {"sched": "constant", "warmup_epochs": 0}
    _, straight, _ = trained(config_of(photos, start, tmp_path / "long", epochs=3, **optim))
    short, result, _ = trained(config_of(photos, start, tmp_path / "short", epochs=2, **optim))
    assert result.share is not None
    [resumed] = resume_run(short.run, ResumeConfig(epochs=3)).folds
    found = [read_checkpoint(each.last_checkpoint.resolve()) for each in (straight, resumed)]
    for part in ("model", "optimizer"):
        assert differences(*(read_state(each)[part] for each in found)) == []
    averages = []
    for each in found:
        end = read_state(each)["interpolation"]["end"]
        averages.append({**load_file(each.folder / "model.safetensors"), **end})
    assert differences(*averages) == []
