"""A checkpoint is whole and verified, or it is refused with the reason."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from imgcls.config.model import ModelConfig
from imgcls.engine import checkpoint as cp
from imgcls.engine.checkpoint import (
    find_checkpoint,
    load_checkpoint,
    read_checkpoint,
    read_state,
    save_checkpoint,
    take_snapshot,
)
from imgcls.engine.checkpointer import newest_sound_checkpoint, prune, write_and_link
from imgcls.engine.durable import point, pointed_at
from imgcls.errors import CheckpointError
from imgcls.models.build import create_model

FACTS = {"class_names": ["a", "b"], "epoch": 1, "step": 5}
STATE = {"progress": {"epoch": 1}, "optimizer": {"m": torch.arange(4.0)}}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return create_model(ModelConfig(name="test_resnet", num_classes=2))


@pytest.fixture
def saved(model, tmp_path):
    snapshot = take_snapshot(model, {"architecture": "test_resnet"}, FACTS, STATE)
    return save_checkpoint(snapshot, tmp_path / "step-00000005")


def test_it_holds_four_files_and_comes_back_equal(model, saved):
    """Weights, card, state and facts."""
    assert {p.name for p in saved.iterdir()} == {
        "model.safetensors", "config.json", "state.safetensors", "checkpoint.json",
    }  # fmt: skip
    other = create_model(ModelConfig(name="test_resnet", num_classes=2))
    found = load_checkpoint(other, saved)
    for key, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[key], value)
    assert found.facts == FACTS
    state = read_state(found)
    assert torch.equal(state["optimizer"]["m"], STATE["optimizer"]["m"])


def test_without_its_state_it_can_be_evaluated_but_not_resumed(model, saved):
    """A copy without state.safetensors is still a checkpoint."""
    (saved / "state.safetensors").unlink()
    found = load_checkpoint(model, saved)
    with pytest.raises(CheckpointError, match="can be evaluated but not resumed"):
        read_state(found)


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
        second = take_snapshot(model, {"architecture": "x"}, FACTS, changed)
        save_checkpoint(second, tmp_path / "two")
        shutil.copy(tmp_path / "two" / name, file)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(saved)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def rewrite_sidecar(folder, change):
    file = folder / "checkpoint.json"
    sidecar = json.loads(file.read_text())
    sidecar.pop("sha256")
    change(sidecar)
    sidecar["sha256"] = cp._own_hash(sidecar)
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
    other = create_model(ModelConfig(name="test_resnet", num_classes=3))
    with pytest.raises(
        CheckpointError, match=r"fc\.weight is \[2, 96\] in the file and \[3, 96\] in the model"
    ):
        load_checkpoint(other, saved)
    smaller = load_file(saved / "model.safetensors")
    smaller.pop("fc.bias")
    save_file(smaller, saved / "model.safetensors")
    seal = cp._seal(saved / "model.safetensors")
    rewrite_sidecar(saved, lambda s: s["files"].update({"model.safetensors": seal}))
    with pytest.raises(CheckpointError, match=r"fc\.bias is missing in the file"):
        load_checkpoint(model, saved)
    load_checkpoint(model, saved, strict=False)


def test_a_folder_without_checkpoint_says_what_was_looked_for(tmp_path):
    """Checkpoint, fold or run folder."""
    with pytest.raises(CheckpointError, match="give a checkpoint, fold or run folder"):
        find_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="no such file or folder"):
        find_checkpoint(tmp_path / "none")


def test_run_fold_link_and_folder_lead_to_the_same_place(model, tmp_path):
    """`best` of a run with one fold; --fold chooses among several."""
    snapshot = take_snapshot(model, {}, FACTS)
    run = tmp_path / "run"
    folder = run / "fold_0" / "checkpoints"
    folder.mkdir(parents=True)
    saved = write_and_link(snapshot, folder, 5, is_best=True)
    for path in (run, run / "fold_0", folder, folder / "best", saved):
        assert find_checkpoint(path) == saved
    (run / "fold_1" / "checkpoints").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"several folds; choose one with --fold \(0, 1\)"):
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


def test_retention_never_takes_best_or_last(model, tmp_path):
    """--keep last:2 of six, the best an old one."""
    snapshot = take_snapshot(model, {}, FACTS)
    for step in range(1, 7):
        write_and_link(snapshot, tmp_path, step, is_best=step == 2)
    prune(tmp_path, "all")
    assert len(list(tmp_path.glob("step-*"))) == 6
    prune(tmp_path, "last:2")
    left = sorted(p.name for p in tmp_path.glob("step-*"))
    assert left == ["step-00000002", "step-00000005", "step-00000006"]


def test_a_step_may_come_twice(model, tmp_path):
    """The second gets its own name; the newest is the last written."""
    snapshot = take_snapshot(model, {}, FACTS)
    write_and_link(snapshot, tmp_path, 3, is_best=True)
    again = write_and_link(snapshot, tmp_path, 3, is_best=False)
    assert again.name == "step-00000003-2"
    assert newest_sound_checkpoint(tmp_path) == (again, [])


def test_a_damaged_last_falls_back_to_the_newest_sound_one(model, tmp_path):
    """And says why the newer one was passed over."""
    snapshot = take_snapshot(model, {}, FACTS)
    good = write_and_link(snapshot, tmp_path, 1, is_best=True)
    bad = write_and_link(snapshot, tmp_path, 2, is_best=False)
    (bad / "model.safetensors").write_bytes(b"x")
    found, problems = newest_sound_checkpoint(tmp_path)
    assert found == good
    assert len(problems) == 1
    assert "step-00000002" in problems[0]
