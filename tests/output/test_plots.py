"""Pictures of an evaluation: safe names, true places, files that open."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image
from scipy.sparse import csr_array

from imgcls.metrics.calculator import MetricsCalculator
from imgcls.metrics.curves import curve_points
from imgcls.metrics.predictions import Predictions
from imgcls.output.plots.calibration import draw_confidences, draw_reliability
from imgcls.output.plots.confusion import draw_confusion
from imgcls.output.plots.curves import ClassCurves, draw_precision_recall, draw_roc
from imgcls.output.plots.training import draw_training

HOSTILE = ["<script>alert(1)</script>", "$x_1$", "$\\frac{", "甲虫 日本", 'a"b&c id="x"', "é\tñ"]


def some_predictions(count, classes):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, count)
    logits = rng.normal(size=(count, classes)).astype(np.float32)
    logits[np.arange(count), labels] += 1
    return Predictions(tuple(map(str, range(count))), logits, labels)


def all_drawings(p, names):
    scored = MetricsCalculator(names).compute(p)
    confusion = csr_array(np.array(scored.confusion_matrix))
    curves = ClassCurves(p)
    return [
        draw_confusion(confusion, names, normalized=False),
        draw_confusion(confusion, names, normalized=True),
        draw_roc(curves, scored.metrics, [row.to_json() for row in scored.per_class]),
        draw_precision_recall(curves, scored.metrics, [row.to_json() for row in scored.per_class]),
        draw_reliability([("before", p), ("after", p)]),
        draw_confidences(p),
        draw_training([{"epoch": 1, "train_loss": 1.0, "val_loss": None, "lr": 0.1}], 1, None),
    ]


def write_drawing(drawing, folder):
    for name, content in drawing.files():
        (folder / name).write_bytes(content)


def test_names_from_outside_are_drawn_as_they_are_spelt(tmp_path):
    """No formula, no markup, no warning about a script that the fonts lack."""
    for drawing in all_drawings(some_predictions(60, 6), HOSTILE):
        write_drawing(drawing, tmp_path)
        with Image.open(tmp_path / f"{drawing.name}.png") as image:
            image.load()
            assert min(image.size) > 400
        for text in ((tmp_path / f"{drawing.name}.svg").read_text("utf-8"), drawing.inline_svg):
            tree = ET.fromstring(text)
            assert not [e for e in tree.iter() if e.tag.endswith("script")]
        if drawing.name.startswith("confusion"):
            texts = {e.text for e in tree.iter() if e.tag.endswith("text")}
            assert {"$x_1$", "$\\frac{", "甲虫 日本", 'a"b&c id="x"'} <= texts
    files = sorted(p.name for p in tmp_path.iterdir())
    assert len(files) == 14
    assert not [name for name in files if name.startswith(".")]


def test_pictures_in_one_page_share_no_id():
    """Two SVG elements with the same id would borrow each other's clip paths."""
    ids = []
    for drawing in all_drawings(some_predictions(60, 4), ["a", "b", "c", "d"]):
        text = drawing.inline_svg
        own = {e.get("id") for e in ET.fromstring(text).iter()} - {None}
        ids += own
        for reference in ("url(#", 'href="#'):
            for part in text.split(reference)[1:]:
                assert part.split(")")[0].split('"')[0] in own
    assert len(ids) == len(set(ids))


def test_the_same_predictions_draw_the_same_files():
    """Byte by byte, so that a report can be kept under version control."""
    first, second = (
        [d.svg for d in all_drawings(some_predictions(30, 3), ["a", "b", "c"])] for _ in range(2)
    )
    assert first == second


