"""Parquet files with pictures inside, and tar shards."""

from __future__ import annotations

import io
import json
import pickle
import sys
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from imgcls.config.reading import ReadingConfig
from imgcls.data.open import open_source
from imgcls.data.pixels.decode import UnreadableImageError
from imgcls.data.sources import parquet, parquet_images
from imgcls.data.sources.files import expand_braces
from imgcls.data.sources.tar_index import base_and_suffix
from imgcls.errors import DataError

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def png(value):
    stream = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def write_parquet(file, values, labels, *, names=None, group_size=3, **columns):
    """As the `datasets` library writes it."""
    pictures = [{"bytes": png(value), "path": f"p{value}.png"} for value in values]
    table = pa.table({"image": pa.array(pictures, STRUCT), "label": pa.array(labels), **columns})
    if names is not None:
        feature = {"names": names, "_type": "ClassLabel"}
        document = {"info": {"features": {"image": {"_type": "Image"}, "label": feature}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(document)})
    pq.write_table(table, file, row_group_size=group_size)


def values_of(table):
    return [table.images.open(row).getpixel((0, 0))[0] for row in range(len(table))]


def test_hugging_face_parquet_gives_its_pictures_and_names(tmp_path):
    """Shards by a glob; class names from the metadata in their order; splits from the names."""
    for split, values in (("train", (0, 1, 2, 3, 4)), ("validation", (5, 6)), ("test", (7, 8))):
        file = tmp_path / f"{split}-00000-of-00001.parquet"
        write_parquet(file, values, [v % 2 for v in values], names=["zebra", "ant", "unused"])
    table = open_source(str(tmp_path / "*.parquet"))
    assert table.class_names == ("zebra", "ant")
    assert table.splits == ("test",) * 2 + ("train",) * 5 + ("val",) * 2
    assert values_of(table) == [7, 8, 0, 1, 2, 3, 4, 5, 6]
    assert table.labels.tolist() == [v % 2 for v in values_of(table)]
    assert table.keys[0] == "test-00000-of-00001.parquet/000000-p7.png"
    assert table.images.location(0).startswith(str(tmp_path))
    again = pickle.loads(pickle.dumps(table.images))
    assert again.content(4) == png(2)


def test_plain_binary_columns_and_text_labels_will_do(tmp_path):
    """Not only what `datasets` writes; further columns are kept as texts."""
    file = tmp_path / "x.parquet"
    table = pa.table({
        "png": pa.array([png(1), png(2), None], pa.binary()),
        "kind": pa.array(["007", "7", "7"]).dictionary_encode(),
        "site": [1, None, 3],
        "checked": [True, False, None],
        "group": ["p", "q", "q"],
    })  # fmt: skip
    pq.write_table(table, file)
    with pytest.raises(DataError, match=r"no column 'image' or 'path'.*--path-col"):
        open_source(str(file))
    table = open_source(str(file), ReadingConfig(path_col="png", label_col="kind"))
    assert table.class_names == ("007", "7")
    assert table.columns == {"site": ("1", "", "3"), "checked": ("true", "false", "")}
    assert table.groups == ("p", "q", "q")
    assert table.images.content(1) == png(2)
    with pytest.raises(UnreadableImageError, match="the row holds no picture"):
        table.images.open(2)


def test_parquet_may_name_files(tmp_path):
    """A table of paths, like a .csv."""
    (tmp_path / "1.png").write_bytes(png(1))
    (tmp_path / "2.png").write_bytes(png(2))
    pq.write_table(pa.table({"path": ["2.png", "1.png"], "label": [7, 8]}), tmp_path / "m.parquet")
    table = open_source(str(tmp_path / "m.parquet"))
    assert table.keys == ("1.png", "2.png")
    assert table.class_names == ("7", "8")
    assert values_of(table) == [1, 2]


def test_row_groups_are_read_when_needed_and_few_are_kept(tmp_path, monkeypatch):
    """Memory does not grow with the files; every picture is still its own."""
    write_parquet(tmp_path / "a.parquet", range(40), [v % 2 for v in range(40)])
    table = open_source(str(tmp_path / "a.parquet"))
    assert not table.images._kept
    monkeypatch.setattr(parquet_images, "CACHE_BYTES", 3 * 3 * len(png(0)))
    rng = np.random.default_rng(0)
    for row in rng.integers(0, 40, 200):
        assert table.images.content(int(row)) == png(int(row))
        assert len(table.images._kept) <= 3


