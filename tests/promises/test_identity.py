"""Which picture is which: told by content where names may lie, in evaluate and in resume."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
import shutil
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import OFFLINE, TINY
from PIL import Image

from imgcls.data.audit.contents import changed_since
from imgcls.data.open import open_source
from imgcls.engine.checkpoint.folder import find_checkpoint, load_checkpoint
from imgcls.jobs.plan import preflight
from imgcls.models.build import create_model

TRAIN = (*OFFLINE, "--epochs", "1", "--lr", "3e-3", "--device", "cpu", "--name", "run")


def rows_of(run):
    with (run / "splits.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def write_rows(file, rows):
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def in_split(run, split):
    return [row["path"] for row in rows_of(run) if row["split"] == split]


def renamed(photos, folder):
    """The same pictures under other names, and a table of them."""
    folder.mkdir()
    rows = []
    for number, file in enumerate(sorted(photos.glob("*/*.jpg"))):
        shutil.copy(file, folder / f"p{number}.jpg")
        rows.append({"path": f"p{number}.jpg", "label": file.parent.name})
    write_rows(folder / "all.csv", rows)
    return folder / "all.csv"


@pytest.fixture
def run(command, photos):
    """A run on 48 photos: 34 are trained on, 7 choose the epoch, 7 are its test."""
    done = command("train", photos, *TRAIN)
    assert done.code == 0, done.err
    return photos.parent / "outputs" / "run"


def evaluated(command, *arguments):
    done = command("evaluate", *arguments, "--no-report", "--ci", "none", "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_splits_csv_holds_the_sha256_of_each_picture(run, photos):
    """As any other tool computes it."""
    rows = rows_of(run)
    assert len(rows) == 48
    for row in rows:
        assert row["sha256"] == hashlib.sha256((photos / row["path"]).read_bytes()).hexdigest()


def test_pictures_that_were_trained_on_are_counted_whatever_their_names(
    command, run, photos, tmp_path
):
    """On the screen, in test_metrics.json, in report.html; --exclude-trained scores the rest."""
    table = renamed(photos, tmp_path / "other")
    shown = command("evaluate", run, "--data", table, "--ci", "none")
    assert "34 of these 48 pictures were trained on and 7 chose the best epoch" in shown.err
    assert "34 of the 48 pictures; 7 chose the best epoch" in shown.out
    folder = run / "fold_0" / "test_results" / "data-all"
    kept = json.loads((folder / "test_metrics.json").read_text())["trained_on"]
    assert (kept["pictures"], kept["train"], kept["val"], kept["excluded"]) == (48, 34, 7, 0)
    assert "34 of these 48 pictures were trained on" in (folder / "report.html").read_text()

    rest = evaluated(command, run, "--data", table, "--exclude-trained")
    assert rest["metrics"]["samples"] == 7
    assert (rest["trained_on"]["train"], rest["trained_on"]["excluded"]) == (0, 41)
    own = evaluated(command, run)
    assert own["trained_on"]["train"] == own["trained_on"]["val"] == 0
    assert rest["metrics"]["nll"] == pytest.approx(own["metrics"]["nll"], abs=1e-6)
    # beside the results of all, which stay
    assert (folder / "logits.npy").exists()
    assert rest["folder"] != str(folder)


def test_embedded_pictures_are_known_again(command, run, photos, tmp_path):
    """The same bytes in Parquet and in a tar shard."""
    files = sorted(photos.glob("*/*.jpg"))
    table = {
        "image": pa.array([file.read_bytes() for file in files], pa.binary()),
        "label": [file.parent.name for file in files],
    }
    pq.write_table(pa.table(table), tmp_path / "all.parquet")
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        for number, file in enumerate(files):
            archive.add(file, f"{number}.jpg")
            (tmp_path / "label").write_text(file.parent.name)
            archive.add(tmp_path / "label", f"{number}.cls")
    for data in ("all.parquet", "all.tar"):
        assert evaluated(command, run, "--data", tmp_path / data)["trained_on"]["train"] == 34


def test_a_run_in_memory_keeps_its_contents_too(command, tmp_path):
    """The digits, scored anew as other data."""
    tiny = (*OFFLINE, "--epochs", "1", "--batch-size", "512", "--name", "run")
    assert command("train", "digits", *tiny).code == 0
    report = evaluated(command, tmp_path / "outputs/run", "--data", "digits")
    run = tmp_path / "outputs/run"
    # a few of the digits are the same picture to the last pixel
    assert report["trained_on"]["train"] >= len(in_split(run, "train"))
    assert all(row["sha256"] for row in rows_of(run))


def test_without_preflight_the_training_pictures_are_read_when_needed(command, photos, tmp_path):
    """While they are there; then it is said that nothing is known, and nothing can be left out."""
    assert command("train", photos, *TRAIN, "--no-preflight").code == 0
    run = tmp_path / "outputs" / "run"
    assert {row["sha256"] for row in rows_of(run)} == {""}
    table = renamed(photos, tmp_path / "other")
    assert evaluated(command, run, "--data", table)["trained_on"]["train"] == 34
    photos.rename(tmp_path / "away")
    report = evaluated(command, run, "--data", table)
    assert report["trained_on"]["train"] is None
    assert any("whether these pictures were trained on is not known" in n for n in report["notes"])
    refused = command("evaluate", run, "--data", table, "--exclude-trained")
    assert refused.code == 2
    assert "not known which were trained on" in refused.error_lines[0]


def test_a_copy_of_a_training_picture_in_the_test_split_is_told(command, photos, tmp_path):
    """A leak of the run's own split; --exclude-trained leaves just that one out."""
    for split in ("train", "test"):
        for file in sorted(photos.glob("*/00?.jpg")):
            odd = int(file.stem) % 2
            if (split == "test") == bool(odd):
                (tmp_path / "set" / split / file.parent.name).mkdir(parents=True, exist_ok=True)
                shutil.copy(file, tmp_path / "set" / split / file.parent.name)
    shutil.copy(tmp_path / "set/train/china/000.jpg", tmp_path / "set/test/china/copy.jpg")
    assert command("train", tmp_path / "set", *TRAIN).code == 0
    run = tmp_path / "outputs" / "run"
    if "train/china/000.jpg" in in_split(run, "val"):
        pytest.skip("the copied picture went to val")
    report = evaluated(command, run)
    assert report["trained_on"]["train"] == 1
    assert any("1 of these 16 pictures were trained on (identical copies)" in n
               for n in report["notes"])  # fmt: skip
    assert evaluated(command, run, "--exclude-trained")["metrics"]["samples"] == 15


