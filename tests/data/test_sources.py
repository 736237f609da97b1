"""What a user points at becomes one table, or one clear line."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from imgcls.config.reading import ReadingConfig
from imgcls.data import open as open_module
from imgcls.data.open import open_source
from imgcls.data.pixels.decode import UnreadableImageError
from imgcls.data.rows import Rows, sample_table
from imgcls.data.table import ImageStore
from imgcls.errors import DataError


def put(folder, *names, value=0):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(folder / name)


def test_digits_are_scikit_learns():
    """The embedded data set: 1,797 pictures, ten classes, pixel for pixel."""
    from sklearn.datasets import load_digits

    table = open_source("digits")
    assert (len(table), table.class_names) == (1797, tuple("0123456789"))
    data = load_digits()
    assert np.array_equal(table.labels, data.target)
    pixels = np.asarray(table.images.open(5))[:, :, 0]
    assert np.array_equal(pixels, np.round(data.images[5] * 255 / 16))


def test_class_folders_may_nest_and_hold_odd_names(tmp_path):
    """Any depth, any case of suffix, unicode and spaces; system files are passed over."""
    put(tmp_path / "bee", "a.JPG", "ä ö.png")
    put(tmp_path / "bee" / "2021" / "may", "c.jpeg")
    put(tmp_path / "wasp", "a.png", "._a.png.png", ".hidden.png")
    (tmp_path / "wasp" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "wasp" / "notes.txt").write_text("x")
    put(tmp_path / ".git", "x.png")
    table = open_source(str(tmp_path))
    assert table.keys == ("bee/2021/may/c.jpeg", "bee/a.JPG", "bee/ä ö.png", "wasp/a.png")
    assert table.class_names == ("bee", "wasp")
    assert table.splits is None


def test_symlink_loops_are_survived(tmp_path):
    """A folder that leads back to itself is read once."""
    put(tmp_path / "a", "1.png")
    put(tmp_path / "b", "1.png")
    (tmp_path / "a" / "again").symlink_to(tmp_path / "a", target_is_directory=True)
    assert open_source(str(tmp_path)).keys == ("a/1.png", "b/1.png")


@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_split_folders_are_recognised_by_their_usual_names(tmp_path, val):
    """train/ val/ test/, also valid and validation."""
    for split in ("train", val, "test"):
        for name in ("x", "y"):
            put(tmp_path / split / name, "1.png")
    table = open_source(str(tmp_path))
    assert table.class_names == ("x", "y")
    assert sorted(set(table.splits)) == ["test", "train", "val"]


def test_a_class_may_be_called_test(tmp_path):
    """A folder of pictures is a class, whatever its name."""
    put(tmp_path / "test", "1.png")
    put(tmp_path / "control", "1.png")
    assert open_source(str(tmp_path)).class_names == ("control", "test")


def test_a_split_without_a_class_shifts_no_label(tmp_path):
    """Classes are matched by name, never by position (ultralytics#13936, timm#957)."""
    for name in ("ant", "bee", "cat"):
        put(tmp_path / "train" / name, "1.png")
    put(tmp_path / "test" / "ant", "1.png")
    put(tmp_path / "test" / "cat", "1.png")
    table = open_source(str(tmp_path))
    labels = dict(zip(table.keys, table.labels, strict=True))
    assert table.class_names[labels["test/cat/1.png"]] == "cat"
    assert any("test split has no pictures of bee" in note for note in table.notes)


def test_relabelling_goes_by_name_and_refuses_the_unknown(tmp_path):
    """A model's order of classes is imposed on data; a missing class is fine."""
    put(tmp_path / "cat", "1.png")
    put(tmp_path / "ant", "1.png")
    table = open_source(str(tmp_path)).relabel(("dog", "cat", "ant"))
    assert dict(zip(table.keys, table.labels.tolist(), strict=True)) == {
        "ant/1.png": 2,
        "cat/1.png": 1,
    }
    with pytest.raises(DataError, match=r"class 'cat' \(did you mean 'Cat'\?\) with 1 pictures"):
        open_source(str(tmp_path)).relabel(("ant", "Cat"))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: None, "no pictures found"),
        (lambda p: put(p, "1.png"), "no class folders"),
        (lambda p: (p / "x.csv").write_text("path,label"), "has no pictures, but .csv files"),
        (
            lambda p: [put(p / s / c, "1.png") for s in ("train", "val", "valid") for c in "ab"],
            "all mean the val split",
        ),
    ],
)
def test_a_folder_that_is_no_data_set_says_why(tmp_path, make, words):
    """One line that names the folder and the trouble."""
    make(tmp_path)
    with pytest.raises(DataError, match=words) as caught:
        open_source(str(tmp_path))
    assert str(tmp_path) in str(caught.value)


