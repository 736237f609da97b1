"""`imgcls predict`: every kind of input, a row each, as `evaluate` scores them."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import run_process
from pyarrow import parquet

from imgcls.results.prediction import row_columns

COLUMNS = row_columns(3)


@pytest.fixture
def place(trained, tmp_path, monkeypatch):
    """An empty folder with a link to photos/ of three classes, and the runs beside it."""
    (tmp_path / "photos").symlink_to(trained / "photos")
    (tmp_path / "outputs").mkdir()
    for name in ("folds", "single"):
        shutil.copytree(trained / "outputs" / name, tmp_path / "outputs" / name)
    return tmp_path


@pytest.fixture
def predict(command, place):
    """`imgcls predict ARGUMENTS` with the run of one fold, in that folder."""

    def run(*arguments):
        checkpoint = () if "--checkpoint" in arguments else ("--checkpoint", "outputs/single")
        return command("predict", *arguments, *checkpoint, "--device", "cpu")

    return run


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


def files_of(place):
    return sorted(str(p.relative_to(place)) for p in place.joinpath("photos").glob("*/*.jpg"))


def damaged(folder, count):
    """Files of several kinds of damage."""
    good = next(iter(sorted(folder.glob("*.jpg")))).read_bytes()
    kinds = (b"", good[:300], b"not a picture", b"\0" * 500, b"%PDF-1.4")
    names = [f"bad-{n:02d}.jpg" for n in range(count)]
    for n, name in enumerate(names):
        (folder / name).write_bytes(kinds[n % len(kinds)])
    return names


@pytest.mark.parametrize("more", [(), ("--tta", "hflip"), ("--calibrate", "none")])
def test_its_numbers_are_those_of_evaluate(predict, command, place, more):
    """Path by path and to the last digit of predictions.csv, in the same order."""
    single = "outputs/single"
    assert command("evaluate", single, "--calibrate", "temperature", "--ci", "none").code == 0
    done = command("evaluate", single, "--data", "photos", "--ci", "none", "--no-report", *more)
    assert done.code == 0, done.err
    [folder] = (place / single / "fold_0/test_results").glob("data-photos*")
    scored = rows_of((folder / "predictions.csv").read_text())
    done = predict("photos", *more)
    assert done.code == 0, done.err
    rows = rows_of(done.out)
    assert [row["path"] for row in rows] == [f"photos/{one['path']}" for one in scored]
    for row, one in zip(rows, scored, strict=True):
        assert row["label"] == one["predicted"]
        assert row["probability"] == one["confidence"]
        for k in ("", "_2", "_3"):
            assert row[f"probability{k}"] == one[f"prob_{row[f'label{k}']}"]


def test_an_ensemble_is_evaluates_ensemble(predict, command, place):
    """The folds' average, refused by name without --ensemble."""
    arguments = ("outputs/folds", "--ensemble", "--data", "photos", "--ci", "none", "--no-report")
    assert command("evaluate", *arguments).code == 0
    [folder] = (place / "outputs/folds/test_results").glob("data-photos*")
    scored = rows_of((folder / "predictions.csv").read_text())
    done = predict("photos", "--ensemble", "--checkpoint", "outputs/folds")
    rows = rows_of(done.out)
    assert [(r["label"], r["probability"]) for r in rows] == [
        (one["predicted"], one["confidence"]) for one in scored
    ]
    done = predict("photos", "--checkpoint", "outputs/folds")
    assert done.code == 2
    assert "has 2 folds; --ensemble averages them" in done.error_lines[0]


def test_a_model_folder_without_its_run_predicts(predict, place):
    """As timm writes it, by its config.json alone."""
    best = Path("outputs/single/fold_0/checkpoints/best")
    Path("timm").mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(best / name, "timm")
    want = predict("photos", "--calibrate", "none").out
    assert predict("photos", "--checkpoint", "timm").out == want


