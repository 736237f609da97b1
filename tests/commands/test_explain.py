"""What the model looked at, beside its worst mistakes."""

from __future__ import annotations

import csv
import importlib.util
import json
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from imgcls.engine.checkpoint.folder import read_checkpoint
from imgcls.engine.device.batches import ComputeSettings, Normalizer
from imgcls.errors import ConfigError
from imgcls.jobs.evaluate.explain import _overlays, require_explainable
from imgcls.models.explain.grad_cam import grad_cam
from imgcls.storage.pointers import find_checkpoint

OPTIONS = ("--device", "cpu", "--workers", "0", "--ci", "none")


def train(command, photos, model):
    done = command(
        "train", photos, "--model", model, "--no-pretrained", "--img-size", "160", "--epochs", "1",
        "--name", "run", *OPTIONS[:4],
    )  # fmt: skip
    assert done.code == 0, done.err
    return photos.parent / "outputs" / "run"


@pytest.mark.parametrize(
    ("model", "method"), [("test_resnet", "Grad-CAM"), ("test_vit", "attention rollout")]
)
def test_mistakes_stand_beside_what_the_model_looked_at(command, photos, browser, model, method):
    """A heat map for each mistake and its method, on the page and as files; gone the next time."""
    run = train(command, photos, model)
    done = command("evaluate", run, "--split", "train", "--explain", *OPTIONS)
    assert done.code == 0, done.err
    folder = run / "fold_0" / "test_results" / "train"
    with (folder / "predictions.csv").open(encoding="utf-8") as stream:
        wrong = {row["path"] for row in csv.DictReader(stream) if row["correct"] == "0"}
    with (folder / "explanations" / "index.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    explained = {row["path"]: row["file"] for row in rows}
    assert {row["method"] for row in rows} == {method}
    assert explained.keys() <= wrong
    assert len(explained) == min(24, len(wrong)) > 0
    for file in explained.values():
        with Image.open(folder / "explanations" / file) as overlay:
            assert overlay.size == (160, 160)
    browser.open(folder / "report.html")
    assert browser.complaints() == []
    assert f"({method})" in browser.run("return document.body.innerText")
    assert len(browser.run("return [...document.querySelectorAll('.pictures img + img')]")) == len(
        explained
    )
    assert browser.run("return [...document.images].every(i => i.naturalWidth > 0)")
    assert command("evaluate", run, "--split", "train", "--no-report", *OPTIONS).code == 0
    assert not (folder / "explanations").exists()


def batch_of(images):
    return SimpleNamespace(images=images, labels=torch.zeros(len(images), dtype=torch.int64))


def heat_maps(model, images, said):
    normalizer = Normalizer((0.5,) * 3, (0.5,) * 3, ComputeSettings(torch.device("cpu")))
    overlays = _overlays(grad_cam(model), [batch_of(images)], normalizer, np.array(said))
    return [np.asarray(overlay).astype(int) for overlay in overlays]


class ByColour(torch.nn.Module):
    """Class 0 is the share of red, class 1 the share of blue."""

    feature_info = ({"module": "colours"},)

    def __init__(self):
        super().__init__()
        self.colours = torch.nn.Conv2d(3, 2, 8, stride=8, bias=False)
        with torch.no_grad():
            self.colours.weight.zero_()
            self.colours.weight[0, 0] = self.colours.weight[1, 2] = 1.0

    def forward(self, images):
        return torch.relu(self.colours(images)).mean(dim=(2, 3))


def test_the_heat_lies_where_the_answer_comes_from():
    """Red lies to the left and blue to the right; so does the heat, by the class that was said."""
    images = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    images[:, 0, :, :24] = images[:, 2, :, 40:] = 255
    red, blue = heat_maps(ByColour(), images, [0, 1])
    # inferno: hot is bright in green, which neither half of the picture has
    assert red[:, :16, 1].mean() > red[:, 48:, 1].mean() + 50
    assert blue[:, 48:, 1].mean() > blue[:, :16, 1].mean() + 50


@pytest.mark.parametrize("name", ["test_convnext", "swin_tiny_patch4_window7_224", "mixer_s32_224"])
def test_other_families_are_laid_out_right(name):
    """Channels last, tokens without a class token: one map of the input's size for each picture."""
    model = timm.create_model(name, pretrained=False, num_classes=3)
    size = 160 if name.startswith("test") else 224
    maps = heat_maps(model, torch.randint(0, 255, (2, 3, size, size), dtype=torch.uint8), [0, 1])
    assert [shown.shape for shown in maps] == [(size, size, 3)] * 2


def test_a_missing_extra_is_one_line(command, photos, monkeypatch):
    """What to install, before anything is scored."""
    run = train(command, photos, "test_resnet")
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *rest: None if name == "pytorch_grad_cam" else find(name, *rest),
    )
    done = command("evaluate", run, "--explain", *OPTIONS)
    assert done.code == 2
    assert 'pip install "imgcls[explain]"' in done.err
    assert not (run / "fold_0" / "test_results").exists()


def test_a_model_that_hides_its_features_is_refused(command, photos, monkeypatch):
    """Before anything is scored."""
    run = train(command, photos, "test_resnet")
    checkpoint = read_checkpoint(find_checkpoint(run))
    require_explainable(checkpoint)
    monkeypatch.setattr(
        "imgcls.jobs.evaluate.explain.model_from_card", lambda _card: torch.nn.Linear(1, 1)
    )
    with pytest.raises(ConfigError, match="last features"):
        require_explainable(checkpoint)


def test_nothing_wrong_leaves_nothing_to_explain(command, photos):
    """A split without mistakes has no explanations and no second column."""
    run = train(command, photos, "test_resnet")
    done = command("evaluate", run, "--split", "val", "--explain", "--json", *OPTIONS)
    report = json.loads(done.out)
    folder = run / "fold_0" / "test_results" / "val"
    assert (folder / "explanations").exists() == (report["metrics"]["accuracy"] < 1)
