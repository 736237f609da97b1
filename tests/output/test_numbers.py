"""Numbers with as many digits as the pictures behind them carry."""

from __future__ import annotations

import pytest

from imgcls.output.metric_names import is_share, metric_writer
from imgcls.output.numbers import Share, few_pictures, percent
from imgcls.output.pages.page import cell_number, format_cell


@pytest.mark.parametrize(
    ("pictures", "one_wrong"),
    [(1, "0%"), (22, "95%"), (100, "99%"), (101, "99.0%"), (1000, "99.9%"), (1001, "99.90%")],
)
def test_percents_have_the_decimals_that_one_picture_moves(pictures, one_wrong):
    """And never more than two; a single mistake among up to 10,000 is never 100%."""
    assert percent((pictures - 1) / pictures, pictures) == one_wrong
    assert percent(None, pictures) == "-"
    for count in (2, 22, 100, 101, 999, 1001, 10_000):
        assert not percent((count - 1) / count, count).startswith("100")


def test_a_share_reads_by_its_pictures_and_sorts_by_its_value():
    """The cell of a page keeps all digits below what it shows."""
    share = Share(2 / 3, 3)
    assert format_cell(share, "percent") == "67%"
    assert cell_number(share) == 2 / 3
    assert cell_number(Share(None, 3)) is None
    assert format_cell(Share(None, 3), "score") == "-"


def test_losses_and_areas_keep_four_decimals():
    """They are no shares of pictures."""
    assert [n for n in ("nll", "brier", "roc_auc_macro", "average_precision_macro", "cohen_kappa",
                        "mcc") if is_share(n)] == []  # fmt: skip
    assert metric_writer("nll", 22)(0.5) == "0.5000"
    for name in (
        "accuracy",
        "top_3_accuracy",
        "precision_macro",
        "f1_macro",
        "ece",
        "classwise_ece",
    ):
        assert metric_writer(name, 22)(0.5) == "50%"


def test_few_pictures_are_told_with_what_they_leave_open():
    """0.025 ** (1 / 3) is 29%; classes without a picture and with enough are not counted."""
    found = few_pictures([("china", 3), ("flower", 400), ("violet", 0)])
    assert found.startswith("Few pictures: china has 3. One picture is 33% of such")
    assert "may still be 29% (95% interval)" in found
    two = few_pictures([("china", 3), ("flower", 3), ("violet", 19)])
    assert two.startswith("Few pictures: 3 classes have fewer than 20; china, flower have 3 each.")
    assert "60 classes have 2 each" in few_pictures([(f"bird {n}", 2) for n in range(60)])
    assert few_pictures([("china", 20)]) == ""
