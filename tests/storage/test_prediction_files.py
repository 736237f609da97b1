"""Files of predictions: cells come back as they were, parts go on behind what is good."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgcls.errors import ConfigError, DataError, RunError
from imgcls.results.prediction import PredictedRow, row_columns
from imgcls.storage.prediction_rows import (
    csv_of,
    csv_titles,
    jsonl_of,
    parquet_of,
    paths_in,
    shielded,
    unshielded,
)
from imgcls.storage.predictions import PartFile, PredictionFiles, Progress, digest_with

MADE_BY = {"weights_sha256": ["a"], "top_k": 3, "inputs": [["photos", "/photos"]]}
BYTES = b"byte-\xff.jpg".decode(errors="surrogateescape")
NAMES = [
    "a.jpg",
    "=1+1.jpg",
    "'=1.jpg",
    "-",
    "@x",
    "\tx",
    'com,ma "q".jpg',
    "new\nline",
    "cr\r.jpg",
]


@given(st.text())
def test_a_cell_is_no_formula_and_comes_back(text):
    """Whatever it begins with."""
    assert unshielded(shielded(text)) == text
    assert not shielded(text).startswith(("=", "+", "-", "@", "\t", "\r"))


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_paths_are_read_back_as_they_were(tmp_path, suffix):
    """From every format; bytes that are no UTF-8 too, but for Parquet, which spells them out."""
    names = [*NAMES, BYTES]
    columns = row_columns(2)
    rows = [PredictedRow(name, ("=x", "b"), (0.75, 0.25)) for name in names]
    rows.append(PredictedRow("bad.jpg", error="the file is empty"))
    file = tmp_path / f"p.{suffix}"
    if suffix == "csv":
        file.write_bytes(csv_titles(columns) + csv_of(columns, rows))
        text = file.read_bytes().decode(errors="surrogateescape")
        first = next(csv.DictReader(io.StringIO(text, newline="")))
        assert (first["label"], first["probability"]) == ("'=x", "0.75")
    else:
        lines = file if suffix == "jsonl" else tmp_path / "lines"
        lines.write_bytes(jsonl_of(columns, rows))
        if suffix == "parquet":
            parquet_of(columns)(file, lines)
            names[-1] = "byte-\\xff.jpg"
    assert list(paths_in(file)) == [*names, "bad.jpg"]


@pytest.mark.parametrize("name", ["p.csv", "p.jsonl", "p.parquet"])
def test_what_is_no_prediction_is_said_to_be_none(tmp_path, name):
    """By its name, in one line."""
    for content in (b"", b"a,b\n1,2\n", b"\0\xff\0"):
        (tmp_path / name).write_bytes(content)
        if name == "p.jsonl" and not content:
            continue  # one without rows
        with pytest.raises(DataError, match="--new-only"):
            list(paths_in(tmp_path / name))


def test_a_part_goes_on_behind_what_is_good(tmp_path):
    """What was written after the last commit is cut off; a part that lost some is refused."""
    part = PartFile(tmp_path / "p.csv")
    part.open(0)
    part.write(b"good\n")
    part.write(b"half a li")
    part.close()
    part.open(5)
    part.write(b"next\n")
    part.close()
    assert part.file.read_bytes() == b"good\nnext\n"
    with pytest.raises(ValueError, match="has lost"):
        part.open(11)


def files_in(folder: Path, *, force: bool = False, **made_by: object) -> PredictionFiles:
    return PredictionFiles([PartFile(folder / "p.csv")], {**MADE_BY, **made_by}, force=force)


def written(files: PredictionFiles, rows: int, *, publish: bool) -> None:
    files.resume()
    part = files._parts[0]
    part.write(b"x" * rows)
    digest = ""
    for n in range(rows):
        digest = digest_with(digest, f"{n}.jpg")
    progress = Progress(rows, digest, sizes={"p.csv": part.size}, complete=publish)
    files.commit(progress)
    if publish:
        files.publish(progress, {"notes": []})


def test_a_journal_says_how_far_the_rows_have_come(tmp_path):
    """To who made them; all others are refused with what differs, unless they begin anew."""
    with files_in(tmp_path) as files:
        assert files.finished() is None
        written(files, 3, publish=False)
    with files_in(tmp_path) as files:
        assert files.is_known
        assert files.resume().rows == 3
    for made_by, words in (
        ({"weights_sha256": ["b"]}, "was begun by another checkpoint"),
        ({"top_k": 5}, "--top-k 3 and not 5"),
        ({"tta": "hflip"}, "--tta nothing and not hflip"),
    ):
        with files_in(tmp_path, **made_by) as files, pytest.raises(ConfigError, match=words):
            files.resume()
    with files_in(tmp_path, force=True, top_k=5) as files:
        assert files.resume() == Progress()


def test_finished_files_are_known_by_their_size(tmp_path):
    """One that was changed since is neither gone on with nor replaced."""
    with files_in(tmp_path) as files:
        written(files, 3, publish=True)
    assert {p.name for p in tmp_path.iterdir()} == {"p.csv", "p.csv.json", ".p.csv.lock"}
    with files_in(tmp_path) as files:
        progress, document = files.finished()
        assert (progress.rows, document["notes"]) == (3, [])
    (tmp_path / "p.csv").write_text("changed")
    with files_in(tmp_path) as files, pytest.raises(ConfigError, match="not as imgcls wrote it"):
        files.finished()
    (tmp_path / "p.csv").unlink()
    with files_in(tmp_path, top_k=5) as files:
        assert files.finished() is None
        assert files.resume() == Progress()


def test_one_process_at_a_time(tmp_path):
    """The second is told who writes."""
    with files_in(tmp_path), pytest.raises(RunError, match="in use"), files_in(tmp_path):
        pass
