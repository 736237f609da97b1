"""Pictures without labels: what each spec names, in which order, and what is said of the rest."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from PIL import Image

from imgcls.data.inputs import Inputs
from imgcls.data.places import InFile, Nowhere
from imgcls.data.sources.tree import LeftOut, pictures_below, walk
from imgcls.errors import DataError


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
    found = list(pictures_below("d", LeftOut()))
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
