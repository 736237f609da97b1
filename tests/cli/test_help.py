"""The help: the common path on one screen, everything by --help-all."""

from __future__ import annotations

import re
import shlex

import pytest

from imgcls.cli.app import COMMANDS as TYPED
from imgcls.cli.boundary import run
from imgcls.config.base import choices, option_fields
from imgcls.config.reference import COMMANDS

WITH_SHORT_HELP = [verb for verb in TYPED if COMMANDS[verb].COMMON]


@pytest.fixture(autouse=True)
def _narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def first_of(option):
    return (
        option.flag_names[0].removeprefix("--").upper()
        if option.flag.positional
        else (option.flag_names[0])
    )


@pytest.mark.parametrize("verb", WITH_SHORT_HELP)
def test_the_common_options_fit_on_one_screen(command, verb):
    """About a dozen, in the order of their declaration, with examples."""
    shown = command(*verb.split(), "--help").out
    assert len(shown.splitlines()) <= 60
    assert max(map(len, shown.splitlines())) <= 80
    options = {option.path: option for option in option_fields(COMMANDS[verb])}
    common = [options[path] for path in COMMANDS[verb].COMMON]
    assert len(common) <= 13
    names = [first_of(option) for option in common if not option.flag.positional]
    section = shown.partition("Common options:")[2].partition("Other options:")[0]
    listed = re.findall(r"^  (?:-\w, )?(--[\w-]+)", section, re.MULTILINE)
    assert listed == names
    assert shown.count(f"    imgcls {verb}") >= 2


@pytest.mark.parametrize("verb", TYPED)
def test_the_whole_help_has_every_option_and_every_choice(command, verb):
    """No type of Python's stands there."""
    done = command(*verb.split(), "--help-all" if verb in WITH_SHORT_HELP else "--help")
    assert done.code == 0
    words = " ".join(done.out.split())
    assert "<" not in words.replace("<split>", "").replace("DIR/", "")
    for option in option_fields(COMMANDS[verb]):
        if option.flag.exposed:
            assert first_of(option) in words
            # a long word may be divided between two lines
            assert all(w in words.replace("- ", "-") for w in choices(option.field)), option.path


@pytest.mark.parametrize("verb", WITH_SHORT_HELP)
def test_the_examples_of_the_help_are_read(command, verb, capsys):
    """Each is a request whose options exist: it fails for want of its data at most."""
    shown = command(*verb.split(), "--help").out
    for line in re.findall(r"^    (imgcls .*)$", shown, re.MULTILINE):
        if "photos" in line or "outputs" in line:
            assert run(shlex.split(line)[1:]) == 2, line
            assert re.search("no such|there is no", capsys.readouterr().err), line


def test_the_number_of_further_options_is_true(command):
    """What --help leaves to --help-all."""
    pattern = r"^  (?:-\w, )?--[\w-]+"
    short, whole = (
        len(re.findall(pattern, command("train", wish).out, re.MULTILINE))
        for wish in ("--help", "--help-all")
    )
    assert f"{whole - short} more options" in command("train", "--help").out
