"""A part of a batch is computed as it is in the whole batch."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
import torch.utils.checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import DropPath
from torch import nn
from torch.nn import functional

from imgcls.engine.training.parallel.whole_batch import BLANK, part_of_batch

SHAPES = {"2d": (12,), "3d": (5, 12), "4d": (6, 4, 4)}
LAYERS = {
    "dropout": nn.Dropout(0.4),
    "in place": nn.Dropout(0.4, inplace=True),
    "dropout1d": nn.Dropout1d(0.4),
    "dropout2d": nn.Dropout2d(0.4),
    "drop path": DropPath(0.4),
    "functional": lambda values: functional.dropout(values, 0.4),
}


def computed(layer, values, rows=None, size=None):
    torch.manual_seed(5)
    with part_of_batch(rows, size, None):
        found = layer(values.clone())
    return found, torch.rand(1).item()


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(LAYERS)),
    st.sampled_from(sorted(SHAPES)),
    st.sampled_from([1, 4]),
    st.data(),
)
def test_masks_of_a_part_are_the_rows_of_the_whole_batchs(name, shape, windows, data):
    """Also where a layer has made several rows of each picture; what comes next draws the same."""
    if (name, shape) in {
        ("dropout2d", "2d"),
        ("dropout2d", "3d"),
        ("dropout1d", "2d"),
        ("dropout1d", "4d"),
    }:
        return
    size = data.draw(st.integers(1, 9))
    rows = np.array(data.draw(st.lists(st.integers(0, size - 1), unique=True, min_size=1)))
    values = torch.rand(size * windows, *SHAPES[shape]) + 1
    whole, behind = computed(LAYERS[name], values)
    own = (rows[:, None] * windows + np.arange(windows)).ravel()
    part, next_draw = computed(LAYERS[name], values[own], rows, size)
    assert torch.equal(part, whole[own])
    assert next_draw == behind


def test_masks_are_the_same_in_the_layout_of_convolutions():
    """Channels last: masks are drawn in the order of memory."""
    values = (torch.rand(6, 5, 4, 4) + 1).contiguous(memory_format=torch.channels_last)
    whole, _ = computed(LAYERS["dropout"], values)
    rows = np.array([4, 1])
    part = values[rows].contiguous(memory_format=torch.channels_last)
    found, _ = computed(LAYERS["dropout"], part, rows, 6)
    assert torch.equal(found, whole[rows])


def test_a_part_without_pictures_draws_as_the_others_do():
    """So that the next layer, and the next batch of the update, have the masks of all."""
    _, behind = computed(LAYERS["dropout"], torch.rand(6, 7))
    _, found = computed(LAYERS["dropout"], torch.rand(BLANK, 7), np.arange(0), 6)
    assert found == behind


def test_evaluation_draws_nothing():
    """In evaluation mode a part is left as it is."""
    values = torch.rand(3, 4)
    found, _ = computed(nn.Dropout(0.5).eval(), values, np.arange(3), 9)
    assert torch.equal(found, values)


@pytest.mark.parametrize("name", ["test_vit", "test_vit2", "test_convnext", "test_efficientnet"])
@pytest.mark.parametrize("again", [False, True], ids=["kept", "computed again"])
def test_the_gradients_of_the_parts_add_up_to_those_of_the_whole(name, again):
    """Of timm's models with dropout and stochastic depth, also with gradient checkpointing."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=4, drop_rate=0.3, drop_path_rate=0.3)
    model.train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            module.eval()
    size = model.pretrained_cfg["input_size"][-1]
    images, labels = torch.rand(6, 3, size, size), torch.arange(6) % 4
    if again:
        model.set_grad_checkpointing()

    def gradients(parts):
        model.zero_grad()
        for rows in parts:
            torch.manual_seed(5)
            with part_of_batch(rows, None if rows is None else 6, None):
                own = slice(None) if rows is None else rows
                logits = model(images[own])
            functional.cross_entropy(logits, labels[own], reduction="sum").backward()
        return [p.grad.clone() for p in model.parameters()]

    whole = gradients([None])
    parts = gradients([np.array([0, 1]), np.array([5, 2, 3, 4])])
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_a_checkpointed_part_has_the_same_masks_in_both_passes():
    """The second forward pass comes while gradients are computed."""
    layer, rows = nn.Dropout(0.5), np.array([3, 1])
    values = torch.rand(2, 40, requires_grad=True)
    torch.manual_seed(5)
    with part_of_batch(rows, 5, None):
        kept = torch.utils.checkpoint.checkpoint(
            lambda given: layer(given).square(), values, use_reentrant=False
        )
    kept.sum().backward()
    torch.testing.assert_close(kept, (values.grad * values / 2).detach())
