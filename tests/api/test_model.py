"""A trained model as an object: it scores files and pictures in memory as `imgcls predict` does."""

from __future__ import annotations

import io
import json
import shutil
import warnings

import numpy as np
import pytest
import torch
from odd_pictures import COLOUR, GREYS
from PIL import Image, ImageOps

import imgcls
from imgcls.errors import BadImageError, ConfigError, DataError, ModelError

SINGLE, FOLDS = "outputs/single", "outputs/folds"


@pytest.fixture(scope="module")
def model(trained):
    return imgcls.load(trained / SINGLE, device="cpu")


@pytest.fixture(scope="module")
def deep(trained):
    """The same, for pictures of 16 bits that do not say so."""
    return imgcls.load(trained / SINGLE, device="cpu", bit_depth=16)


@pytest.fixture
def files(trained):
    return sorted((trained / "photos").rglob("*.jpg"))


def test_probabilities_are_those_of_predict(trained, model, files):
    """For the same files, in batches of the same size, to the digit that predict writes."""
    report = imgcls.predict(files, checkpoint=trained / SINGLE, device="cpu", workers=0)
    probabilities = model.predict_proba(files)
    assert (probabilities.dtype, probabilities.shape) == (np.float32, (36, 3))
    assert np.allclose(probabilities.sum(1), 1, atol=1e-6)
    predictions = model.predict(files)
    for row, one, likely in zip(report.rows, predictions, probabilities, strict=True):
        assert (one.path, one.label, one.probability) == (row.path, row.labels[0], one.top[0][1])
        assert one.top == tuple(zip(row.labels, row.probabilities, strict=True))
        assert one.probability == pytest.approx(likely.max(), rel=1e-5)
        assert model.class_names[likely.argmax()] == one.label
    assert model.predict(str(files[0])) == predictions[0]


def test_what_calibrates_and_doubts_predict_does_so_here(trained, tmp_path, files):
    """The kept temperature, sets and flags; views averaged by tta."""
    run = shutil.copytree(trained / SINGLE, tmp_path / "run")
    imgcls.evaluate(run, calibrate="temperature", ci="none", report=False, device="cpu", workers=0)
    [kept] = run.rglob("calibration.json")
    kept.write_text(json.dumps({**json.loads(kept.read_text()), "temperature": 0.1}))
    options = {"device": "cpu", "unlike": 0.5, "tta": "hflip", "top_k": 1}
    model = imgcls.load(run, **options)
    report = imgcls.predict(files, checkpoint=run, workers=0, **options)
    assert report.temperatures == (0.1,)
    for row, one in zip(report.rows, model.predict(files), strict=True):
        assert one.top == ((row.labels[0], row.probabilities[0]),)
        assert (one.set, one.flag) == (row.members, row.flag)
    plain = imgcls.load(run, calibrate="none", device="cpu").predict_proba(files)
    assert not np.allclose(plain, imgcls.load(run, device="cpu").predict_proba(files))


def test_an_ensemble_averages_the_folds(trained, files):
    """As predict --ensemble; it has no features in common."""
    model = imgcls.load(trained / FOLDS, ensemble=True, device="cpu")
    folds = [imgcls.load(trained / FOLDS / f"fold_{n}", device="cpu") for n in range(2)]
    mean = np.mean([fold.predict_proba(files) for fold in folds], axis=0)
    assert np.allclose(model.predict_proba(files), mean, atol=1e-6)
    with pytest.raises(ModelError, match="ensemble"):
        model.embed(files[:1])


def test_features_are_those_of_predict(trained, model, files, tmp_path):
    """float32 [N, D], and the module's own classifier makes the logits of them."""
    features = model.embed(files)
    file = tmp_path / "features.npy"
    imgcls.predict(
        files, checkpoint=trained / SINGLE, features=file, device="cpu", workers=0, batch_size=32
    )
    assert np.array_equal(features, np.load(file))
    with torch.inference_mode():
        logits = model.module.get_classifier()(torch.from_numpy(features))
    assert np.allclose(logits.softmax(1).numpy(), model.predict_proba(files), atol=1e-5)


