"""`imgcls inspect`: what a user sees of a set with everything wrong, and the set it mends."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys

import pytest
from PIL import Image


def no_constants(name):
    raise AssertionError(f"{name} is not strict JSON")


def report_of(done):
    assert done.code == 0, done.err
    return json.loads(done.out, parse_constant=no_constants)


def kinds(report):
    return {finding["kind"]: finding for finding in report["findings"]}


def paths(finding):
    return [[picture["path"] for picture in pictures] for pictures in finding["sets"]]


@pytest.fixture
def split_photos(tmp_path, crops):
    """train/ val/ test/ of three classes, 10 + 4 + 4 different pictures of 96 pixels each."""
    root = tmp_path / "data"
    for name, pictures in crops.items():
        for split, rows in (("train", range(10)), ("val", range(10, 14)), ("test", range(14, 18))):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in rows:
                image = Image.fromarray(pictures[index]).resize((96, 96))
                image.save(folder / f"{index:02d}.jpg", quality=92)
    return root


def test_a_good_set_has_nothing_wrong(split_photos, command):
    """Exit 0, the facts, and the words for it."""
    report = report_of(command("inspect", split_photos, "--json"))
    assert report["findings"] == []
    assert report["pictures"] == 54
    assert report["class_counts"]["china"] == {"train": 10, "val": 4, "test": 4}
    assert (report["widths"], report["modes"]) == ([96, 96, 96], {"RGB": 54})
    screen = command("inspect", split_photos).out
    for words in ("54 pictures, 3 classes", "30 train, 12 val, 12 test", "Nothing wrong was found"):
        assert words in screen


def test_unreadable_pictures_are_named_with_their_reasons(split_photos, command):
    """Empty, truncated, no picture, not permitted, gone: the worst comes first."""
    train = split_photos / "train" / "china"
    whole = (train / "00.jpg").read_bytes()
    (train / "00.jpg").write_bytes(whole[: len(whole) // 2])
    (train / "01.jpg").write_bytes(b"")
    (train / "02.jpg").write_text("hello")
    (train / "03.jpg").unlink()
    (train / "03.jpg").symlink_to(train / "nowhere.jpg")
    report = report_of(command("inspect", split_photos, "--json"))
    finding = report["findings"][0]
    assert (finding["kind"], finding["harm"], finding["pictures"]) == ("unreadable", "high", 4)
    reasons = {p["path"]: p["note"] for [p] in finding["sets"]}
    assert "truncated" in reasons["train/china/00.jpg"]
    assert reasons["train/china/01.jpg"] == "the file is empty"
    assert reasons["train/china/02.jpg"] == "not a picture format imgcls reads, but text: 'hello'"
    assert reasons["train/china/03.jpg"] == "the file is gone"
    screen = command("inspect", split_photos).out
    assert "train/china/01.jpg (the file is empty)" in screen


def test_copies_are_told_apart_by_where_they_stand(split_photos, command):
    """In another split, under another label, within one split: by content, whatever the name."""
    shutil.copy(split_photos / "train/china/00.jpg", split_photos / "test/china/zz.jpg")
    shutil.copy(split_photos / "train/china/01.jpg", split_photos / "train/flower/zz.jpg")
    shutil.copy(split_photos / "val/violet/10.jpg", split_photos / "val/violet/zz.jpg")
    found = kinds(report_of(command("inspect", split_photos, "--json")))
    assert set(found) == {"leak", "label_conflict", "duplicates_in_split"}
    assert paths(found["leak"]) == [["test/china/zz.jpg", "train/china/00.jpg"]]
    assert [p["split"] for p in found["leak"]["sets"][0]] == ["test", "train"]
    assert paths(found["label_conflict"]) == [["train/china/01.jpg", "train/flower/zz.jpg"]]
    assert paths(found["duplicates_in_split"]) == [["val/violet/10.jpg", "val/violet/zz.jpg"]]


def test_near_copies_are_told_apart_by_where_they_stand(split_photos, command):
    """Re-encoded at quality 60, at half the size, as PNG."""
    first, second, third, fourth = (
        Image.open(split_photos / f"train/china/0{index}.jpg") for index in range(4)
    )
    first.save(split_photos / "test/china/zz.jpg", quality=60)
    second.resize((48, 48)).save(split_photos / "val/china/zz.png")
    third.save(split_photos / "train/flower/zz.jpg", quality=60)
    fourth.save(split_photos / "train/china/zz.png")
    found = kinds(report_of(command("inspect", split_photos, "--json")))
    assert set(found) == {"near_leak", "near_label_conflict", "near_duplicates_in_split"}
    assert paths(found["near_leak"]) == [
        ["test/china/zz.jpg", "train/china/00.jpg"],
        ["train/china/01.jpg", "val/china/zz.png"],
    ]
    assert paths(found["near_label_conflict"]) == [["train/china/02.jpg", "train/flower/zz.jpg"]]
    assert paths(found["near_duplicates_in_split"]) == [
        ["train/china/03.jpg", "train/china/zz.png"]
    ]


def test_a_copy_beside_a_near_copy_hides_no_leak(split_photos, command):
    """Where the test split has a file twice, once changed, both stand against the training one."""
    original = split_photos / "train/china/00.jpg"
    shutil.copy(original, split_photos / "test/china/same.jpg")
    Image.open(original).save(split_photos / "test/china/near.jpg", quality=60)
    found = kinds(report_of(command("inspect", split_photos, "--json")))
    assert paths(found["leak"]) == [["test/china/same.jpg", "train/china/00.jpg"]]
    assert paths(found["near_leak"]) == [["test/china/near.jpg", "train/china/00.jpg"]]


def test_doubtful_classes_and_pictures_are_named(split_photos, command):
    """Missing in a split, twins by case and spaces, few, constant, long, tiny."""
    shutil.rmtree(split_photos / "test" / "violet")
    (split_photos / "train" / "China ").mkdir()
    picture = Image.open(split_photos / "train/flower/00.jpg")
    picture.rotate(7).save(split_photos / "train" / "China " / "a.jpg")
    Image.new("RGB", (64, 64), (1, 2, 3)).save(split_photos / "train/flower/flat.png")
    picture.rotate(33).resize((200, 40)).save(split_photos / "train/flower/long.png")
    picture.rotate(61).resize((20, 20)).save(split_photos / "train/flower/tiny.png")
    report = report_of(command("inspect", split_photos, "--json"))
    found = kinds(report)
    assert set(found) == {
        "missing_class", "class_twins", "constant", "few_pictures", "imbalance", "aspect", "tiny",
    }  # fmt: skip
    titles = [finding["title"] for finding in report["findings"]]
    assert "the test split has no pictures of China , violet" in titles
    assert found["class_twins"]["class_names"] == ["China ", "china"]
    assert paths(found["constant"]) == [["train/flower/flat.png"]]
    assert found["aspect"]["sets"][0][0]["note"] == "200 x 40 pixels"
    assert found["tiny"]["sets"][0][0]["note"] == "20 x 20 pixels"
    assert found["few_pictures"]["class_names"] == ["China "]
    harms = [finding["harm"] for finding in report["findings"]]
    assert harms == sorted(harms, key=["high", "medium", "low"].index)


def test_copies_in_a_bare_folder_are_what_a_split_may_part(photos, command):
    """Without given splits a copy is a leak to come."""
    shutil.copy(photos / "china/000.jpg", photos / "china/zzz.jpg")
    found = kinds(report_of(command("inspect", photos, "--json")))
    assert found["duplicates"]["harm"] == "medium"
    assert "--fix-manifest" in found["duplicates"]["advice"]


def test_the_digits_are_read_like_any_data(command):
    """The embedded set has no file and no fault beyond its size."""
    report = report_of(command("inspect", "--json"))
    assert report["pictures"] == 1797
    assert set(kinds(report)) <= {"tiny", "near_duplicates", "near_label_conflict"}


def test_the_fixed_manifest_leaves_out_what_does_harm(split_photos, command, tmp_path):
    """Unreadable, under two labels, in a less held-out split; what is tied shares a group."""
    (split_photos / "train/china/00.jpg").write_bytes(b"")
    shutil.copy(split_photos / "train/china/01.jpg", split_photos / "train/flower/zz.jpg")
    shutil.copy(split_photos / "train/china/02.jpg", split_photos / "val/china/zz.jpg")
    shutil.copy(split_photos / "train/china/02.jpg", split_photos / "test/china/zz.jpg")
    near = Image.open(split_photos / "train/china/03.jpg")
    near.save(split_photos / "val/china/yy.jpg", quality=60)
    shutil.copy(split_photos / "train/china/04.jpg", split_photos / "train/china/zz.jpg")
    out = tmp_path / "fixed.csv"
    done = command("inspect", split_photos, "--fix-manifest", out)
    assert done.code == 0, done.err
    assert "Next          imgcls train" in done.out
    with out.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["path", "label", "split", "group"]
    kept = {row["path"].removeprefix("data/"): row for row in rows}
    gone = {
        "train/china/00.jpg", "train/china/01.jpg", "train/flower/zz.jpg", "train/china/02.jpg",
        "val/china/zz.jpg", "train/china/03.jpg",
    }  # fmt: skip
    files = {str(p.relative_to(split_photos)) for p in split_photos.rglob("*.jpg")}
    assert set(kept) == files - gone
    assert all((tmp_path / row["path"]).is_file() for row in rows)
    assert kept["train/china/04.jpg"]["group"] == kept["train/china/zz.jpg"]["group"]
    groups = [row["group"] for row in rows]
    assert len(set(groups)) == len(groups) - 1


def test_a_fixed_manifest_trains_and_has_nothing_harmful_left(split_photos, command, tmp_path):
    """What inspect mends, inspect finds no more and `imgcls train` takes as it is."""
    (split_photos / "train/china/00.jpg").write_bytes(b"")
    shutil.copy(split_photos / "train/china/01.jpg", split_photos / "train/flower/zz.jpg")
    shutil.copy(split_photos / "train/china/02.jpg", split_photos / "test/china/zz.jpg")
    near = Image.open(split_photos / "train/china/03.jpg")
    near.save(split_photos / "val/china/yy.jpg", quality=60)
    (tmp_path / "elsewhere").mkdir()
    out = tmp_path / "elsewhere" / "fixed.csv"
    assert command("inspect", split_photos, "--fix-manifest", out).code == 0
    report = report_of(command("inspect", out, "--json"))
    assert report["findings"] == []
    assert report["pictures"] == 52
    done = command(
        "train", out, "--model", "test_resnet", "--no-pretrained", "--img-size", "32", "--epochs",
        "1", "--device", "cpu", "--workers", "0",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "all 52 pictures are whole, none has a copy in another split" in done.err


def test_given_groups_and_folds_of_a_table_are_audited_and_mended(split_photos, command, tmp_path):
    """A patient in two folds and a copy in another: reported, then brought into one fold."""
    files = sorted((split_photos / "train").rglob("*.jpg"))
    twin = split_photos / "train/china/zz.jpg"
    shutil.copy(files[1], twin)
    rows = [
        {"path": p, "label": p.parent.name, "group": "", "fold": i % 3, "site": f"s{i % 2}"}
        for i, p in enumerate([*files, twin])
    ]
    rows[4]["group"] = rows[5]["group"] = "patient 7"
    rows[-1]["fold"] = 2
    table = tmp_path / "table.csv"
    with table.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    found = kinds(report_of(command("inspect", table, "--json")))
    assert set(found) == {"leak", "group_leak"}
    assert [p["group"] for p in found["group_leak"]["sets"][0]] == ["patient 7"] * 2
    done = command("inspect", table, "--fix-manifest", "fixed.csv")
    assert done.code == 0, done.err
    with (tmp_path / "fixed.csv").open(encoding="utf-8", newline="") as stream:
        fixed = {(tmp_path / row["path"]).resolve(): row for row in csv.DictReader(stream)}
    assert len(fixed) == len(rows)
    assert {row["site"] for row in fixed.values()} == {"s0", "s1"}
    for pair in ((files[4], files[5]), (files[1], twin)):
        one, other = (fixed[file.resolve()] for file in pair)
        assert (one["group"], one["fold"]) == (other["group"], other["fold"])
    left = kinds(report_of(command("inspect", "fixed.csv", "--json")))
    assert not {"leak", "group_leak"} & set(left)


@pytest.mark.parametrize(
    ("out", "words"),
    [("photos.txt", ".csv"), ("none/a.csv", "no folder"), ("taken.csv", "exists already")],
)
def test_a_manifest_that_cannot_be_written_is_refused_first(photos, command, tmp_path, out, words):
    """Before anything is read; nothing is overwritten."""
    (tmp_path / "taken.csv").write_text("mine")
    done = command("inspect", photos, "--fix-manifest", out)
    assert done.code == 2
    assert words in done.error_lines[0]
    assert (tmp_path / "taken.csv").read_text() == "mine"


def test_pictures_that_are_no_files_have_no_manifest(command):
    """The digits, for one."""
    done = command("inspect", "--fix-manifest", "a.csv")
    assert done.code == 2
    assert "not files of their own" in done.error_lines[0]


def test_names_may_hold_anything(tmp_path, crops, command):
    """Brackets that rich reads as markup, commas, quotes, unicode; on the screen and in the CSV."""
    root = tmp_path / "[red]data"
    for name in ("[bold]a, b", 'ö "q"'):
        (root / name).mkdir(parents=True)
        for index in range(12):
            Image.fromarray(crops["china" if "a" in name else "violet"][index]).save(
                root / name / f"[i]{index}.png"
            )
    (root / "[bold]a, b" / "[i]0.png").write_bytes(b"")
    done = command("inspect", root, "--fix-manifest", "out.csv")
    assert done.code == 0, done.err
    assert "[bold]a, b/[i]0.png (the file is empty)" in done.out
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["label"] for row in rows} == {"[bold]a, b", 'ö "q"'}
    assert all((tmp_path / row["path"]).is_file() for row in rows)


def test_the_page_shows_what_was_found(split_photos, command, tmp_path):
    """Thumbnails side by side, every name escaped, no request to anywhere."""
    shutil.copy(split_photos / "train/china/00.jpg", split_photos / "test/china/<b>zz.jpg")
    (split_photos / "train/china/01.jpg").write_bytes(b"")
    done = command("inspect", split_photos, "--html", "audit.html")
    assert done.code == 0, done.err
    assert "Page          audit.html" in done.out
    page = (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert page.count('<img src="data:image/jpeg;base64,') == 2
    assert "&lt;b&gt;zz.jpg" in page
    assert "<b>zz" not in page
    for words in (
        "Identical copy in another split or fold",
        "Unreadable or truncated",
        "file is empty",
    ):
        assert words in page
    assert not re.search(r"https?://", page)


def test_a_page_of_many_findings_stays_small(tmp_path, command):
    """So many thumbnails and no more; the rest by name."""
    root = tmp_path / "data"
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for index in range(60):
            Image.new("RGB", (40, 40), (index, 0, 9)).save(root / name / f"{index}.png")
    assert command("inspect", root, "--html", "audit.html").code == 0
    page = (tmp_path / "audit.html").read_text(encoding="utf-8")
    constant = (
        page[page.index("<h2>Of one colour</h2>") :].partition("<h2>")[2].partition("<h2>")[0]
    )
    assert constant.count("<img") == 48
    assert "120 sets" in constant
    assert "b/59.png" in constant


def test_inspecting_loads_no_torch(photos):
    """It starts at once, and its processes are small."""
    code = (
        "import sys\n"
        "from imgcls.config.inspect import InspectConfig\n"
        "from imgcls.jobs.inspect import inspect\n"
        f"inspect(InspectConfig(source={str(photos)!r}))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_set_of_one_class_is_a_finding(photos, command):
    """train refuses it; the audit may not call it good."""
    for name in ("flower", "violet"):
        shutil.rmtree(photos / name)
    found = kinds(report_of(command("inspect", photos, "--json")))
    assert found["one_class"]["harm"] == "high"
    assert "only one class, china" in command("inspect", photos).out


def test_classes_that_look_alike_are_told_apart(photos, command):
    """Never `china has 10 times the pictures of china`."""
    for name in ("flower", "violet"):
        shutil.rmtree(photos / name)
    (photos / "china\u200b").mkdir()
    (photos / "china" / "000.jpg").rename(photos / "china\u200b" / "000.jpg")
    found = kinds(report_of(command("inspect", photos, "--json")))
    title = found["imbalance"]["title"]
    assert title == r"'china' has 19 times the pictures of 'china\u200b'"
    assert r"'china\u200b'" in found["class_twins"]["title"]
