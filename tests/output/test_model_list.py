"""The catalogue on a terminal."""

from __future__ import annotations

import json

import pytest

from imgcls.models.catalog.read import load_catalog
from imgcls.output.screens.model_list import _licences, _whole_tags

TAGS = ("a1_in1k", "a2_in1k", "augreg_in21k_ft_in1k")


@pytest.mark.parametrize(
    ("tags", "room", "shown"),
    [
        (TAGS, None, "a1_in1k, a2_in1k, augreg_in21k_ft_in1k"),
        (TAGS, 38, "a1_in1k, a2_in1k, augreg_in21k_ft_in1k"),
        (TAGS, 37, "a1_in1k, a2_in1k +1"),
        (TAGS, 11, "a1_in1k +2"),
        (TAGS[2:], 11, "1 tag"),
        ((), 11, ""),
    ],
)
def test_no_tag_is_cut(tags, room, shown):
    """A tag is copied: those that fit are whole, the others are counted."""
    assert _whole_tags(tags, room) == shown


def test_the_licence_is_that_of_the_plain_names_weights(command):
    """Further ones are counted; one list for `--licence` and `--license`, and for JSON."""
    assert _licences(load_catalog()["resnet18"]) == "apache-2.0 +2"
    assert _licences(load_catalog()["convnextv2_atto"]) == "cc-by-nc-4.0"
    assert _licences(load_catalog()["efficientnet_b7"]) == "-"
    listed = command("list-models", "resnext101_32x*", "--licence", "apache-2.0,mit")
    assert command("list-models", "resnext101_32x*", "--license", "apache-2.0,mit") == listed
    assert listed.out.splitlines()[1].split() == [
        "resnext101_32x4d", "resnet", "44.2", "M", "224", "apache-2.0", "gluon_in1k",
    ]  # fmt: skip
    assert "give the tag too, as in resnext101_32x4d.gluon_in1k" in listed.err
    (entry,) = json.loads(command("list-models", "csatv2_21m", "--json").out)
    assert entry["licences"] == {"sw_r640_in1k": None, "sw_r512_in1k": None}


def test_a_licence_that_no_weights_have_is_answered_with_those_there_are(command):
    """They are the publishers' own words."""
    done = command("list-models", "--licence", "apache")
    assert done.code == 2
    assert "the licences are apache-2.0, mit, cc-by-nc-4.0," in done.error_lines[0]
