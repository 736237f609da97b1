"""Files that the user names: what is replaced, and what never is."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from imgcls.output.outputs import is_ours


@pytest.fixture
def written(command, photos, tmp_path):
    """`imgcls inspect` with a page; the page."""
    page = tmp_path / "page.html"
    assert command("inspect", photos, "--workers", "0", "--html", page).code == 0
    return page


def test_a_page_that_imgcls_wrote_is_replaced_and_another_only_with_force(command, photos, written):
    """It is known by its generator."""
    arguments = ("inspect", photos, "--workers", "0", "--html", written)
    assert command(*arguments).code == 0
    written.write_text("<html>mine</html>")
    done = command(*arguments)
    assert done.code == 2
    assert "imgcls did not write it" in done.err
    assert written.read_text() == "<html>mine</html>"
    assert command(*arguments, "--force").code == 0
    assert is_ours(written)


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_what_is_no_result_is_never_replaced(command, photos, tmp_path, force):
    """A device, a pipe, a folder, a link to a device, a picture that is read."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/null")
    picture = photos / "china" / "000.jpg"
    before = picture.read_bytes()
    for name in ("/dev/null", tmp_path / "pipe", tmp_path / "link", photos, picture):
        done = command("inspect", photos, "--workers", "0", "--html", name, *force)
        assert done.code == 2, name
        assert len(done.error_lines) == 1
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    assert picture.read_bytes() == before


def test_a_benchmark_replaces_its_own_files_only(command, tmp_path):
    """By the titles of the table and the mark in the picture, before anything is timed."""
    options = ("test_resnet", "--device", "cpu", "--img-size", "32", "--num-samples", "2")
    for option, name in (("--csv", "speed.csv"), ("--plot", "speed.png"), ("--plot", "speed.svg")):
        file = tmp_path / name
        assert command("benchmark", *options, option, file).code == 0
        assert command("benchmark", *options, option, file).code == 0
        file.write_text("mine")
        done = command("benchmark", *options, option, file)
        assert done.code == 2
        assert "imgcls did not write it" in done.err
        assert file.read_text() == "mine"
