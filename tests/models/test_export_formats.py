"""Exported models: what their files give beside what imgcls scores."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform

import imgcls
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
def test_the_graph_resizes_to_timms_very_pixels(monkeypatch, interpolation, mode, size):
    """Of pictures of any size: Pillow's rounding of weights and levels is in the graph.

    Pillow 13 goes by rows first where that is less work, and rounds other levels between the two
    passes than Pillow before and the graph, which go by columns first.
    """
    whole = Image.Image.resize

    def by_columns_first(image, sides, resample):
        return whole(whole(image, (sides[0], image.height), resample), sides, resample)

    monkeypatch.setattr(Image.Image, "resize", by_columns_first)
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


TOLD = {
    "classes": '["a", "é"]',
    "note": 'one "line"\nand another',
    "Image.BitmapPixelFormat": "Rgb8",
}
QUICK = ("onnx", "openvino")


def formats(*, quick):
    return [pytest.param(kind, marks=() if kind in quick else pytest.mark.slow) for kind in FORMATS]


def each_model():
    for kind in FORMATS:
        for name in ("test_vit", "test_resnet"):
            for profile in ("picture", "tensor"):
                quick = kind in QUICK and (name, profile) == ("test_vit", "picture")
                yield pytest.param(kind, name, profile, marks=() if quick else pytest.mark.slow)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A model behind a profile, and its file in a format: each is made once."""
    modules, files = {}, {}

    def write(kind, name="test_vit", profile="picture"):
        if (name, profile) not in modules:
            model = sharp(name)
            own = preprocessing_of(model, "crop")
            modules[name, profile] = exportable(model, own, profile, 1.5), example_of(profile, own)
        module, example = modules[name, profile]
        if (kind, name, profile) not in files:
            file = tmp_path_factory.mktemp(kind) / f"model{FORMATS[kind].suffix}"
            FORMATS[kind].write(module, example, file, TOLD)
            files[kind, name, profile] = file
        return module, example, files[kind, name, profile]

    return write


@pytest.mark.parametrize(("kind", "name", "profile"), [*each_model()])
def test_a_file_gives_what_the_model_gives(kind, name, profile, written):
    """For batches and pictures of other sizes than the exporter saw."""
    module, example, file = written(kind, name, profile)
    run = FORMATS[kind].open(file)
    for batch, height, width in [(1, 1, 40), (3, 170, 200), (8, 20, 20)]:
        if profile == "picture":
            one = np.array(picture(width, height))
            images = torch.from_numpy(np.stack([one, *[one[::-1, ::-1]] * (batch - 1)]))
        else:
            images = torch.randn(batch, *example.shape[1:])
        with torch.no_grad():
            want = module(images)
        found = torch.from_numpy(run(images.numpy()))
        if profile == "tensor":
            want, found = want.softmax(1), found.softmax(1)
        assert want.max() > 0.4  # near-uniform ones would all be alike
        # OpenVINO has the weights of resizing in float32: another level here and there
        atol = 5e-3 if (kind, profile) == ("openvino", "picture") else 1e-5
        torch.testing.assert_close(found, want, atol=atol, rtol=0)


@pytest.mark.parametrize("kind", formats(quick=QUICK))
def test_a_file_tells_what_it_was_told(kind, written):
    """Metadata come back as they were given, whatever characters they have."""
    _, _, file = written(kind)
    if kind == "onnx":
        import onnx

        found = {one.key: one.value for one in onnx.load(file).metadata_props}
    elif kind == "openvino":
        import openvino

        model = openvino.Core().read_model(str(file))
        found = {key: model.get_rt_info(["model_info", key]).astype(str) for key in TOLD}
    else:
        extra = {"metadata.json": ""}
        torch.export.load(file, extra_files=extra)
        found = json.loads(extra["metadata.json"])
    assert found == TOLD


@pytest.mark.parametrize("kind", formats(quick=QUICK))
def test_a_file_names_no_place_of_this_machine(kind, written):
    """Exporters note where the code of each operation lies."""
    _, _, file = written(kind)
    places = [str(Path(imgcls.__file__).parents[1]), str(Path(timm.__file__).parents[1])]
    for one in file.parent.iterdir():
        content = one.read_bytes()
        assert not [place for place in places if place.encode() in content]


def test_an_onnx_file_names_its_input_output_and_free_sizes(written):
    """As other tools show them."""
    import onnx

    graph = onnx.load(written("onnx")[2]).graph
    found = {
        value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    assert found == {"image": ["batch", "height", "width", 3], "probabilities": ["batch", 5]}


def test_weights_that_no_protobuf_holds_lie_beside_the_onnx_file(written, tmp_path, monkeypatch):
    """And are found there by the runtime, and by OpenVINO's conversion."""
    module, example, _ = written("onnx")
    monkeypatch.setattr("imgcls.models.export.onnx._LARGEST_BYTES", 1000)
    images = np.zeros((2, 9, 9, 3), np.uint8)
    for kind, beside in (("onnx", "model.onnx.data"), ("openvino", "model.bin")):
        file = tmp_path / kind / f"model{FORMATS[kind].suffix}"
        file.parent.mkdir()
        FORMATS[kind].write(module, example, file, {})
        assert {one.name for one in file.parent.iterdir()} == {file.name, beside}
        found = torch.from_numpy(FORMATS[kind].open(file)(images))
        with torch.no_grad():
            want = module(torch.from_numpy(images))
        torch.testing.assert_close(found, want, atol=1e-5, rtol=0)


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
