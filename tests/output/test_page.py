"""The frame that every HTML page is made in: escaped, closed to the network, sortable."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from jinja2 import UndefinedError
from PIL import Image

from imgcls.output.pages.evaluation import _classes
from imgcls.output.pages.page import Column, Table, Thumbnail, page_environment, picture_uri

EVIL = '<script>document.title = "taken"</script>'
PAGE = """
{% extends "base.html" %}
{% import "parts.html" as parts %}
{% block title %}{{ name }}{% endblock %}
{% block header %}<h1>{{ name }}</h1>{% endblock %}
{% block main %}
{{ parts.facts([("Model", name)]) }}
{{ parts.cards([("Accuracy", "90%", name)]) }}
{{ parts.table(table) }}
{{ parts.gallery(thumbnails) }}
{% endblock %}
"""


@pytest.fixture
def page(tmp_path):
    """A page with every part in it; each text on it is hostile."""
    picture = picture_uri(Image.fromarray(np.zeros((8, 8, 3), np.uint8)))
    html = (
        page_environment()
        .from_string(PAGE)
        .render(
            name=EVIL,
            table=Table(
                [Column(EVIL, meaning='" onclick="x'), Column("Pictures", "count")],
                [["b", 1200], [EVIL, None], ["a10", 9], ["a9", 30]],
            ),
            thumbnails=[Thumbnail(picture, EVIL, [EVIL], '" onerror="alert(1)')],
        )
    )
    file = tmp_path / "page.html"
    file.write_text(html, encoding="utf-8")
    return file


def test_names_from_outside_stay_text(page, browser):
    """A class called <script> is shown as that, and never runs."""
    browser.open(page)
    assert browser.complaints() == []
    assert browser.driver.title == EVIL
    assert browser.run("return document.querySelector('h1').textContent") == EVIL
    assert browser.run("return document.scripts.length") == 1
    assert browser.run("return document.querySelectorAll('[onclick], [onerror]').length") == 0


def test_a_table_that_goes_on_shows_a_shadow_and_its_whole_caption(tmp_path, browser):
    """At 400 pixels a wide table is cut, and is seen to be; a narrow one has no shadow."""
    wide = Table([Column(f"Column {n}") for n in range(12)], [["cell"] * 12], "a caption " * 20)
    source = (
        '{% extends "base.html" %}{% import "parts.html" as parts %}'
        "{% block main %}{{ parts.table(table) }}{% endblock %}"
    )

    def right_edge(table):
        file = tmp_path / "page.html"
        html = page_environment().from_string(source).render(table=table)
        file.write_text(html, encoding="utf-8")
        browser.open(file, width=400)
        shot = Image.open(io.BytesIO(browser.driver.get_screenshot_as_png())).convert("L")
        place = browser.run(
            "const b = document.querySelector('tbody').getBoundingClientRect();"
            "const s = document.querySelector('.scroll').getBoundingClientRect();"
            "return [s.right - 3, b.top + b.height / 2]"
        )
        return shot.getpixel(tuple(round(at * shot.width / 400) for at in place))

    assert right_edge(wide) < 230
    caption = browser.run(
        "return document.querySelector('caption span').getBoundingClientRect().right"
    )
    assert caption <= 400
    assert right_edge(Table([Column("One")], [["cell"]])) == 255


def test_a_click_on_a_title_sorts_the_column(page, browser):
    """Texts rise as people count, numbers fall first, and empty cells stay last both ways."""
    browser.open(page)
    browser.click_title(0, 0)
    assert browser.column(0, 0) == [EVIL, "a9", "a10", "b"]
    browser.click_title(0, 0)
    assert browser.column(0, 0) == ["b", "a10", "a9", EVIL]
    browser.click_title(0, 1)
    assert browser.column(0, 1) == ["1,200", "30", "9", "-"]
    browser.click_title(0, 1)
    assert browser.column(0, 1) == ["9", "30", "1,200", "-"]


def test_a_page_can_neither_call_home_nor_run_foreign_scripts(tmp_path, browser):
    """The policy in its head holds even where something slipped through the escaping."""
    html = page_environment().from_string(
        '{% extends "base.html" %}{% block main %}<script>document.title = "taken"</script>'
        '<img src="http://127.0.0.1:9/x.png">{% endblock %}'
    )
    file = tmp_path / "page.html"
    file.write_text(html.render(), encoding="utf-8")
    browser.open(file)
    assert browser.driver.title == ""
    refusals = browser.complaints()
    assert len(refusals) == 2
    assert all("Content Security Policy" in refusal for refusal in refusals)


@pytest.mark.parametrize("width", [390, 1280])
def test_a_page_fits_its_window(page, browser, width):
    """Nothing has to be scrolled sideways, on a phone or on a desk."""
    browser.open(page, width=width)
    assert browser.run("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(
    ("size", "shown"), [((640, 480), (160, 120)), ((8, 8), (160, 160)), ((3, 100), (3, 100))]
)
def test_thumbnails_are_small_jpegs(size, shown):
    """Large pictures shrink in proportion, tiny ones grow by whole factors."""
    uri = picture_uri(Image.new("RGB", size, "red"))
    kind, data = uri.split(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert (image.format, image.size) == ("JPEG", shown)


def test_an_unknown_value_in_a_template_is_an_error():
    """A misspelt name must not print as nothing."""
    with pytest.raises(UndefinedError):
        page_environment().from_string("{{ nothing }}").render()


def test_a_table_of_many_classes_has_the_weakest_and_sorts(tmp_path, browser):
    """A browser cannot sort 20,000 rows; the file has them all, and the page says so."""
    rows = [
        {"class": f"species {i}", "support": i % 7, "f1": None if i % 7 == 0 else i / 20_000}
        for i in range(20_000)
    ]
    table = _classes(rows)
    assert table.caption == "The 2,000 weakest of 20,000 classes; all are in per_class.csv"
    assert {row[0] for row in table.rows} == {f"species {i}" for i in range(2_334) if i % 7}
    page = '{% extends "base.html" %}{% import "parts.html" as parts %}'
    page += "{% block main %}{{ parts.table(table) }}{% endblock %}"
    file = tmp_path / "page.html"
    file.write_text(page_environment().from_string(page).render(table=table), encoding="utf-8")
    browser.open(file)
    browser.run("document.querySelectorAll('th')[2].click()")
    assert browser.run("return document.querySelector('tbody td').textContent") == "species 2333"
    assert _classes(rows[:2_000]).caption == ""
