"""What a training does by default, and that it says so."""

from __future__ import annotations

import json

import pytest
from conftest import tiny_config

from imgcls.jobs.plan import make_plan

TINY = ("--model", "test_resnet", "--no-pretrained", "--img-size", "32", "--epochs", "1",
        "--batch-size", "16", "--workers", "0", "--device", "cpu")  # fmt: skip


def test_unbalanced_classes_are_met_aloud(command, photos):
    """The plan names the imbalance, the method and the metric; the evaluation the prior."""
    done = command("train", photos, *TINY)
    assert done.code == 0, done.err
    assert "2 to 1 between the largest class and the smallest" in done.err
    assert "logit-adjust" in done.err
    assert "val_balanced_accuracy" in done.err
    shown = command("evaluate", "--split", "val", "--no-report")
    assert "for classes that are nearly equally common (logit-adjust)" in shown.out
    report = json.loads(command("evaluate", "--split", "val", "--no-report", "--json").out)
    shares = report["prior"]["shares"]
    assert sum(shares.values()) == pytest.approx(1)
    assert 1 < max(shares.values()) / min(shares.values()) < 20 / 12


def test_balanced_classes_are_met_as_ever():
    """Nothing for rare classes, and accuracy chooses the best epoch."""
    plan = make_plan(tiny_config())
    assert plan.recipe.imbalance == "none"
    assert plan.config.early_stopping.metric == "val_accuracy"


def test_what_is_asked_for_is_done(photos):
    """auto gives way."""
    config = tiny_config(
        photos, recipe={"imbalance": "focal"}, early_stopping={"metric": "val_loss"}
    )
    plan = make_plan(config)
    assert (plan.recipe.imbalance, plan.recipe.monitor) == ("focal", "val_loss")
    assert plan.config.recipe.imbalance == "focal"