def test_row_groups_that_memory_would_not_hold_are_refused(tmp_path, monkeypatch):
    """With what to do; each picture would be read with all of one."""
    write_parquet(tmp_path / "a.parquet", range(9), [0, 1, 0] * 3, group_size=9)
    monkeypatch.setattr(parquet, "_LARGEST_GROUP_BYTES", 100)
    with pytest.raises(DataError, match="write it again with a row_group_size of 100"):
        open_source(str(tmp_path / "a.parquet"))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda f: f.write_bytes(b"PAR1 nonsense"), "cannot be read"),
        (
            lambda f: write_parquet(f, (1, 2), [0, -1], names=["x", "y"]),
            "1 rows without a label: a.parquet row 1",
        ),
        (lambda f: write_parquet(f, (1, 2), [0, None]), "1 rows without a label"),
        (
            lambda f: [
                write_parquet(f, (1,), [0]),
                write_parquet(f.with_name("b.parquet"), (1,), [0], s=["x"]),
            ],
            "do not have the same columns",
        ),
        (lambda f: write_parquet(f, (1, 2), [[0], [1]]), "'label' is list<.*>, not one label"),
        (
            lambda f: pq.write_table(pa.table({"image": [{"path": "x"}], "label": ["a"]}), f),
            "'image' has no `bytes`",
        ),
    ],
)
def test_parquet_that_cannot_be_used_says_why(tmp_path, make, words):
    """One line with the file."""
    make(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=words):
        open_source(str(tmp_path / "*.parquet"))


def test_a_parquet_file_cut_short_after_reading_is_told(tmp_path):
    """Deleted or rewritten while training."""
    write_parquet(tmp_path / "a.parquet", range(9), [0, 1, 0] * 3)
    table = open_source(str(tmp_path / "a.parquet"))
    (tmp_path / "a.parquet").unlink()
    with pytest.raises(UnreadableImageError, match="No such file"):
        table.images.open(0)


