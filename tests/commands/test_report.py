"""report.html and the pictures of an evaluated split, opened in a real browser."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from imgcls.errors import DataError
from imgcls.jobs.page.page import make_page
from imgcls.metrics.calculator import MetricsCalculator
from imgcls.metrics.predictions import Predictions
from imgcls.results.evaluation import EvalReport
from imgcls.storage.evaluations import write_evaluation

EVIL = "<script>alert(1)</script>"
EVIL_FOLDER = "<script>alert(1)<script>"  # no slash in a file name
RIGHT_CELL = (
    "[...document.querySelectorAll('#confusion_matrix .tooltips rect')]"
    ".find(r => r.textContent.includes(', right'))"
)
PICTURES = {
    "confusion_matrix", "confusion_matrix_normalized", "roc_curves", "pr_curves", "reliability",
    "confidence", "training_curves",
}  # fmt: skip


def all_pictures_load(browser):
    return browser.run("return [...document.images].every(i => i.complete && i.naturalWidth > 0)")


def pixel_at_center(browser, element):
    """The colour on the screen in the upper left of the element, where no number is written."""
    x, y = browser.run(
        f"const e = {element}; e.scrollIntoView({{block: 'center', behavior: 'instant'}});"
        "const b = e.getBoundingClientRect(); return [b.x + b.width * .2, b.y + b.height * .2]"
    )
    shot = browser.driver.execute_cdp_cmd("Page.captureScreenshot", {})["data"]
    with Image.open(io.BytesIO(base64.b64decode(shot))) as screen:
        return screen.convert("RGB").getpixel((int(x), int(y)))


@pytest.fixture(scope="module")
def ten_classes(tmp_path_factory):
    """A real run on the digits, one epoch of a tiny model, evaluated: its results folder."""
    from imgcls.cli.boundary import run

    folder = tmp_path_factory.mktemp("ten")
    arguments = ["--output", str(folder), "--device", "cpu", "--workers", "0", "--quiet"]
    model = ["--model", "test_resnet", "--img-size", "32", "--epochs", "1", "--name", "digits"]
    assert run(["train", *model, *arguments]) == 0
    assert run(["evaluate", *arguments]) == 0
    return folder / "digits" / "fold_0" / "test_results" / "test"


@pytest.fixture(scope="module")
def many_classes(tmp_path_factory):
    """200 classes of 3 tiny pictures each, scored by chance: the folder with report.html."""
    root = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(0)
    names = [EVIL_FOLDER, "$x_1$", "甲虫", *(f"class {i:03d}" for i in range(3, 200))]
    keys, labels = [], np.repeat(np.arange(200), 3)
    for name in names:
        (root / "data" / name).mkdir(parents=True)
        for i in range(3):
            keys.append(f"{name}/{i}.png")
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "data" / name / f"{i}.png")
    logits = rng.normal(size=(600, 200)).astype(np.float32)
    logits[np.arange(600), labels] += 3
    predictions = Predictions(tuple(keys), logits, labels)
    folder = root / "test_results" / "test"
    write_scored(folder, predictions, names, {"source": str(root / "data")})
    make_page(folder)
    return folder


def write_scored(folder, predictions, names, data):
    scored = MetricsCalculator(names).compute(predictions)
    speed = {"throughput_samples_per_sec": 10.0, "device": "cpu", "precision": "off"}
    report = EvalReport(
        checkpoint=folder.parent / "checkpoints" / "step-1",
        model_name=EVIL,
        split="test",
        fold=0,
        data=data,
        metrics=scored.metrics,
        speed_metrics=speed,
        undefined=scored.undefined,
        class_names=tuple(names),
        per_class=scored.per_class,
        confusion_matrix=scored.confusion_matrix,
        folder=folder,
        notes=(EVIL,),
    )
    folder.mkdir(parents=True)
    np.save(folder / "logits.npy", predictions.logits)
    write_evaluation(folder, report, predictions)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("run", ["ten_classes", "many_classes"])
def test_the_page_opens_without_a_complaint(request, browser, run, width, scheme):
    """10 and 200 classes, phone and desk, light and dark: all pictures load, nothing overflows."""
    browser.open(request.getfixturevalue(run) / "report.html", width=width, scheme=scheme)
    assert browser.complaints() == []
    assert all_pictures_load(browser)
    assert browser.run("return document.images.length") >= 12
    assert browser.run("return document.documentElement.scrollWidth") <= width
    paper = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert paper == {"dark": "rgb(20, 23, 27)", "light": "rgb(255, 255, 255)"}[scheme]
    red, _, blue = pixel_at_center(browser, RIGHT_CELL)
    assert blue > red + 30  # the picture inside the picture is there, and the diagonal blue


def test_the_page_shows_what_the_files_say(ten_classes, browser):
    """Headline, per-class table, pairs, counts, config and versions."""
    browser.open(ten_classes / "report.html")
    metrics = json.loads((ten_classes / "test_metrics.json").read_text())["metrics"]
    text = browser.run("return document.body.textContent")
    assert f"{metrics['accuracy']:.1%}" in text  # one of 269 pictures is 0.4%
    assert "test_resnet on test" in text
    assert "269 pictures of digits, 10 classes, fold 0" in text
    assert "img_size: 32" in text  # config.yaml
    assert "torch 2." in text
    titles = browser.run("return [...document.querySelectorAll('h2')].map(h => h.textContent)")
    assert titles == [
        "Confusions", "Classes", "Pictures", "Curves", "Calibration", "Decisions",
        "Operating points", "All metrics", "Training", "Data", "Config", "Provenance",
    ]  # fmt: skip
    plots = browser.run("return [...document.querySelectorAll('.plot')].map(p => p.id)")
    assert set(plots) == PICTURES
    files = {file.name for file in ten_classes.iterdir()}
    assert files >= {f"{name}.{kind}" for name in PICTURES for kind in ("png", "svg")}


@pytest.mark.parametrize("run", ["ten_classes", "many_classes"])
def test_every_table_sorts_by_every_column(request, browser, run):
    """A click brings each column into falling or rising order."""
    folder = request.getfixturevalue(run)
    browser.open(folder / "report.html")
    orders = browser.run(
        "const column = (t, i) =>"
        "  [...t.tBodies[0].rows].map(r => r.cells[i].dataset.value ?? null);"
        "const found = [];"
        "for (const t of document.querySelectorAll('table'))"
        "  [...t.tHead.rows[0].cells].forEach((title, i) => {"
        "    if (title.className === 'text') return;"
        "    title.querySelector('button').click(); found.push(column(t, i)); });"
        "return found"
    )
    assert len(orders) >= 9
    for shown in orders:
        values = [float(value) for value in shown if value is not None]
        assert values == sorted(values, reverse=True)
        assert shown[len(values) :] == [None] * (len(shown) - len(values))
    assert len({len(shown) for shown in orders}) > 1


def test_values_show_under_the_pointer(ten_classes, browser):
    """What lies on top of a cell of the matrix tells its classes and count."""
    browser.open(ten_classes / "report.html")
    told = browser.run(
        f"const r = {RIGHT_CELL}; r.scrollIntoView({{block: 'center', behavior: 'instant'}});"
        "const b = r.getBoundingClientRect();"
        "const top = document.elementFromPoint(b.x + b.width / 2, b.y + b.height / 2);"
        "return top.querySelector('title').textContent"
    )
    assert told.split("\n")[0].endswith(", right")
    assert "%" in told.split("\n")[1]


def test_names_from_outside_stay_names(many_classes, browser):
    """A model, a class, a note called <script> are text everywhere on the page."""
    browser.open(many_classes / "report.html")
    assert browser.run("return document.scripts.length") == 1
    assert browser.run("return document.querySelector('h1').textContent") == f"{EVIL} on test"
    assert browser.run("return document.querySelector('.notes li').textContent") == EVIL
    names = browser.column(1, 0)
    assert {"$x_1$", "甲虫", EVIL_FOLDER} <= set(names)


def test_the_page_is_made_again_from_the_files_alone(ten_classes, command, monkeypatch):
    """`imgcls report --open` needs no model, gives the same page, and shows it."""
    before = (ten_classes / "report.html").read_bytes()
    for file in (ten_classes / "report.html", ten_classes / "roc_curves.png"):
        file.unlink()
    shown = []
    monkeypatch.setattr("webbrowser.open", lambda address: shown.append(address) or True)
    monkeypatch.setattr("torch.nn.Module.__call__", None)
    done = command("report", ten_classes.parents[2], "--open")
    assert done.code == 0, done.err
    assert done.out == f"Report        {ten_classes / 'report.html'}\n"
    assert (ten_classes / "report.html").read_bytes() == before
    assert (ten_classes / "roc_curves.png").is_file()
    assert shown == [(ten_classes / "report.html").as_uri()]


def test_evaluate_opens_the_page(ten_classes, command, monkeypatch):
    """--open, and a machine without a browser says so; --json names the page."""
    monkeypatch.setattr("webbrowser.open", lambda _address: False)
    run = ten_classes.parents[2]
    done = command("evaluate", run, "--device", "cpu", "--workers", "0", "--json", "--open")
    assert done.code == 0, done.err
    assert json.loads(done.out)["page"] == str(ten_classes / "report.html")
    assert "no browser was found" in done.err


def test_a_script_may_go_without_pictures(ten_classes, command):
    """--no-report writes the numbers only."""
    arguments = ("--split", "val", "--device", "cpu", "--workers", "0", "--json", "--no-report")
    report = json.loads(command("evaluate", ten_classes.parents[2], *arguments).out)
    assert report["page"] is None
    folder = ten_classes.parent / "val"
    assert (folder / "test_metrics.json").is_file()
    assert {file.suffix for file in folder.iterdir()} == {".json", ".csv", ".npy"}


def test_pictures_that_have_gone_are_told(tmp_path, browser):
    """The page is made without them; names and scores stay."""
    logits = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    predictions = Predictions(("p0", "p1", "p2", "p3"), logits, np.array([0, 1, 2, 1]))
    folder = tmp_path / "test_results" / "test"
    write_scored(folder, predictions, ["a", "b", EVIL], {"source": str(tmp_path / "gone")})
    made = make_page(folder)
    assert [note for note in made.notes if "no such folder" in note]
    browser.open(made.page)
    assert browser.complaints() == []
    assert browser.run("return document.images.length") == 0
    titles = browser.run("return [...document.querySelectorAll('strong')].map(t => t.textContent)")
    assert sorted(titles) == sorted(
        ["b taken for a"] * 2 + ["a, right", "b, right", f"{EVIL}, right"]
    )


def test_a_split_that_was_not_evaluated_is_refused(ten_classes, command):
    """One line that says what to type."""
    done = command("report", ten_classes.parents[2], "--split", "train")
    assert done.code == 2
    assert "its split train was not evaluated; evaluated: test" in done.err
    assert "imgcls evaluate" in done.err


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("per_class.csv", None),
        ("logits.npy", b"no array"),
        ("test_metrics.json", b"{"),
        ("predictions.csv", b"path,label\nx,nothing\n"),
    ],
)
def test_files_that_do_not_fit_are_one_line(tmp_path, name, content):
    """Missing, damaged, of something else: what to do is said."""
    logits = np.eye(3, dtype=np.float32)
    predictions = Predictions(("p0", "p1", "p2"), logits, np.array([0, 1, 2]))
    folder = tmp_path / "test_results" / "test"
    write_scored(folder, predictions, ["a", "b", "c"], {"source": "digits"})
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(DataError, match="imgcls evaluate"):
        make_page(folder)
    assert not (folder / "report.html").exists()
