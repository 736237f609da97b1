"""`--max-minutes`: as many epochs as fit, fixed before the first."""

from __future__ import annotations

import pytest
import yaml
from conftest import tiny_config
from killing import differences, remains

from imgcls.errors import ConfigError
from imgcls.jobs.plan.plan import make_plan
from imgcls.jobs.train.time_budget import EpochTime, fit_to_time, measure_epoch

TRAIN = (
    "--model", "test_resnet", "--no-pretrained", "--img-size", "32", "--lr", "1e-3", "--device",
    "cpu", "--workers", "0", "--batch-size", "8",
)  # fmt: skip


@pytest.fixture
def epoch_takes(monkeypatch):
    """A function that sets what an epoch seems to take, in seconds."""

    def takes(seconds, head_s=0.0):
        found = EpochTime(seconds, 10, head_s)
        monkeypatch.setattr(
            "imgcls.jobs.train.time_budget.measure_epoch", lambda _plan, _caches: found
        )

    return takes


@pytest.mark.parametrize(
    ("minutes", "epoch_s", "asked", "epochs", "reason"),
    [
        (1, 5.0, 100, 10, "10 epochs: what fits into 1 minute; 5.0 s each, by 10 timed steps"),
        (10, 5.0, 100, 100, "100 epochs: 107 would fit; 5.0 s each, by 10 timed steps"),
        (2, 100.0, 3, 1, "1 epochs: what fits into 2 minutes; 100.0 s each, by 10 timed steps"),
    ],
)
def test_no_more_epochs_than_fit_and_no_more_than_asked(
    epoch_takes, photos, minutes, epoch_s, asked, epochs, reason
):
    """With a tenth to spare; the reason is printed, and the minutes are gone from the config."""
    epoch_takes(epoch_s)
    config = tiny_config(photos, optim={"epochs": asked, "max_minutes": minutes})
    plan = fit_to_time(make_plan(config))
    assert (plan.pace.epochs, plan.config.optim.epochs) == (epochs, epochs)
    assert plan.config.optim.max_minutes is None
    assert plan.pace.warmup_epochs == plan.config.optim.warmup_epochs == min(1.0, epochs / 5)
    assert plan.reasons[-1] == reason


def test_minutes_without_end_leave_the_epochs_as_they_are(epoch_takes, photos):
    """In seconds they are infinite."""
    epoch_takes(5.0)
    plan = make_plan(tiny_config(photos, optim={"epochs": 3, "max_minutes": 1e308}))
    assert fit_to_time(plan).pace.epochs == 3


def test_what_comes_before_the_first_epoch_counts(epoch_takes, photos):
    """The classifier's features take their part of the minutes."""
    epoch_takes(5.0, head_s=60.0)
    config = tiny_config(photos, optim={"epochs": 100, "max_minutes": 2})
    assert fit_to_time(make_plan(config)).pace.epochs == 10


def test_epochs_of_the_classifier_alone_need_no_budget(photos):
    """They take seconds; one line says so."""
    config = tiny_config(photos, recipe={"tune": "head"}, optim={"max_minutes": 2})
    with pytest.raises(ConfigError, match="leave it out with --tune head"):
        fit_to_time(make_plan(config))


def test_folds_share_the_minutes(epoch_takes, photos):
    """Each gets its part."""
    epoch_takes(5.0)
    config = tiny_config(photos, data={"folds": 2}, optim={"epochs": 100, "max_minutes": 2})
    assert fit_to_time(make_plan(config)).pace.epochs == 10


def test_a_warm_up_longer_than_what_fits_is_cut(epoch_takes, photos):
    """So that the config can be given to --config again."""
    epoch_takes(10.0)
    config = tiny_config(photos, optim={"epochs": 50, "warmup_epochs": 20, "max_minutes": 1})
    plan = fit_to_time(make_plan(config))
    assert (plan.pace.epochs, plan.pace.warmup_epochs) == (5, 1)
    assert make_plan(plan.config).pace.epochs == 5


def test_not_even_one_epoch_is_refused_before_anything_is_written(
    epoch_takes, photos, tmp_path, command
):
    """Exit code 2, with what an epoch takes."""
    epoch_takes(90.0)
    done = command("train", photos, *TRAIN, "--max-minutes", "1")
    assert done.code == 2
    [line] = done.error_lines
    assert "(--max-minutes): 1 is too little; one epoch takes about 1.5 minutes" in line
    assert not (tmp_path / "outputs").exists()
    folds = tiny_config(photos, data={"folds": 3}, optim={"max_minutes": 4})
    with pytest.raises(ConfigError, match=r"one epoch in each of 3 folds takes about 4\.5 minutes"):
        fit_to_time(make_plan(folds))


def test_measuring_leaves_no_trace_in_the_run(photos, tmp_path, command):
    """Really measured; the run's weights are those of a run without the option, and its config
    repeats it without measuring."""
    options = ("train", photos, *TRAIN, "--epochs", "2", "--quiet")
    assert command(*options, "--experiment", "timed", "--max-minutes", "60").code == 0
    assert command(*options, "--experiment", "plain").code == 0
    outputs = tmp_path / "outputs"
    assert differences(remains(outputs / "timed"), remains(outputs / "plain")) == []
    kept = yaml.safe_load((outputs / "timed" / "config.yaml").read_text())["optim"]
    assert (kept["epochs"], kept["max_minutes"]) == (2, None)


def test_what_is_measured_covers_training_and_validation(photos):
    """All steps of a short epoch but those to warm up; a set of one step counts that one."""
    measured = measure_epoch(make_plan(tiny_config(photos, data={"batch_size": 4})))
    assert measured.steps == 9 - 3
    assert measured.epoch_s > 0
    assert measure_epoch(make_plan(tiny_config(photos, data={"batch_size": 64}))).steps == 1
