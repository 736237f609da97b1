"""Tables of paths and labels, as spreadsheets, scripts and databases write them."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imgcls.config.reading import ReadingConfig
from imgcls.data.open import open_source
from imgcls.errors import DataError


@pytest.fixture
def images(tmp_path):
    """Nine pictures a/1.png ... a/9.png."""
    (tmp_path / "a").mkdir()
    for number in range(1, 10):
        Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(tmp_path / f"a/{number}.png")
    return tmp_path


def table_of(folder, text, name="m.csv", encoding="utf-8", **reading):
    (folder / name).write_bytes(text.encode(encoding))
    return open_source(str(folder / name), ReadingConfig(**reading))


def labels(table):
    return {k: table.class_names[c] for k, c in zip(table.keys, table.labels, strict=True)}


def test_paths_start_from_the_table_and_pictures_are_theirs(images):
    """Whatever the order of rows, a key opens its own picture."""
    table = table_of(images, "path,label\na/3.png,x\na/1.png,y\n")
    assert labels(table) == {"a/1.png": "y", "a/3.png": "x"}
    assert [table.images.open(row).getpixel((0, 0))[0] for row in (0, 1)] == [1, 3]
    assert table.name == "m"


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffpath,label\r\na/1.png,x\r\na/2.png,y\r\n",
        "path;label\na/1.png;x\na/2.png;y\n",
        "path , label\na/1.png,x\n\na/2.png,y\n\n",
        '"path","label"\n"a/1.png","x"\n"./a/../a/2.png","y"',
        "label,path,\nx,a/1.png,\ny,a\\2.png,\n",
        "\ufeffsep=;\r\npath;label\r\na/1.png;x\r\na/2.png;y\r\n",
        'path, label\na/1.png, "x"\na/2.png, y\n',
        "Path,LABEL\na/1.png,x\na/2.png,y\n",
        "path,label\n a/1.png,x\na/2.png ,y\n",
        "path,label\na/1.PNG,x\na/2.Png,y\n",
    ],
    ids=[
        "BOM and CRLF",
        "semicolons",
        "blanks",
        "quotes",
        "backslashes and a last comma",
        "Excel's sep",
        "a blank after each comma",
        "capitals",
        "blanks around paths",
        "suffixes in another case",
    ],
)
def test_csv_is_read_as_programs_write_it(images, text):
    """Excel's marks, a German Excel's semicolons, Windows paths."""
    assert labels(table_of(images, text)) == {"a/1.png": "x", "a/2.png": "y"}


def test_quoted_commas_and_newlines_belong_to_the_cell(images):
    """A label may be any text."""
    table = table_of(images, 'path,label\na/1.png,"a, ""b""\nc"\na/2.png,y\n')
    assert table.class_names == ('a, "b"\nc', "y")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.csv", "path,label\na/1.png,007\na/2.png,7\na/3.png,7.0\na/4.png,1e3\na/5.png,NA\n"),
        ("m.TSV", "path\tlabel\na/1.png\t007\na/2.png\t7\na/3.png\t7.0\na/4.png\t1e3\na/5.png\tNA"),
        (
            "m.jsonl",
            """
            {"path": "a/1.png", "label": "007"}
            {"path": "a/2.png", "label": 7}

            {"path": "a/3.png", "label": 7.0}
            {"label": 1e3, "path": "a/4.png"}
            {"path": "a/5.png", "label": "NA", "note": {"x": [1]}}""",
        ),
    ],
)
def test_labels_stay_the_texts_they_are(images, name, text):
    """007 is not 7, 7.0 neither, and NA is a class."""
    assert table_of(images, text, name).class_names == ("007", "1e3", "7", "7.0", "NA")


def test_other_columns_are_found_by_name_and_the_rest_is_kept(images):
    """--path-col and --label-col; site and camera stay columns."""
    text = "file,species,site,label\na/2.png,wasp,north,1\na/1.png,bee,south,0\n"
    table = table_of(images, text, path_col="file", label_col="species")
    assert labels(table) == {"a/1.png": "bee", "a/2.png": "wasp"}
    assert table.columns == {"site": ("south", "north"), "label": ("0", "1")}
    with pytest.raises(DataError, match=r"no column 'path'; its columns are file, species.*--path"):
        table_of(images, text)
    with pytest.raises(DataError, match=r"no column 'kind'.*--label-col"):
        table_of(images, text, path_col="file", label_col="kind")


def test_split_group_and_fold_have_their_usual_names(images):
    """Found without an option, and under other names by one."""
    text = "path,label,split,group,fold\na/1.png,x,Train,p1,0\na/2.png,y,VALID,,1.0\n"
    for changed, reading in (
        (text, {}),
        (text.replace("group", "patient"), {"group_col": "patient"}),
    ):
        table = table_of(images, changed, **reading)
        assert table.splits == ("train", "val")
        assert table.groups == ("p1", "")
        assert table.folds.tolist() == [0, 1]
        assert table.columns == {}


def test_paths_may_start_from_elsewhere(images, tmp_path_factory):
    """--root; an absolute path below it is the same picture, one beside it stays absolute."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    text = f"path,label\n1.png,x\n{images}/a/2.png,y\n{images}/a/../b.png,y\n"
    Image.new("L", (2, 2)).save(images / "b.png")
    table = table_of(elsewhere, text, root=images / "a")
    assert table.keys == (f"{images}/b.png", "1.png", "2.png")
    assert table.images.open(0).size == (2, 2)
    assert table.images.open(2).size == (4, 4)


