"""The card of a model folder: what it says of names from data, and of what is not known."""

from __future__ import annotations

import html
import re

import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from imgcls.jobs.export.hub import readme
from imgcls.output.pages.model_description import ModelDescription, Scores, TrainingData
from imgcls.results.checkpoint import StartingWeights

NAMES = (
    "<script>alert(1)</script>", "a|b", "*x* _y_", "`code`", ":smile:", "[l](http://x.y)",
    "![p](q)", "---\nlicense: mit\n---", "&lt;", "~~no~~", "$x$", "www.x.y", "@you", "\\", "# h",
    "\u202egnp",
)  # fmt: skip


def described(**changes):
    rows = [
        {"class": name, "support": 9, "precision": 0.5, "recall": 0.5, "f1": number / 99}
        for number, name in enumerate(NAMES)
    ]
    counts = [{"class": name, "train": 30, "val": 9, "test": 9} for name in NAMES]
    about = {
        "model_name": "test_resnet",
        "class_names": NAMES,
        "input_size": (3, 32, 32),
        "weights": StartingWeights("random"),
        "data": TrainingData(name="my: {data}\n", counts=counts, groups=0, copies=0),
        "scores": Scores("test", 144, [("accuracy", 0.5, (0.4, 0.6))], None, {}, rows),
        **changes,
    }
    return ModelDescription(**about)


def test_names_from_data_are_shown_as_they_are():
    """Whatever they hold, they are text: no markup, no link, no metadata."""
    text = readme(described())
    card = ModelCard(text)
    assert card.data.license is None
    page = MarkdownIt("commonmark").enable("table").render(card.text)
    assert not re.search(r"<(script|a|em|strong|img|del|hr)\b", page.split("Limits")[0])
    cells = [html.unescape(cell) for cell in re.findall(r"<td>(.*?)</td>", page)]
    for name in NAMES[:7] + NAMES[8:-1]:
        assert cells.count(name) == 1 + (name in NAMES[:10]), name
    assert "---\\x0alicense: mit\\x0a---" in cells
    assert "\\u202egnp" in cells


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (StartingWeights("random"), "trained from scratch"),
        (StartingWeights("unknown"), "does not say whose they are"),
        (StartingWeights("pretrained", "resnet18.a1_in1k", "apache-2.0"), "**apache-2.0**."),
        (StartingWeights("pretrained", "x.y", "cc-by-nc-4.0"), "non-commercial use only"),
        (StartingWeights("pretrained", None, None), "**not stated**; no licence is stated"),
    ],
)
def test_the_weights_that_it_began_with_are_said(weights, words):
    """And that the licence of the model itself is for its publisher to choose."""
    licence = readme(described(weights=weights)).split("## Licence")[1]
    assert words in licence
    assert "for its publisher to choose" in licence


def test_limits_follow_from_what_is_known():
    """Small classes, copies across splits, missing groups; nothing that was not looked at."""
    text = readme(described())
    assert "Scored on fewer than 20 pictures each" in text
    assert "identical copy" not in text
    assert "No groups were given" in text
    data = TrainingData(name="birds", groups=12, copies=3)
    text = readme(described(data=data, scores=None))
    assert "3 pictures have an identical copy in another split" in text
    assert "12 groups, none of which is divided" in text
    assert "No groups were given" not in text
    assert "Nothing is recorded of how well it does" in text
    assert "model-index" not in text


def test_a_class_that_training_never_scored_is_named():
    """Without an evaluation, too: the val split had no picture of it."""
    counts = [
        {"class": "jay", "train": 40, "val": 30, "test": 0},
        {"class": "owl", "train": 40, "val": 0, "test": 0},
    ]
    scores = Scores("val", 30, [("accuracy", 1.0, None)])
    text = readme(described(data=TrainingData(name="birds", counts=counts), scores=scores))
    assert "Never scored, without a picture in the split: owl." in text


def test_where_there_are_no_intervals_the_card_says_why():
    """Pictures of one group say less than as many others."""
    text = readme(described(scores=Scores("val", 9, [("accuracy", 1.0, None)])))
    assert "There are no intervals: the pictures come in groups, or may do so" in text
    assert "which the intervals do not count in" not in text


def test_a_temperature_is_told_with_what_it_was_fitted_on():
    """Also one of 1, which was fitted all the same."""
    heated = readme(described(temperature=2.0, fitted_on="9 pictures of val"))
    assert "**2.0000**, fitted on 9 pictures of val" in heated
    assert "(logits / 2).softmax" in heated
    assert "whose scores are without temperature" in heated
    assert "the temperature is 1" in readme(described(fitted_on="9 pictures of val"))
    assert "No temperature is kept" in readme(described())


def test_only_programs_that_take_its_pictures_are_named():
    """transformers opens pictures as RGB; grey ones are turned grey in timm's lines."""
    assert "from transformers import pipeline" in readme(described())
    grey = readme(described(input_size=(1, 28, 28)))
    assert "transformers" not in grey
    assert '.convert("L")' in grey
    assert "a picture of 4 channels" in readme(described(input_size=(4, 28, 28)))
