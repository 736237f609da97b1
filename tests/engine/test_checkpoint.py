"""A checkpoint is whole and verified, or it is refused with the reason."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from imgcls.config import files
from imgcls.config.model import ModelConfig
from imgcls.engine.checkpoint.checkpointer import find_sound, prune, write_and_link
from imgcls.engine.checkpoint.folder import (
    load_checkpoint,
    load_weights,
    read_checkpoint,
    read_state,
    save_checkpoint,
    take_snapshot,
)
from imgcls.errors import CheckpointError
from imgcls.models.build import create_model
from imgcls.results.checkpoint import Sidecar
from imgcls.storage.durable import point, pointed_at, write_text
from imgcls.storage.model_folder import own_hash, seal
from imgcls.storage.pointers import best_of, find_checkpoint, last_of, newest_first, settle

real = files.sha256_of
SAID = Sidecar(class_names=("a", "b"), epoch=1, step=5)
STATE = {"progress": {"epoch": 1}, "optimizer": {"m": torch.arange(4.0)}}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return create_model(ModelConfig(name="test_resnet", num_classes=2, pretrained=False))


@pytest.fixture
def saved(model, tmp_path):
    snapshot = take_snapshot(model, {"architecture": "test_resnet"}, SAID, STATE)
    return save_checkpoint(snapshot, tmp_path / "step-00000005")


def test_it_holds_four_files_and_comes_back_equal(model, saved):
    """Weights, card, state and facts."""
    assert {p.name for p in saved.iterdir()} == {
        "model.safetensors", "config.json", "state.safetensors", "checkpoint.json",
    }  # fmt: skip
    other = create_model(ModelConfig(name="test_resnet", num_classes=2, pretrained=False))
    found = load_checkpoint(other, saved)
    for key, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[key], value)
    assert found.sidecar == SAID
    state = read_state(found)
    assert torch.equal(state["optimizer"]["m"], STATE["optimizer"]["m"])


def test_without_its_state_it_can_be_evaluated_but_not_resumed(model, saved):
    """A copy without state.safetensors is still a checkpoint."""
    (saved / "state.safetensors").unlink()
    found = load_checkpoint(model, saved)
    with pytest.raises(CheckpointError, match="can be evaluated but not resumed"):
        read_state(found)


def test_each_file_is_hashed_once_and_the_state_only_to_resume(model, saved, monkeypatch):
    """Evaluation reads a third of what training wrote; what was verified is not read again."""
    hashed = []
    monkeypatch.setattr("imgcls.config.files.sha256_of", lambda f: hashed.append(f.name) or real(f))
    load_checkpoint(model, saved)
    assert sorted(hashed) == ["config.json", "model.safetensors"]
    hashed.clear()
    found = read_checkpoint(saved, to_resume=True)
    load_weights(model, found)
    read_state(found)
    assert sorted(hashed) == ["config.json", "model.safetensors", "state.safetensors"]
    (saved / "state.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"state\.safetensors: damaged"):
        read_state(read_checkpoint(saved))


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "state.safetensors", "checkpoint.json"]
)
@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped", "other"])
def test_missing_truncated_and_mixed_files_are_refused(model, saved, tmp_path, name, damage):
    """Files carry each other's hash; the message names the file."""
    if (name, damage) == ("state.safetensors", "missing"):
        pytest.skip("is allowed: it is needed to resume only")
    file = saved / name
    content = file.read_bytes()
    if damage == "missing":
        file.unlink()
    elif damage == "truncated":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        middle = len(content) // 2
        changed = bytes([content[middle] ^ 1])
        file.write_bytes(content[:middle] + changed + content[middle + 1 :])
    else:
        if name == "checkpoint.json":
            pytest.skip("a whole other sidecar then mismatches the other three files")
        with torch.no_grad():
            model.fc.bias += 1
        changed = {**STATE, "optimizer": {"m": torch.ones(4)}}
        second = take_snapshot(model, {"architecture": "x"}, SAID, changed)
        save_checkpoint(second, tmp_path / "two")
        shutil.copy(tmp_path / "two" / name, file)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(saved, to_resume=True)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def rewrite_sidecar(folder, change):
    file = folder / "checkpoint.json"
    sidecar = json.loads(file.read_text())
    sidecar.pop("sha256")
    change(sidecar)
    sidecar["sha256"] = own_hash(sidecar)
    file.write_text(json.dumps(sidecar))


