"""Which layers of a model are divided as one."""

from __future__ import annotations

import timm
from torch import nn

from imgcls.engine.training.parallel.units import units


def test_a_transformer_is_divided_by_its_blocks():
    """All of them, in their order, and nothing else."""
    model = timm.create_model("test_vit")
    assert units(model) == list(model.blocks)


def test_stages_are_gone_into():
    """A network of stages is divided by the blocks within them."""
    model = timm.create_model("resnet18")
    stages = (model.layer1, model.layer2, model.layer3, model.layer4)
    assert units(model) == [block for stage in stages for block in stage]


def test_no_parameter_is_in_two_units():
    """Blocks that share one with another, or with the model, stay with the model."""
    shared = nn.Linear(2, 2)
    blocks = [nn.ModuleDict({"own": nn.Linear(2, 2), "also": shared}) for _ in range(2)]
    alone = nn.ModuleDict({"own": nn.Linear(2, 2)})
    model = nn.Module()
    model.blocks = nn.ModuleList([*blocks, alone])
    assert units(model) == [alone]
    tied = nn.Module()
    tied.blocks = nn.ModuleList([alone])
    tied.head = alone["own"]
    assert units(tied) == []


def test_single_layers_are_no_units():
    """A chain of them is divided as a whole."""
    assert units(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))) == []
