"""The catalogue on a terminal."""

from __future__ import annotations

import pytest

from imgcls.output.screens.model_list import _whole_tags

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