def test_missing_files_are_listed_and_counted(images):
    """The first ten, the count, and where paths start from."""
    text = "path,label\n" + "".join(f"a/{n}.png,x\n" for n in range(1, 30))
    with pytest.raises(DataError) as caught:
        table_of(images, text)
    shown = ", ".join(f"a/{n}.png" for n in range(10, 20))
    assert str(caught.value) == (
        f"{images}/m.csv: 20 paths that lead to no file (they start from {images}; see --root): "
        f"{shown}, ..."
    )


def test_a_path_twice(images):
    """With two labels, groups or splits an error that says where; with the same, a note."""
    head = "path,label,split,site\na/1.png,x,train,n\na/2.png,y,train,n\n"
    table = table_of(images, head + "./a/1.png,x,train,other\n")
    assert len(table) == 2
    assert "1 rows repeat a path" in table.notes[0]
    with pytest.raises(DataError, match=r"label: a/1.png \('x' at line 2 and 'z' at line 4\)"):
        table_of(images, head + "a/1.png,z,train,n\n")
    with pytest.raises(DataError, match=r"1 paths with more than one split: a/1\.png"):
        table_of(images, head + "a/1.png,x,test,n\n")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("m.csv", "", "no column 'path'; it is empty"),
        ("m.csv", "path,label\n", "has no rows"),
        ("m.csv", "path,label\na/1.png,x\na/2.png\n", "line 3 has 1 cells, the header 2"),
        ("m.csv", "path,label\na/1.png,x,y\n", "line 2 has 3 cells, the header 2"),
        ("m.csv", 'path,label\na/1.png,"x\n', "line 2: unexpected end of data"),
        ("m.csv", "path,label,label\na/1.png,x,y\n", "two columns are called 'label'"),
        ("m.csv", "path,label\na/1.png,x\na/2.png,\n", "1 rows without a label: line 3"),
        ("m.csv", "path,label\na/1.png,x\n,y\n", "1 rows without a path: line 3"),
        ("m.csv", "path,label,split\na/1.png,x,odd\n", "not train, val or test: 'odd' at line 2"),
        ("m.csv", "path,label,fold\na/1.png,x,1.5\n", "not a whole number from 0: '1.5' at line 2"),
        ("m.csv", "path,label,fold\na/1.png,x,\n", "not a whole number from 0: '' at line 2"),
        ("m.jsonl", '{"path": "a/1.png", "label": "x"}\n{"path"', "line 2 is not JSON"),
        ("m.jsonl", "[1]", "line 1 is not a JSON object"),
        ("m.jsonl", '{"path": "a/1.png", "label": null}', "1 rows without a label: line 1"),
        ("m.jsonl", '{"path": "a/1.png"}', "no column 'label'; its columns are path"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_used_says_where(images, name, text, words):
    """One line with the file, the line and the trouble."""
    with pytest.raises(DataError) as caught:
        table_of(images, text, name)
    assert str(caught.value).startswith(str(images / name))
    assert words in str(caught.value)


def test_other_encodings_are_named(images):
    """UTF-16 says itself what it is, as Excel's Unicode text; Latin-1 is not guessed at."""
    text = "path,label\na/1.png,x\na/2.png,café\n"
    with pytest.raises(DataError, match=r"line 3 is not UTF-8 \(byte 0xe9\); save the table"):
        table_of(images, text, encoding="latin-1")
    assert table_of(images, text.replace(",", "\t"), encoding="utf-16").class_names == ("café", "x")
    (images / "m.csv").write_bytes(b"\xff\xfea")
    with pytest.raises(DataError, match="is not the UTF-16 that it begins as"):
        open_source(str(images / "m.csv"))


def test_two_ways_to_say_groups_are_refused():
    """--group-col and --group-regex."""
    with pytest.raises(ValueError, match="give one"):
        ReadingConfig(group_col="a", group_regex="b")
    with pytest.raises(ValueError, match="regular expression"):
        ReadingConfig(group_regex="(")


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8)
LABELS = TEXTS.filter(lambda text: text != "")


