"""When it does not know: sets, `unsure` and `unlike`, by the run's own val pictures."""

from __future__ import annotations

import csv
import errno
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
from conftest import OFFLINE
from PIL import Image
from pyarrow import parquet
from safetensors.numpy import load_file, save_file

from imgcls.output.pages.unknown import unknown_sections
from imgcls.storage import held_out
from imgcls.storage.splits import read_splits

# a name with all that separates names elsewhere, and one of a folder that is taken
COLOURS = {'=red, "dark"; |': (200, 60, 60), "green": (80, 150, 90), "unsure": (90, 90, 160)}
ASKED = ("--sets", "0.8", "--max-error", "0.1", "--unlike", "0.1")


def save_colours(root, count, seed=0):
    rng = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        for index in range(count):
            colours = rng.normal(colour, 30, 3)
            pixels = rng.normal(colours, 30, (32, 32, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index:02d}.png")


@pytest.fixture(scope="module")
def coloured(tmp_path_factory):
    """A folder with colours/, noise/ and a run with 48 val pictures; tests change copies of it."""
    from imgcls.cli.boundary import run

    root = tmp_path_factory.mktemp("coloured")
    save_colours(root / "colours", 40)
    (root / "noise").mkdir()
    rng = np.random.default_rng(1)
    for index in range(20):
        blocks = np.kron(rng.integers(0, 2, (4, 4, 3)) * 255, np.ones((8, 8, 1)))
        Image.fromarray(blocks.astype(np.uint8)).save(root / "noise" / f"{index:02d}.png")
    shares = ("--val-size", "0.4", "--test-size", "0.3", "--epochs", "6", "--lr", "0.01")
    more = ("--experiment", "run", "--output", str(root / "outputs"), "--quiet", "--device", "cpu")
    assert run(["train", str(root / "colours"), *OFFLINE, *shares, *more]) == 0
    return root


@pytest.fixture
def place(coloured, tmp_path, monkeypatch):
    shutil.copytree(coloured / "outputs", tmp_path / "outputs", symlinks=True)
    monkeypatch.chdir(tmp_path)
    return coloured


@pytest.fixture
def predict(command, place):
    """`imgcls predict ARGUMENTS` with that run."""

    def run(*arguments):
        return command("predict", *arguments, "--device", "cpu", "--workers", "0")

    return run


@pytest.fixture
def best(place):
    return Path("outputs/run/fold_0/checkpoints/best").resolve()


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


def files_of(split, place):
    """(files, labels) of the run's split."""
    rows = [row for row in read_splits(Path("outputs/run")) if row["split"] == split]
    return [str(place / "colours" / row["path"]) for row in rows], [row["label"] for row in rows]


def test_each_row_says_what_it_does_not_know(predict, place):
    """The set and the flag in every format; pictures of nothing known are unlike."""
    noise = str(place / "noise")
    assert predict(noise, str(place / "colours"), "gone.png", *ASKED, "-o", "p.csv").code == 0
    rows = rows_of(Path("p.csv").read_text())
    assert list(rows[0])[-3:] == ["set", "flag", "error"]
    *good, gone = rows
    assert (gone["set"], gone["flag"], gone["error"]) == ("", "", "no such file")
    for row in good:
        members = json.loads(row["set"])
        label = row["label"].removeprefix("'")
        assert members[0] == label
        assert set(members) <= COLOURS.keys()
        assert row["flag"] in ("", "unsure", "unlike")
    flags = [row["flag"] for row in good]
    assert flags[:20].count("unlike") >= 15
    assert flags[20:].count("unlike") <= 0.3 * len(flags[20:])
    assert "unsure" in flags
    for suffix in ("jsonl", "parquet"):
        arguments = (noise, str(place / "colours"), "gone.png", *ASKED, "-o", f"p.{suffix}")
        assert predict(*arguments).code == 0
    lines = [json.loads(line) for line in Path("p.jsonl").read_text().splitlines()]
    assert parquet.read_table("p.parquet").to_pylist() == lines
    for row, line in zip(rows, lines, strict=True):
        assert (row["flag"] or None) == line["flag"]
        assert (json.loads(row["set"] or "null")) == line["set"]


def test_what_it_rests_on_is_fitted_once_and_kept(predict, best, place):
    """Beside the checkpoint, whose own files stay; the second time nothing is fitted."""
    before = {file: file.read_bytes() for file in best.iterdir()}
    done = predict(str(place / "noise"), *ASKED)
    assert done.code == 0, done.err
    assert "--sets: scores the run's val pictures first" in done.err
    assert "of the 48 val pictures" in done.err
    added = {"validation.safetensors", "features.safetensors"}
    assert {file.name for file in best.iterdir()} == {f.name for f in before} | added
    assert {file: file.read_bytes() for file in before} == before
    kept = {name: (best / name).read_bytes() for name in added}
    again = predict(str(place / "noise"), *ASKED)
    assert again.out == done.out
    assert "scores the run's val" not in again.err
    assert "computes the features" not in again.err
    assert {name: (best / name).read_bytes() for name in added} == kept
    timm.create_model(f"local-dir:{best}", pretrained=True)
    # one that has left its run has it with it
    shutil.copytree(best, "elsewhere")
    moved = predict(str(place / "noise"), *ASKED, "--checkpoint", "elsewhere")
    assert moved.out == done.out, moved.err


def test_evaluate_reports_what_predict_then_does(predict, command, place):
    """Coverage and sizes of the sets, and false alarms, on the test split; strict JSON, page."""
    arguments = ("--conformal", "0.8", "--fit-unlike", "--ci", "none", "--no-report")
    done = command("evaluate", *arguments)
    assert done.code == 0, done.err
    folder = Path("outputs/run/fold_0/test_results/test")
    report = json.loads((folder / "test_metrics.json").read_text())
    files, labels = files_of("test", place)
    rows = rows_of(predict(*files, "--sets", "0.8", "--unlike", "0.05").out)
    sets = [json.loads(row["set"]) for row in rows]
    found = report["conformal"]
    held = [label in members for label, members in zip(labels, sets, strict=True)]
    assert found["coverage"] == pytest.approx(np.mean(held))
    assert found["mean_size"] == pytest.approx(np.mean([len(members) for members in sets]))
    assert found["single"] == pytest.approx(np.mean([len(members) == 1 for members in sets]))
    assert (found["wanted"], found["fitted_on"], found["units"]) == (0.8, 48, 48)
    for row in found["classes"]:
        own = [hit for hit, label in zip(held, labels, strict=True) if label == row["class"]]
        assert (row["pictures"], row["coverage"]) == (len(own), pytest.approx(np.mean(own)))
    unlike = report["unlike"]
    flags = [row["flag"] == "unlike" for row in rows]
    assert unlike["false_alarms"] == pytest.approx(np.mean(flags))
    assert [row["class"] for row in unlike["classes"]] == list(COLOURS)
    assert all(0 <= row["caught"] <= 1 for row in unlike["classes"])
    assert "Sets that hold the right class with probability 0.8" in done.out
    assert "Unlike the 36 training pictures" in done.out
    sets_section, unlike_section = unknown_sections(report)
    assert [row[0] for table in sets_section.tables for row in table.rows] == list(COLOURS)
    assert [row[0] for table in unlike_section.tables for row in table.rows] == list(COLOURS)
    done = command("evaluate", *arguments, "--split", "val", "--json")
    assert "looks too good" in " ".join(json.loads(done.out)["notes"])


def test_classes_with_few_val_pictures_are_named(command, place):
    """They are covered together with others only: 16 of each are too few for 0.95 alone."""
    done = command("evaluate", "--conformal", "0.95", "--ci", "none", "--no-report")
    report = Path("outputs/run/fold_0/test_results/test/test_metrics.json").read_text()
    assert json.loads(report)["conformal"]["marginal_only"] == list(COLOURS)
    assert "No class has enough val pictures to be covered by itself" in done.out


def test_groups_count_once(command, predict, coloured, tmp_path):
    """Two pictures of one group are no two witnesses, and the report says so."""
    table = ["path,label,group"]
    for name in COLOURS:
        quoted = '"' + name.replace('"', '""') + '"'
        for n in range(40):
            path = str(coloured / "colours" / name / f"{n:02d}.png").replace('"', '""')
            table.append(f'"{path}",{quoted},{name[1:4]}{n // 2}')
    (tmp_path / "table.csv").write_text("\n".join(table) + "\n")
    arguments = ("--val-size", "0.4", "--test-size", "0.3", "--epochs", "1", "--experiment", "g")
    assert command("train", "table.csv", *OFFLINE, *arguments).code == 0
    done = command("evaluate", "outputs/g", "--conformal", "0.8", "--ci", "none", "--json")
    found = json.loads(done.out)["conformal"]
    assert found["units"] == found["fitted_on"] / 2
    assert found["interval"] is None
    assert (
        "groups; each group counts once"
        in Path("outputs/g/fold_0/test_results/test/report.html").read_text()
    )


def test_another_temperature_is_fitted_anew(predict, command, place):
    """Said in one line; rows begun by the other are refused."""
    noise = str(place / "noise")
    assert predict(noise, "--sets", "0.8", "--output", "p.csv").code == 0
    assert (
        command("evaluate", "--calibrate", "temperature", "--ci", "none", "--no-report").code == 0
    )
    done = predict(noise, "--sets", "0.8", "--output", "p.csv")
    assert done.code == 2
    assert "by another temperature" in done.err
    assert "another temperature" in done.error_lines[0]
    assert "val pictures that were scored otherwise" in done.error_lines[0]
    assert predict(noise, "--sets", "0.8", "--output", "q.csv").code == 0


def test_views_change_sets_and_not_what_is_unlike(predict, place):
    """Distances are of the picture as it is; another precision makes them anew."""
    asked = (str(place / "colours"), "--unlike", "0.1")
    plain = [row["flag"] for row in rows_of(predict(*asked).out)]
    done = predict(*asked, "--sets", "0.8", "--tta", "hflip")
    assert done.code == 0, done.err
    assert [row["flag"] for row in rows_of(done.out)] == plain
    assert "unlike" in plain
    done = predict(*asked, "--amp", "bf16")
    assert "features.safetensors is by another --amp" in done.err


def test_flagged_pictures_are_sorted_apart(predict, place):
    """Into unsure/ and unlike/, whatever their class; a class called unsure has another folder."""
    asked = (str(place / "noise"), str(place / "colours"), *ASKED)
    rows = rows_of(predict(*asked).out)
    assert predict(*asked, "--sort-into", "sorted").code == 0
    links = {link.readlink(): link.parent.name for link in Path("sorted").rglob("*.png")}
    assert len(links) == len(rows)
    folders = {"unsure": "unsure-2", '\'=red, "dark"; |': "=red, -dark-; -"}
    for row in rows:
        folder = row["flag"] or folders.get(row["label"], row["label"])
        assert links[Path(row["path"]).absolute()] == folder


def test_other_pictures_than_vals_are_told(predict, place):
    """Shares with their intervals; the same after the rows are there; none for val's own."""
    others = (str(place / "noise"), "--sets", "0.8", "--unlike", "0.1", "--json")
    document = json.loads(predict(*others).out)
    assert {(one["of"], one["name"]) for one in document["drift"]} >= {("flag", "unlike")}
    for one in document["drift"]:
        low, high = one["interval"]
        assert low <= one["share"] <= high
        assert not low <= one["val_share"] <= high
    for _ in range(2):
        done = predict(*others, "--output", "p.jsonl")
        assert json.loads(done.out)["drift"] == document["drift"]
    assert json.loads(Path("p.jsonl.json").read_text())["drift"] == document["drift"]
    done = predict(*others[:-1])
    assert "differ from the run's val pictures" in done.err
    files, _ = files_of("val", place)
    done = predict(*files, "--unlike", "0.2", "--json")
    assert json.loads(done.out)["drift"] == []


def test_nothing_is_compared_or_read_where_nothing_is_kept(predict, best, place):
    """A plain prediction fits nothing; what is kept and damaged is told, and costs no row."""
    done = predict(str(place / "noise"))
    assert "differ from" not in done.err
    assert not (best / "validation.safetensors").exists()
    (best / "validation.safetensors").write_bytes(b"none")
    again = predict(str(place / "noise"))
    assert again.out == done.out
    assert "damaged" in again.err


def test_a_checkpoint_that_cannot_be_written_to_is_fitted_each_time(predict, place, monkeypatch):
    """With the same rows, and a note."""
    want = predict(str(place / "noise"), *ASKED, "--checkpoint", "outputs/run")
    shutil.rmtree("outputs")
    shutil.copytree(place / "outputs", "outputs", symlinks=True)

    def refuse(file, _content):
        raise OSError(errno.EROFS, "Read-only file system", str(file))

    monkeypatch.setattr(held_out, "write_bytes", refuse)
    for _ in range(2):
        done = predict(str(place / "noise"), *ASKED)
        assert done.out == want.out
        assert "validation.safetensors: cannot be kept: the disk is read-only" in done.err
        assert "--sets: scores the run's val pictures first" in done.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--sets", "1.5"), "1.5"),
        (("--max-error", "0"), "--max-error"),
        (("--sets", "0.8", "--ensemble"), "of each fold were trained on by the others"),
        (("--sets", "0.99"), "--sets 0.99: needs 99 val pictures, and the run has 48"),
        (("--max-error", "0.05"), "--max-error 0.05: needs 59 val pictures, and the run has 48"),
        (("--unlike", "0.01"), "--unlike 0.01: needs 99 val pictures, and the run has 48"),
        (("--sets", "0.8", "--checkpoint", "timm"), "timm lies in no run"),
    ],
)
def test_what_cannot_be_promised_is_one_line(predict, best, place, arguments, words):
    """Exit 2, and no row."""
    Path("timm").mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(best / name, "timm")
    done = predict(str(place / "noise"), *arguments, "--output", "p.csv")
    assert (done.code, len(done.error_lines)) == (2, 1), done.err
    assert words in done.error_lines[0]
    assert not list(Path().glob("*p.csv*"))