def test_a_newer_minor_format_loads_and_a_newer_major_says_what_to_install(saved):
    """Forward compatibility."""
    rewrite_sidecar(saved, lambda s: s.update(format_version=[1, 9], new_thing=1))
    read_checkpoint(saved)
    rewrite_sidecar(saved, lambda s: s.update(format_version=[2, 0], imgcls_version="7.1"))
    with pytest.raises(CheckpointError, match=r"format 2\.0 is newer .* install imgcls>=7\.1"):
        read_checkpoint(saved)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "extra.bin"])
def test_a_sidecar_cannot_name_other_files(saved, name):
    """Nothing outside the folder is read."""
    rewrite_sidecar(saved, lambda s: s["files"].update({name: {"bytes": 1, "sha256": ""}}))
    with pytest.raises(CheckpointError, match="does not list the files"):
        read_checkpoint(saved)


def test_a_tensor_that_does_not_fit_is_named(model, saved):
    """Which one, and how."""
    other = create_model(ModelConfig(name="test_resnet", num_classes=3, pretrained=False))
    with pytest.raises(
        CheckpointError, match=r"fc\.weight is \[2, 96\] in the file and \[3, 96\] in the model"
    ):
        load_checkpoint(other, saved)
    smaller = load_file(saved / "model.safetensors")
    smaller.pop("fc.bias")
    save_file(smaller, saved / "model.safetensors")
    changed = seal(saved / "model.safetensors")
    rewrite_sidecar(saved, lambda s: s["files"].update({"model.safetensors": changed}))
    with pytest.raises(CheckpointError, match=r"fc\.bias is missing in the file"):
        load_checkpoint(model, saved)
    load_checkpoint(model, saved, strict=False)


def test_a_folder_without_checkpoint_says_what_was_looked_for(tmp_path):
    """Checkpoint, fold or run folder."""
    with pytest.raises(CheckpointError, match="give a checkpoint, fold or run folder"):
        find_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="no such file or folder"):
        find_checkpoint(tmp_path / "none")


def save_step(model, folder, step, *, best):
    """A checkpoint as training saves it."""
    said = replace(SAID, step=step, best=best)
    return write_and_link(take_snapshot(model, {}, said, STATE), folder, step)


def test_run_fold_link_and_folder_lead_to_the_same_place(model, tmp_path):
    """`best` of a run with one fold; --fold chooses among several."""
    run = tmp_path / "run"
    folder = run / "fold_0" / "checkpoints"
    folder.mkdir(parents=True)
    saved = save_step(model, folder, 5, best=True)
    for path in (run, run / "fold_0", folder, folder / "best", saved):
        assert find_checkpoint(path) == saved
    (run / "fold_1" / "checkpoints").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"several folds \(0, 1\); name the folder"):
        find_checkpoint(run)
    assert find_checkpoint(run, fold=0) == saved
    with pytest.raises(CheckpointError, match="has no fold 7"):
        find_checkpoint(run, fold=7)


@pytest.mark.parametrize("links", [True, False])
def test_best_and_last_lead_to_siblings(tmp_path, monkeypatch, links):
    """Relative links; JSON pointers where the file system has none; never out of the folder."""
    if not links:
        monkeypatch.setattr("pathlib.Path.symlink_to", _no_links)
    for name in ("step-1", "step-2"):
        (tmp_path / name).mkdir()
        point(tmp_path / "last", name)
        assert pointed_at(tmp_path / "last") == tmp_path / name
    assert (tmp_path / "last").is_symlink() is links
    if not links:
        (tmp_path / "last").write_text('{"checkpoint": "../../etc"}')
        assert pointed_at(tmp_path / "last") is None


def _no_links(*_args, **_kwargs):
    raise OSError("no links here")


def test_a_link_to_a_folder_is_replaced_where_the_system_refuses_to(tmp_path, monkeypatch):
    """As Windows does: nothing is moved onto a link to a folder, which has to go first."""
    replace = os.replace

    def as_windows(source, target):
        if target.is_dir():
            raise PermissionError(13, "Access is denied")
        replace(source, target)

    for name in ("step-1", "step-2"):
        (tmp_path / name).mkdir()
    point(tmp_path / "last", "step-1")
    monkeypatch.setattr(os, "replace", as_windows)
    point(tmp_path / "last", "step-2")
    assert pointed_at(tmp_path / "last") == tmp_path / "step-2"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last", "step-1", "step-2"]


