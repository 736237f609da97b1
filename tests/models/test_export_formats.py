"""Exported models: what their files give beside what imgcls scores."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform

from imgcls.data.pixels.transforms import EvalTransform
from imgcls.errors import ModelError
from imgcls.models.card import Preprocessing, preprocessing_of
from imgcls.models.export.formats import FORMATS
from imgcls.models.export.profiles import PictureModel, example_of, exportable
from imgcls.models.export.resizing import FILTERS

SIZES = [(1, 1), (1, 7), (9, 1), (8, 8), (36, 36), (32, 32), (500, 30), (30, 700), (640, 427)]


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
@pytest.mark.parametrize("interpolation", FILTERS)
def test_the_graph_resizes_to_timms_very_pixels(interpolation, mode, size):
    """Of pictures of any size: Pillow's rounding of weights and levels is in the graph."""
    mean = (0.485, 0.456, 0.406)[: size[0]]
    own = Preprocessing(size, mean, (0.2,) * size[0], interpolation, 0.875, mode)
    model = PictureModel(torch.nn.Identity(), own, 1.0)
    timms = create_transform(
        size,
        use_prefetcher=True,
        interpolation=interpolation,
        mean=mean,
        crop_pct=0.875,
        crop_mode=mode,
    )
    for width, height in SIZES:
        image = picture(width, height)
        want = timms(image if size[0] > 1 else image.convert("L"))
        found = model.pixels(torch.from_numpy(np.array(image))[None])[0]
        assert (found.numpy() == np.asarray(want)).all(), (width, height)


def test_of_a_very_long_picture_a_row_is_left():
    """Where all of it is kept; timm has no answer there, imgcls has."""
    own = Preprocessing((3, 32, 32), (0.5,) * 3, (0.5,) * 3, "bicubic", 1.0, "border")
    image = picture(3000, 3)
    found = PictureModel(torch.nn.Identity(), own, 1.0).pixels(
        torch.from_numpy(np.array(image))[None]
    )
    assert (found[0] == EvalTransform(own)(image)).all()


def each_quick_or_slow():
    for file_format in FORMATS:
        for name in ("test_resnet", "test_vit"):
            for profile in ("picture", "tensor"):
                quick = (file_format, name, profile) == ("onnx", "test_vit", "picture")
                marks = () if quick else pytest.mark.slow
                yield pytest.param(file_format, name, profile, marks=marks)


@pytest.mark.parametrize(("file_format", "name", "profile"), [*each_quick_or_slow()])
def test_a_file_gives_what_the_model_gives(file_format, name, profile, tmp_path):
    """For batches and pictures of other sizes than the exporter saw."""
    model = sharp(name)
    own = preprocessing_of(model, "crop")
    module = exportable(model, own, profile, 1.5)
    kind = FORMATS[file_format]
    file = tmp_path / f"model{kind.suffix}"
    kind.write(module, example_of(profile, own), file, {"classes": "[]"})
    run = kind.open(file)
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
        assert want.max() > 0.4  # near-uniform ones would all be alike
        # OpenVINO has the weights of resizing in float32: another level here and there
        atol = 5e-3 if (file_format, profile) == ("openvino", "picture") else 1e-5
        torch.testing.assert_close(found, want, atol=atol, rtol=0)


def test_transparency_is_refused_by_pictures_and_taken_as_tensors():
    """A decoded RGB picture has none."""
    model = timm.create_model("test_resnet", in_chans=4)
    own = Preprocessing((4, 32, 32), (0.5,) * 4, (0.5,) * 4, "bilinear", 1.0, "center")
    with pytest.raises(ModelError, match=r"4 channels, .*--profile tensor"):
        exportable(model, own, "picture")
    assert exportable(model, own, "tensor")(torch.zeros(2, 4, 32, 32)).shape == (2, 1000)


@pytest.mark.parametrize("interpolation", ["nearest", "box"])
def test_filters_that_runtimes_disagree_on_are_refused_by_pictures(interpolation):
    """Such pixels would differ in silence."""
    own = Preprocessing((3, 32, 32), (0.5,) * 3, (0.5,) * 3, interpolation, 1.0, "center")
    with pytest.raises(ModelError, match=rf"by {interpolation}, .*--profile tensor"):
        exportable(torch.nn.Identity(), own, "picture")