def test_val_pictures_that_have_gone_are_one_line(command, coloured, tmp_path):
    """With the command that takes them where they are now, behind which predict does without."""
    shutil.copytree(coloured / "colours", "colours")
    shutil.copytree(coloured / "outputs", "outputs")
    for file in ("outputs/run/config.yaml",):
        text = Path(file).read_text().replace(str(coloured / "colours"), "colours")
        Path(file).write_text(text)
    shutil.move("colours", "moved")
    done = command("predict", "moved", "--sets", "0.8", "--device", "cpu")
    assert (done.code, len(done.error_lines)) == (2, 1), done.err
    assert "--conformal 0.9` fits it too, and takes --data" in done.error_lines[0]
    done = command(
        "evaluate", "--split", "test", "--data", "moved", "--conformal", "0.9",
        "--ci", "none", "--no-report",
    )  # fmt: skip
    assert done.code == 0, done.err
    done = command("predict", "moved", "--sets", "0.8", "--device", "cpu")
    assert done.code == 0, done.err


def test_damaged_and_foreign_files_are_one_line(predict, command, best, place):
    """That says how to fit again, which mends them."""
    asked = (str(place / "noise"), "--sets", "0.8", "--unlike", "0.1")
    assert predict(*asked).code == 0
    for name, fit in (
        ("validation.safetensors", ("--conformal", "0.8")),
        ("features.safetensors", ("--fit-unlike",)),
    ):
        file = best / name
        whole = file.read_bytes()
        other = load_file(file)
        for content, words in (
            (whole[:-9], "damaged"),
            (b"", "damaged"),
            (whole.replace(b"imgcls-", b"others-"), "damaged"),
            (None, "damaged"),
        ):
            if content is None:
                save_file(other, file)
            else:
                file.write_bytes(content)
            done = predict(*asked)
            assert (done.code, len(done.error_lines)) == (2, 1), done.err
            assert f"{name}: {words}" in done.error_lines[0]
            assert f"imgcls evaluate {fit[0]}" in done.error_lines[0]
        assert command("evaluate", *fit, "--ci", "none", "--no-report").code == 0
        assert predict(*asked).code == 0
    # of other weights
    sha256 = json.loads((best / "checkpoint.json").read_text())["files"]["model.safetensors"]
    file.write_bytes(file.read_bytes().replace(sha256["sha256"].encode(), b"0" * 64))
    done = predict(*asked)
    assert done.code == 2
    assert "belongs to other weights" in done.error_lines[0]


