"""What the folders of a data set mean: read rightly, or asked with both readings; never guessed."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from imgcls.config.reading import ReadingConfig
from imgcls.data.open import open_source
from imgcls.data.splits.words import split_of
from imgcls.errors import DataError

PICTURE = Image.fromarray(np.zeros((8, 8, 3), np.uint8))


def plant(root, *paths):
    """Files at these paths, {a,b} expanded, pictures by their suffix."""
    for path in paths:
        head, brace, rest = path.partition("{")
        if brace:
            words, _, tail = rest.partition("}")
            plant(root, *(f"{head}{word}{tail}" for word in words.split(",")))
            continue
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix.lower() in (".png", ".jpg", ".jpeg"):
            PICTURE.save(file)
        else:
            file.write_text("x")


def read(root, **reading):
    """{split: classes in it} and the notes."""
    table = open_source(str(root), ReadingConfig(**reading))
    found: dict[str, set[str]] = {}
    for row in range(len(table)):
        split = "" if table.splits is None else table.splits[row]
        found.setdefault(split, set()).add(table.class_names[table.labels[row]])
    return {split: ",".join(sorted(names)) for split, names in found.items()}, table


SPLIT = {
    "Training and Testing": ["{Training,Testing}/{ant,bee}/1.png"],
    "the split's name twice": ["{seg_train/seg_train,seg_test/seg_test}/{ant,bee}/1.png"],
    "sets": ["{training_set,test_set}/{ant,bee}/1.png"],
    "sets in one": ["{training_set/training_set,test_set/test_set}/{ant,bee}/1.png"],
    "glued words": ["{TrainSet,testdata}/{ant,bee}/1.png"],
    "years": ["{train2017,test2017}/{ant,bee}/1.png"],
    "numbers before": ["{1_train,2-test}/{ant,bee}/1.png"],
    "the set's name before": ["{flowers.train,flowers.test}/{ant,bee}/1.png"],
    "a wrapper": ["archive/{train,test}/{ant,bee}/1.png"],
    "wrappers": ["archive/insects v2/{train,test}/{ant,bee}/1.png"],
    "a wrapper and files": ["archive/{train,test}/{ant,bee}/1.png", "readme.txt"],
    "a copy of itself": ["{insects/train,train,test}/{ant,bee}/1.png", "__MACOSX/x/._1.png"],
    "pictures in images": ["{train,test}/images/{ant,bee}/1.png"],
    "images in a class": ["{train,test}/{ant,bee}/images/1.png"],
    "images, then splits": ["images/{train,test}/{ant,bee}/1.png", "labels/train/1.txt"],
    "splits in the classes": ["{ant,bee}/{Train,Test}/1.png"],
    "annotations beside": ["{train,test}/{ant,bee}/1.png", "annotations/a.xml"],
    "one class has no test picture": ["{train/ant,train/bee,test/ant}/1.png", "test/bee/x.txt"],
}


@pytest.mark.parametrize("case", SPLIT)
def test_splits_are_known_by_their_usual_words_and_shape(case, tmp_path):
    """As Kaggle, Roboflow and others pack them."""
    plant(tmp_path, *SPLIT[case])
    found, _ = read(tmp_path)
    assert found == {"train": "ant,bee", "test": "ant" if "no test" in case else "ant,bee"}


def test_evaluation_is_the_test_split_and_it_is_said(tmp_path):
    """Food-11: training, validation, evaluation."""
    plant(tmp_path, "{training,validation,Evaluation_set}/{ant,bee}/1.png")
    found, table = read(tmp_path)
    assert sorted(found) == ["test", "train", "val"]
    assert "read as splits: Evaluation_set is test" in table.notes


@pytest.mark.parametrize("place", ["{split}/{name}/1.png", "{name}/{split}/1.png"])
def test_a_public_test_beside_a_private_one_is_for_validation(place, tmp_path):
    """FER2013, as folders; a public test alone is the test split."""
    for split in ("Training", "PublicTest", "PrivateTest"):
        for name in ("ant", "bee"):
            plant(tmp_path, place.format(split=split, name=name))
    assert sorted(read(tmp_path)[0]) == ["test", "train", "val"]
    for folder in list(tmp_path.rglob("PrivateTest")):
        shutil.rmtree(folder)
    assert sorted(read(tmp_path)[0]) == ["test", "train"]


CLASSES = {
    "plain": (["{ant,bee}/1.png"], "ant,bee"),
    "nested": (["ant/{2020,2021}/1.png", "bee/2020/1.png"], "ant,bee"),
    "four with the same folders": (["{ant,bee,cat,dog}/{day,night}/1.png"], "ant,bee,cat,dog"),
    "a class called test": (["{test,control}/1.png"], "control,test"),
    "a class called train": (["{bicycle,bus,train}/1.png"], "bicycle,bus,train"),
    "two words": (["{train_val,other}/1.png"], "other,train_val"),
    "a word in another word": (["{trainer,contest,devil}/1.png"], "contest,devil,trainer"),
    "a wrapper": (["insects/{ant,bee}/1.png", "insects/readme.txt"], "ant,bee"),
    "images of CUB": (["images/{ant,bee}/1.png", "parts/x.txt"], "ant,bee"),
}


@pytest.mark.parametrize("case", CLASSES)
def test_classes_stay_classes(case, tmp_path):
    """Whatever they are called, where nothing speaks for splits."""
    plant(tmp_path, *CLASSES[case][0])
    assert read(tmp_path)[0] == {"": CLASSES[case][1]}


DOUBT = {
    "flat": (["{train,test}/1.png"], "test/, train/ have pictures but no class folders"),
    "flat, one": (["train/1.png"], "train/ have pictures but no class folders"),
    "flat, twice the name": (["{train/train,test/test}/1.png"], "no class folders in them"),
    "flat, with a third": (["{train,test,sample}/1.png"], "no class folders in them"),
    "detection": (["{train,test}/images/1.png", "{train,test}/labels/1.txt"], "no class folders"),
    "a class called train with folders": (
        ["{bicycle,bus,train}/{day,night}/1.png"],
        "train may be a class beside bicycle, bus, or the train split with the classes day, night",
    ),
    "splits by other words": (
        ["{Entrenamiento,Prueba}/{ant,bee}/1.png"],
        "Entrenamiento, Prueba have the same folders in them, ant, bee",
    ),
    "folds": (
        ["fold_{1,2,3,4,5}/{ant,bee}/1.png"],
        "fold_1, fold_2, fold_3, fold_4, fold_5 have the same folders in them, ant, bee",
    ),
    "domains with images": (
        ["{amazon,webcam}/images/{mug,pen}/1.png"],
        "amazon, webcam have the same folders in them, mug, pen",
    ),
    "splits between two readings": (
        ["{color,grey}/{train,test}/{ant,bee}/1.png"],
        "color, grey have splits in them, and these the folders ant, bee",
    ),
    "one heap": (["images/1.png", "annotations/a/1.png"], "has pictures but no class folders"),
    "twice": (["{test,evaluation,train}/{ant,bee}/1.png"], "evaluation, test all mean the test"),
    "strangers": (
        ["train/{ant,bee}/1.png", "test/unknown/1.png"],
        "test/ has the folders unknown, none of which is a class of the train split (ant, bee)",
    ),
}  # fmt: skip


def test_folders_in_a_class_are_told_to_be_parts_of_it(tmp_path):
    """So that cat and dog do not become animal in silence."""
    plant(tmp_path, "animal/{cat,dog}/1.png", "plant/{rose,tulip}/1.png")
    found, table = read(tmp_path)
    assert found == {"": "animal,plant"}
    assert table.notes == ("folders in the classes are parts of them, such as animal/cat",)


@pytest.mark.parametrize("case", DOUBT)
def test_in_doubt_nothing_is_guessed(case, tmp_path):
    """One line with what is there and what to do."""
    plant(tmp_path, *DOUBT[case][0])
    with pytest.raises(DataError) as caught:
        open_source(str(tmp_path))
    assert DOUBT[case][1] in str(caught.value)


def test_a_table_beside_pictures_without_class_folders_is_named(tmp_path, monkeypatch):
    """Which columns of it are meant, its user says."""
    plant(tmp_path, "flat/1.png", "flat/birds.csv", "s/{train,test}/{1.png,mine.csv}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"a table \(there is flat/birds.csv: name it as DATA\)"):
        open_source("flat")
    with pytest.raises(DataError, match=r"\(there is s/test/mine.csv, s/train/mine.csv: name one"):
        open_source("s")


TOLD = {
    "metadata.csv": "file_name,label\n1.png,ant\n2.png,bee\n",
    "metadata.jsonl": (
        '{"file_name": "1.png", "label": "ant"}\n{"file_name": "2.png", "label": "bee"}'
    ),
    "_classes.csv": "filename, ant, bee\n1.png, 1, 0\n2.png, 0, 1\n",
}


@pytest.mark.parametrize("name", TOLD)
def test_classes_may_be_told_by_the_usual_table_in_each_folder(name, tmp_path):
    """Hugging Face's metadata and Roboflow's _classes.csv, in each split or in the only folder."""
    plant(tmp_path, "{sets/train,sets/valid,sets/test,flat}/{1,2}.png")
    for folder in tmp_path.glob("*/*/"):
        (folder / name).write_text(TOLD[name])
    found, table = read(tmp_path / "sets")
    assert found == {"train": "ant,bee", "val": "ant,bee", "test": "ant,bee"}
    assert table.class_names[table.labels[table.keys.index("valid/2.png")]] == "bee"
    (tmp_path / "flat" / name).write_text(TOLD[name])
    assert read(tmp_path / "flat")[0] == {"": "ant,bee"}
    plant(tmp_path, "sets/test/3.png")
    with pytest.raises(DataError, match=rf"{name}: does not name 1 pictures, such as .*3\.png"):
        open_source(str(tmp_path / "sets"))
    for lost in (1, 3):
        (tmp_path / f"sets/test/{lost}.png").unlink()
    with pytest.raises(DataError, match=rf"{name}: names 1 pictures that are not there.*1\.png"):
        open_source(str(tmp_path / "sets"))


def test_a_table_of_something_else_gives_no_classes(tmp_path):
    """Roboflow writes _classes.csv for masks too, and captions have a metadata.csv."""
    plant(tmp_path, "masks/{train,test}/1.png", "captions/1.png")
    for split in ("train", "test"):
        (tmp_path / "masks" / split / "_classes.csv").write_text("Pixel Value, Class\n0, road\n")
    (tmp_path / "captions" / "metadata.csv").write_text("file_name,text\n1.png,an ant\n")
    for folder in ("masks", "captions"):
        with pytest.raises(DataError, match=r"no class folders.*\(there is .*csv"):
            open_source(str(tmp_path / folder))


def test_the_option_chooses_between_the_readings(tmp_path):
    """--layout classes takes the folders as they are; --layout splits takes those so named."""
    plant(tmp_path, "{bicycle,bus,train}/{day,night}/1.png")
    assert read(tmp_path, layout="classes")[0] == {"": "bicycle,bus,train"}
    found, table = read(tmp_path, layout="splits")
    assert found == {"train": "day,night"}
    assert "no split folder, and passed over: bicycle, bus" in table.notes
    assert table.origin["layout"] == "splits"
    plant(tmp_path / "flat", "{train,test}/1.png")
    assert read(tmp_path / "flat", layout="classes")[0] == {"": "test,train"}
    plant(tmp_path / "named", "{north,south}/{ant,bee}/1.png")
    with pytest.raises(DataError, match="--layout splits wants folders whose names have train"):
        open_source(str(tmp_path / "named"), ReadingConfig(layout="splits"))


def test_an_unlabelled_test_folder_is_told_and_left_out(tmp_path):
    """Kaggle's test pictures have no classes."""
    plant(tmp_path, "train/{ant,bee}/1.png", "test/{1,2,3}.png")
    found, table = read(tmp_path)
    assert found == {"train": "ant,bee"}
    assert any("its 3 pictures show: they are passed over" in note for note in table.notes)