def test_tooltips_lie_on_what_they_tell_about(tmp_path):
    """The middle of a cell's tooltip has the cell's colour in the drawn picture."""
    drawing = draw_confusion(csr_array([[30, 10], [0, 20]]), ["a", "b"], normalized=False)
    told = {tooltip.text: tooltip for tooltip in drawing.tooltips}
    assert set(told) == {
        "a, right\n30 of 40 (75%)", "a as b\n10 of 40 (25%)", "b, right\n20 of 20 (100%)",
    }  # fmt: skip
    write_drawing(drawing, tmp_path)
    pixels = np.asarray(Image.open(tmp_path / "confusion_matrix.png").convert("RGB"))
    for text, tooltip in told.items():
        x = int((tooltip.left + 0.2 * tooltip.width) * pixels.shape[1])
        y = int((tooltip.top + 0.2 * tooltip.height) * pixels.shape[0])
        red, _, blue = pixels[y, x].astype(int)
        assert (blue > red) == ("right" in text)


def test_many_classes_stand_beside_those_they_are_taken_for():
    """Two pairs far apart in the list become neighbours; past 200 classes the worst are shown."""
    confusion = np.eye(300, dtype=int) * 9
    confusion[3, 250] = confusion[250, 3] = 5
    confusion[40, 120] = 7
    names = [f"class {i}" for i in range(300)]
    drawing = draw_confusion(csr_array(confusion), names, normalized=True)
    names = [label.get_text() for label in drawing.figure.axes[0].get_yticklabels()]
    assert len(names) == 200
    for one, other in ((3, 250), (40, 120)):
        assert abs(names.index(f"class {one}") - names.index(f"class {other}")) == 1
    assert "200 classes with the most mistakes" in drawing.figure.axes[0].get_title()


@pytest.mark.parametrize("normalized", [False, True])
def test_a_matrix_of_two_classes_shows_its_whole_title(normalized):
    """The smallest matrix is narrower than the title on one line would be."""
    drawing = draw_confusion(csr_array([[3, 0], [3, 0]]), ["a", "b"], normalized=normalized)
    figure = drawing.figure
    figure.canvas.draw()
    extent = figure.axes[0].title.get_window_extent()
    assert extent.x0 >= 0
    assert extent.x1 <= figure.bbox.x1


def test_few_classes_keep_their_order():
    """As they are in every table."""
    names = [f"c{i}" for i in range(20)]
    drawing = draw_confusion(csr_array(np.full((20, 20), 3)), names, normalized=False)
    assert [label.get_text() for label in drawing.figure.axes[0].get_yticklabels()] == names


def test_more_cells_than_a_picture_needs_are_thinned(monkeypatch):
    """Every k-th picture draws, and the title says so."""
    monkeypatch.setattr("imgcls.output.plots.curves._MOST_CELLS", 100)
    p = some_predictions(60, 5)
    scored = MetricsCalculator("abcde").compute(p)
    drawing = draw_roc(ClassCurves(p), scored.metrics, [row.to_json() for row in scored.per_class])
    assert "1 picture in 3" in drawing.figure.axes[0].get_title()


@pytest.mark.parametrize("right", [True, False])
def test_one_sided_answers_can_be_drawn(tmp_path, right):
    """All right, all wrong, one picture, one class that was never met."""
    logits = np.eye(3, dtype=np.float32)[[0]] * 5
    p = Predictions(("a",), logits, np.array([0 if right else 2]))
    for drawing in all_drawings(p, ["a", "b", "c"]):
        write_drawing(drawing, tmp_path)


def test_thinned_curves_are_those_of_the_scaled_scores(monkeypatch):
    """A temperature changes the order of pictures within a class, also where few of them draw."""
    monkeypatch.setattr("imgcls.output.plots.curves._MOST_CELLS", 400)
    p = replace(some_predictions(240, 5), temperature=8.0)
    curves = ClassCurves(p)
    assert curves.step == 3
    labels, scores = p.labels[::3], p.probabilities[::3]
    unscaled = replace(p, temperature=1.0).probabilities[::3]
    differing = 0
    for c, points in curves.by_class.items():
        expected = curve_points(labels == c, scores[:, c])
        np.testing.assert_array_equal(points.false_positive_rate, expected.false_positive_rate)
        wrong = curve_points(labels == c, unscaled[:, c]).false_positive_rate
        differing += not np.array_equal(points.false_positive_rate, wrong)
    assert differing