def test_one_fold_has_its_own_val_pictures(command, trained):
    """A guess of a model, which no confidence makes right half the time, is said to be one."""
    shutil.copytree(trained / "outputs/folds", "outputs/folds")
    fold = (trained / "photos", "--checkpoint", "outputs/folds/fold_1", "--device", "cpu")
    done = command("predict", *fold, "--sets", "0.5", "--unlike", "0.3")
    assert done.code == 0, done.err
    assert all(json.loads(row["set"]) for row in rows_of(done.out))
    done = command("predict", *fold, "--max-error", "0.01")
    assert "--max-error 0.01: needs 299 val pictures, and the run has 15" in done.error_lines[0]
    done = command("predict", *fold, "--max-error", "0.3")
    assert (done.code, len(done.error_lines)) == (2, 1), done.err
    assert "no confidence vouches for that" in done.error_lines[0]


@pytest.mark.parametrize("option", [("--conformal", "0.8"), ("--fit-unlike",)])
def test_folds_have_no_val_pictures_in_common(command, trained, option):
    """So neither their ensemble nor all of them can be fitted."""
    shutil.copytree(trained / "outputs/folds", "outputs/folds")
    for more in (("--ensemble",), ("--fold", "all")):
        done = command("evaluate", "outputs/folds", *more, *option)
        assert done.code == 2
        assert "were trained on by the others" in done.error_lines[0]


def test_sets_divide_by_the_shares_of_the_training_pictures(command, photos):
    """Not by the more even ones that logit adjustment trains for."""
    shares = ("--val-size", "0.4", "--epochs", "1", "--device", "cpu", "--experiment", "run")
    done = command("train", photos, *OFFLINE, *shares)
    assert done.code == 0, done.err
    assert "logit-adjust" in done.err
    assert command("evaluate", "--split", "val", "--no-report", "--conformal", "0.8").code == 0
    best = Path("outputs/run/fold_0/checkpoints/best")
    found = load_file(best / "validation.safetensors")["prevalence"]
    names = json.loads((best / "config.json").read_text())["label_names"]
    rows = [row for row in read_splits(Path("outputs/run")) if row["split"] == "train"]
    trained = [row["label"] for row in rows]
    assert len({trained.count(name) for name in names}) > 1
    np.testing.assert_allclose(found, [trained.count(name) / len(trained) for name in names])