def test_tiny_imagenets_validation_pictures_have_their_classes(tmp_path):
    """val/images with val_annotations.txt; a picture that it does not name is an error."""
    plant(tmp_path, "train/{n01,n02}/images/1.JPEG", "train/n01/n01_boxes.txt")
    plant(tmp_path, "val/images/{val_0,val_1}.JPEG", "test/images/t.JPEG")
    table = tmp_path / "val" / "val_annotations.txt"
    table.write_text("val_0.JPEG\tn02\t0\t0\t8\t8\nval_1.JPEG\tn01\t0\t0\t8\t8\n")
    found, opened = read(tmp_path)
    assert found == {"train": "n01,n02", "val": "n01,n02"}
    labels = dict(zip(opened.keys, opened.labels, strict=True))
    assert opened.class_names[labels["val/images/val_0.JPEG"]] == "n02"
    assert any(note.startswith("test/ has no class folders") for note in opened.notes)
    table.write_text("val_0.JPEG\tn02\t0\t0\t8\t8\n")
    with pytest.raises(DataError, match=r"does not name 1 pictures, such as .*val_1"):
        open_source(str(tmp_path))


@pytest.mark.parametrize(
    "folder",
    ["@eaDir/1.png", "#recycle", "$RECYCLE.BIN/S-1-5", "__MACOSX", ".ipynb_checkpoints",
     ".Trash-1000/files", "lost+found", "System Volume Information", "FOUND.000", "@Recycle"],
)  # fmt: skip
def test_what_systems_leave_is_no_class_and_is_counted(folder, tmp_path):
    """At the top and inside a class."""
    plant(tmp_path, "{ant,bee}/1.png", f"{folder}/old.png", f"ant/{folder}/old.png")
    plant(tmp_path, "ant/._1.png", "bee/.DS_Store", "Thumbs.db")
    found, table = read(tmp_path)
    assert (found, len(table)) == ({"": "ant,bee"}, 2)
    [note] = table.notes
    assert note.startswith("5 files are passed over as what systems leave beside pictures")
    assert f"2 {folder.partition('/')[0]}" in note
    assert "1 Thumbs.db" in note


