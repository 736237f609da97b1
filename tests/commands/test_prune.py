"""`imgcls runs prune`: what goes, what never goes, and that it asks first."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import OFFLINE

from imgcls.config.runs import RunsPruneConfig
from imgcls.jobs.runs.prune import Pruning
from imgcls.storage.caches import Hold
from imgcls.storage.durable import point
from imgcls.storage.kept_files import KeptFiles, cache_folder
from imgcls.storage.lock import lock_run, take_lock
from imgcls.storage.model_folder import own_hash
from imgcls.storage.pointers import find_checkpoint


@pytest.fixture(scope="module")
def kept_all(trained, tmp_path_factory):
    """A run of two folds and three epochs with all of its checkpoints; `best` is the second."""
    from imgcls.cli.boundary import run

    output = tmp_path_factory.mktemp("kept") / "outputs"
    common = (*OFFLINE, "--device", "cpu", "--quiet", "--no-preflight")
    options = ("--epochs", "3", "--keep", "all", "--folds", "2", "--name", "r")
    assert run(["train", str(trained / "photos"), *common, *options, "--output", str(output)]) == 0
    for folder in (output / "r").glob("fold_*/checkpoints"):
        steps = sorted(folder.glob("step-*"))
        for step in steps:
            say(step, best=step == steps[1])
        point(folder / "best", steps[1].name)
    return output


@pytest.fixture
def outputs(kept_all, tmp_path):
    """A copy that a test may change."""
    return Path(shutil.copytree(kept_all, tmp_path / "outputs", symlinks=True))


def say(checkpoint, **facts):
    """Let a checkpoint say something else of itself."""
    file = checkpoint / "checkpoint.json"
    content = json.loads(file.read_text())
    content.pop("sha256")
    content["facts"].update(facts)
    content["sha256"] = own_hash(content)
    file.write_text(json.dumps(content))


def steps_of(outputs, fold=0):
    return sorted(p.name for p in (outputs / "r" / f"fold_{fold}" / "checkpoints").glob("step-*"))


def pruned(command, *options):
    done = command("runs", "prune", *options, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_old_checkpoints_go_and_best_and_last_stay(outputs, command):
    """In every fold; the run is resumed and evaluated after that as before."""
    before = [steps_of(outputs, fold) for fold in (0, 1)]
    found = pruned(command, "--dry-run")
    assert [steps_of(outputs, fold) for fold in (0, 1)] == before
    done = pruned(command, "--yes")
    assert (found["items"], found["removed"]) == (done["items"], False)
    assert [Path(item["path"]).name for item in done["items"]] == [before[0][0], before[1][0]]
    assert done["size_bytes"] > 10**6
    assert [steps_of(outputs, fold) for fold in (0, 1)] == [names[1:] for names in before]
    for which, name in (("best", before[0][1]), ("last", before[0][2])):
        assert find_checkpoint(outputs / "r", 0, which).name == name
    assert pruned(command, "--yes")["items"] == []
    assert command("runs", "prune").out == "Nothing to remove.\n"
    assert command("resume", outputs / "r", "--epochs", "4").code == 0


@pytest.mark.parametrize("form", ["JSON", "text", "left out", "followed", "never set"])
def test_best_and_last_stay_however_they_are_pointed_at(outputs, command, form):
    """By a JSON file, by a link's text, by what the checkpoints say; or as copies themselves."""
    names = steps_of(outputs)
    folder = outputs / "r/fold_0/checkpoints"
    for pointer, name in (("best", names[1]), ("last", names[2])):
        (folder / pointer).unlink()
        if form == "JSON":
            (folder / pointer).write_text(json.dumps({"checkpoint": name}))
        elif form == "text":
            (folder / pointer).write_text(name)
        elif form == "followed":
            shutil.copytree(folder / name, folder / pointer)
        elif form == "never set":  # a kill came before
            point(folder / pointer, names[0])
    pruned(command, "--yes")
    assert steps_of(outputs)[-2:] == names[1:]
    assert find_checkpoint(outputs / "r", 0, "best").resolve().name in (names[1], "best")
    assert command("resume", outputs / "r").code == 0