def test_the_module_takes_what_preprocessing_says(model, files):
    """Somebody's own loop gives the same scores within a level of the pixels."""
    wants = model.preprocessing
    assert wants.input_size == (3, 32, 32)
    import timm

    transform = timm.data.create_transform(
        wants.input_size, mean=wants.mean, std=wants.std, interpolation=wants.interpolation,
        crop_pct=wants.crop_pct, crop_mode=wants.crop_mode,
    )  # fmt: skip
    with Image.open(files[0]) as picture, torch.inference_mode():
        logits = model.module(transform(picture)[None])
    assert np.allclose(logits.softmax(1).numpy(), model.predict_proba(files[0]), atol=0.02)
    assert not model.module.training


def _opened(content):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of damaged EXIF data
        return Image.open(io.BytesIO(content))


# Pillow 12 cannot read the one that it writes
@pytest.mark.parametrize("case", [case for case in [*COLOUR, *GREYS] if case != "YCbCr TIFF"])
def test_a_pil_picture_is_what_its_file_is(deep, tmp_path, case):
    """Not yet read: the same bits, turned, of 16 bits, with a palette or alpha as files are."""
    content = (COLOUR | GREYS)[case]
    (tmp_path / "picture").write_bytes(content)
    of_file = deep.predict_proba(tmp_path / "picture")
    with _opened(content) as picture:
        assert np.array_equal(deep.predict_proba(picture), of_file)
        picture.load()
        # what was not kept in eight bits is gone when Pillow has read it
        assert np.allclose(deep.predict_proba(picture), of_file, atol=0.02)
        assert picture.size  # still open


def test_a_picture_in_memory_is_left_as_it_is(model, files):
    """The caller's object has the same pixels and the same orientation afterwards."""
    picture = Image.open(io.BytesIO(COLOUR["JPEG, orientation 6"]))
    picture.load()
    before = picture.tobytes()
    upright = ImageOps.exif_transpose(picture)
    assert np.array_equal(model.predict_proba(picture), model.predict_proba(upright))
    assert (picture.tobytes(), picture.getexif()[0x0112]) == (before, 6)


def test_arrays_are_pictures_too(model, deep):
    """Grey, grey with alpha, RGB and RGBA of eight bits; grey of sixteen; a batch of them."""
    photo = Image.open(io.BytesIO(COLOUR["BMP"]))
    grey = photo.convert("L")
    colour = model.predict_proba(photo)
    assert np.array_equal(model.predict_proba(np.asarray(photo)), colour)
    assert np.array_equal(model.predict_proba(np.asarray(photo.convert("RGBA"))), colour)
    flat = np.asarray(grey)
    for array in (flat, flat[:, :, None], np.asarray(grey.convert("LA")), flat.astype("u2") * 257):
        assert np.array_equal(deep.predict_proba(array), model.predict_proba(grey))
    batch = np.stack([np.asarray(photo)[:, ::-1], np.asarray(photo)])
    assert np.array_equal(model.predict_proba(batch)[1:], model.predict_proba(list(batch))[1:])
    assert [one.path for one in model.predict(batch)] == ["picture 0", "picture 1"]
    assert model.predict([]) == []
    assert model.predict_proba([]).shape == (0, 3)


def test_loader_processes_give_the_same(trained, model, files):
    """Of files and pictures mixed, sent to them."""
    mixed = [files[0], Image.open(files[1]).copy(), np.asarray(Image.open(files[2])), *files]
    several = imgcls.load(trained / SINGLE, device="cpu", workers=1)
    assert np.array_equal(several.predict_proba(mixed), model.predict_proba(mixed))


