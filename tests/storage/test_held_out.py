"""What is kept beside a checkpoint of pictures that it was not trained on."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from safetensors.numpy import save

from imgcls.errors import CheckpointError
from imgcls.metrics.novelty import FeatureStatistics
from imgcls.storage.held_out import (
    FEATURES,
    VALIDATION,
    TrainedFeatures,
    Validation,
    keep,
    read_features,
    read_validation,
    unit_numbers,
)

SHA256 = "a" * 64


@pytest.fixture
def validation():
    rng = np.random.default_rng(0)
    return Validation(
        labels=rng.integers(0, 3, 7),
        predicted=rng.integers(0, 3, 7),
        own_probabilities=rng.random(7, dtype=np.float32),
        confidences=rng.random(7, dtype=np.float32),
        units=np.arange(7),
        prevalence=np.array([0.5, 0.25, 0.25]),
        temperature=1.2345678901234567,
        tta="hflip",
        amp="off",
    )


@pytest.fixture
def features():
    rng = np.random.default_rng(0)
    means = rng.normal(size=(3, 4))
    means[1] = np.nan  # a class without training pictures
    statistics = FeatureStatistics(means, rng.normal(size=(4, 4)))
    return TrainedFeatures(statistics, rng.random(7), np.array([0, 0, 1, 2, 3, 4, 5]), 20, "off")


def same(one, other):
    for field in fields(one):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if isinstance(mine, FeatureStatistics):
            same(mine, theirs)
        elif isinstance(mine, np.ndarray):
            assert mine.dtype == theirs.dtype
            np.testing.assert_array_equal(mine, theirs)
        else:
            assert mine == theirs


def test_what_is_kept_comes_back(tmp_path, validation, features):
    """To the last bit, with a digest that all of it has a part in."""
    assert read_validation(tmp_path, SHA256, 3) is None
    assert read_features(tmp_path, SHA256, 3) is None
    for name, found, read in (
        (VALIDATION, validation, read_validation),
        (FEATURES, features, read_features),
    ):
        (tmp_path / f".tmp-{name}-1").write_bytes(b"of a process that was killed")
        assert keep(tmp_path, name, found.content(SHA256)) is None
        back = read(tmp_path, SHA256, 3)
        same(found, back)
        assert back.digest == found.digest
    assert {file.name for file in tmp_path.iterdir()} == {VALIDATION, FEATURES}
    assert validation.groups is None
    np.testing.assert_array_equal(features.groups, features.units)
    others = [replace(validation, temperature=1.0), replace(validation, tta="none")]
    others += [replace(validation, confidences=validation.confidences / 2)]
    others += [replace(validation, amp="bf16")]
    assert len({one.digest for one in (validation, *others)}) == 5


@pytest.mark.parametrize(
    "change",
    [
        {"labels": np.full(7, 3)},
        {"labels": np.full(7, -1)},
        {"labels": np.zeros(6, np.int64)},
        {"confidences": np.full(7, np.nan, np.float32)},
        {"own_probabilities": np.zeros(7)},
        {"prevalence": np.array([0.5, 0.5])},
        {"more": np.zeros(7)},
    ],
)
def test_a_file_with_other_arrays_is_damaged(tmp_path, validation, change):
    """Numbers of classes that are none, other shapes and types, nan."""
    (tmp_path / VALIDATION).write_bytes(validation.content(SHA256))
    assert read_validation(tmp_path, SHA256, 3) is not None
    arrays = {f.name: getattr(validation, f.name) for f in fields(validation)}
    arrays = {n: v for n, v in arrays.items() if isinstance(v, np.ndarray)} | change
    facts = {"format": "imgcls-validation", "weights_sha256": SHA256}
    content = save(arrays, {**facts, "temperature": "1.0", "tta": "none", "amp": "off"})
    (tmp_path / VALIDATION).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"validation\.safetensors: damaged; fit again with"):
        read_validation(tmp_path, SHA256, 3)


@pytest.mark.parametrize("name", [VALIDATION, FEATURES])
def test_damage_of_any_kind_is_one_error(tmp_path, validation, features, name):
    """Cut off anywhere, or with other bytes: read as what it is, or refused by name."""
    found, read = {
        VALIDATION: (validation, read_validation),
        FEATURES: (features, read_features),
    }[name]
    whole, rng = found.content(SHA256), np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), rng.integers(1, 5)):
            damaged[place] = rng.integers(0, 256)
        cut = rng.integers(0, len(whole)) if rng.random() < 0.3 else len(whole)
        (tmp_path / name).write_bytes(bytes(damaged[:cut]))
        try:
            assert read(tmp_path, SHA256, 3) is not None
        except CheckpointError as error:
            assert name in str(error)
            refused += 1
    assert refused > 100


def test_a_file_of_other_weights_is_refused(tmp_path, features):
    """One line that says how to fit again."""
    (tmp_path / FEATURES).write_bytes(features.content("b" * 64))
    with pytest.raises(CheckpointError, match="belongs to other weights; fit again with"):
        read_features(tmp_path, SHA256, 3)


def test_pictures_without_a_group_are_alone():
    """Each is a unit of its own; those of one group are one."""
    assert unit_numbers(["a", "", "a", "", "b"], 5).tolist() == [0, 1, 0, 2, 3]
    assert unit_numbers(None, 3).tolist() == [0, 1, 2]