def test_what_a_resumption_falls_back_on_stays(outputs, command):
    """The newest sound checkpoint where the last is damaged; all where none is sound."""
    names = steps_of(outputs)
    folder = outputs / "r/fold_0/checkpoints"
    (folder / names[2] / "state.safetensors").write_bytes(b"damaged")
    (folder / names[1] / "model.safetensors").write_bytes(b"damaged")
    pruned(command, "--yes")
    assert steps_of(outputs) == names
    assert len(steps_of(outputs, 1)) == 2
    weights = folder / names[0] / "model.safetensors"
    sound = weights.read_bytes()
    weights.write_bytes(b"damaged")
    pruned(command, "--yes")
    assert steps_of(outputs) == names
    weights.write_bytes(sound)
    assert command("resume", outputs / "r", "--epochs", "4").code == 0


def test_a_run_that_is_trained_or_evaluated_is_left_alone(outputs, command):
    """With a line; also where that begins between the question and the removal."""
    names = steps_of(outputs)
    config = RunsPruneConfig(output=outputs)
    with lock_run(outputs / "r"):
        found = pruned(command, "--yes")
        assert found["items"] == []
        assert found["left_alone"] == ["r: is being trained, and left alone"]
    planned = Pruning.of(config)
    with lock_run(outputs / "r"):
        planned.remove()
    assert planned.items == []
    assert "in use by process" in planned.report(removed=True).left_alone[0]
    results = outputs / "r/fold_0/test_results"
    results.mkdir(exist_ok=True)
    lock = take_lock(results / ".test.lock", results)
    assert pruned(command, "--yes")["left_alone"] == ["r: is being evaluated, and left alone"]
    planned = Pruning.of(config)
    lock.release()
    assert steps_of(outputs) == names
    assert len(pruned(command, "r", "--yes")["items"]) == 2


def test_only_what_was_shown_goes(outputs):
    """A training that saves a checkpoint after the question keeps it, and what it made best."""
    names = steps_of(outputs)
    folder = outputs / "r/fold_0/checkpoints"
    planned = Pruning.of(RunsPruneConfig(output=outputs))
    shutil.copytree(folder / names[2], folder / "step-99999999")
    point(folder / "last", "step-99999999")
    point(folder / "best", names[0])
    planned.remove()
    assert steps_of(outputs) == [*names, "step-99999999"]
    assert [item.path.parents[1].name for item in planned.items] == ["fold_1"]


def test_what_killed_commands_left_goes(outputs, command):
    """Old beginnings, half-written and half-removed checkpoints, staged results; no file else."""
    run = outputs / "r"
    old = time.time() - 90_000
    leftovers = [
        outputs / ".tmp-run-1-2",
        run / "fold_0/checkpoints/.tmp-step-00000099-7",
        run / "fold_0/checkpoints/.tmp-removed-step-00000001-7",
        run / "fold_0/checkpoints/set-aside-step-00000001",
        run / "fold_0/test_results/.tmp-test.new",
    ]
    for folder in leftovers:
        folder.mkdir(parents=True)
        (folder / "part").write_bytes(bytes(1000))
        os.utime(folder, (old, old))
    (run / ".tmp-config.yaml-7").touch()
    mine = [outputs / ".tmp-run-3-4", run / "notes", run / "fold_0/checkpoints/mine"]
    for folder in mine:
        folder.mkdir()
    found = pruned(command, "--yes")
    gone = {item["path"] for item in found["items"] if item["kind"] == "leftover"}
    assert gone == {
        str(p.relative_to(outputs.parent)) for p in (*leftovers, run / ".tmp-config.yaml-7")
    }
    assert not any(folder.exists() for folder in leftovers)
    assert all(folder.exists() for folder in mine)


def test_features_go_with_a_finished_run_only(outputs, command):
    """An unfinished one goes on with them."""
    features = outputs / "r" / "features"
    features.mkdir()
    (features / "view-0").write_bytes(bytes(1000))
    (outputs / "r" / "summary.json").rename(outputs / "summary.json")
    assert not [item for item in pruned(command, "--yes")["items"] if item["kind"] == "cache"]
    (outputs / "summary.json").rename(outputs / "r" / "summary.json")
    assert [item["kind"] for item in pruned(command, "--yes")["items"]] == ["cache"]
    assert not features.exists()


