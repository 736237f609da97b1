"""What a training does by default, and that it says so."""

from __future__ import annotations

import json

import pytest
import timm
import torch
from conftest import OFFLINE, tiny_config
from safetensors.torch import save_file

from imgcls.jobs.plan.plan import make_plan


@pytest.fixture
def weights(tmp_path):
    """Weights of the tiny model."""
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


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


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ({}, True),
        ({"recipe": {"tune": "full"}}, True),
        ({"recipe": {"tune": "head"}}, False),
        ({"augment": {"mixup": 0.2}}, False),
        ({"augment": {"smoothing": 0.1}}, False),
        ({"recipe": {"imbalance": "focal"}}, False),
    ],
)
def test_plainly_fine_tuned_weights_are_taken_to_be_too_sure(photos, weights, groups, expected):
    """What softens the loss, or leaves the weights as they came, keeps them from it."""
    from_weights = tiny_config(photos, model={"weights": str(weights)}, **groups)
    assert make_plan(from_weights).recipe.grows_too_sure == expected
    assert not make_plan(tiny_config(photos, **groups)).recipe.grows_too_sure


@pytest.mark.parametrize(("name", "rate"), [("test_resnet", 4e-4), ("test_vit", 1e-4)])
def test_networks_with_batch_norms_are_fine_tuned_faster(photos, tmp_path, name, rate):
    """At four times the rate of transformers, at 32 pictures an update."""
    weights = tmp_path / "weights.safetensors"
    save_file(timm.create_model(name).state_dict(), weights)
    config = tiny_config(
        photos, model={"name": name, "img_size": 160, "weights": str(weights)},
        optim={"lr": "auto"}, data={"batch_size": 32},
    )  # fmt: skip
    assert make_plan(config).pace.lr == pytest.approx(rate)


def test_one_view_of_each_picture_is_enough(photos, weights):
    """For the fitted classifier of any recipe, unless more are asked for."""
    model = {"weights": str(weights)}
    for recipe, views in (({}, 1), ({"tune": "head"}, 1), ({"feature_views": 3}, 3)):
        plan = make_plan(tiny_config(photos, model=model, recipe=recipe))
        assert plan.recipe.feature_views == views


def test_what_is_asked_for_is_done(photos):
    """auto gives way."""
    config = tiny_config(
        photos, recipe={"imbalance": "focal"}, early_stopping={"metric": "val_loss"}
    )
    plan = make_plan(config)
    assert (plan.recipe.imbalance, plan.recipe.monitor) == ("focal", "val_loss")
    assert plan.config.recipe.imbalance == "focal"


@pytest.mark.parametrize(
    ("options", "notes"),
    [
        (
            ("--tune", "head", "--unfreeze-epochs", "2", "--lr", "0.1", "--mixup", "0.2"),
            ["--unfreeze-epochs 2, --lr 0.1, --mixup 0.2 have no effect: the classifier is fitted"],
        ),
        (
            ("--tune", "head", "--head", "linear", "--layer-decay", "0.7", "--lr", "0.1"),
            ["--layer-decay 0.7 has no effect: the classifier alone is trained"],
        ),
        (("--tune", "head", "--vflip", "0.5"), ["--vflip 0.5 has no effect: features are"]),
        (("--tune", "head", "--feature-views", "2", "--vflip", "0.5"), []),
        (("--momentum", "0.5"), ["--momentum 0.5 has no effect: adamw has none"]),
        (("--momentum", "0.5", "--opt", "sgd"), []),
        (
            ("--sched", "constant", "--min-lr", "1e-5", "--model-ema-decay", "0.9"),
            ["--min-lr 1e-05 has no effect", "--model-ema-decay 0.9 has no effect: no average"],
        ),
        (("--model-ema", "--model-ema-decay", "0.9", "--layer-decay", "0.7", "--lr", "0.1"), []),
    ],
)
def test_an_option_that_changes_nothing_is_told(command, photos, options, notes):
    """With the plan, beside the reason; what has an effect is no matter for a note."""
    done = command("train", photos, *OFFLINE, *options, "--dry-run")
    assert done.code == 0, done.err
    lines = sorted(line for line in done.err.splitlines() if "no effect" in line)
    assert len(lines) == len(notes), lines
    for line, words in zip(lines, sorted(notes), strict=True):
        assert words in line


def test_a_run_that_is_repeated_is_told_nothing_that_nobody_asked_for(command, photos):
    """Its config has a value for each option that was left open."""
    options = (*OFFLINE, "--tune", "head", "--name", "r")
    assert command("train", photos, *options).code == 0
    done = command("train", "--config", "outputs/r/config.yaml", "--dry-run")
    assert done.code == 0, done.err
    assert "no effect" not in done.err


def test_a_search_over_nothing_that_has_an_effect_is_refused(command, photos):
    """A classifier that is fitted takes none of the usual search's parameters."""
    done = command("tune", photos, *OFFLINE, "--tune", "head", "--trials", "2")
    assert (done.code, len(done.error_lines)) == (2, 1), done.err
    assert "nothing to search over" in done.err
