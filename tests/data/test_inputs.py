"""Pictures without labels: what each spec names, in which order, and what is said of the rest."""

from __future__ import annotations

import errno
import os
import random
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from imgcls.data.inputs import Inputs
from imgcls.data.places import InFile, Nowhere
from imgcls.data.sources.tree import LeftOut, pictures_below, walk
from imgcls.errors import DataError, ReadError


def picture(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(file)


def paths(*specs: str, **options: object) -> list[str]:
    return [one.path for one in Inputs(specs, **options)]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_folders_pictures_come_in_the_order_of_their_paths():
    """As training and evaluation sort them, though no more than one folder's names are held."""
    rng = random.Random(0)
    parts = ["a", "a-b", "a.b", "A", "b", "é", "a b"]
    for _ in range(60):
        name = "/".join(rng.choice(parts) for _ in range(rng.randint(1, 4)))
        picture(Path("d") / f"{name}.d" / f"{rng.choice(parts)}.png")
    found = [path for path, _ in pictures_below("d", LeftOut())]
    assert found == sorted(walk("d", LeftOut()).all_pictures())
    assert paths("d") == found


def test_what_is_no_picture_in_a_folder_is_passed_over_and_counted():
    """Hidden files, system folders, masks and other files; circles of links end."""
    picture(Path("d/a.png"))
    picture(Path("d/.hidden.png"))
    picture(Path("d/@eaDir/a.png"))
    picture(Path("d/a_mask.png"))
    Path("d/notes.txt").write_text("x")
    Path("d/circle").symlink_to(Path("d").absolute())
    inputs = Inputs(["d"])
    assert [one.path for one in inputs] == ["d/a.png"]
    assert len(inputs.notes) == 3
    assert inputs.count() == 1


def test_a_table_names_its_paths_as_it_writes_them():
    """They start from its folder or --root; rows without a path have a row."""
    picture(Path("d/1.png"))
    picture(Path("other/2.png"))
    Path("d/t.csv").write_text("path,label\n1.png,x\n,y\ngone.png,z\n1.png,x\n")
    found = list(Inputs(["d/t.csv"]))
    assert [one.path for one in found] == ["1.png", "", "gone.png", "1.png"]
    assert isinstance(found[1].place, Nowhere)
    Path("t.csv").write_text("name\n2.png\n")
    assert paths("t.csv", path_col="name", root=Path("other")) == ["2.png"]


def test_a_long_table_is_read_as_it_is_taken():
    """A line that is no row is met when its turn comes."""
    picture(Path("1.png"))
    Path("t.csv").write_text("path,x\n" + "1.png,0\n" * 3000 + "1.png\n")
    inputs = iter(Inputs(["t.csv"]))
    assert [next(inputs).path for _ in range(2000)] == ["1.png"] * 2000
    with pytest.raises(DataError, match="line 3002 has 1 cells"):
        list(inputs)


def test_specs_that_are_not_there_have_a_row_beside_others():
    """Alone they are an error."""
    picture(Path("a.png"))
    found = list(Inputs(["a.png", "b.png"]))
    assert [one.place for one in found] == [InFile("a.png"), Nowhere("no such file")]
    with pytest.raises(DataError, match=r"b\.png, c\*\.png: no such file"):
        Inputs(["b.png", "c*.png"])


def test_globs_are_expanded_where_the_shell_did_not():
    """By name; a file whose own name looks like one is that file."""
    for name in ("d/b.png", "d/a.png", "d/x/c.png", "e[1].png"):
        picture(Path(name))
    assert paths("d/*.png") == ["d/a.png", "d/b.png"]
    assert paths("d/**") == ["d/a.png", "d/b.png", "d/x/c.png"]
    assert paths("d/*") == ["d/a.png", "d/b.png", "d/x/c.png"]
    assert paths("e[1].png") == ["e[1].png"]


@pytest.fixture
def closed(monkeypatch):
    """Folders that may not be looked into, or fail otherwise: {path: errno}; root may do it all."""
    folders: dict[str, int] = {}
    scandir = os.scandir

    def scandir_where_allowed(path):
        if number := folders.get(str(path)):
            raise OSError(number, os.strerror(number), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scandir_where_allowed)
    return folders


def test_a_folder_that_may_not_be_looked_into_costs_what_lies_in_it(closed):
    """It has a row with the reason, and a note; where the machine fails it is the end."""
    for name in ("d/a.png", "d/closed/b.png", "d/z/c.png"):
        picture(Path(name))
    closed["d/closed"] = errno.EACCES
    inputs = Inputs(["d"])
    found = list(inputs)
    assert [one.path for one in found] == ["d/a.png", "d/closed", "d/z/c.png"]
    assert found[1].place == Nowhere("Permission denied")
    assert list(inputs.notes) == ["d/closed: cannot be looked into (Permission denied)"]
    assert [one.path for one in Inputs(["d/closed", "d/a.png"])] == ["d/closed", "d/a.png"]
    assert paths("d/*") == ["d/a.png", "d/closed", "d/z/c.png"]
    with pytest.raises(DataError, match=r"d/closed: cannot be read \(Permission denied\)"):
        paths("d/closed")
    closed["d/closed"] = errno.EIO
    with pytest.raises(ReadError, match="the machine's fault"):
        paths("d")


def test_a_link_that_leads_to_itself_is_a_picture_that_cannot_be_read():
    """It is no end of the walk, here and in training."""
    picture(Path("d/a.png"))
    Path("d/circle.png").symlink_to("circle.png")
    assert paths("d") == ["d/a.png", "d/circle.png"]
    assert list(walk("d", LeftOut()).all_pictures()) == paths("d")


def test_a_damaged_shard_or_table_costs_what_cannot_be_read_of_it():
    """A row with the reason behind what is whole; alone and without a picture it is an error."""
    picture(Path("a.png"))
    for shard in ("s-0.tar", "s-1.tar", "s-2.tar"):
        with tarfile.open(shard, "w", format=tarfile.USTAR_FORMAT) as archive:
            for number in range(3):
                archive.add("a.png", f"{number}.png")
    whole = Path("s-1.tar").read_bytes()
    Path("s-1.tar").write_bytes(whole[:1024] + b"x" * 600)
    first = ["s-0.tar/0.png", "s-0.tar/1.png", "s-0.tar/2.png", "s-1.tar/0.png"]
    last = ["s-2.tar/0.png", "s-2.tar/1.png", "s-2.tar/2.png"]
    for specs in (["s-{0..2}.tar"], ["s-*.tar"], ["s-0.tar", "s-1.tar", "s-2.tar"]):
        inputs = Inputs(specs)
        found = list(inputs)
        assert [one.path for one in found] == [*first, "s-1.tar", *last], specs
        assert isinstance(found[4].place, Nowhere)
        assert "s-1.tar: cannot be read to its end" in next(iter(inputs.notes))
    Path("s-1.tar").write_bytes(b"x" * 2000)
    with pytest.raises(DataError, match=r"s-1\.tar: cannot be read \("):
        paths("s-1.tar")
    parquet.write_table(pa.table({"path": ["a.png"]}), "good.parquet")
    Path("bad.parquet").write_bytes(b"PAR1 x PAR1")
    assert paths("bad.parquet", "good.parquet") == ["bad.parquet", "a.png"]
    with pytest.raises(DataError, match=r"bad\.parquet: cannot be read \("):
        paths("bad.parquet")


def test_folders_of_a_glob_may_be_empty():
    """Said in a note beside the pictures of others, as for those that a shell expands."""
    picture(Path("d/x/a.png"))
    Path("d/y").mkdir()
    inputs = Inputs(["d/*"])
    assert [one.path for one in inputs] == ["d/x/a.png"]
    assert "d/y: no pictures found in it" in next(iter(inputs.notes))