def test_another_model_that_saw_the_pictures_is_told_on_whatever_data(
    command, run, photos, tmp_path
):
    """--compare with a run on a part of the pictures, under other names."""
    table = renamed(photos, tmp_path / "other")
    assert command("train", table, *TRAIN[:-1], "other", "--seed", "3").code == 0
    other = tmp_path / "outputs" / "other"
    seen = {row["sha256"] for row in rows_of(other) if row["split"] == "train"}
    count = sum(row["sha256"] in seen for row in rows_of(run) if row["split"] == "test")
    assert count
    report = evaluated(command, run, "--compare", other)
    assert report["comparison"]["trained_on"]["train"] == count
    assert any(f"was trained on {count} of these pictures" in note for note in report["notes"])


def test_an_edited_splits_csv_is_refused_and_the_rows_named(command, run):
    """In resume and evaluate; --force goes on; put back, all is well."""
    before = (run / "splits.csv").read_bytes()
    path = in_split(run, "val")[0]
    rows = [{**r, "split": "train" if r["path"] == path else r["split"]} for r in rows_of(run)]
    write_rows(run / "splits.csv", rows)
    for arguments in (("resume", run, "--epochs", "2"), ("evaluate", run)):
        done = command(*arguments)
        assert done.code == 2
        assert f"1 row changed: {path} (was val, is train)" in done.error_lines[0]
    # what was trained on is known all the same
    report = evaluated(command, run, "--data", run.parents[1] / "photos")
    assert (report["trained_on"]["train"], report["trained_on"]["val"]) == (34, 7)
    assert command("resume", run, "--epochs", "2", "--force").code == 0
    (run / "splits.csv").write_bytes(before)
    last = find_checkpoint(run, which="last")  # is now one of the edited split
    assert f"1 row changed: {path} (was train, is val)" in command("evaluate", last).error_lines[0]


def test_a_damaged_splits_csv_is_told_in_a_line(command, run):
    """Not UTF-8, a column away, a split that is none."""
    whole = (run / "splits.csv").read_bytes()
    for damage in (b"\xff" + whole, whole.replace(b"split", b"spilt"), whole.replace(b"val", b"va"),
                   b"", whole + b"a,b\n"):  # fmt: skip
        (run / "splits.csv").write_bytes(damage)
        for arguments in (("evaluate", run), ("resume", run, "--epochs", "2")):
            done = command(*arguments)
            assert done.code == 2
            assert "splits.csv" in done.error_lines[0]


def test_a_picture_with_another_content_is_named(command, run, photos):
    """In resume, and in evaluate where it is scored; --force resumes all the same."""
    path = in_split(run, "test")[0]
    Image.new("RGB", (48, 48), "red").save(photos / path)
    for arguments in (("resume", run, "--epochs", "2"), ("evaluate", run)):
        done = command(*arguments)
        assert done.code == 2
        assert f"their content differs): {path}" in done.error_lines[0]
    assert evaluated(command, run, "--split", "val")["metrics"]["samples"] == 7
    assert command("resume", run, "--epochs", "2", "--force").code == 0


