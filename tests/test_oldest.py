"""The main commands, as real processes: CI runs this with the oldest versions allowed too."""

from __future__ import annotations

import json
from importlib.metadata import requires, version

import pytest
from conftest import run_process
from packaging.requirements import Requirement
from packaging.version import Version


def test_every_dependency_is_as_new_as_it_must_be():
    """And each has a lowest version, which is what was tested."""
    for line in requires("imgcls"):
        requirement = Requirement(line)
        if requirement.marker is None:
            assert requirement.specifier, line
            assert Version(version(requirement.name)) in requirement.specifier, line


@pytest.mark.slow
def test_the_main_commands_work(tmp_path, photos):
    """Train, evaluate with a page, report, resume, benchmark, list and inspect."""
    tiny = ("--model", "test_resnet", "--no-pretrained", "--img-size", "32", "--workers", "0")
    train = (*tiny, "--epochs", "1", "--device", "cpu", "--experiment", "r")
    for arguments in (
        ("train", photos, *tiny, "--epochs", "30", "--sched", "wsd", "--dry-run"),
        ("train", photos, *train),
        ("evaluate", "outputs/r", "--workers", "0", "--device", "cpu", "--json"),
        ("report", "outputs/r"),
        ("resume", "outputs/r"),
        ("benchmark", "outputs/r", "--num-samples", "4", "--device", "cpu"),
        ("inspect", photos),
        ("list-models", "test_*"),
    ):
        done = run_process(*map(str, arguments), cwd=tmp_path)
        assert done.code == 0, done.err
        if arguments[0] == "evaluate":
            assert json.loads(done.out)["metrics"]["samples"] > 0


def test_a_wrong_option_is_one_line(tmp_path):
    """Typer's own usage errors too."""
    for arguments in (("train", "--lerning-rate", "1"), ("trian",), ("train", "a", "b")):
        done = run_process(*arguments, cwd=tmp_path)
        assert done.code == 2
        assert len(done.error_lines) == len(done.err.splitlines()) == 1
