"""The index of a shard: made once, never out of date, and no harm where it cannot be kept."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packing import png, write_tar

from imgcls.config.reading import ReadingConfig
from imgcls.data.open import open_source
from imgcls.data.sources import tar_index
from imgcls.errors import DataError


@pytest.fixture(autouse=True)
def _settled(monkeypatch):
    """Shards made just now are indexed as if they were older."""
    monkeypatch.setattr(tar_index, "_SETTLED_S", -1.0)


@pytest.fixture
def headers(monkeypatch):
    """The shards whose headers were read, in order."""
    read = []
    real = tar_index._read
    monkeypatch.setattr(
        tar_index, "_read", lambda shard, *more: read.append(shard.name) or real(shard, *more)
    )
    return read


def members_of(first, count):
    return {
        name: content
        for n in range(first, first + count)
        for name, content in ((f"{n:04d}.png", png(n)), (f"{n:04d}.cls", b"%d" % (n % 2)))
    }


@pytest.fixture
def shard(tmp_path):
    write_tar(tmp_path / "s.tar", members_of(0, 6))
    return tmp_path / "s.tar"


def everything(table):
    content = [table.images.content(row) for row in range(len(table))]
    return table.keys, table.labels.tolist(), dict(table.columns), content


def index_files():
    return list(Path(os.environ["IMGCLS_CACHE"], "shards").glob("*"))


def test_headers_are_read_once(shard, headers):
    """The next start takes the index; the table is the same."""
    first = everything(open_source(str(shard)))
    assert len(index_files()) == 1
    assert everything(open_source(str(shard))) == first
    assert headers == ["s.tar"]


def test_another_content_is_indexed_again(shard, headers):
    """Also of the same size and, put back by a tool, the same time."""
    open_source(str(shard))
    before = shard.stat()
    write_tar(shard, members_of(10, 6))
    os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert shard.stat().st_size == before.st_size
    table = open_source(str(shard))
    assert table.keys[0] == "s.tar/0010.png"
    assert table.images.content(0) == png(10)
    assert headers == ["s.tar"] * 2


@pytest.mark.parametrize("damage", [b"", b"x" * 100, None])
def test_a_damaged_index_is_made_again(shard, headers, damage):
    """Silently: nothing was lost. None: cut in the middle."""
    first = everything(open_source(str(shard)))
    [file] = index_files()
    file.write_bytes(file.read_bytes()[:-20] if damage is None else damage)
    assert everything(open_source(str(shard))) == first
    assert everything(open_source(str(shard))) == first
    assert headers == ["s.tar"] * 2


def test_a_cache_that_cannot_be_written_is_none(shard, headers, tmp_path, monkeypatch):
    """The shards are read as before."""
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("IMGCLS_CACHE", str(tmp_path / "file"))
    assert everything(open_source(str(shard))) == everything(open_source(str(shard)))
    assert headers == ["s.tar"] * 2


def test_a_shard_that_has_just_changed_is_not_kept(shard, headers, monkeypatch):
    """It may change again within the same tick of its file system's clock."""
    monkeypatch.setattr(tar_index, "_SETTLED_S", 3600.0)
    open_source(str(shard))
    open_source(str(shard))
    assert headers == ["s.tar"] * 2
    assert not index_files()


def test_a_shard_that_changes_while_it_is_indexed_is_not_kept(shard, monkeypatch):
    """Its index may be of neither content."""
    real = tar_index._read

    def read(place, *more):
        found = real(place, *more)
        write_tar(shard, members_of(0, 7))
        return found

    monkeypatch.setattr(tar_index, "_read", read)
    open_source(str(shard))
    assert not index_files()


def test_other_columns_are_other_texts(shard, headers, tmp_path):
    """An index made without them is not taken for one that has them."""
    members = {"1.png": png(1), "1.cls": b"a", "1.site": b"north"}
    write_tar(shard, members)
    assert open_source(str(shard)).class_names == ("a",)
    assert open_source(str(shard), ReadingConfig(label_col="site")).class_names == ("north",)
    assert open_source(str(shard)).class_names == ("a",)
    assert headers == ["s.tar"] * 2


def test_a_bad_shard_leaves_no_index(shard, headers):
    """It is refused each time that it is named."""
    shard.write_bytes(shard.read_bytes()[:1024] + b"x" * 512)
    for _ in range(2):
        with pytest.raises(DataError, match=r"s\.tar: cannot be read \(damaged at byte 1024"):
            open_source(str(shard))
    assert headers == ["s.tar"] * 2
    assert not index_files()


@pytest.mark.parametrize("fault", ["power cut", "ENOSPC", "EIO"])
def test_a_fault_at_any_write_harms_nothing(shard, injector, fault):
    """The process dies, or the disk fails: there is a whole index afterwards, or none."""
    folder = Path(os.environ["IMGCLS_CACHE"])
    first = everything(open_source(str(shard)))

    def index():
        for file in index_files():
            file.unlink()
        everything(open_source(str(shard)))

    operations = injector.count(folder, index)
    assert {"rename", "open"} <= set(operations)
    for number in range(1 + operations.index("remove") + 1, len(operations) + 1):
        for file in index_files():
            file.unlink()
        injector.fail(folder, number - 1, fault, index)
        assert everything(open_source(str(shard))) == first
        assert everything(open_source(str(shard))) == first


NAMES = st.text(
    st.characters(exclude_characters="/\0.", exclude_categories=["Cs"]), min_size=1, max_size=12
)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.dictionaries(NAMES, st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_any_name_and_text_comes_back(tmp_path, texts):
    """From the index as from the headers."""
    members = {}
    for name, text in texts.items():
        members |= {f"x{name}.png": png(0), f"x{name}.cls": b"l", f"x{name}.site": text.encode()}
    file = tmp_path / "odd.tar"
    write_tar(file, members)
    reading = ReadingConfig(split_col=None, group_col="site")
    tables = [open_source(str(file), reading) for _ in range(2)]
    assert tables[0].groups == tables[1].groups
    assert everything(tables[0]) == everything(tables[1])
    with tarfile.open(file) as archive:
        for row, key in enumerate(tables[1].keys):
            member = archive.extractfile(key.removeprefix("odd.tar/"))
            assert tables[1].images.content(row) == member.read()