@pytest.fixture
def pictures(command, trained):
    """The folder of decoded pictures that a run on disk has left."""
    photos = ("train", trained / "photos", *OFFLINE, "--device", "cpu", "--no-preflight")
    assert command(*photos, "--epochs", "1", "--cache", "disk", "--name", "r").code == 0
    return Path(os.environ["IMGCLS_CACHE"]) / "pictures"


def test_decoded_pictures_go_unless_somebody_uses_them(pictures, command):
    """A training holds its folders until its process ends; the next run makes them again."""
    one, other = sorted(pictures.iterdir())
    hold = Hold(one)
    found = pruned(command, "--yes")
    assert [Path(item["path"]) for item in found["items"]] == [other]
    assert found["left_alone"] == [f"{one}: is in use, and left alone"]
    hold.release()
    assert len(pruned(command, "--yes")["items"]) == 1
    assert list(pictures.iterdir()) == []


def test_indexes_and_fetched_blocks_go(outputs, command):
    """With what else is in the cache folder; the next start makes or fetches them again."""
    for name in ("shards", "remote"):
        KeptFiles(cache_folder() / name, 2**20).write("a", b"content")
    found = pruned(command, "--yes")
    gone = {Path(item["path"]).name for item in found["items"] if item["kind"] == "cache"}
    assert gone == {"shards", "remote"}
    assert list(cache_folder().iterdir()) == []


def test_a_process_that_trains_holds_its_decoded_pictures(tmp_path):
    """And one that it has pickled them to does without."""
    import pickle

    from imgcls.data.loading.cache import PixelSlots

    slots = PixelSlots(2, (4, 4), tmp_path / "pictures" / "a")
    slots.prepare()
    with pytest.raises(BlockingIOError):
        lock_now(tmp_path / "pictures" / "a" / ".lock")
    assert "_hold" not in vars(pickle.loads(pickle.dumps(slots)))
    del slots
    lock_now(tmp_path / "pictures" / "a" / ".lock")


def lock_now(file):
    import fcntl

    with file.open() as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_without_a_terminal_it_refuses(outputs, command):
    """Exit 2 and what it would do, unless told --yes."""
    names = steps_of(outputs)
    done = command("runs", "prune")
    assert (done.code, done.out) == (2, "")
    assert "would remove 2 old checkpoints" in done.error_lines[0]
    assert "--yes" in done.error_lines[0]
    assert steps_of(outputs) == names


@pytest.mark.parametrize("answer", ["y\n", "n\n", "\n"])
def test_at_a_terminal_it_asks(outputs, command, monkeypatch, answer):
    """No is what Enter means."""
    import io

    names = steps_of(outputs)
    stream = io.StringIO(answer)
    stream.isatty = lambda: True
    monkeypatch.setattr("sys.stdin", stream)
    done = command("runs", "prune")
    assert done.code == 0
    assert "Remove 2 old checkpoints, " in done.err
    assert str(Path("outputs/r/fold_0/checkpoints") / names[0]) in done.err
    assert steps_of(outputs) == (names[1:] if answer == "y\n" else names)


def test_it_loads_no_torch(outputs):
    """Nor timm."""
    code = (
        "import sys; from imgcls.cli.boundary import run\n"
        f"assert run(['runs', 'prune', '--yes', '--output', {str(outputs)!r}]) == 0\n"
        "print('LOADED', sorted({'torch', 'timm'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("LOADED []")


def test_what_cannot_be_removed_is_told(outputs, command, monkeypatch):
    """The rest goes; exit 1."""
    from imgcls.storage import durable

    real = durable.remove_folder

    def remove(folder):
        if "fold_0" in folder.parts:
            raise PermissionError(13, "Permission denied", str(folder))
        real(folder)

    monkeypatch.setattr("imgcls.jobs.runs.prune.remove_folder", remove)
    done = command("runs", "prune", "--yes")
    assert (done.code, len(done.error_lines)) == (1, 1)
    assert "cannot be removed: no permission to write there" in done.err
    assert (len(steps_of(outputs)), len(steps_of(outputs, 1))) == (3, 2)
