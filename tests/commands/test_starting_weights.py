"""Which weights a model was trained from, and their licence: in the plan and in its checkpoints."""

from __future__ import annotations

import json
import shutil

import pytest
import timm
import torch
from conftest import OFFLINE
from safetensors.torch import save_file

from imgcls.config.model import ModelConfig
from imgcls.data.open import open_source
from imgcls.engine.checkpoint.folder import read_checkpoint
from imgcls.jobs.plan.model import plan_model
from imgcls.storage.pointers import find_checkpoint

TRAIN = ("train", "photos", "--device", "cpu", "--epochs", "1", "--no-preflight", "--workers", "0")
TINY = ("--model", "test_resnet", "--img-size", "32")


@pytest.fixture
def published(tmp_path):
    """A folder with test_resnet as somebody published it on Hugging Face."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    model = timm.create_model("test_resnet")
    save_file(model.state_dict(), folder / "model.safetensors")
    cfg = {"tag": "r160_in1k", "license": "cc-by-nc-4.0"}
    card = {"architecture": "test_resnet", "num_classes": 1000, "pretrained_cfg": cfg}
    (folder / "config.json").write_text(json.dumps(card))
    return folder


def checkpoint_of(run):
    return read_checkpoint(find_checkpoint(run))


@pytest.mark.parametrize(
    ("name", "weights", "licence", "words"),
    [
        ("resnet18", "resnet18.a1_in1k", "apache-2.0", None),
        ("resnet18.fb_ssl_yfcc100m_ft_in1k", None, "cc-by-nc-4.0", "non-commercial use only"),
        ("vit_small_patch16_dinov3", "vit_small_patch16_dinov3.lvd1689m", "dinov3-license", "read"),
        ("resnet50.bamboo", None, None, "no licence is stated"),
    ],
)
def test_the_plan_says_which_weights_and_what_their_licence_asks(name, weights, licence, words):
    """The default tag where none is given; a line for each licence that is not simply free."""
    plan = plan_model(ModelConfig(name=name, pretrained=True), open_source("digits"))
    assert plan.starting_weights.name == (weights or name)
    assert plan.starting_weights.licence == licence
    assert len(plan.notes) == bool(words)
    assert not words or (words in plan.notes[0] and plan.starting_weights.name in plan.notes[0])


def test_weights_out_of_a_file_are_of_unknown_licence(command, tmp_path, photos):
    """Said in the plan and kept in the checkpoint; what is known of the architecture's own is not
    claimed for them."""
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "w.safetensors")
    done = command(*TRAIN, *TINY, "--weights", "w.safetensors", "--experiment", "mine")
    assert done.code == 0, done.err
    assert "of unknown origin and licence" in done.err
    assert "does not say whose weights these are" in done.err
    checkpoint = checkpoint_of(tmp_path / "outputs" / "mine")
    assert checkpoint.starting_weights.kind == "unknown"
    assert not {"tag", "license"} & set(checkpoint.card["pretrained_cfg"])


def test_a_model_folders_licence_goes_from_model_to_model(command, tmp_path, photos, published):
    """From a folder to a run, through a resume after the folder is gone, and on to the next run."""
    done = command(*TRAIN, *TINY, "--weights", published, "--experiment", "first")
    assert done.code == 0, done.err
    assert "Weights     test_resnet.r160_in1k, licence cc-by-nc-4.0" in done.err
    assert "test_resnet.r160_in1k: the licence cc-by-nc-4.0 is for non-commercial" in done.err
    shutil.rmtree(published)
    resumed = command("resume", "outputs/first", "--epochs", "2")
    assert resumed.code == 0, resumed.err
    assert "non-commercial" not in resumed.err  # it was said when the run began
    first = checkpoint_of(tmp_path / "outputs" / "first")
    assert first.starting_weights.licence == "cc-by-nc-4.0"
    assert first.card["pretrained_cfg"]["license"] == "cc-by-nc-4.0"
    assert first.card["pretrained_cfg"]["tag"] == "r160_in1k"
    weights = first.folder / "model.safetensors"
    done = command(*TRAIN, *TINY, "--weights", weights, "--dry-run", "--json")
    assert json.loads(done.out)["starting_weights"] == {
        "kind": "pretrained", "name": "test_resnet.r160_in1k", "licence": "cc-by-nc-4.0",
    }  # fmt: skip


def test_a_model_from_scratch_claims_no_ones_weights(command, trained):
    """Neither in the plan nor in the checkpoint, whose architecture has a default tag in timm."""
    assert "Weights " not in command("train", "digits", *OFFLINE, "--dry-run").out
    checkpoint = checkpoint_of(trained / "outputs" / "single")
    assert checkpoint.starting_weights.kind == "random"
    assert not {"tag", "license"} & set(checkpoint.card["pretrained_cfg"])
    rebuilt = timm.create_model(f"local-dir:{checkpoint.folder}", pretrained=True)
    assert rebuilt.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 3)


@pytest.mark.parametrize(
    ("model", "kind", "licence"),
    [
        ({"pretrained": True, "weights": None}, "pretrained", "mit"),
        ({"pretrained": False, "weights": "w.safetensors"}, "unknown", None),
        ({"pretrained": False, "weights": None}, "random", None),
    ],
)
def test_checkpoints_of_earlier_versions_say_what_their_config_says(model, kind, licence):
    """Their cards named the architecture's default weights, whatever they were trained from."""
    from imgcls.results.checkpoint import Sidecar

    sidecar = Sidecar(class_names=("a", "b"), config={"model": model})
    card = {"architecture": "x", "pretrained_cfg": {"tag": "y", "license": "mit"}}
    began = sidecar.began_with(card)
    assert (began.kind, began.licence) == (kind, licence)


@pytest.mark.parametrize("data", [(), ("--data", "photos", "--device", "cpu")])
def test_an_imported_model_is_of_unknown_weights(command, tmp_path, photos, data):
    """No trainer's file says where its training began; also where it becomes a run that goes on."""
    model = timm.create_model("test_resnet", num_classes=3)
    torch.save(model.state_dict(), tmp_path / "old.pth")
    (tmp_path / "classes.txt").write_text("china\nflower\nviolet\n")
    done = command("import", "old.pth", "--model", "test_resnet", "--classes", "classes.txt", *data)
    assert done.code == 0, done.err
    (file,) = tmp_path.glob("outputs/**/checkpoint.json")
    checkpoint = read_checkpoint(file.parent)
    assert checkpoint.sidecar.starting_weights.kind == "unknown"
    assert not {"tag", "license"} & set(checkpoint.card["pretrained_cfg"])