@pytest.mark.parametrize(
    ("pictures", "kind", "said"),
    [
        ("none.jpg", BadImageError, r"^none.jpg: no such file$"),
        (["none.jpg"], BadImageError, r"^none.jpg: no such file$"),
        ([np.zeros((9, 9), "u1"), np.zeros((9, 9))], BadImageError,
         r"^picture 1: is an array of float64 \[9, 9\]; pictures are uint8 .*round\(\).astype"),
        (np.zeros((3, 9, 9), "u1"), BadImageError, r"^picture: .*put the channels last"),
        (np.zeros((9, 9, 3), "u2"), BadImageError, r"^picture: is an array of uint16 \[9, 9, 3\]"),
        (np.zeros((0, 9), "u1"), BadImageError, r"^picture: is an array of uint8 \[0, 9\]"),
        (None, DataError, r"^NoneType is no picture; give a path"),
        ([torch.zeros(3, 9, 9)], DataError, r"^picture 0: Tensor is no picture"),
        (".", DataError, r"^\.: is a folder; imgcls.predict"),
        ("", DataError, r"^picture: '' is no path"),
        (["a\0b"], DataError, r"^picture 0: 'a\\x00b' is no path"),
        ("x" * 5000, BadImageError, r"^x+: "),
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["predict", "predict_proba", "embed"])
def test_what_is_no_picture_is_named(model, method, pictures, kind, said):
    """By its path, or by its place in the list, in one line."""
    with pytest.raises(kind, match=said) as raised:
        getattr(model, method)(pictures)
    assert "\n" not in str(raised.value)


def test_an_array_of_paths_is_a_list_of_them(model, files):
    """As a column of a table is, of objects or of texts."""
    expected = model.predict_proba(files)
    texts = [str(file) for file in files]
    for paths in (np.array(texts), np.array(files, dtype=object)):
        assert np.array_equal(model.predict_proba(paths), expected)


def test_a_picture_whose_file_is_closed_is_named(model, files):
    """With what to do, instead of Pillow's own assertion."""
    with Image.open(files[0]) as picture:
        pass
    with pytest.raises(BadImageError, match=r"^picture: its file was closed before .* load\(\)"):
        model.predict(picture)


def test_a_damaged_picture_raises_its_reason(model, tmp_path):
    """Also one that PIL opens."""
    content = COLOUR["BMP"][:2000]
    (tmp_path / "half.bmp").write_bytes(content)
    with pytest.raises(BadImageError, match=r"half.bmp: .*truncated"):
        model.predict(tmp_path / "half.bmp")
    with pytest.raises(BadImageError, match=r"^picture 0: .*truncated"):
        model.predict([Image.open(io.BytesIO(content))])


def test_a_prediction_shows_itself_in_a_notebook(model, tmp_path):
    """With the picture, and every text escaped; without the picture once that is gone."""
    file = tmp_path / "<b>&.bmp"
    file.write_bytes(COLOUR["BMP"])
    one = model.predict(file)
    shown = one._repr_html_()
    assert shown.count('<img src="data:image/jpeg;base64,') == 1
    assert "&lt;b&gt;&amp;.bmp" in shown
    assert "<b>" not in shown
    for label, probability in one.top:
        assert label in shown
        assert f"{probability:.1%}" in shown
    file.unlink()
    assert "<img" not in one._repr_html_()
    assert "<img" in model.predict(Image.open(io.BytesIO(COLOUR["BMP"])))._repr_html_()
    assert repr(one).startswith(f"Prediction(label='{one.label}', probability=")
    assert "3 classes, on cpu" in repr(model)


def test_other_options_of_predict_are_no_keywords_here(trained):
    """There is no file to write."""
    with pytest.raises(ConfigError, match="output: no such keyword"):
        imgcls.load(trained / SINGLE, output="rows.csv")
    with pytest.raises(ConfigError, match="sets: rests on pictures"):
        imgcls.load(trained / FOLDS, ensemble=True, sets=0.9)


def test_a_saved_checkpoint_and_a_bare_model_folder_are_loaded_too(trained, tmp_path, files):
    """What `imgcls.save_checkpoint` writes; config.json and model.safetensors as a hub has them."""
    import timm

    net = timm.create_model("test_resnet", num_classes=2)
    optimizer = torch.optim.SGD(net.parameters(), lr=1)
    names = ["cat", "dog"]
    imgcls.save_checkpoint(net, optimizer, 1, {}, tmp_path / "own", class_names=names)
    assert imgcls.load(tmp_path / "own", device="cpu").class_names == ("cat", "dog")
    [best] = (trained / SINGLE).glob("fold_0/checkpoints/step-*")
    timm.models.save_for_hf(net, tmp_path / "timm")
    assert imgcls.load(tmp_path / "timm", device="cpu").class_names == ("0", "1")
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(best / name, bare)
    of_run = imgcls.load(trained / SINGLE, device="cpu", calibrate="none")
    found = imgcls.load(bare, device="cpu")
    assert np.array_equal(found.predict_proba(files), of_run.predict_proba(files))