def test_every_kind_of_input_gives_the_same_rows(predict, place, monkeypatch):
    """Files, a folder, globs, tables, a shard, Parquet and stdin name the same pictures."""
    files = files_of(place)
    want = [row["probability"] for row in rows_of(predict("photos").out)]
    assert len(want) == 36
    with (place / "table.csv").open("w") as stream:
        stream.write("path,site\n" + "".join(f"{file},1\n" for file in files))
    (place / "table.tsv").write_text("file\n" + "".join(f"{file}\n" for file in files))
    with (place / "table.jsonl").open("w") as stream:
        stream.writelines(json.dumps({"path": file}) + "\n" for file in files)
    parquet.write_table(pa.table({"path": files}), place / "paths.parquet")
    contents = [{"bytes": Path(file).read_bytes(), "path": file} for file in files]
    parquet.write_table(pa.table({"image": contents}), place / "inside.parquet", row_group_size=10)
    raw = pa.table({"image": [one["bytes"] for one in contents]})
    parquet.write_table(raw, place / "raw.parquet")
    with tarfile.open(place / "shard-0.tar", "w") as shard:
        for file in files[:20]:
            shard.add(file)
        shard.add(place / "table.csv", "table.csv")
    with tarfile.open(place / "shard-1.tar", "w") as shard:
        for file in files[20:]:
            shard.add(file)
    for inputs in (
        files,
        ["photos/china", "photos/flower/*.jpg", "photos/v*"],
        ["photos/**/*.jpg"],
        ["table.csv"],
        ["table.tsv", "--path-col", "file"],
        ["table.jsonl"],
        ["paths.parquet"],
        ["inside.parquet"],
        ["raw.parquet"],
        ["shard-{0..1}.tar"],
        ["shard-0.tar", "shard-1.tar"],
    ):
        done = predict(*inputs)
        assert done.code == 0, (inputs, done.err)
        rows = rows_of(done.out)
        assert [row["probability"] for row in rows] == want, inputs
        assert not any(row["error"] for row in rows)
    names = [Path(file).relative_to("photos") for file in files]
    for flags, lines in (((), files), (("--root", "photos"), names)):
        content = "".join(f"{line}\n" for line in lines)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
        rows = rows_of(predict("-", *flags).out)
        assert [row["path"] for row in rows] == list(map(str, lines))
        assert [row["probability"] for row in rows] == want


def test_workers_change_nothing(predict, place):
    """Two processes, over tables and pictures inside Parquet."""
    contents = [Path(file).read_bytes() for file in files_of(place)]
    parquet.write_table(pa.table({"image": contents}), place / "raw.parquet", row_group_size=7)
    inputs = ("photos", "gone.jpg", "raw.parquet", "--batch-size", "5")
    assert predict(*inputs, "--workers", "2").out == predict(*inputs, "--workers", "0").out


def test_a_bad_picture_costs_its_row_alone(predict, place):
    """Damage of several kinds, and files that are not there: each a row with its reason."""
    shutil.copytree("photos/china", "mixed")
    bad = damaged(Path("mixed"), 7)
    done = predict("mixed", "gone.jpg", "--batch-size", "3")
    assert done.code == 0
    assert "20 pictures, 8 of them unreadable" in done.err
    rows = rows_of(done.out)
    names = [row["path"] for row in rows]
    assert names == [*(f"mixed/{p.name}" for p in sorted(Path("mixed").iterdir())), "gone.jpg"]
    wrong = {row["path"]: row["error"] for row in rows if row["error"]}
    assert set(wrong) == {*(f"mixed/{name}" for name in bad), "gone.jpg"}
    assert wrong["gone.jpg"] == "no such file"
    assert wrong["mixed/bad-00.jpg"] == "the file is empty"
    assert "PDF" in wrong["mixed/bad-04.jpg"]
    assert all(not row["label"] for row in rows if row["error"])


def test_it_stops_at_a_bad_picture_where_that_is_wanted(predict, place):
    """One line that names it; without it, the same command is done."""
    shutil.copytree("photos/china", "mixed")
    shutil.copy("photos/china/000.jpg", "good.jpg")
    Path("mixed/zz.jpg").write_bytes(b"none")
    arguments = ("mixed", "--on-bad-image", "error", "--output", "p.csv")
    done = predict(*arguments)
    assert done.code == 1
    assert "mixed/zz.jpg: cannot be classified" in done.error_lines[0]
    assert not Path("p.csv").exists()
    shutil.copy("good.jpg", "mixed/zz.jpg")
    assert predict(*arguments).code == 0
    assert len(rows_of(Path("p.csv").read_text())) == 13


