"""Random scores for the tests of the metrics."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from imgcls.metrics.predictions import Predictions


@st.composite
def predictions(draw):
    """Random scores, often with ties, absent classes, few classes and few pictures."""
    classes = draw(st.integers(2, 7))
    count = draw(st.integers(1, 30))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    present = draw(st.integers(1, classes))
    labels = rng.integers(0, present, count)
    if draw(st.booleans()):
        labels = classes - 1 - labels
    logits = rng.normal(size=(count, classes)).astype(np.float32)
    if draw(st.booleans()):
        logits = np.round(logits)
    if draw(st.integers(0, 9)) == 0:
        logits[:] = 0
    return Predictions(tuple(map(str, range(count))), logits, labels)


def some_predictions(count, classes, *, seed=0, skill=1.0):
    """Predictions that are right the more often the higher the skill."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    logits = rng.normal(size=(count, classes)).astype(np.float32)
    logits[np.arange(count), labels] += skill
    return Predictions(tuple(map(str, range(count))), logits, labels)


def names(count):
    """Class names c0, c1, ..."""
    return [f"c{i}" for i in range(count)]