def write_tar(file, members):
    with tarfile.open(file, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


@pytest.fixture
def shards(tmp_path):
    """Two shards of three samples each, labelled by .cls; and their spec."""
    for shard in range(2):
        numbers = range(3 * shard, 3 * shard + 3)
        members = {f"{n:04d}.{s}": c for n in numbers
                   for s, c in (("png", png(n)), ("cls", b"%03d\n" % (n % 2)))}  # fmt: skip
        write_tar(tmp_path / f"s-{shard}.tar", members)
    return str(tmp_path / "s-{0..1}.tar")


def test_tar_shards_are_one_table_by_braces_or_glob(shards, tmp_path):
    """Labels are the texts of .cls; a sample is read at its place."""
    for spec in (shards, str(tmp_path / "*.tar"), f"{tmp_path}/s-0.tar::{tmp_path}/s-1.tar"):
        table = open_source(spec)
        assert table.keys[3] == "s-1.tar/0003.png"
        assert table.class_names == ("000", "001")
        assert values_of(table) == [0, 1, 2, 3, 4, 5]
        assert table.labels.tolist() == [0, 1] * 3
        assert table.images.location(3) == f"{tmp_path}/s-1.tar/0003.png"


def test_a_list_of_shards_may_be_longer_than_a_name(shards, tmp_path):
    """Of a file, which ends at 255 bytes; only a single name may not."""
    numbers = ",".join(["0", "1", *["1"] * 200])
    table = open_source(f"{tmp_path}/s-{{{numbers}}}.tar")
    assert len(table) == 6
    with pytest.raises(DataError, match="is too long for the name of a file"):
        open_source(str(tmp_path / ("x" * 300)))


def test_several_shards_are_found_again_from_another_folder(shards, tmp_path, monkeypatch):
    """Each of those with :: between them is recorded by an absolute path."""
    monkeypatch.chdir(tmp_path)
    names = sorted(file.name for file in tmp_path.glob("*.tar"))
    table = open_source("::".join(names))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = open_source(table.origin["source"])
    assert again.keys == table.keys
    assert values_of(again) == values_of(table)


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_shards_of_one_name_in_several_folders_stay_apart(tmp_path, kind):
    """Their keys and locations begin below the folder that they share."""
    for number, folder in enumerate(("x", "y")):
        (tmp_path / folder).mkdir()
        if kind == "tar":
            members = {"1.png": png(number), "1.cls": b"0"}
            write_tar(tmp_path / folder / "s.tar", members)
        else:
            write_parquet(tmp_path / folder / "s.parquet", (number,), [0])
    table = open_source(f"{tmp_path}/*/s.{kind}")
    assert [key.split("/")[0] for key in table.keys] == ["x", "y"]
    assert values_of(table) == [0, 1]
    assert [table.images.location(row) for row in (0, 1)] == [f"{tmp_path}/{k}" for k in table.keys]


def test_what_json_says_is_columns(tmp_path):
    """label, split, group and the rest; a sample without a picture and hidden files are none."""
    write_tar(tmp_path / "a.tar", {
        "./x/1.jpg": png(1), "./x/1.json": b'{"label": 7, "group": "p1", "site": "n"}',
        "x/2.JPG": png(2), "x/2.json": b'{"label": "8", "group": "p2"}',
        "x/2.mask.png": png(9), "x/3.json": b'{"label": "8"}', "__meta__/a.png": png(0),
        "x/._1.jpg": b"x",
    })  # fmt: skip
    table = open_source(str(tmp_path / "a.tar"))
    assert table.class_names == ("7", "8")
    assert table.groups == ("p1", "p2")
    assert table.columns == {"site": ("n", "")}
    assert values_of(table) == [1, 2]
    masks = open_source(str(tmp_path / "a.tar"), ReadingConfig(path_col="mask.png"))
    assert values_of(masks) == [9]


def test_splits_come_from_the_shards_names(tmp_path):
    """As Hugging Face and timm name them; not when only some say, or all the same."""
    for name in ("set-train-0", "set-train-1"):
        write_tar(tmp_path / f"{name}.tar", {"1.png": png(1), "1.cls": b"0"})
    assert open_source(str(tmp_path / "*.tar")).splits is None
    write_tar(tmp_path / "set-validation-0.tar", {"1.png": png(1), "1.cls": b"0"})
    assert open_source(str(tmp_path / "*.tar")).splits == ("train", "train", "val")
    write_tar(tmp_path / "more.tar", {"1.png": png(1), "1.cls": b"0"})
    assert open_source(str(tmp_path / "*.tar")).splits is None


def truncate(file, size):
    file.write_bytes(file.read_bytes()[:size])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda f: truncate(f, 1024 + 100), "cannot be read (damaged at byte 1024)"),
        (lambda f: f.write_bytes(f.read_bytes()[:1024] + b"x" * 512), "damaged at byte 1024"),
        (lambda f: f.write_bytes(b"hello" * 200), "cannot be read"),
        (lambda f: write_tar(f, {"1.cls": b"0"}), "no pictures in it"),
        (lambda f: write_tar(f, {"1.png": png(0)}), "have no label beside them"),
        (lambda f: write_tar(f, {"1.png": png(0), "1.json": b'{"a": 1}'}), "no column 'cls' or"),
        (
            lambda f: write_tar(f, {"1.png": b"", "2.png": b"", "2.cls": b"0"}),
            "1 rows without a label: s-0.tar/1.png",
        ),
        (
            lambda f: write_tar(f, {"1.png": b"", "1.jpg": b"", "1.cls": b"0"}),
            "several pictures, png, jpg",
        ),
        (
            lambda f: write_tar(f, {"1.png": b"", "./1.png": b"", "1.cls": b""}),
            "1.png stands in it twice",
        ),
        (lambda f: write_tar(f, {"1.png": b"", "1.json": b"{"}), "1.json is not JSON"),
        (lambda f: f.unlink(), "1 shards that are not there"),
    ],
)
def test_a_tar_that_cannot_be_used_says_why(shards, tmp_path, make, words):
    """One line with the shard; a damaged header is not taken for the end."""
    make(tmp_path / "s-0.tar")
    with pytest.raises(DataError) as caught:
        open_source(str(tmp_path / "s-0.tar"))
    assert words in str(caught.value)
    assert "s-0.tar" in str(caught.value)


def test_the_first_bytes_of_a_member_need_no_more(shards, tmp_path):
    """Whoever asks each picture of a large data set for its depth does not read all of it."""
    table = open_source(str(tmp_path / "s-{0..1}.tar"))
    whole = table.images.content(0)
    for file in tmp_path.glob("s-*.tar"):
        truncate(file, 512 + 8)
    chosen = table.select(np.array([0]))
    assert chosen.images.head(0, 8) == whole[:8]
    with pytest.raises(UnreadableImageError, match="shorter"):
        chosen.images.content(0)


def test_a_shard_cut_short_after_indexing_is_told(shards, tmp_path):
    """Not a crash of the decoder."""
    table = open_source(shards)
    truncate(tmp_path / "s-1.tar", 600)
    with pytest.raises(UnreadableImageError, match="the shard has become shorter"):
        table.images.open(5)