@pytest.mark.parametrize("more", [(), ("--tta", "hflip")])
def test_an_output_that_is_no_number_costs_its_row_alone(predict, command, monkeypatch, more):
    """For evaluation, whose numbers would be wrong, it is the end."""
    want = rows_of(predict("photos", *more).out)
    from timm.models.resnet import ResNet

    forward = ResNet.forward

    def forward_with_one_bad(self, images):
        logits = forward(self, images)
        logits[len(logits) // 3] = float("nan")
        return logits

    monkeypatch.setattr(ResNet, "forward", forward_with_one_bad)
    done = predict("photos", "--batch-size", "12", "--features", "f.npy")
    assert done.code == 0, done.err
    done = predict("photos", "--batch-size", "12", *more)
    assert "36 pictures, 3 of them unreadable" in done.err
    rows = rows_of(done.out)
    bad = [n for n, row in enumerate(rows) if row["error"]]
    assert bad == [4, 16, 28]
    assert {rows[n]["error"] for n in bad} == {"the model's output for it is inf or nan"}
    assert not any(rows[n]["label"] or rows[n]["probability"] for n in bad)
    assert [r["label"] for n, r in enumerate(rows) if n not in bad] == [
        r["label"] for n, r in enumerate(want) if n not in bad
    ]
    assert np.flatnonzero(np.isnan(np.load("f.npy")).any(axis=1)).tolist() == bad
    done = predict("photos", "--batch-size", "12", "--on-bad-image", "error", *more)
    assert done.code == 1
    assert "photos/china/004.jpg: cannot be classified (the model's output" in done.error_lines[0]
    done = command("evaluate", "outputs/single", "--data", "photos", "--device", "cpu", *more)
    assert done.code == 1
    assert "the model's output for it is inf or nan" in done.error_lines[0]


def test_the_same_picture_twice_has_two_rows(predict):
    """In their order."""
    rows = rows_of(
        predict("photos/china/001.jpg", "photos/china/000.jpg", "photos/china/001.jpg").out
    )
    assert [row["path"][-7:] for row in rows] == ["001.jpg", "000.jpg", "001.jpg"]
    assert rows[0] == rows[2]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_the_rows_in_a_file(predict, suffix):
    """The same numbers in every format, with what made them beside it."""
    want = rows_of(predict("photos", "gone.jpg").out)
    done = predict("photos", "gone.jpg", "--output", f"p.{suffix}")
    assert done.code == 0, done.err
    assert ": 37 pictures ─" in done.out
    file = Path(f"p.{suffix}")
    if suffix == "csv":
        assert rows_of(file.read_text()) == want
    else:
        rows = (
            [json.loads(line) for line in file.read_text().splitlines()]
            if suffix == "jsonl"
            else parquet.read_table(file).to_pylist()
        )
        assert [tuple(row) for row in rows] == [COLUMNS] * 37
        for row, one in zip(rows, want, strict=True):
            assert (row["path"], row["label"] or "", row["error"] or "") == (
                one["path"], one["label"], one["error"],
            )  # fmt: skip
            assert row["probability_2"] == (float(one["probability_2"] or 0) or None)
    beside = json.loads(Path(f"p.{suffix}.json").read_text())
    assert beside["class_names"] == ["china", "flower", "violet"]
    assert beside["progress"]["rows"] == 37
    assert beside["progress"]["unreadable"] == 1
    hidden = {p.name for p in Path().iterdir() if p.name.startswith(".")}
    assert hidden == {f".p.{suffix}.lock"}


def test_a_finished_file_is_left_as_it_is(predict):
    """The same command says so; others are refused in one line that says what differs."""
    assert predict("photos", "--output", "p.csv").code == 0
    before = Path("p.csv").read_bytes(), Path("p.csv").stat().st_mtime_ns
    done = predict("photos", "--output", "p.csv")
    assert done.code == 0
    assert "is finished already" in done.err
    for more, words in (
        (("--top-k", "2"), "--top-k 3 and not 2"),
        (("--tta", "hflip"), "--tta none and not hflip"),
        (("--ensemble", "--checkpoint", "outputs/folds"), "another checkpoint"),
        (("gone.jpg",), "other inputs"),
    ):
        done = predict("photos", "--output", "p.csv", *more)
        assert done.code == 2, more
        assert words in done.error_lines[0]
        assert "begin anew with --force" in done.error_lines[0]
        assert (Path("p.csv").read_bytes(), Path("p.csv").stat().st_mtime_ns) == before
    done = predict("photos", "--output", "p.csv", "--top-k", "1", "--force")
    assert done.code == 0
    assert Path("p.csv").read_text().startswith("path,label,probability,flag,error\n")


def test_a_folder_that_has_grown_is_no_finished_one(predict):
    """Said, with the way to classify the new ones alone."""
    shutil.copytree("photos/china", "some")
    assert predict("some", "--output", "p.csv").code == 0
    shutil.copy("photos/flower/001.jpg", "some/zz.jpg")
    done = predict("some", "--output", "p.csv")
    assert done.code == 2
    assert "other pictures now" in done.error_lines[0]
    assert "--new-only" in done.error_lines[0]
    done = predict("some", "--output", "q.csv", "--new-only", "p.csv")
    assert done.code == 0
    assert [row["path"] for row in rows_of(Path("q.csv").read_text())] == ["some/zz.jpg"]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_only_new_pictures(predict, suffix):
    """Those without a row in the earlier file, whatever it is; none is no error."""
    odd = ["=1+1.jpg", "-1.jpg", "'=a.jpg", "'b.jpg", "@c.jpg", "\td.jpg"]
    Path("odd").mkdir()
    for name in odd:
        shutil.copy("photos/china/001.jpg", f"odd/{name}")
    os.chdir("odd")
    run = ("--checkpoint", "../outputs/single")
    done = predict(".", *run, "--output", f"../p.{suffix}")
    assert done.code == 0, done.err
    done = predict(".", *run, "--new-only", f"../p.{suffix}")
    assert done.code == 0
    assert rows_of(done.out) == []
    assert done.out == ",".join(COLUMNS) + "\n"


def test_cells_that_a_spreadsheet_would_compute(predict, place):
    """Have a ' before them in CSV, which is taken off when it is read; in JSON they do not."""
    names = ["=cmd.jpg", "+1.jpg", "@a.jpg", "'quoted.jpg", "plain.jpg"]
    for name in names:
        shutil.copy("photos/china/001.jpg", name)
    assert predict(*names, "--output", "p.csv").code == 0
    rows = rows_of(Path("p.csv").read_text())
    assert [row["path"] for row in rows] == [
        "'=cmd.jpg", "'+1.jpg", "'@a.jpg", "''quoted.jpg", "plain.jpg",
    ]  # fmt: skip
    assert rows_of(predict(*names, "--new-only", "p.csv").out) == []
    assert predict(*names, "--output", "p.jsonl").code == 0
    paths = [json.loads(line)["path"] for line in Path("p.jsonl").read_text().splitlines()]
    assert paths == names


def test_pictures_sorted_into_folders(predict):
    """Links that are found again the second time, and numbers where a name is taken."""
    shutil.copytree("photos/china", "mixed/a")
    shutil.copytree("photos/flower", "mixed/b")
    Path("mixed/bad.jpg").write_bytes(b"none")
    for _ in range(2):
        assert predict("mixed", "--sort-into", "sorted").code == 0
        links = sorted(p for p in Path("sorted").rglob("*") if not p.is_dir())
        assert len(links) == 25
        assert all(p.is_symlink() and p.exists() for p in links)
    assert {p.resolve() for p in links} == {
        p.resolve() for p in Path("mixed").rglob("*") if p.is_file()
    }
    assert Path("sorted/unreadable/bad.jpg").readlink() == Path("mixed/bad.jpg").absolute()
    by_row = {row["path"]: row["label"] for row in rows_of(predict("mixed").out)}
    for link in links:
        path = os.path.relpath(link.readlink(), Path.cwd())
        assert link.parent.name == (by_row[path] or "unreadable")


def test_sorted_copies_replace_nothing(predict):
    """What lies there under the same name stays; pictures of a shard can be copied only."""
    with tarfile.open("s.tar", "w") as shard:
        shard.add("photos/china/000.jpg", "000.jpg")
    done = predict("s.tar", "--sort-into", "sorted")
    assert done.code == 2
    assert "add --copy" in done.error_lines[0]
    label = rows_of(predict("s.tar").out)[0]["label"]
    (Path("sorted") / label).mkdir(parents=True, exist_ok=True)
    (Path("sorted") / label / "000.jpg").write_text("mine")
    for _ in range(2):
        done = predict("s.tar", "photos/china/000.jpg", "--sort-into", "sorted", "--copy")
        assert done.code == 0
    found = {p.name: p.read_bytes() for p in (Path("sorted") / label).iterdir()}
    assert found == {"000.jpg": b"mine", "000-2.jpg": Path("photos/china/000.jpg").read_bytes()}
    done = predict("photos", "--sort-into", "photos/sorted")
    assert done.code == 2
    assert "would be classified too" in done.error_lines[0]


def test_features_of_each_picture(predict, place):
    """Pooled float32 in the order of the rows, nan for what cannot be read, with their paths."""
    done = predict(
        "gone.jpg", "photos", "also-gone.jpg", "--features", "f.npy", "--batch-size", "4"
    )
    assert done.code == 0, done.err
    features = np.load("f.npy")
    assert (features.dtype, features.shape[0]) == (np.float32, 38)
    assert np.isnan(features[[0, -1]]).all()
    assert np.isfinite(features[1:-1]).all()
    paths = [row["path"] for row in rows_of(Path("f.csv").read_text())]
    assert paths == ["gone.jpg", *files_of(place), "also-gone.jpg"]
    from safetensors.numpy import load_file

    weights = load_file("outputs/single/fold_0/checkpoints/best/model.safetensors")
    logits = features[1:-1] @ weights["fc.weight"].T + weights["fc.bias"]
    labels = [row["label"] for row in rows_of(predict("photos").out)]
    assert [("china", "flower", "violet")[k] for k in logits.argmax(axis=1)] == labels
    done = predict("photos", "--features", "f.npy", "--tta", "hflip")
    assert done.code == 2


def test_a_json_document(predict):
    """With the rows where no file has them."""
    document = json.loads(predict("photos/china", "gone.jpg", "--json").out)
    assert (document["pictures"], document["unreadable"]) == (13, 1)
    assert [tuple(row) for row in document["rows"]] == [COLUMNS] * 13
    assert document["rows"][-1]["error"] == "no such file"
    document = json.loads(predict("photos/china", "--json", "--output", "p.csv").out)
    assert document["output"] == "p.csv"
    assert "rows" not in document


def test_what_cannot_be_classified_is_one_line(predict, command, place):
    """Exit 2, and nothing is written."""
    Path("empty").mkdir()
    Path("texts").mkdir()
    Path("texts/a.txt").write_text("a")
    Path("table.csv").write_text("name,site\na.jpg,1\n")
    Path("lost.csv").write_text("path\nx.jpg\ny.jpg\n")
    Path("mine.csv").write_text("a,b\n")
    for arguments, words in (
        ((), "INPUTS: name what to classify"),
        (("gone.jpg", "lost.png"), "gone.jpg, lost.png: no such file or folder"),
        (("empty",), "no pictures found in it"),
        (("texts",), "1 .txt"),
        (("table.csv",), "has no column 'path'"),
        (("lost.csv",), "paths that lead to no file"),
        (("outputs/single",), "is a trained model's folder"),
        (("photos", "--output", "mine.csv"), "imgcls did not write it"),
        (("photos", "--output", "p.txt"), "must end in .csv, .jsonl, .parquet"),
        (("photos", "--output", "no/p.csv"), "there is no folder no"),
        (("photos", "--root", "x"), "--root x: says nothing"),
        (("photos", "--copy"), "give both"),
        (("photos", "--checkpoint", "gone"), "gone: no such file or folder"),
        (("photos", "--new-only", "mine.csv"), "has no rows with a path"),
        (("photos", "--features", "mine.npy", "--output", "mine.csv", "--force"), "name another"),
    ):
        done = predict(*arguments)
        assert (done.code, len(done.error_lines)) == (2, 1), (arguments, done.err)
        assert words in done.error_lines[0], arguments
    assert Path("mine.csv").read_text() == "a,b\n"
    shutil.rmtree("outputs")
    assert "no trained run in it" in command("predict", "photos").error_lines[0]


def test_nothing_that_can_be_read_is_a_failure(predict):
    """Exit 1, though each picture has its row."""
    Path("bad.jpg").write_bytes(b"none")
    done = predict("bad.jpg", "--output", "p.csv")
    assert done.code == 1
    assert "none of the 1 pictures can be classified, such as bad.jpg" in done.error_lines[0]
    assert len(rows_of(Path("p.csv").read_text())) == 1


@pytest.mark.parametrize("width", [40, 100])
def test_a_terminal_gets_a_table(place, width):
    """That fits it: the first twenty pictures, and what all come to."""
    import pty

    Path(place / "b\x1b[31mad.jpg").write_bytes(b"none")
    parent, child = pty.openpty()
    arguments = ("b\x1b[31mad.jpg", "photos", "--checkpoint", "outputs/single", "--device", "cpu")
    process = subprocess.Popen(
        [sys.executable, "-m", "imgcls", "predict", *arguments],
        cwd=place, stdout=child, stderr=subprocess.DEVNULL,
        env={**os.environ, "COLUMNS": str(width), "TERM": "xterm", "NO_COLOR": "1"},
    )  # fmt: skip
    os.close(child)
    shown = b""
    while True:
        try:
            part = os.read(parent, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(parent)
    assert process.wait(60) == 0
    assert b"\x1b[31m" not in shown
    text = re.sub(r"\r|\x1b\[[0-9;]*m", "", shown.decode())
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert "b\\x1b[31mad" in text
    assert "unreadable" in text
    assert "17 more pictures" in text
    assert "37 pictures" in text
    assert ("Then" in text) == (width > 60)


AS_TYPED = f"{sys.executable} -m imgcls predict photos --checkpoint outputs/single --device cpu"


def test_a_reader_that_has_gone_is_no_failure(place):
    """`imgcls predict ... | head -1` ends well, and says nothing of it."""
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{AS_TYPED} --batch-size 1 | head -1"],
        cwd=place, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == ",".join(COLUMNS) + "\n"
    assert "imgcls:" not in done.stderr


@pytest.mark.slow  # with another command in tests/cli/test_process.py, quickly
def test_a_closed_output_is_a_failure(place):
    """`imgcls predict ... >&-` says in one line that nothing could be written."""
    closed = subprocess.run(
        ["bash", "-c", f"{AS_TYPED} >&-"],
        cwd=place, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert closed.returncode == 1
    assert "the output cannot be written to stdout" in closed.stderr
    assert "Traceback" not in closed.stderr


@pytest.mark.slow
def test_memory_does_not_grow_with_the_pictures(place):
    """5,000 take no 30 MiB more than 500."""
    import resource

    code = (
        "import resource, sys; from imgcls.cli.boundary import run; "
        "assert run(sys.argv[1:]) == 0; "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )
    files = sorted((place / "photos").glob("*/*.jpg"))
    peaks = {}
    for count in (500, 5000):
        folder = place / f"many-{count}"
        folder.mkdir()
        for n in range(count):
            (folder / f"{n:05d}.jpg").symlink_to(files[n % len(files)])
        arguments = (f"many-{count}", "--checkpoint", "outputs/single", "--device", "cpu")
        done = subprocess.run(
            [sys.executable, "-c", code, "predict", *arguments, "--output", f"{count}.csv"],
            cwd=place, capture_output=True, text=True, check=True, timeout=300,
        )  # fmt: skip
        peaks[count] = int(done.stderr.split()[-1]) / 1024
        assert len(rows_of((place / f"{count}.csv").read_text())) == count
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert peaks[5000] - peaks[500] < 30, peaks


def test_a_process_says_how_to_begin(place):
    """As typed, without any input: one line, exit 2, within the time of a help page."""
    done = run_process("predict", cwd=place)
    assert done.code == 2
    assert len(done.error_lines) == 1