def test_masks_are_not_pictures_of_a_class(tmp_path):
    """COVID-QU's images/ and masks/, and BUSI's a_mask.png beside a.png."""
    plant(tmp_path, "{ant,bee}/{images,masks}/1.png", "ant/{a,a_mask,a_mask_1,face_mask}.png")
    _, table = read(tmp_path)
    assert table.keys == ("ant/a.png", "ant/face_mask.png", "ant/images/1.png", "bee/images/1.png")
    assert any("4 files are passed over as masks" in note for note in table.notes)
    plant(tmp_path / "faces", "{masks,nomasks}/1.png")
    assert read(tmp_path / "faces")[0] == {"": "masks,nomasks"}


def test_files_without_a_suffix_are_named_by_their_content(tmp_path):
    """No pictures found says what is there instead."""
    plant(tmp_path, "{ant,bee}/1.png")
    for file in tmp_path.rglob("*.png"):
        file.rename(file.with_suffix(""))
    with pytest.raises(DataError, match="2 files have no suffix and are PNG by their content"):
        open_source(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("1.nef", b"II*\0" + b"\0" * 50, "camera raw files, which imgcls does not read; develop"),
        ("1.svs", b"II*\0" + b"\0" * 50, "whole slides, which imgcls does not read; cut them"),
        ("1.psd", b"8BPS\0\1", "Photoshop by their content, which imgcls does not read; convert"),
        ("1.zip", b"PK\3\4", "ZIP by their content, which imgcls does not read; unpack them"),
        (".1.jpg.icloud", b"bplist00", "only what systems leave: .*icloud"),
    ],
)
def test_files_that_no_suffix_makes_readable_are_not_to_be_renamed(name, content, words, tmp_path):
    """What they are, and what helps instead."""
    for folder in ("ant", "bee"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        open_source(str(tmp_path))
    assert "give them the suffix" not in str(caught.value)


def test_notes_stay_short_whatever_is_in_them(tmp_path):
    """A thousand absent classes are ten and a count, and a long name is cut."""
    long = "species_" * 25
    plant(tmp_path, *(f"train/{long}{n}/1.png" for n in range(300)), f"val/{long}0/1.png")
    plant(tmp_path, *(f"val/{long}{n}/x.txt" for n in range(1, 300)))
    table = open_source(str(tmp_path))
    assert len(table.notes) == 3
    assert max(map(len, table.notes)) < 1000


@pytest.mark.parametrize(
    ("name", "split"),
    [("train", "train"), ("VALIDATION", "val"), ("dev", "val"), ("eval", "test"),
     ("PrivateTest", "test"), ("test-images", "test"), ("trains", None), ("train_test", None),
     ("valley", None), ("тест", None), ("", None)],
)  # fmt: skip
def test_a_splits_word_stands_apart(name, split):
    """`contest` is no test, and a name with two splits is none."""
    assert split_of(name) == split