def as_csv(rows):
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ["path", "label", "group"])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(LABELS, TEXTS), min_size=9, max_size=9),
    st.permutations(range(9)),
    st.booleans(),
)
def test_what_was_written_is_read(tmp_path_factory, cells, order, as_json):
    """Any label and group come back as they were, whatever the order of rows."""
    import unicodedata

    folder = tmp_path_factory.getbasetemp() / "written"
    (folder / "a").mkdir(parents=True, exist_ok=True)
    for number in range(9):
        (folder / f"a/{number}.png").touch()
    rows = [
        {"path": f"a/{n}.png", "label": label, "group": group}
        for n, (label, group) in enumerate(cells)
    ]
    shuffled = [rows[n] for n in order]
    if as_json:
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in shuffled)
        table = table_of(folder, lines, "m.jsonl")
    else:
        table = table_of(folder, as_csv(shuffled))
    assert table.keys == tuple(row["path"] for row in rows)
    assert list(labels(table).values()) == [
        unicodedata.normalize("NFC", row["label"]) for row in rows
    ]
    assert table.groups == tuple(row["group"] for row in rows)


def test_a_column_that_pandas_made_float_in_part_is_one_set_of_numbers(images):
    """0 and 0.0 are one class, with a note; where a label is no number they stay texts."""
    rows = "path,label\na/1.png,0\na/2.png,0.0\na/3.png,1\na/4.png,1.00\n"
    table = table_of(images, rows)
    assert table.class_names == ("0", "1")
    assert table.labels.tolist() == [0, 0, 1, 1]
    assert any("0.0 as 0, 1.00 as 1" in note for note in table.notes)
    assert table_of(images, rows + "a/5.png,x\n").class_names == ("0", "0.0", "1", "1.00", "x")


def test_two_spellings_of_one_file_are_one_picture(images):
    """As where the system does not tell case: here by a second name of the same file."""
    (images / "A").mkdir(exist_ok=True)
    (images / "A/1.PNG").hardlink_to(images / "a/1.png")
    Image.new("RGB", (4, 4), "red").save(images / "A/2.png")
    table = table_of(images, "path,label\na/1.png,x\nA/1.PNG,x\na/2.png,x\nA/2.png,y\n")
    assert table.keys == ("A/2.png", "a/1.png", "a/2.png")
    assert "1 rows repeat a path" in table.notes[0]
    with pytest.raises(DataError, match=r"paths with more than one split: a/1\.png"):
        table_of(images, "path,label,split\na/1.png,x,train\nA/1.PNG,x,test\n")


