"""Exported models: what their files give beside what imgcls scores."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from imgcls.data.pixels.transforms import EvalTransform
from imgcls.errors import ModelError
from imgcls.models.card import Preprocessing, preprocessing_of
from imgcls.models.export.formats import FORMATS
from imgcls.models.export.profiles import PictureModel, example_of, exportable

SIZES = [(1, 1), (1, 7), (9, 1), (8, 8), (36, 36), (32, 32), (500, 30), (3000, 3), (640, 427)]


def picture(width, height, channels=3):
    rng = np.random.default_rng(width * height)
    coarse = rng.integers(0, 256, (9, 11, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    noisy = np.asarray(image) + rng.integers(-20, 20, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def sharp(name):
    """A model with random weights whose answers differ as a trained one's do."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5).eval()
    with torch.no_grad():
        model.get_classifier().weight.mul_(100)
    return model


@pytest.mark.parametrize("size", [(3, 32, 32), (3, 32, 48), (1, 32, 32)])
@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos", "hamming"])
def test_the_graph_resizes_to_pillows_levels(interpolation, mode, size):
    """Pictures of any size, to two levels of 255 in few pixels: where a half is rounded."""
    mean = (0.485, 0.456, 0.406)[: size[0]]
    own = Preprocessing(size, mean, (0.2,) * size[0], interpolation, 0.875, mode)
    model = PictureModel(torch.nn.Identity(), own, 1.0)
    for width, height in SIZES:
        image = picture(width, height)
        want = EvalTransform(own)(image if size[0] > 1 else image.convert("L")).float()
        found = model.pixels(torch.from_numpy(np.array(image))[None])[0]
        off = (found - want).abs()
        assert off.max() <= 2, (width, height)
        assert (off > 0).float().mean() < 0.2, (width, height)


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("test_vit", "picture"),
        pytest.param("test_vit", "tensor", marks=pytest.mark.slow),
        pytest.param("test_resnet", "picture", marks=pytest.mark.slow),
        pytest.param("test_resnet", "tensor", marks=pytest.mark.slow),
    ],
)
def test_a_file_gives_what_the_model_gives(name, profile, tmp_path):
    """For batches and pictures of other sizes than the exporter saw."""
    model = sharp(name)
    own = preprocessing_of(model, "crop")
    module = exportable(model, own, profile, 1.5)
    file = tmp_path / "model.onnx"
    FORMATS["onnx"].write(module, example_of(profile, own), file, {"classes": "[]"})
    run = FORMATS["onnx"].open(file)
    for batch, height, width in [(1, 1, 40), (3, 170, 200), (8, 20, 20)]:
        if profile == "picture":
            one = np.array(picture(width, height))
            images = torch.from_numpy(np.stack([one, *[one[::-1, ::-1]] * (batch - 1)]))
        else:
            images = torch.randn(batch, *own.input_size)
        with torch.no_grad():
            want = module(images)
        found = torch.from_numpy(run(images.numpy()))
        if profile == "tensor":
            want, found = want.softmax(1), found.softmax(1)
        assert want.max() > 0.4
        torch.testing.assert_close(found, want, atol=1e-5, rtol=0)


def test_transparency_is_refused_by_pictures_and_taken_as_tensors():
    """A decoded RGB picture has none."""
    model = timm.create_model("test_resnet", in_chans=4)
    own = Preprocessing((4, 32, 32), (0.5,) * 4, (0.5,) * 4, "bilinear", 1.0, "center")
    with pytest.raises(ModelError, match=r"4 channels, .*--profile tensor"):
        exportable(model, own, "picture")
    assert exportable(model, own, "tensor")(torch.zeros(2, 4, 32, 32)).shape == (2, 1000)
