"""What a user points at becomes one table, or one clear line."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from imgcls.data.open import open_source
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


def test_a_split_with_an_extra_class_is_refused_by_name(tmp_path):
    """There is nothing to learn it from."""
    for name in ("ant", "bee"):
        put(tmp_path / "train" / name, "1.png")
    put(tmp_path / "val" / "aardvark", "1.png")
    with pytest.raises(DataError, match=r"val/ has class 'aardvark', which train/ has not"):
        open_source(str(tmp_path))


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
        (lambda p: put(p / "one", "1.png"), "only one class, 'one'"),
        (lambda p: (put(p / "a", "1.png"), (p / "b").mkdir()), "only one class"),
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
    with pytest.raises(DataError, match="is a file"):
        open_source(str(file))


def test_doubtful_class_folders_are_noted(tmp_path):
    """An empty class folder, and names that differ only by case or spaces."""
    put(tmp_path / "bee", "1.png")
    put(tmp_path / "Bee ", "1.png")
    (tmp_path / "empty").mkdir()
    notes = " | ".join(open_source(str(tmp_path)).notes)
    assert "folder empty has no pictures" in notes
    assert "'Bee ' and 'bee' differ only by case or spaces" in notes


def test_the_fingerprint_follows_content_not_order(photos, tmp_path):
    """Same pictures and labels, same fingerprint; one more picture, another."""
    before = open_source(str(photos)).fingerprint()
    copy = tmp_path / "copy"
    shutil.copytree(photos, copy)
    assert open_source(str(copy)).fingerprint() == before
    put(copy / "china", "zzz.png")
    assert open_source(str(copy)).fingerprint() != before