def test_a_missing_extra_is_one_line(tmp_path, monkeypatch):
    """With what to type."""
    (tmp_path / "x.parquet").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r'pip install "imgcls\[parquet\]"'):
        open_source(str(tmp_path / "x.parquet"))


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("plain.tar", ["plain.tar"]),
        ("", [""]),
        ("s-{000..002}.tar", ["s-000.tar", "s-001.tar", "s-002.tar"]),
        ("{8..10}", ["8", "9", "10"]),
        ("{08..10}", ["08", "09", "10"]),
        ("{0..10..5}", ["0", "5", "10"]),
        ("{3..1}", ["3", "2", "1"]),
        ("{a..c}{A..B}", ["aA", "aB", "bA", "bB", "cA", "cB"]),
        ("{train,val}-{0..1}", ["train-0", "train-1", "val-0", "val-1"]),
        ("x{,-more}", ["x", "x-more"]),
        ("v{2.{5..6},3.{2,3}}", ["v2.5", "v2.6", "v3.2", "v3.3"]),
        ("{one}", ["{one}"]),
        ("{}{x{1..2}}", ["{}{x1}", "{}{x2}"]),
        ("C:\\photos\\{0..1}", ["C:\\photos\\0", "C:\\photos\\1"]),
    ],
)
def test_braces_expand_as_in_bash(pattern, names):
    """The order too; a backslash is a folder's on Windows, and no escape."""
    assert expand_braces(pattern) == names


@pytest.mark.parametrize(
    "pattern", ["{0..1", "0..1}", "a{b{c}", "{0..99999999}", "{0..9999}{0..999}", "{" * 9999]
)
def test_braces_that_cannot_be_expanded_are_one_line(tmp_path, pattern):
    """Those that do not pair, and names without number; nothing is made of them first."""
    with pytest.raises(DataError, match="its braces cannot be expanded"):
        open_source(f"{tmp_path}/{pattern}.tar")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("17.jpg", ("17", "jpg")),
        ("a/b.c/17.seg.png", ("a/b.c/17", "seg.png")),
        ("a.b/17", ("a.b/17", "")),
        ("17", ("17", "")),
    ],
)
def test_a_sample_is_what_stands_before_the_first_dot(name, parts):
    """Of the file's name, not of its folders', as WebDataset documents it."""
    assert base_and_suffix(name) == parts


def test_two_columns_of_one_name_are_refused(tmp_path):
    """Arrow allows them; which is meant, nobody knows."""
    table = pa.table([[png(1)], ["x"], ["y"]], names=["image", "label", "label"])
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(DataError, match="two columns are called 'label'"):
        open_source(str(tmp_path / "t.parquet"))


def named_shard(file, labels, names):
    """A shard of numbered classes, with their names in its metadata unless None."""
    table = pa.table({"image": [png(n) for n in labels], "label": labels})
    if names is not None:
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        info = json.dumps({"info": {"features": features}}).encode()
        table = table.replace_schema_metadata({b"huggingface": info})
    pq.write_table(table, file)


def test_a_shard_that_lost_its_class_names_has_those_of_the_others(tmp_path):
    """And two shards that name them differently are refused."""
    named_shard(tmp_path / "s-0.parquet", [0, 1], ["bee", "ant"])
    named_shard(tmp_path / "s-1.parquet", [1, 0], None)
    table = open_source(str(tmp_path / "s-*.parquet"))
    assert table.class_names == ("bee", "ant")
    assert table.labels.tolist() == [0, 1, 1, 0]
    named_shard(tmp_path / "s-1.parquet", [1, 0], ["ant", "bee"])
    with pytest.raises(DataError, match="name the classes differently"):
        open_source(str(tmp_path / "s-*.parquet"))


def test_links_in_a_tar_are_the_pictures_that_they_lead_to(tmp_path):
    """tar stores a file that it meets twice as a hard link; none is dropped."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(png(1))
    (tmp_path / "a" / "2.png").hardlink_to(tmp_path / "a" / "1.png")
    (tmp_path / "a" / "3.png").symlink_to("2.png")
    for number in (1, 2, 3):
        (tmp_path / "a" / f"{number}.cls").write_text("x" if number == 1 else "y")
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        archive.add(tmp_path / "a", "a")
    table = open_source(str(tmp_path / "t.tar"))
    assert len(table) == 3
    assert len({table.images.content(row) for row in range(3)}) == 1
    (tmp_path / "a" / "4.png").symlink_to("nowhere.png")
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        archive.add(tmp_path / "a", "a")
    with pytest.raises(DataError, match=r"a/4\.png is a link that leads to no member"):
        open_source(str(tmp_path / "t.tar"))


def test_an_empty_json_object_is_no_column(tmp_path):
    """It says nothing of the picture."""
    write_tar(tmp_path / "t.tar", {"1.png": png(1), "1.cls": b"x", "1.json": b"{}"})
    assert open_source(str(tmp_path / "t.tar")).columns == {}


def test_a_parquet_file_without_rows_holds_no_pictures(tmp_path):
    """Its columns are there all the same."""
    columns = {"image": pa.array([], pa.binary()), "label": pa.array([], pa.string())}
    pq.write_table(pa.table(columns), tmp_path / "empty.parquet")
    with pytest.raises(DataError, match="no pictures in it"):
        open_source(str(tmp_path / "empty.parquet"))