def test_a_file_system_that_flushes_no_folders_will_do(tmp_path, monkeypatch):
    """Some answer EINVAL; an error of the disk is still one."""
    fsync = os.fsync
    code = errno.EINVAL

    def without_folders(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", without_folders)
    write_text(tmp_path / "a", "x")
    code = errno.EIO
    with pytest.raises(OSError, match="Input/output error"):
        write_text(tmp_path / "b", "x")


def test_retention_never_takes_best_or_last(model, tmp_path):
    """--keep last:2 of six, the best an old one."""
    saved = [save_step(model, tmp_path, step, best=step == 2) for step in range(1, 7)]
    assert prune(tmp_path, "all", {saved[1], saved[5]}) == []
    assert len(list(tmp_path.glob("step-*"))) == 6
    prune(tmp_path, "last:2", {saved[1], saved[5]})
    left = sorted(p.name for p in tmp_path.glob("step-*"))
    assert left == ["step-00000002", "step-00000005", "step-00000006"]


def test_what_cannot_be_removed_is_told_and_no_failure(model, tmp_path, monkeypatch):
    """An open handle on Windows, another program: the checkpoint itself is saved."""
    saved = [save_step(model, tmp_path, step, best=True) for step in (1, 2, 3)]
    rename = type(tmp_path).rename

    def held(self, target):
        if self == saved[0]:
            raise PermissionError(13, "held by another program")
        return rename(self, target)

    monkeypatch.setattr(type(tmp_path), "rename", held)
    problems = prune(tmp_path, "last:1", {saved[2]})
    assert problems == [f"{saved[0]}: cannot be removed (held by another program)"]
    assert newest_first(tmp_path) == [saved[2], saved[0]]


def test_a_step_may_come_twice(model, tmp_path):
    """The second gets its own name; the newest is the last written."""
    first = save_step(model, tmp_path, 3, best=True)
    again = save_step(model, tmp_path, 3, best=False)
    assert again.name == "step-00000003-2"
    sound = find_sound(tmp_path)
    assert (sound.last.folder, sound.best, sound.problems) == (again, first, ())


@pytest.mark.parametrize("name", ["step-", "step-x", "step--1", "step-1-2-3", "step-\u00b2"])
def test_other_folders_are_no_checkpoints(model, tmp_path, name):
    """Whatever they are called."""
    saved = save_step(model, tmp_path, 3, best=True)
    (tmp_path / name).mkdir()
    assert newest_first(tmp_path) == [saved]
    assert find_sound(tmp_path).problems == ()


def test_a_damaged_last_falls_back_to_the_newest_sound_one(model, tmp_path):
    """And says why the newer one was passed over, which is set aside for good."""
    good = save_step(model, tmp_path, 1, best=True)
    bad = save_step(model, tmp_path, 2, best=True)
    (bad / "model.safetensors").write_bytes(b"x")
    # what was best is never replaced in silence
    assert best_of(tmp_path) == bad
    sound = find_sound(tmp_path)
    assert (sound.last.folder, sound.best) == (good, good)
    assert len(sound.problems) == 1
    assert "step-00000002" in sound.problems[0]
    assert settle(tmp_path, sound.best, sound.last.folder) == good
    assert best_of(tmp_path) == last_of(tmp_path) == pointed_at(tmp_path / "best") == good
    assert sorted(p.name for p in tmp_path.glob("s*")) == ["set-aside-step-00000002", good.name]
    again = save_step(model, tmp_path, 2, best=True)
    assert again.name == bad.name
    prune(tmp_path, "last:1", {again})
    assert newest_first(tmp_path) == [again]
    assert not list(tmp_path.glob("set-aside-*"))


def test_what_cannot_be_read_at_the_moment_is_not_passed_over(model, tmp_path, monkeypatch):
    """An error of the disk is no damage: training must not go back behind it."""
    save_step(model, tmp_path, 1, best=True)
    bad = save_step(model, tmp_path, 2, best=True)

    def broken(file):
        if file.parent == bad:
            raise OSError(errno.EIO, "Input/output error")
        return real(file)

    monkeypatch.setattr("imgcls.config.files.sha256_of", broken)
    with pytest.raises(CheckpointError, match=r"step-00000002.*cannot be read \(Input/output"):
        find_sound(tmp_path)


def copied(folder, form):
    """Change `best` and `last` to what a copy makes of links."""
    for name in ("best", "last"):
        link = folder / name
        target = link.resolve()
        link.unlink()
        if form == "followed":
            shutil.copytree(target, link)
        elif form == "text":
            link.write_text(target.name)
        elif form == "json":
            link.write_text(json.dumps({"checkpoint": target.name}))
        elif form == "empty files":
            link.write_text("")


FORMS = ["links", "followed", "text", "json", "left out", "empty files"]


@pytest.mark.parametrize("form", FORMS)
def test_best_and_last_are_known_in_every_form_a_copy_may_leave(model, tmp_path, form):
    """From the run, the fold, and by their names; resuming makes links of them again."""
    folder = tmp_path / "fold_0" / "checkpoints"
    folder.mkdir(parents=True)
    steps = [save_step(model, folder, step, best=step == 2) for step in (1, 2, 3)]
    if form != "links":
        copied(folder, form)
    assert find_checkpoint(tmp_path) == steps[1]
    assert find_checkpoint(tmp_path, which="last") == steps[2]
    for name, step in (("best", 2), ("last", 3)):
        if form != "empty files":
            assert read_checkpoint(find_checkpoint(folder / name)).sidecar.step == step
    sound = find_sound(folder)
    assert (sound.last.folder, sound.best, sound.problems) == (steps[2], steps[1], ())
    assert settle(folder, sound.best, sound.last.folder) == steps[1]
    assert {p.name for p in folder.iterdir()} == {"best", "last", *(p.name for p in steps)}
    assert (folder / "best").resolve() == steps[1]
    assert (folder / "last").resolve() == steps[2]


@pytest.mark.parametrize("best", [2, 3])
@pytest.mark.parametrize("lost", ["steps left out", "steps damaged"])
def test_a_followed_link_stands_in_for_its_step(model, tmp_path, lost, best):
    """Where only the copies came through, they are evaluated, resumed and become the steps."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    steps = [save_step(model, folder, step, best=step == best) for step in (1, 2, 3)]
    copied(folder, "followed")
    for step in steps:
        if lost == "steps left out":
            shutil.rmtree(step)
        else:
            (step / "checkpoint.json").write_bytes(b"{")
    for name, step in (("best", best), ("last", 3)):
        which = find_checkpoint(folder, which=name)
        assert read_checkpoint(which).sidecar.step == step
    sound = find_sound(folder)
    assert sound.last.sidecar.step == 3
    settled = settle(folder, sound.best, sound.last.folder)
    assert settled == steps[best - 1]
    for name, step in (("best", best), ("last", 3)):
        assert (folder / name).is_symlink()
        found = read_checkpoint(find_checkpoint(folder, which=name))
        assert (found.folder, found.sidecar.step) == (steps[step - 1], step)
    prune(folder, "last:1", {save_step(model, folder, 4, best=False), settled})
    assert find_checkpoint(folder) == steps[best - 1]


def test_a_link_to_itself_is_refused(tmp_path):
    """It would lead nowhere, and what it led to before would be lost."""
    (tmp_path / "step-1").mkdir()
    point(tmp_path / "best", "step-1")
    with pytest.raises(ValueError, match="would lead to itself"):
        point(tmp_path / "best", "best")
    assert pointed_at(tmp_path / "best") == tmp_path / "step-1"


def test_a_run_of_an_earlier_version_goes_by_its_pointers(model, tmp_path):
    """Its checkpoints do not say whether they were the best."""
    folders = []
    for step in (1, 2):
        snapshot = take_snapshot(model, {}, replace(SAID, step=step, best=step == 1), STATE)
        folders.append(write_and_link(snapshot, tmp_path, step))
        rewrite_sidecar(folders[-1], lambda s: s["facts"].pop("best"))
    assert best_of(tmp_path) == folders[0]
    sound = find_sound(tmp_path)
    assert (sound.last.folder, sound.best) == (folders[1], folders[0])
