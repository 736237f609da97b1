"""The floors of the house: who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import imgcls

PACKAGE = Path(imgcls.__file__).parent
ALLOWED = {
    "errors": set(),
    "columns": {"errors"},
    "results": {"columns", "errors"},
    "metrics": {"results", "columns", "errors"},
    "config": {"metrics", "results", "columns", "errors"},
}
ALLOWED["storage"] = {"config", *ALLOWED["config"]}
for _room in ("engine", "data", "models"):
    ALLOWED[_room] = {"storage", *ALLOWED["storage"]}
ALLOWED["output"] = {"engine", "data", "models", *ALLOWED["engine"]}
ALLOWED["jobs"] = {"output", *ALLOWED["output"]}
ALLOWED["cli"] = ALLOWED["api"] = {"jobs", *ALLOWED["jobs"]}
# inside jobs: whose modules a verb may use; those right below jobs/ serve all
VERBS_BELOW = {"page": set(), "benchmark": set(), "plan": set()}
VERBS_BELOW["runs"] = set()
VERBS_BELOW["inspect"] = {"plan", *VERBS_BELOW["plan"]}
VERBS_BELOW["evaluate"] = {"page", "plan", *VERBS_BELOW["plan"]}
VERBS_BELOW["export"] = {"evaluate", *VERBS_BELOW["evaluate"]}
VERBS_BELOW["predict"] = {"evaluate", *VERBS_BELOW["evaluate"]}
VERBS_BELOW["train"] = {"evaluate", *VERBS_BELOW["evaluate"]}
VERBS_BELOW["import_"] = {"train", *VERBS_BELOW["train"]}
VERBS_BELOW["tune"] = {"train", *VERBS_BELOW["train"]}
# the rooms; a new one is a decision
ROOMS = {
    "cli": ("processes",),
    "api": (),
    "config": (),
    "columns": (),
    "metrics": (),
    "results": (),
    "storage": (),
    "data": ("audit", "loading", "pixels", "remote", "sources", "splits"),
    "models": ("catalog", "explain", "export"),
    "engine": (
        "checkpoint",
        "device",
        "scoring",
        "training",
        "training/parallel",
        "training/selection",
    ),
    "output": ("pages", "plots", "screens", "trackers"),
    "jobs": (
        "benchmark",
        "evaluate",
        "export",
        "import_",
        "page",
        "plan",
        "plan/cost",
        "predict",
        "runs",
        "train",
        "train/choice",
        "train/head",
        "train/several",
        "tune",
    ),
}
FOLDERS = [*ROOMS, *(f"{room}/{folder}" for room, folders in ROOMS.items() for folder in folders)]
USUAL_MODULES = 12
# a file for each command, group of options or kind of data, and what they share
MODULES_OF = {
    "config": 26,
    "cli": 18,
    "metrics": 18,
    "data/sources": 16,
    "results": 14,
    "storage": 19,
    "output/screens": 19,
    "jobs/evaluate": 15,
}
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE or p.stem in ALLOWED)


def imported(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            yield node.module


@pytest.mark.parametrize("file", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_downwards(file):
    """No arrow upward, and nothing inside imports the package's root."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    room = parts[0]
    for name in imported(file):
        if name == "imgcls" or not name.startswith("imgcls."):
            assert name != "imgcls", file
            continue
        target = name.split(".")[1]
        assert target == room or target in ALLOWED[room], f"{file} imports {name}"


@pytest.mark.parametrize("verb", VERBS_BELOW)
def test_a_verb_uses_only_verbs_below_it(verb):
    """page, benchmark < plan < inspect, evaluate < predict, train < tune."""
    files = [f for f in (PACKAGE / "jobs").rglob("*.py") if verb in f.relative_to(PACKAGE).parts[1]]
    assert files
    for file in files:
        used = {name.split(".")[2] for name in imported(file) if name.startswith("imgcls.jobs.")}
        assert used & VERBS_BELOW.keys() <= {verb, *VERBS_BELOW[verb]}, file


def test_what_all_verbs_share_uses_none_of_them():
    """The modules right below jobs/; inspect is a verb of one module."""
    for file in (PACKAGE / "jobs").glob("*.py"):
        if file.stem not in VERBS_BELOW:
            used = {n.split(".")[2] for n in imported(file) if n.startswith("imgcls.jobs.")}
            assert not used & VERBS_BELOW.keys(), file


def test_what_lies_on_disk_is_read_without_torch():
    """None of storage's modules brings torch along, so `imgcls report` does not."""
    modules = [name_of(file) for file in (PACKAGE / "storage").glob("*.py")]
    code = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_modules_import_one_another():
    """No circles, whether by one step or several; imports for annotations alone count too."""
    names = {name_of(file): file for file in PACKAGE.rglob("*.py")}
    within = {name: {n for n in from_modules(file) if n in names} for name, file in names.items()}
    try:
        TopologicalSorter(within).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")


def name_of(file):
    parts = ("imgcls", *file.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def from_modules(file):
    """The modules that a file names in its imports, where `from a import b` may mean a.b."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_engine_knows_no_interface_library():
    """typer, rich, pydantic and scikit-learn stay outside."""
    for file in (PACKAGE / "engine").rglob("*.py"):
        tops = {name.split(".")[0] for name in imported(file)}
        assert not tops & {"typer", "rich", "pydantic", "sklearn"}, file


def test_no_module_is_two_ideas():
    """Past some 300 lines a module wants to be two."""
    long = {p.name: n for p in MODULES if (n := len(p.read_text().splitlines())) > 300}
    assert long == {}


def test_the_folders_are_those_that_are_drawn():
    """A new one is drawn first; an empty one is none."""
    found = {p.relative_to(PACKAGE).as_posix() for p in PACKAGE.rglob("*") if any(p.glob("*.py"))}
    assert found - {"."} == set(FOLDERS)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_is_taken_in_at_a_glance(folder):
    """About a dozen modules; the bounds of larger ones are what they have, and only fall."""
    count = sum(file.stem != "__init__" for file in (PACKAGE / folder).glob("*.py"))
    assert count <= MODULES_OF.get(folder, USUAL_MODULES)


def test_no_two_test_files_share_a_name():
    """pytest imports them by their names alone, and stops where it meets one again."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
