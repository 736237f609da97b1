"""What a licence asks of a user."""

from __future__ import annotations

import pytest
import timm
from timm.models import get_pretrained_cfg

from imgcls.models.licences import licence_advice


@pytest.mark.parametrize(
    ("licence", "words"),
    [
        ("cc-by-nc-4.0", "non-commercial use only"),
        ("CC-BY-NC-SA-4.0", "non-commercial use only"),
        ("fair-noncommercial-research-license", "non-commercial use only"),
        ("apple-amlr", "non-commercial use only"),
        ("dinov3-license", "dinov3-license is a licence with conditions of its own"),
        ("gemma", "conditions of its own"),
        ("other", "a licence of their own"),
        ("unknown", "no licence is stated"),
        (None, "no licence is stated"),
    ],
)
def test_a_licence_that_asks_for_more_than_a_notice_is_explained(licence, words):
    """In plain words, whatever the case of its name."""
    assert words in licence_advice(licence)


@pytest.mark.parametrize("licence", ["apache-2.0", "MIT", "bsd-3-clause", "cc-by-4.0"])
def test_one_that_allows_any_use_needs_no_words(licence):
    """A notice is all that it asks for."""
    assert licence_advice(licence) is None


def test_most_of_timms_weights_are_free_to_use():
    """A licence that timm brings anew asks for reading until it is known here."""
    licences = [get_pretrained_cfg(name).license for name in timm.list_pretrained()]
    free = [licence for licence in licences if licence_advice(licence) is None]
    assert {*free} <= {"apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0"}
    assert len(free) > 0.8 * len(licences)
