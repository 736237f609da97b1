"""Each method for rare classes, against its paper's formula or scikit-learn."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from imgcls.config.base import choices
from imgcls.config.imbalance import IMBALANCE_METHODS
from imgcls.config.recipe import RecipeConfig
from imgcls.engine.training.losses import build_loss

COUNTS = np.array([40, 8, 2])
METHODS = ("weighted-loss", "effective-number", "focal", "logit-adjust", "balanced-softmax")


def batch(seed=0, size=6):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(size, 3, generator=generator, dtype=torch.float64) * 3
    return logits, torch.randint(0, 3, (size,), generator=generator)


def loss_of(name, counts, smoothing):
    method = IMBALANCE_METHODS[name]
    return build_loss(
        smoothing,
        shift=method.prior_shift(counts),
        weights=method.class_weights(counts),
        gamma=method.focal_gamma,
    )


def test_weighted_loss_weighs_as_scikit_learn_does():
    """N / (C n), and the loss is the plain mean over pictures, so that accumulation stays exact."""
    labels = np.repeat([0, 1, 2], COUNTS)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    weights = IMBALANCE_METHODS["weighted-loss"].class_weights(COUNTS)
    assert weights == pytest.approx(expected)
    logits, targets = batch()
    losses = nn.functional.cross_entropy(logits, targets, reduction="none")
    loss = loss_of("weighted-loss", COUNTS, 0.0)(logits, targets)
    assert float(loss) == pytest.approx(float((losses * torch.tensor(weights)[targets]).mean()))


def test_effective_numbers_are_those_of_the_paper():
    """(1 - b) / (1 - b^n), scaled to sum to the number of classes; by hand for 1 and 2 pictures."""
    b = 0.999
    raw = np.array([1.0, (1 - b) / (1 - b**2)])
    method = IMBALANCE_METHODS["effective-number"]
    assert method.class_weights(np.array([1, 2])) == pytest.approx(raw * 2 / raw.sum())
    assert IMBALANCE_METHODS["effective-number"].class_weights(
        np.array([9, 9, 9])
    ) == pytest.approx([1, 1, 1])


def test_focal_loss_by_hand():
    """p = 0.9 counts (0.1)^2 of its cross-entropy, p = 0.5 a quarter."""
    logits = torch.log(torch.tensor([[0.9, 0.05, 0.05], [0.25, 0.5, 0.25]]))
    loss = loss_of("focal", COUNTS, 0.0)(logits, torch.tensor([0, 1]))
    expected = (0.01 * -math.log(0.9) + 0.25 * -math.log(0.5)) / 2
    assert float(loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("method", "tau"), [("logit-adjust", 0.75), ("balanced-softmax", 1.0)])
def test_adjusted_logits_give_the_balanced_softmax(method, tau):
    """-log(n_y^tau e^z_y / sum n_j^tau e^z_j): Menon et al.'s equation 10, Ren et al.'s 4."""
    logits, targets = batch()
    counts = torch.tensor(COUNTS, dtype=torch.float64) ** tau
    weighted = counts * logits.exp()
    expected = -(weighted / weighted.sum(1, keepdim=True))[range(6), targets].log().mean()
    loss = loss_of(method, COUNTS, 0.0)(logits, targets)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


@given(
    method=st.sampled_from(METHODS),
    smoothing=st.floats(0.0, 0.5),
    seed=st.integers(0, 1000),
)
def test_labels_and_their_probabilities_cost_the_same(method, smoothing, seed):
    """A class index is the one-hot target, with label smoothing too."""
    logits, targets = batch(seed)
    hot = nn.functional.one_hot(targets, 3).double()
    soft = hot * (1 - smoothing) + smoothing / 3
    by_index = loss_of(method, COUNTS, smoothing)(logits, targets)
    by_share = loss_of(method, COUNTS, smoothing)(logits, soft)
    assert float(by_index) == pytest.approx(float(by_share), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_equal_classes_and_the_plain_loss_agree(method):
    """On balanced data only the focal loss differs from cross-entropy."""
    logits, targets = batch()
    plain = loss_of("none", COUNTS, 0.1)(logits, targets)
    other = loss_of(method, np.array([7, 7, 7]), 0.1)(logits, targets)
    same = float(other) == pytest.approx(float(plain), rel=1e-5)
    assert same != (method == "focal")


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("none", [0.8, 0.16, 0.04]),
        ("focal", [0.8, 0.16, 0.04]),
        ("weighted-loss", [1 / 3] * 3),
        ("logit-adjust", COUNTS**0.25 / (COUNTS**0.25).sum()),
        ("balanced-softmax", [1 / 3] * 3),
        ("balanced-sampler", np.sqrt(COUNTS) / np.sqrt(COUNTS).sum()),
    ],
)
def test_the_stated_prior_is_what_the_minimum_of_the_loss_takes_for_granted(method, expected):
    """With features that say nothing, a model trained to the end gives the stated prior."""
    assert IMBALANCE_METHODS[method].stated_prior(COUNTS) == pytest.approx(expected)
    if method in ("focal", "balanced-sampler"):
        return  # not proper; not a loss
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    labels = torch.from_numpy(np.repeat([0, 1, 2], COUNTS))
    loss = loss_of(method, COUNTS, 0.0)
    optimizer = torch.optim.LBFGS([logits], max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = loss(logits.expand(50, 3), labels)
        value.backward()
        return value

    optimizer.step(closure)
    assert logits.softmax(0).detach().numpy() == pytest.approx(np.array(expected), abs=1e-3)


def test_every_method_of_the_option_has_a_test():
    """A method that is added needs a case here, and a row in the recipes."""
    option = RecipeConfig.model_fields["imbalance"]
    assert set(choices(option)) == {*IMBALANCE_METHODS, "auto"}
    assert {*IMBALANCE_METHODS} == {"none", "balanced-sampler", *METHODS}
    recipes = (Path(__file__).parents[2] / "examples/recipes/README.md").read_text("utf-8")
    assert all(f"| `{name}` |" in recipes for name in IMBALANCE_METHODS)


@pytest.mark.parametrize("method", IMBALANCE_METHODS.values(), ids=lambda method: method.name)
def test_a_shifted_prior_is_told_in_words(method):
    """Where probabilities are not for classes as common as in training, it is said for which."""
    shifted = not np.allclose(method.stated_prior(COUNTS), COUNTS / COUNTS.sum())
    assert shifted == bool(method.probabilities_for)
