"""Kept files: whole or not at all, no more than allowed, and never an error."""

from __future__ import annotations

import multiprocessing
import os
import shutil

import numpy as np
import pytest

from imgcls.storage.kept_files import KeptFiles


def kept_in(folder, limit=2**20):
    return KeptFiles(folder / "kept", limit)


def test_what_is_written_is_read_again(tmp_path):
    """By another user of the same folder too; what is not there is None."""
    kept_in(tmp_path).write("a", b"content")
    assert kept_in(tmp_path).read("a") == b"content"
    assert kept_in(tmp_path).read("b") is None


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "folder"])
def test_a_damaged_file_is_none(tmp_path, damage):
    """So that it is made again."""
    kept = kept_in(tmp_path)
    kept.write("a", bytes(100))
    file = tmp_path / "kept" / "a"
    content = file.read_bytes()
    if damage == "folder":
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes(
            {"cut": content[:50], "flipped": content[:50] + b"x" + content[51:], "emptied": b""}[
                damage
            ]
        )
    assert kept.read("a") is None


def test_those_used_longest_ago_go_first(tmp_path):
    """Used is read, not only written."""
    kept = kept_in(tmp_path, limit=10_000)
    for number in range(8):
        kept.write(str(number), bytes(1000))
        os.utime(tmp_path / "kept" / str(number), (number, number))
    assert kept.read("0") is not None
    for number in range(8, 12):
        kept.write(str(number), bytes(1000))
    left = {file.name for file in (tmp_path / "kept").iterdir()}
    assert "0" in left
    assert {"1", "2"}.isdisjoint(left)
    assert sum(file.stat().st_size for file in (tmp_path / "kept").iterdir()) <= 10_000


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path):
    """A file in the way, a limit of nothing: no error, only no cache."""
    (tmp_path / "kept").write_text("in the way")
    kept = kept_in(tmp_path)
    kept.write("a", b"content")
    assert not kept.usable
    assert kept.read("a") is None
    none = KeptFiles(tmp_path / "other", 0)
    none.write("a", b"content")
    assert not none.usable
    assert not (tmp_path / "other").exists()


def test_a_full_disk_keeps_less(tmp_path, monkeypatch):
    """Never more than half of what is free and kept together."""
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=4000))
    kept = kept_in(tmp_path, limit=20_000)
    for number in range(40):
        kept.write(str(number), bytes(500))
    assert sum(file.stat().st_size for file in (tmp_path / "kept").iterdir()) <= 6000


def use(folder, seed, failures):
    kept = kept_in(folder, limit=50_000)
    rng = np.random.default_rng(seed)
    for key in rng.integers(0, 100, 400).tolist():
        content = kept.read(str(key))
        if content is None:
            kept.write(str(key), bytes([key]) * 1000)
        elif content != bytes([key]) * 1000:
            failures.put(key)


def test_many_processes_read_write_and_remove_at_once(tmp_path):
    """Each reads what it asked for, or nothing; not much more than the limit is there."""
    context = multiprocessing.get_context("spawn")
    failures = context.Queue()
    processes = [context.Process(target=use, args=(tmp_path, s, failures)) for s in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert failures.empty()
    assert sum(file.stat().st_size for file in (tmp_path / "kept").iterdir()) <= 55_000
