"""Whatever a source's files hold: a table, or one DataError; a picture, or one reason."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from imgcls.data.open import open_source
from imgcls.data.pixels.decode import UnreadableImageError
from imgcls.data.pixels.formats import IMAGE_SUFFIXES
from imgcls.errors import DataError


def png(value=0):
    stream = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def tar(*members):
    """A tar of (name, content) or TarInfo."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def parquet(**columns):
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream)
    return stream.getvalue()


FILES = {
    "t.csv": b"path,label,split,fold,group\na/1.png,x,train,0,g\na/2.png,y,test,,h\n",
    "t.tsv": b"path\tlabel\na/1.png\tx\na/2.png\ty\n",
    "t.jsonl": b'{"path": "a/1.png", "label": "x"}\n{"path": "a/2.png", "label": 1}\n',
    "t.tar": tar(("1.png", png()), ("1.cls", b"x"), ("2.png", png(9)), ("2.json", b'{"cls": "y"}')),
    "t.parquet": parquet(image=[png(), png(9)], label=["x", "y"], site=[1.5, None]),
}


def opened(folder, name, content):
    """Open a source of that content; its pictures too. Only its own errors may come."""
    for number in (1, 2):
        (folder / "a").mkdir(exist_ok=True)
        (folder / "a" / f"{number}.png").write_bytes(png(number))
    (folder / name).write_bytes(content)
    try:
        table = open_source(str(folder / name))
    except DataError as error:
        str(error).encode(errors="backslashreplace")
        assert len(str(error)) < 4000
        return None
    for row in range(len(table)):
        with contextlib.suppress(UnreadableImageError):
            table.images.open(row)
    assert not any(len(note) > 2000 for note in table.notes)
    return table


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_file_damaged_anywhere_is_a_table_or_one_line(name, data):
    """Bytes changed, put in, taken out."""
    content = bytearray(FILES[name])
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        stop = data.draw(st.integers(start, min(len(content), start + 40)))
        content[start:stop] = data.draw(st.binary(max_size=40))
    with tempfile.TemporaryDirectory() as folder:
        opened(Path(folder), name, bytes(content))


ANY_TEXT = st.text(st.characters(exclude_categories=[]), max_size=12)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.fixed_dictionaries({"path": ANY_JSON | st.just("a/1.png"), "label": ANY_JSON})))
def test_any_json_is_a_table_or_one_line(rows):
    """Half surrogate pairs, NUL, huge numbers, lists in place of texts."""
    with tempfile.TemporaryDirectory() as folder:
        lines = "\n".join(map(json.dumps, rows))
        table = opened(Path(folder), "t.jsonl", lines.encode("utf-8", "surrogatepass"))
        assert table is None or all(name.encode() for name in table.class_names)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(ANY_TEXT.map(lambda name: f"{name}.png"), st.sampled_from(["f", "1", "2", "x"])),
        max_size=4,
    )
)
def test_any_members_of_a_tar_are_a_table_or_one_line(members):
    """Odd names; files, hard links, symbolic links, folders."""
    kinds = {"f": tarfile.REGTYPE, "1": tarfile.LNKTYPE, "2": tarfile.SYMTYPE, "x": tarfile.DIRTYPE}
    found = []
    for name, kind in members:
        info = tarfile.TarInfo(name.encode("utf-8", "surrogatepass").decode("utf-8", "replace"))
        info.type, info.linkname = kinds[kind], members[0][0].encode("utf-8", "replace").decode()
        found.append((info, png() if kind == "f" else b""))
        found.append((f"{name}.cls".encode("utf-8", "replace").decode(), b"x"))
    with tempfile.TemporaryDirectory() as folder:
        opened(Path(folder), "t.tar", tar(*found))


COLUMNS = {
    "times in nanoseconds": pa.array([1, 2], pa.timestamp("ns")),
    "times to the nanosecond": pa.array([1, 10**18 + 1], pa.timestamp("ns")),
    "times beyond Python's": pa.array([-(2**62), 2**62], pa.timestamp("s")),
    "times of a zone": pa.array([1, 2], pa.timestamp("us", "Europe/Rome")),
    "days beyond": pa.array([2**30, 0], pa.date32()),
    "spans": pa.array([1, 2], pa.duration("ns")),
    "times of a day": pa.array([1, 2], pa.time64("ns")),
    "decimals": pa.array([1, 2], pa.decimal128(9, 2)),
    "categories": pa.array(["x", "y"]).dictionary_encode(),
    "nothing": pa.nulls(2),
    "truths": pa.array([True, False]),
    "bytes of one size": pa.array([b"abcd", b"efgh"], pa.binary(4)),
    "months": pa.array([(1, 2, 3), (4, 5, 6)], pa.month_day_nano_interval()),
    "lists": pa.array([[1], [2]]),
    "records": pa.array([{"a": 1}, {"a": 2}]),
}


@pytest.mark.parametrize("role", ["site", "label"])
@pytest.mark.parametrize("kind", COLUMNS)
def test_a_column_of_any_kind_is_texts_or_one_line(kind, role, tmp_path):
    """As a column beside the pictures, and as their label."""
    columns = {"image": [png(), png(9)], "label": ["x", "y"], role: COLUMNS[kind]}
    try:
        content = parquet(**columns)
    except pa.ArrowException:
        pytest.skip("Parquet itself cannot hold it")
    table = opened(tmp_path, "t.parquet", content)
    assert role == "label" or len(table) == 2
    if kind.startswith("times in"):
        texts = table.columns["site"] if role == "site" else table.class_names
        assert texts[0].startswith("1970-01-01")


NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8
).filter(lambda name: name not in (".", ".."))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.lists(
            st.sampled_from(["train", "Test", "val_set", "images", "masks", "a", "b"]) | NAMES,
            min_size=1,
            max_size=4,
        ),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from([None, "classes", "splits"]),
)
def test_any_tree_of_folders_is_a_table_or_one_line(paths, layout):
    """Each picture of the tree has at most one row; none is lost without a note."""
    from imgcls.config.reading import ReadingConfig

    with tempfile.TemporaryDirectory() as folder:
        planted = 0
        for parts in paths:
            file = Path(folder).joinpath(*parts, "1.png")
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                planted += not file.exists()
                file.write_bytes(png())
            except OSError:
                planted = -1  # two names that cannot be beside each other
                break
        try:
            table = open_source(folder, ReadingConfig(layout=layout))
        except DataError:
            return
        assert len(set(table.keys)) == len(table)
        assert len(table) == planted or planted < 0 or table.notes
        assert all(Path(key).suffix in IMAGE_SUFFIXES for key in table.keys)
