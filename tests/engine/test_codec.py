"""State trees come back as they were, bit for bit."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.optim import create_optimizer_v2, list_optimizers
from torch import nn

from imgcls.engine.checkpoint.codec import decode_tree, encode_tree
from imgcls.engine.training.optim import OptimizerState
from imgcls.errors import CheckpointError

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.bool)


def round_trip(tree):
    tensors = {}
    text = json.dumps(encode_tree(tree, tensors, "state"), allow_nan=False)
    return decode_tree(json.loads(text), tensors)


def same(a, b):
    if isinstance(a, torch.Tensor):
        return (
            isinstance(b, torch.Tensor)
            and a.dtype == b.dtype
            and a.shape == b.shape
            and a.is_contiguous(memory_format=torch.channels_last)
            == b.is_contiguous(memory_format=torch.channels_last)
            if a.dim() == 4
            else a.dtype == b.dtype and torch.equal(a, b)
        ) and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, dict):
        return (
            type(b) is dict
            and list(a) == list(b)
            and all(type(x) is type(y) for x, y in zip(a, b, strict=True))
            and all(same(a[k], b[k]) for k in a)
        )
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and math.isnan(a):
        return isinstance(b, float) and math.isnan(b)
    return type(a) is type(b) and a == b


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(DTYPES),
    st.just(torch.device("cpu")),
    st.tuples(st.sampled_from(DTYPES), st.integers(0, 3)).map(
        lambda t: torch.arange(t[1]).to(t[0])
    ),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(
            st.one_of(st.text(max_size=4), st.integers(0, 9), st.just("$tensor")), inner, max_size=3
        ),
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(TREES)
def test_any_tree_comes_back_with_its_types(tree):
    """int keys, tuples, None, bools, dtypes, inf and nan, tensors anywhere."""
    assert same(tree, round_trip(tree))


def test_layout_and_arrays_survive():
    """channels_last stays, because a sum's order is its last bits; numpy arrays stay arrays."""
    tree = {
        "a": torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        "b": np.arange(5, dtype=np.uint32),
    }
    back = round_trip(tree)
    assert back["a"].stride() == tree["a"].stride()
    assert same(tree, back)


def test_the_encoding_is_a_copy():
    """Training may go on while a checkpoint is written."""
    tensor = torch.zeros(3)
    tensors = {}
    encode_tree({"x": tensor}, tensors, "s")
    tensor += 1
    assert tensors["s.x"].sum() == 0


@pytest.mark.parametrize(
    "leaf",
    [
        {"$tensor": "gone", "dtype": "float32", "shape": [], "layout": "contiguous"},
        {"$tensor": "x", "dtype": "float64", "shape": [2], "layout": "contiguous"},
        {"$tensor": "x", "dtype": "float32", "shape": [3], "layout": "contiguous"},
        {"$tensor": "x"},
        {"$what": 1},
        {"$dtype": "load"},
        {"$float": "one"},
        {"$dict": [[1]]},
        {"$dict": 3},
    ],
)
def test_a_damaged_tree_is_refused(leaf):
    """With imgcls's own error."""
    with pytest.raises(CheckpointError):
        decode_tree({"a": leaf}, {"x": torch.zeros(2)})


class Unknown:
    """A type that has no encoding."""


def test_an_unknown_type_is_not_pickled():
    """Whoever adds such a state learns it at once."""
    with pytest.raises(TypeError, match="no encoding for Unknown"):
        encode_tree({"x": Unknown()}, {}, "s")


def small_model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4)
    )


def take_steps(model, optimizer, count, start=0):
    for step in range(start, start + count):
        torch.manual_seed(100 + step)
        optimizer.zero_grad()
        loss = model(torch.randn(4, 3, 8, 8)).square().mean()
        second = getattr(optimizer, "is_second_order", False)
        loss.backward(create_graph=second)
        optimizer.step()


def steps_on_a_cpu(name):
    model = small_model()
    try:
        take_steps(model, create_optimizer_v2(model, opt=name, lr=1e-3, momentum=0.9), 1)
    except Exception:  # some need a GPU, a closure or a package that is not here
        return False
    return True


@pytest.mark.filterwarnings("ignore")
def test_every_timm_optimizer_goes_on_exactly():
    """Two steps, through the sidecar, two more: the same bits as four in one go."""
    tried = [name for name in list_optimizers() if steps_on_a_cpu(name)]
    print(f"{len(tried)} of {len(list_optimizers())} optimizers step on a CPU")
    assert len(tried) >= 80
    different = []
    for name in tried:
        make = lambda m, name=name: create_optimizer_v2(m, opt=name, lr=1e-3, momentum=0.9)  # noqa: E731
        straight = small_model()
        take_steps(straight, make(straight), 4)
        first = small_model()
        optimizer = make(first)
        take_steps(first, optimizer, 2)
        back = round_trip(OptimizerState(optimizer).state_dict())
        second = small_model()
        second.load_state_dict(first.state_dict())
        resumed = make(second)
        OptimizerState(resumed).load_state_dict(back)
        take_steps(second, resumed, 2, start=2)
        pairs = zip(straight.parameters(), second.parameters(), strict=True)
        if not all(torch.equal(a, b) for a, b in pairs):
            different.append(name)
    assert different == []
