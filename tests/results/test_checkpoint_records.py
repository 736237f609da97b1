"""The record of a checkpoint's sidecar: what it writes is what it reads."""

from __future__ import annotations

import pytest

from imgcls.results.checkpoint import Sidecar

# as training writes them; the file's own order
FACTS = {
    "fold": 1,
    "model_name": "test_resnet",
    "class_names": ["cat", "dog"],
    "val_pictures": 12,
    "prior": {"imbalance": "none", "shares": [0.25, 0.75]},
    "config": {"data": {"source": "photos", "folds": 2}},
    "starting_weights": {"kind": "pretrained", "name": "resnet18.a1_in1k", "licence": None},
    "data_fingerprint": "f00d",
    "splits": {"sha256": "ab", "assigned": "eJw="},
    "splitter": "stratified",
    "versions": {"torch": "2.9.1", "simplejpeg": None},
    "machine": {"device": "cpu", "threads": None},
    "epoch": 2,
    "step": 40,
    "finished": False,
    "metrics": {"epoch": 2, "val_loss": 0.5, "val_top_5_accuracy": None},
    "best": True,
}


def test_it_is_written_as_it_was_read():
    """All names, in the order of the file, empty groups and false flags too."""
    sidecar = Sidecar.read(FACTS)
    assert list(sidecar.to_json().items()) == list(FACTS.items())
    assert Sidecar.read({**FACTS, "metrics": {}}).to_json()["metrics"] == {}
    assert sidecar.prior.shares == (0.25, 0.75)


def test_what_is_not_said_is_none_and_not_written():
    """By an earlier version, or of a model saved from Python."""
    few = {"class_names": ["cat", "dog"]}
    sidecar = Sidecar.read(few)
    assert (sidecar.best, sidecar.config, sidecar.epoch) == (None, None, None)
    assert sidecar.to_json() == few
    assert Sidecar.read({**few, "epoch": None}) == sidecar


def test_names_of_a_later_version_are_passed_over():
    """A minor version adds some; this one does without."""
    assert Sidecar.read({**FACTS, "weather": "fine"}) == Sidecar.read(FACTS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fold", -1),
        ("fold", True),
        ("epoch", 2.0),
        ("step", 2**53),
        ("model_name", "\ud800"),
        ("finished", 1),
        ("best", "yes"),
        ("prior", {"imbalance": "none", "shares": [float("nan"), 1.0]}),
        ("config", {"data": 3}),
        ("splits", {"sha256": "ab"}),
        ("metrics", {"val_loss": "low"}),
        ("starting_weights", {"kind": "stolen"}),
        ("starting_weights", {"kind": "pretrained", "licence": 3}),
        ("versions", {"torch": 2}),
        ("machine", 3),
        ("machine", {"device": []}),
    ],
)
def test_what_is_not_usable_is_named(name, value):
    """Whoever wrote it also wrote a hash that fits."""
    with pytest.raises(ValueError, match=f"its {name} is not usable"):
        Sidecar.read({**FACTS, name: value})


@pytest.mark.parametrize("names", [None, [], ["a", "a"], ["a", 1], "ab"])
def test_class_names_must_be_there(names):
    """The order of the model's outputs; nothing can be said without."""
    with pytest.raises(ValueError, match="class names"):
        Sidecar.read({**FACTS, "class_names": names})


def test_a_prior_of_other_classes_is_refused():
    """Its shares stand in the order of the classes."""
    with pytest.raises(ValueError, match="not of its classes"):
        Sidecar.read({**FACTS, "prior": {"imbalance": "none", "shares": [1.0]}})