def test_a_missing_path_suggests_its_neighbour(tmp_path):
    """A typo in the folder's name is likely."""
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match="did you mean photos"):
        open_source(str(tmp_path / "fotos"))
    file = tmp_path / "a.txt"
    file.write_text("x")
    with pytest.raises(
        DataError, match=r"is a file that is no table of pictures; tables are \.csv"
    ):
        open_source(str(file))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.zip", "unpack it"),
        ("a.tar.gz", "unpack it"),
        ("a.xlsx", "save it as .csv"),
        ("a.jpg", "is one picture; name the folder"),
        ("data.yaml", "name the folder with them"),
        ("best.pt", "is a model's file"),
    ],
)
def test_a_file_of_another_kind_is_told_what_to_do(tmp_path, name, words):
    """What people hand to other tools: archives, spreadsheets, descriptions of data."""
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=words):
        open_source(str(tmp_path / name))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("", "DATA is empty"),
        (" ", "DATA is empty"),
        ("https://example.org/a.zip", "is an archive.*download it first"),
        ("photos/*.jpg", "name the folder"),
    ],
)
def test_names_that_are_no_path_are_told_what_to_do(tmp_path, monkeypatch, spec, words):
    """An unset variable would otherwise be the current folder, with all that lies in it."""
    put(tmp_path / "a", "1.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=words):
        open_source(spec)


def test_a_run_is_no_data(tmp_path):
    """Its splits.csv would be found and advised, and heat maps in it are pictures."""
    run = tmp_path / "run"
    put(run / "fold_0" / "test_results", "1.png")
    (run / "config.yaml").write_text("")
    with pytest.raises(DataError, match=r"is a trained model's folder.*`imgcls evaluate"):
        open_source(str(run))


def test_doubtful_class_folders_are_noted(tmp_path):
    """An empty class folder, and names that differ only by case or spaces."""
    put(tmp_path / "bee", "1.png")
    put(tmp_path / "Bee ", "1.png")
    (tmp_path / "empty").mkdir()
    notes = " | ".join(open_source(str(tmp_path)).notes)
    assert "folder empty has no pictures" in notes
    assert "'Bee ' and 'bee' differ only by case or spaces" in notes


def test_what_a_folder_passes_over_is_told(tmp_path):
    """Files that are no pictures, pictures outside class folders, folders beside the splits."""
    for split in ("train", "test"):
        for name in ("x", "y"):
            put(tmp_path / split / name, "1.png")
    put(tmp_path / "extra" / "x", "1.png")
    put(tmp_path / "train", "loose.png")
    (tmp_path / "train" / "x" / "a.cr2").write_bytes(b"x")
    (tmp_path / "train" / "x" / "notes.txt").write_text("x")
    table = open_source(str(tmp_path))
    assert len(table) == 4
    notes = " | ".join(table.notes)
    assert "2 files are passed over as no pictures: 1 .cr2, 1 .txt" in notes
    assert "no split folder, and passed over: extra" in notes
    assert "1 pictures lie in no class folder and are passed over, such as train/loose.png" in notes


def test_names_of_every_kind_are_kept(tmp_path):
    """Newlines, tabs, quotes, emoji and other scripts come back from splits.csv as they were."""
    from imgcls.data.splits.assign import assign_splits, assignment_from_rows, split_rows
    from imgcls.storage.tables import SPLIT_COLUMNS, read_csv, write_csv

    names = ["new\nline.png", "tab\t.png", 'quo"te.png', "com,ma.png", "🐝.png", "מים.png", " .png"]
    for label in ("ω a", "b"):
        put(tmp_path / "data" / label, *names)
    table = open_source(str(tmp_path / "data"))
    assert {key.partition("/")[2] for key in table.keys} == set(names)
    assignment = assign_splits(table, val_size=0.2, test_size=0.2, folds=0, seed=0)
    write_csv(tmp_path / "splits.csv", SPLIT_COLUMNS, split_rows(table, assignment))
    again = assignment_from_rows(table, read_csv(tmp_path / "splits.csv"))
    assert (again.split == assignment.split).all()
    assert all(table.images.open(row).size == (8, 8) for row in range(len(table)))


def test_a_name_that_is_not_utf8_is_one_line(tmp_path):
    """As old archives leave them; no table could hold it."""
    put(tmp_path / "a", "1.png")
    put(tmp_path / "b", "1.png")
    (tmp_path / "b" / "1.png").rename(tmp_path / "b" / os.fsdecode(b"\xe4.png"))
    with pytest.raises(DataError, match=r"1 names that are not UTF-8.*b/\\udce4\.png"):
        open_source(str(tmp_path))


def test_composed_and_decomposed_class_names_are_one(tmp_path):
    """macOS writes e and its accent apart; the class is the same."""
    put(tmp_path / "train" / "b\u00e9", "1.png")
    put(tmp_path / "train" / "c", "1.png")
    put(tmp_path / "test" / "be\u0301", "1.png")
    put(tmp_path / "test" / "c", "1.png")
    assert open_source(str(tmp_path)).class_names == ("b\u00e9", "c")


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    """A mount that has gone, a folder of someone else."""
    put(tmp_path / "a", "1.png")
    put(tmp_path / "b", "1.png")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("b"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"/b: cannot be read \(Permission denied\)"):
        open_source(str(tmp_path))


def test_links_to_files_and_folders_are_followed_once(tmp_path):
    """Data sets are often forests of links; one that leads nowhere is a picture that is gone."""
    put(tmp_path / "store", "1.png", "2.png")
    (tmp_path / "data" / "a").mkdir(parents=True)
    (tmp_path / "data" / "b").symlink_to(tmp_path / "store", target_is_directory=True)
    (tmp_path / "data" / "a" / "x.png").symlink_to(tmp_path / "store" / "1.png")
    (tmp_path / "data" / "a" / "y.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "data" / "a" / "up").symlink_to(tmp_path / "data", target_is_directory=True)
    table = open_source(str(tmp_path / "data"))
    assert [key for key in table.keys if "up/" not in key] == [
        "a/x.png", "a/y.png", "b/1.png", "b/2.png",
    ]  # fmt: skip
    with pytest.raises(UnreadableImageError, match="the file is gone"):
        table.images.open(table.keys.index("a/y.png"))


def test_options_that_mean_nothing_for_a_source_are_refused(photos):
    """--label-col does not silently do nothing."""
    with pytest.raises(DataError, match=r"--label-col, --root says nothing"):
        open_source(str(photos), ReadingConfig(label_col="x", root="."))


def test_groups_may_come_from_the_names(photos):
    """--group-regex: the first (...) or all that it finds; a name without one is an error."""
    table = open_source(str(photos), ReadingConfig(group_regex=r"/(\d\d)"))
    assert table.groups[0] == "00"
    assert set(table.groups) == {"00", "01"}
    assert open_source(str(photos), ReadingConfig(group_regex=r"\w+/0")).groups[0] == "china/0"
    with pytest.raises(DataError, match=r"48 paths in which --group-regex 'zz' finds nothing"):
        open_source(str(photos), ReadingConfig(group_regex="zz"))


def test_the_fingerprint_follows_content_not_order(photos, tmp_path):
    """Same pictures and labels, same fingerprint; one more picture, another."""
    before = open_source(str(photos)).fingerprint()
    copy = tmp_path / "copy"
    shutil.copytree(photos, copy)
    assert open_source(str(copy)).fingerprint() == before
    put(copy / "china", "zzz.png")
    assert open_source(str(copy)).fingerprint() != before


class ArrayImages(ImageStore):
    """Pictures in a .npz file."""

    def __init__(self, pixels):
        self.pixels = pixels

    def content(self, index):
        height, width, _ = self.pixels[index].shape
        return b"P6 %d %d 255\n" % (width, height) + bytes(self.pixels[index])

    def location(self, index):
        return f"row {index}"


class ArraySource:
    """A .npz file with `pictures` and `labels`."""

    options = frozenset({"group_regex"})

    def matches(self, spec):
        return spec.endswith(".npz")

    def read(self, spec, reading):
        arrays = np.load(spec)
        keys = [f"{number:05d}" for number in range(len(arrays["labels"]))]
        rows = Rows(keys, arrays["labels"].tolist(), keys)
        pixels = arrays["pictures"]
        return sample_table(
            spec, "arrays", rows, lambda order, _keys: ArrayImages(pixels[order]), reading
        )


def test_a_new_source_is_one_file_and_one_registration(tmp_path, monkeypatch, crops):
    """All else comes with it: checks, groups, splits, decoding, training."""
    from conftest import tiny_config

    from imgcls.jobs.train.trainer import Trainer

    pictures = np.concatenate([crops["china"], crops["flower"]])
    np.savez(tmp_path / "x.npz", pictures=pictures, labels=["a"] * 40 + ["b"] * 40)
    monkeypatch.setattr(open_module, "SOURCES", (*open_module.SOURCES, ArraySource()))
    table = open_source(str(tmp_path / "x.npz"), ReadingConfig(group_regex=r"\d{4}"))
    assert table.class_names == ("a", "b")
    assert table.groups[19] == "0001"
    assert np.array_equal(np.asarray(table.images.open(50)), crops["flower"][10])
    runtime = {"output": str(tmp_path / "out")}
    config = tiny_config(tmp_path / "x.npz", runtime=runtime, optim={"epochs": 1})
    assert Trainer.begin(config).train_fold().epochs_run == 1
