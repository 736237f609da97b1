"""The page of all runs, in a real browser: sorted by a click, escaped, closed to the network."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgcls.output.pages.runs import write_page
from imgcls.results.runs import RunList, RunRow, RunScore

EVIL = "<script>document.title = 'taken'</script>"


def row(name, folder, value, *, report=False, **more):
    place = folder / name
    page = place / "report.html"
    if report:
        place.mkdir(parents=True)
        page.write_text("<title>the report</title>")
    score = None if value is None else RunScore("accuracy", value, (0.5, 1.0), "test", 100, True)
    facts = {"status": "finished", "began": "2026-01-02T03:04:05+00:00", "data": "photos"}
    return RunRow(name=name, path=place, score=score, report=page if report else None,
                  epochs=3, epochs_planned=10, **{**facts, **more})  # fmt: skip


@pytest.fixture
def page(tmp_path):
    """A page of four runs, with hostile names."""
    folder = tmp_path / "outputs"
    rows = (
        row("a b#c%", folder, 0.9, report=True, size_bytes=3 * 2**20),
        row(EVIL, folder, 0.95, data=EVIL, model=EVIL, size_bytes=20 * 2**20),
        row("c", folder, None, status="failed", reason=EVIL, size_bytes=2**30),
        row("javascript:alert(1)", folder, 0.8, report=True),
    )
    html = tmp_path / "runs.html"
    write_page(RunList(folder, rows, ("notes",)), html)
    return html


@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_of_runs_is_read_and_sorted(browser, page, width):
    """Numbers fall first, those that are missing come last; nothing on it is run."""
    browser.open(page, width=width)
    assert browser.run("return document.title").startswith("Runs in ")
    titles = browser.run(
        "return [...document.querySelectorAll('th button')].map(b => b.textContent)"
    )
    names = ["a b#c%", EVIL, "c", "javascript:alert(1)"]
    assert browser.column(0, titles.index("Name")) == names
    browser.click_title(0, titles.index("Accuracy"))
    assert browser.column(0, titles.index("Accuracy")) == ["95%", "90%", "80%", "-"]
    browser.click_title(0, titles.index("Size"))
    assert browser.column(0, titles.index("Size")) == ["1.0 GiB", "20.0 MiB", "3.0 MiB", "0.0 MiB"]
    assert browser.column(0, titles.index("Epochs"))[0] == "3/10"
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    assert browser.complaints() == []


def test_its_links_lead_to_the_reports(browser, page):
    """By relative addresses, whatever a run is called: the folder may be moved as a whole."""
    browser.open(page)
    found = "return [...document.querySelectorAll('a')].map"
    assert browser.run(f"{found}(a => a.getAttribute('href'))") == [
        "outputs/a%20b%23c%25/report.html",
        "outputs/javascript%3Aalert%281%29/report.html",
    ]
    for link in browser.run(f"{found}(a => a.href)"):
        browser.driver.get(link)
        assert browser.run("return document.title") == "the report"


def test_a_page_without_runs_says_so(browser, tmp_path):
    """In place of the table."""
    html = tmp_path / "runs.html"
    write_page(RunList(Path("outputs"), ()), html)
    browser.open(html)
    assert "There are none." in browser.run("return document.body.textContent")
