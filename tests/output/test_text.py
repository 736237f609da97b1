"""Names are anybody's: they reach the terminal, pages, pictures and tables as text alone."""

from __future__ import annotations

import csv
import json
import os
import re
import xml.etree.ElementTree as ET

import pytest
from conftest import OFFLINE
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imgcls.output.console import Console
from imgcls.output.screens.screen import facts_table, panel
from imgcls.output.text import visible
from imgcls.storage.durable import strict_json
from imgcls.storage.tables import read_csv, write_csv

ESC, TURNED, C1 = "\x1b]0;owned\x07", "\u202egpj.exe", "\x9b31m"
# what a terminal acts upon: none of it comes from text that was given
ACTED_UPON = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
NAMES = ("a[/b]", f"{ESC}red", f"{TURNED}", ":smile: $x$", "=1+1", "b\rc")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Möwe 鷗 🐦\tx\ny", "Möwe 鷗 🐦\tx\ny"),
        ("\x1b[31m", r"\x1b[31m"),
        ("a\rb\x00\x9b", r"a\x0db\x00\x9b"),
        ("\u202egpj", r"\u202egpj"),
        (os.fsdecode(b"caf\xe9.jpg"), r"caf\xe9.jpg"),
        ("\ud83d", r"\ud83d"),
    ],
)
def test_what_is_not_to_be_shown_is_spelt_out(text, shown):
    """Scripts, emoji, tabs and lines stay; bytes of a file name read as bytes."""
    assert visible(text) == shown


TEXTS = st.text(st.characters(exclude_characters="\x00"), max_size=8) | st.sampled_from(
    ["\r", "\r\n", '"', ",", "=1", "\udcff", *NAMES]
)


@given(rows=st.lists(st.tuples(TEXTS, TEXTS), max_size=6))
def test_a_table_is_read_back_as_it_was(rows, tmp_path_factory):
    """Carriage returns, quotes, what spreadsheets take for formulas, names that are no UTF-8."""
    file = tmp_path_factory.mktemp("csv") / "t.csv"
    rows = [
        row
        for row in rows
        # of surrogates, a file name holds those that stand for bytes
        if not re.search("[\ud800-\udc7f\udd00-\udfff]", "".join(row))
    ]
    write_csv(file, ("path", "label"), [{"path": a, "label": b} for a, b in rows])
    assert [(row["path"], row["label"]) for row in read_csv(file)] == rows


@given(text=st.text(st.characters(), max_size=20))
def test_json_is_utf8_without_what_a_terminal_acts_upon(text):
    """And says the same."""
    written = strict_json([text])
    assert json.loads(written.encode()) == [text]
    assert not ACTED_UPON.search(written)


def test_the_screen_shows_markup_as_it_is_spelt(capsys):
    """In titles, cells, notes and lines; nothing of it is acted upon."""
    console = Console()
    for name in NAMES:
        facts = facts_table()
        facts.add_row(name, name)
        console.result({}, panel(name, facts), f"line {name}")
        console.warn(name)
        console.say(facts)
        console.path("Path", name)
        told = capsys.readouterr()
        for stream in (told.out, told.err):
            assert not ACTED_UPON.search(stream)
            assert visible(name) in stream


def clean(text):
    return not ACTED_UPON.search(text) and "\ud800" not in text


def test_any_names_go_all_the_way(tmp_path, command, crops):
    """Classes, pictures and the data's folder: trained on, evaluated, drawn, inspected, timed."""
    data = tmp_path / "a[/b]"
    classes = [name.replace("/", "") for name in NAMES]
    for number, name in enumerate(classes):
        (data / name).mkdir(parents=True)
        for index in range(8):
            picture = Image.fromarray(crops["china"][index] // (number + 1))
            picture.save(data / name / f"{index}\r{ESC}.jpg", "JPEG")
    options = (*OFFLINE, "--epochs", "1", "--device", "cpu")
    told = [command("train", data, *options, "--dry-run"), command("train", data, *options)]
    [run] = (tmp_path / "outputs").iterdir()
    told += [command("evaluate", run, "--workers", "0"), command("report", run)]
    told += [command("inspect", data, "--html", "audit.html"), command("inspect", data, "--json")]
    for done in told:
        assert done.code == 0, done.err
        assert clean(done.out), done.out
        assert clean(done.err), done.err
    results = run / "fold_0" / "test_results" / "test"
    for file in results.glob("*.svg"):
        ET.fromstring(file.read_text("utf-8"))
    for page in (results / "report.html", tmp_path / "audit.html"):
        assert clean(page.read_text("utf-8"))
    assert read_csv(run / "splits.csv")[0]["path"].endswith(f"\r{ESC}.jpg")
    with (results / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        assert {row["label"] for row in csv.DictReader(stream)} <= set(classes)


def test_a_folder_whose_name_is_no_utf8(tmp_path, command, photos):
    """As a zip of another system leaves it: everything is written, and shows its bytes."""
    data = tmp_path / os.fsdecode(b"m\xf6we")
    photos.rename(data)
    options = (*OFFLINE, "--epochs", "1", "--device", "cpu")
    for arguments in (("train", data, *options), ("evaluate", "--workers", "0"), ("report",)):
        done = command(*arguments)
        assert done.code == 0, done.err
        assert "\udcf6" not in done.out + done.err
    assert r"m\xf6we" in command("inspect", data).out