def test_a_moved_run_goes_on_to_the_same_weights(command, photos, tmp_path):
    """`resume --data NEW`, by name, and by content where the names are others too."""
    tiny = (*OFFLINE, "--lr", "3e-3", "--device", "cpu", "--name")
    for name in ("stayed", "named", "renamed"):
        assert command("train", photos, *tiny, name, "--epochs", "1").code == 0
    outputs = tmp_path / "outputs"
    assert command("resume", outputs / "stayed", "--epochs", "2").code == 0
    table = renamed(photos, tmp_path / "other")
    photos.rename(tmp_path / "moved")
    for name, data in (("named", tmp_path / "moved"), ("renamed", table)):
        refused = command("resume", outputs / name, "--epochs", "2")
        assert refused.code == 2
        assert "--data" in refused.error_lines[0]
        done = command("resume", outputs / name, "--epochs", "2", "--data", data)
        assert done.code == 0, done.err
        assert rows_of(outputs / name) == rows_of(outputs / "stayed")
        weights = [
            create_model_from(find_checkpoint(outputs / fold, which="last"))
            for fold in ("stayed", name)
        ]
        for key, tensor in weights[0].items():
            assert torch.equal(tensor, weights[1][key]), key
        # the new place is kept
        assert evaluated(command, outputs / name)["metrics"]["samples"] == 7
        assert "Nothing to resume" in command("resume", outputs / name).out


def create_model_from(folder):
    from imgcls.config.model import ModelConfig

    model = create_model(ModelConfig(**{**TINY["model"], "num_classes": 3}))
    load_checkpoint(model, folder)
    return model.state_dict()


def test_moved_pictures_keep_the_runs_split(command, run, photos, tmp_path):
    """`evaluate --split test --data NEW` by name and by content; the plain error names the way."""
    own = evaluated(command, run)
    table = renamed(photos, tmp_path / "other")
    photos.rename(tmp_path / "moved")
    refused = command("evaluate", run)
    assert refused.code == 2
    assert "if the run's pictures have moved, say where to by --data" in refused.error_lines[0]
    for data in (tmp_path / "moved", table):
        report = evaluated(command, run, "--split", "test", "--data", data)
        assert report["split"] == "test"
        assert report["metrics"] == own["metrics"]
        assert any("holds the run's own test split" in note for note in report["notes"])
    # the last table has other names for all of them, and the page shows the pictures none the less
    done = command("evaluate", run, "--split", "test", "--data", table, "--ci", "none")
    assert done.code == 0, done.err
    page = (run / "fold_0" / "test_results" / "test" / "report.html").read_text("utf-8")
    assert page.count("data:image/jpeg;base64,") >= len(in_split(run, "test"))


def test_the_page_shows_pictures_as_the_model_sees_them(command, tmp_path):
    """In grey for a model of one channel, transparent parts on its background."""
    for name, grey in (("bright", 250), ("dark", 90)):
        (tmp_path / "clear" / name).mkdir(parents=True)
        for number in range(8):
            pixels = Image.new("RGBA", (40, 40), (grey, number, 0, 0))
            pixels.save(tmp_path / "clear" / name / f"{number}.png")
    options = ("--in-chans", "1", "--background", "#c8c8c8", "--name", "grey")
    done = command("train", "clear", *TRAIN, *options)
    assert done.code == 0, done.err
    assert command("evaluate", "outputs/grey", "--workers", "0", "--ci", "none").code == 0
    page = next((tmp_path / "outputs" / "grey").rglob("report.html")).read_text("utf-8")
    shown = re.findall(r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)", page)
    assert shown
    for text in shown:
        with Image.open(io.BytesIO(base64.b64decode(text))) as thumbnail:
            assert {band for band, _ in thumbnail.convert("RGB").getextrema()} == {200}


def test_other_pictures_are_all_scored_also_where_a_split_is_named(command, run, photos, tmp_path):
    """The same names, other contents: not the run's own."""
    for number, file in enumerate(sorted(photos.glob("*/*.jpg"))):
        target = tmp_path / "new" / file.relative_to(photos)
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (48, 48), (number, 9, 99)).save(target)
    report = evaluated(command, run, "--split", "test", "--data", tmp_path / "new")
    assert report["metrics"]["samples"] == 48
    assert report["trained_on"]["train"] == 0