def test_ids_without_a_suffix_are_the_pictures_of_that_name(images):
    """As in Kaggle's tables; two pictures of one id are refused."""
    table = table_of(images, "id,breed\n1,x\n2,y\n", path_col="id", label_col="breed",
                     root=images / "a")  # fmt: skip
    assert labels(table) == {"1.png": "x", "2.png": "y"}
    assert any("2 paths have no suffix" in note for note in table.notes)
    (images / "a" / "1.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"'a/1' has no suffix, and both a/1\.jpg and a/1\.png"):
        table_of(images, "path,label\na/1,x\n")


@pytest.mark.parametrize(
    "lines",
    ["file,X,Y\na/1.png,1,0\na/2.png,0,1\n", "file, X, Y\na/1.png, 1.0, 0.0\na/2.png, 0, 1\n",
     "file,X,Y,Z\na/1.png,True,False,False\na/2.png,false,true,false\n"],
)  # fmt: skip
def test_one_column_a_class_is_a_label(lines, images):
    """ISIC's and Roboflow's tables; in no row may two be 1, or none."""
    table = table_of(images, lines, path_col="file")
    assert labels(table) == {"a/1.png": "X", "a/2.png": "Y"}
    assert table.columns == {}
    assert any("the classes are columns" in note for note in table.notes)
    for cells in ("1,1", "0,0"):
        with pytest.raises(DataError, match=r"1 rows that do not have exactly one 1 .* X, Y"):
            table_of(images, f"path,X,Y\na/1.png,1,0\na/2.png,{cells}\n")


PLACES = {
    "another machine": "/home/ann/birds/a/{}.png",
    "another Windows": r"C:\Users\ann\birds\a\{}.png",
    "a file's address": "file:///home/ann/birds/a/{}.png",
    "a bucket": "s3://birds/2021/a/{}.png",
    "Label Studio's upload": "/data/upload/7/0a1b2c3d-{}.png",
    "Label Studio's address": "http://localhost:8080/data/upload/7/0a1b2c3d-{}.png",
    "Label Studio's local files": "/data/local-files/?d=a/{}.png",
}


@pytest.mark.parametrize("place", PLACES)
def test_paths_of_other_machines_and_tools_lead_to_the_pictures_here(place, images):
    """By their ends, all cut behind the same folder; with a note, as it is a reading."""
    rows = "".join(f"{PLACES[place].format(n)},{'xy'[n % 2]}\n" for n in range(1, 10))
    root = images / "a" if "upload" in PLACES[place] else images
    table = table_of(images, "path,label\n" + rows, root=root)
    assert [key.rpartition("/")[2] for key in table.keys] == [f"{n}.png" for n in range(1, 10)]
    assert [table.images.open(row).getpixel((0, 0))[0] for row in range(9)] == list(range(1, 10))
    assert "local-files" in PLACES[place] or any("another machine's" in n for n in table.notes)


def test_ends_of_paths_are_not_matched_one_by_one(images):
    """b/1.png is not a/1.png, though a file of that name lies elsewhere."""
    (images / "1.png").write_bytes((images / "a" / "9.png").read_bytes())
    rows = "".join(f"/x/a/{n}.png,x\n" for n in range(2, 6)) + "/x/b/1.png,y\n"
    with pytest.raises(DataError, match=r"1 paths that lead to no .*they are absolute.*/x/b/1"):
        table_of(images, "path,label\n" + rows)


def test_where_absolute_paths_start_is_not_claimed_to_be_the_root(images):
    """They do not start from the table's folder; the error says what they are."""
    with pytest.raises(DataError, match="they are absolute, as on another machine") as caught:
        table_of(images, "path,label\n/x/q.png,x\n/x/r.png,y\n")
    assert "start from" not in str(caught.value)


def test_a_public_test_beside_a_private_one_is_for_validation(images):
    """FER2013's Usage: Training, PublicTest, PrivateTest; and it is said."""
    rows = "path,label,Usage\na/1.png,x,Training\na/2.png,y,PublicTest\na/3.png,x,PrivateTest\n"
    table = table_of(images, rows, split_col="Usage")
    assert table.splits == ("train", "val", "test")
    assert "read as splits: PrivateTest is test, PublicTest is val" in table.notes
    alone = table_of(images, rows.replace("Private", "Public"), split_col="Usage")
    assert alone.splits == ("train", "test", "test")


def test_a_split_under_another_name_is_not_lost_in_silence(images):
    """`Split` is `split`; of `phase` and `Usage` a note says how to read them."""
    rows = "path,label,{}\na/1.png,x,train\na/2.png,y,test\n"
    assert table_of(images, rows.format("Split")).splits == ("train", "test")
    table = table_of(images, rows.format("data set"))
    assert table.splits is None
    assert (
        "column 'data set' says test, train and is not read; --split-col 'data set' takes it for "
        "the splits" in table.notes
    )
    fastai = table_of(images, "path,label,is_valid\na/1.png,x,True\na/2.png,y,False\n")
    assert any(note.startswith("column 'is_valid' may tell the splits") for note in fastai.notes)
    for silent in ("north,south", "train,train", "train,"):
        one, other = silent.split(",")
        text = f"path,label,site\na/1.png,x,{one}\na/2.png,y,{other}\n"
        assert table_of(images, text).notes == ()


def test_what_is_no_split_is_told_once_a_word(images):
    """Not ten times the same."""
    rows = "path,label,split\n" + "".join(f"a/{n}.png,x,{n % 2}\n" for n in range(1, 10))
    with pytest.raises(DataError) as caught:
        table_of(images, rows)
    assert str(caught.value).endswith(
        "2 words of column 'split' that are not train, val or test: '0' at line 3, '1' at line 2"
    )


def test_words_of_a_split_column_may_not_be_two_splits_in_one(images):
    """Which of two tests is meant, only its user knows."""
    rows = "path,label,Usage\na/1.png,x,Training\na/2.png,y,EasyTest\na/3.png,x,HardTest\n"
    with pytest.raises(DataError, match="'EasyTest', 'HardTest' in column 'Usage' all mean test"):
        table_of(images, rows, split_col="Usage")
    table = table_of(images, rows.replace("EasyTest", "dev"), split_col="Usage")
    assert table.splits == ("train", "val", "test")


def test_folds_with_a_decimal_comma_are_folds(images):
    """A German spreadsheet's 1,0."""
    table = table_of(images, "path;label;fold\na/1.png;x;1,0\na/2.png;y;0,0\n")
    assert table.folds.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a/1.png,x\na/2.png,y\n", "its first line names no columns but a picture, a/1.png"),
        ("TRAIN,gs://b/a/1.png,x\nTEST,gs://b/a/2.png,y\n", "such as path,label or split,path"),
        ("filename,class\na/1.png,x\n", "name one by --path-col, and the one of the labels by"),
        ("filename,label\na/1.png,x\n", "name one by --path-col$"),
        ("filename,X,Y\na/1.png,1,0\n", "name one by --path-col$"),
    ],
)
def test_a_table_without_the_usual_titles_says_all_that_is_to_do(images, text, words):
    """Google's lines without titles, Keras' filename and class."""
    with pytest.raises(DataError, match=words):
        table_of(images, text)


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (("1.png", "2.png"), r"; in {0}/a all are there: add --root {0}/a\)"),
        (("set/a/1.png", "set/a/2.png"), r"; in {1} all are there: add --root {1}\)"),
        (("1.png", "b.png"), r"; see --root; there is a/1\.png\)"),
        (("a/1.jpg", "a/2.jpg"), r"; see --root; with another suffix there is a/1\.png\)"),
    ],
)
def test_paths_that_lead_nowhere_are_looked_for_nearby(tmp_path, paths, words):
    """In the folders above and below, and by the name alone."""
    (tmp_path / "set" / "a").mkdir(parents=True)
    for number in (1, 2):
        Image.new("L", (4, 4)).save(tmp_path / f"set/a/{number}.png")
    text = "path,label\n" + "".join(f"{path},x\n" for path in paths)
    with pytest.raises(DataError, match=words.format(tmp_path / "set", tmp_path)):
        table_of(tmp_path / "set", text)


@pytest.mark.parametrize("separator", ["\t", "|", ";"])
def test_a_csv_may_be_separated_otherwise(separator, images):
    """What the header has none of separates nothing."""
    text = "path,label\na/1.png,x\na/2.png,y\n".replace(",", separator)
    assert labels(table_of(images, text)) == {"a/1.png": "x", "a/2.png": "y"}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("path,label\na\0.png,x\n", "NUL character"),
        ("path,label,fold\na.png,x," + "9" * 5000 + "\n", "not a whole number from 0"),
    ],
)
def test_a_cell_that_no_name_and_no_number_can_be_is_shown_in_short(tmp_path, rows, words):
    """What is wrong, and where it stands."""
    for name in ("a.png", "b.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    (tmp_path / "t.csv").write_text(rows + "b.png,y" + ",1" * rows.count("fold") + "\n")
    with pytest.raises(DataError, match=words) as caught:
        open_source(str(tmp_path / "t.csv"), keep_missing=True)
    assert len(str(caught.value)) < 500