def test_half_of_a_split_is_no_split(command, run, photos):
    """What is missing is named; left out and listed with skip."""
    gone = in_split(run, "test")[0]
    (photos / gone).unlink()
    refused = command("evaluate", run, "--split", "test", "--data", photos)
    assert refused.code == 2
    assert f"missing are {gone}" in refused.error_lines[0]
    skipped = ("--split", "test", "--data", photos, "--on-bad-image", "skip")
    report = evaluated(command, run, *skipped)
    assert report["metrics"]["samples"] == 6
    assert [picture["path"] for picture in report["bad_images"]] == [gone]


def test_a_changed_picture_is_not_scored_as_the_runs_own(command, run, photos, tmp_path):
    """Another picture under the old name, among data that hold the split: passed over, and told."""
    shutil.copytree(photos, tmp_path / "moved")
    changed = in_split(run, "test")[0]
    Image.new("RGB", (48, 48), (1, 9, 99)).save(tmp_path / "moved" / changed)
    named = (run, "--split", "test", "--data", tmp_path / "moved")
    refused = command("evaluate", *named)
    assert refused.code == 2
    assert f"missing are {changed}" in refused.error_lines[0]
    report = evaluated(command, *named, "--on-bad-image", "skip")
    assert report["metrics"]["samples"] == 6
    assert any("1 have other contents there" in note for note in report["notes"])


def test_a_picture_that_is_gone_is_a_bad_one_where_these_are_skipped(command, run, photos):
    """Counted and listed by resume and by evaluate; refused otherwise."""
    for split in ("train", "test"):
        (photos / in_split(run, split)[0]).unlink()
    for arguments in (("resume", run, "--epochs", "2"), ("evaluate", run)):
        refused = command(*arguments)
        assert refused.code == 2
        assert "2 pictures are gone" in refused.error_lines[0]
    done = command("resume", run, "--epochs", "2", "--on-bad-image", "skip", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["bad_images"] == 1
    report = evaluated(command, run, "--on-bad-image", "skip")
    assert report["metrics"]["samples"] == 6
    assert report["bad_images"][0]["note"] == "the file is gone"
    assert len(rows_of(run)) == 48


def test_a_table_that_names_a_missing_file_trains_without_it(command, photos, tmp_path):
    """With --on-bad-image skip; not where all files are missing, as with a wrong --root."""
    table = renamed(photos, tmp_path / "other")
    (table.parent / "p3.jpg").unlink()
    assert "lead to no file" in command("train", table, *TRAIN).error_lines[0]
    skip = ("--on-bad-image", "skip")
    assert command("train", table, *TRAIN, *skip).code == 0
    listed = (tmp_path / "outputs" / "run" / "bad_images.csv").read_text()
    assert "p3.jpg,china,the file is gone" in listed
    wrong = command("train", table, *TRAIN, *skip, "--root", tmp_path / "outputs")
    assert wrong.code == 2
    assert "see --root" in wrong.error_lines[0]


def test_the_preflight_of_very_many_pictures_is_bounded(command, photos, monkeypatch):
    """Whole stretches of neighbours, by the seed; the plan and preflight.json say how many."""
    monkeypatch.setattr(preflight, "_STRETCH", 4)
    table = open_source(str(photos))
    assert preflight.rows_to_check(table, 0).tolist() == list(range(48))
    monkeypatch.setattr(preflight, "_MOST_PICTURES", 12)
    rows = preflight.rows_to_check(table, 0)
    assert len(rows) == 12
    assert sorted(rows[::4] % 4) == [0, 0, 0]
    assert (rows == preflight.rows_to_check(table, 0)).all()
    assert (rows != preflight.rows_to_check(table, 1)).any()
    done = command("train", photos, *TRAIN)
    assert done.code == 0, done.err
    said = "12 of 48 pictures, drawn at random: all are whole, none has a copy among them"
    assert said in " ".join(done.err.split())
    run = photos.parent / "outputs" / "run"
    assert sum(bool(row["sha256"]) for row in rows_of(run)) == 12
    # what was not read then is read when it is needed
    assert evaluated(command, run, "--data", photos)["trained_on"]["train"] == 34
    monkeypatch.setattr(preflight, "_MOST_PICTURES", 48)
    size = sum(file.stat().st_size for file in photos.glob("*/*.jpg"))
    monkeypatch.setattr(preflight, "_MOST_BYTES", size / 2)
    assert len(preflight.rows_to_check(table, 0)) == 24


def test_a_file_that_is_older_than_its_hash_is_not_read_again(photos):
    """With an hour to spare; where nothing is known of a file, it is read."""
    table = open_source(str(photos))
    written = table.images.state(0).changed_s
    assert changed_since(table.images, 0, None)
    assert changed_since(table.images, 0, written - 1)
    assert changed_since(table.images, 0, written + 3500)
    assert not changed_since(table.images, 0, written + 3700)
    assert changed_since(open_source("digits").images, 0, written + 3700)
