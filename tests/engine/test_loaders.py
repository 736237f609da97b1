"""A model over any torch DataLoader: evaluated, validated, timed."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from sklearn import metrics as sk
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from imgcls.engine.device.batches import ComputeSettings, Normalizer
from imgcls.engine.device.runtime import get_device
from imgcls.engine.scoring.evaluation import evaluate_model, validate_loader
from imgcls.engine.scoring.loaders import loaded_batches
from imgcls.errors import ConfigError, DataError, DeviceError, NonFiniteError
from imgcls.jobs.benchmark.inference_speed import benchmark_inference_speed

CPU = ComputeSettings(torch.device("cpu"))
FIELDS = [
    "samples_tested", "avg_time_per_sample_ms", "std_time_per_sample_ms",
    "min_time_per_sample_ms", "max_time_per_sample_ms", "median_time_per_sample_ms",
    "throughput_samples_per_sec", "device",
]  # fmt: skip


class Counted(nn.Module):
    """A linear model that keeps the sizes of the batches that it was given."""

    def __init__(self, classes):
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(12, classes)
        self.sizes = []

    def forward(self, images):
        self.sizes.append(len(images))
        return self.head(images.flatten(1))


def pictures(count=22, classes=6):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, 3, 2, 2, generator=generator)
    return images, torch.randint(0, classes, (count,), generator=generator, dtype=torch.int32)


def loader(count=22, classes=6, batch_size=8):
    return DataLoader(TensorDataset(*pictures(count, classes)), batch_size=batch_size)


def test_the_numbers_are_scikit_learns():
    """With a last short batch and targets of int32; probabilities are torch's softmax."""
    model, (images, labels) = Counted(6).train(), pictures()
    metrics, calculator, targets, probs = evaluate_model(
        model, loader(), torch.device("cpu"), 6, list("abcdef")
    )
    with torch.no_grad():
        logits = model.head(images.flatten(1))
    assert model.sizes == [8, 8, 6]
    assert np.array_equal(targets, labels.numpy())
    assert targets.dtype == np.int64
    assert probs.dtype == np.float32
    assert np.allclose(probs, logits.softmax(1), atol=1e-6)
    preds = logits.argmax(1).numpy()
    assert metrics["accuracy"] == sk.accuracy_score(targets, preds)
    assert metrics["f1_macro"] == pytest.approx(sk.f1_score(targets, preds, average="macro"))
    loss = nn.functional.cross_entropy(logits, labels.long())
    assert metrics["nll"] == pytest.approx(float(loss), abs=1e-6)
    assert calculator.compute() == metrics
    assert calculator.class_names == tuple("abcdef")


def test_two_classes_leave_the_top_three_undefined():
    """nan, which a script can print; the reason is with the calculator."""
    metrics, calculator, *_ = evaluate_model(
        model=Counted(2), dataloader=loader(classes=2), device="cpu", num_classes=2
    )
    assert np.isnan(metrics["top_3_accuracy"])
    assert "2 classes" in calculator.compute(calculator.collected).undefined["top_3_accuracy"]
    assert f"{metrics['top_5_accuracy']:.4f}" == "nan"


def test_batches_of_imgcls_own_give_more():
    """The form with a normalizer: all metrics with their reasons, and the pass."""
    images, labels = pictures()
    batches = list(loaded_batches(loader(), torch.float32))
    normalizer = Normalizer((0.0,) * 3, (1 / 255,) * 3, CPU)
    found, result = evaluate_model(Counted(6), batches, normalizer, CPU, list("abcdef"), top_k=(2,))
    metrics, *_ = evaluate_model(Counted(6), loader(), "cpu", 6)
    assert found.metrics["accuracy"] == metrics["accuracy"]
    assert "top_2_accuracy" in found.metrics
    assert len(result.keys) == len(images) == len(labels)


def test_a_model_elsewhere_is_moved_and_takes_its_own_type():
    """To the device that was named; pictures of float64 become what the weights are."""
    images, labels = pictures()
    doubles = DataLoader(TensorDataset(images.double(), labels), batch_size=8)
    assert (
        evaluate_model(Counted(6), doubles, "cpu", 6)[0]
        == (evaluate_model(Counted(6), loader(), "cpu", 6)[0])
    )
    halves = evaluate_model(Counted(6).bfloat16(), loader(), "cpu", 6)[3]
    assert halves.dtype == np.float32
    with pytest.raises(DeviceError, match="cuda:7"):
        evaluate_model(Counted(6), loader(), torch.device("cuda:7"), 6)
    assert get_device(torch.device("cpu", 0)) == torch.device("cpu")


@pytest.mark.parametrize(
    ("batches", "words"),
    [
        ([], "gives no pictures"),
        ([{"image": 1}], "gives a dict"),
        ([(torch.zeros(2, 3, 2, 2).byte(), [0, 1])], "images are torch.uint8"),
        ([(torch.zeros(3, 2, 2), [0])], r"images are \[3, 2, 2\]"),
        ([(torch.zeros(2, 3, 2, 2), [0])], r"targets are torch.int64 \[1\] for 2 pictures"),
        ([(torch.zeros(2, 3, 2, 2), torch.eye(2))], "they must be class numbers"),
        ([(torch.zeros(2, 3, 2, 2), [0, 6])], "label 6 is not one of the model's 6 outputs"),
    ],
)
def test_batches_of_another_kind_are_refused(batches, words):
    """In one line that says what they must be."""
    with pytest.raises(DataError, match=words):
        evaluate_model(Counted(6), batches, "cpu", 6)


def test_another_number_of_classes_is_refused():
    """Of the model, and of the names."""
    with pytest.raises(DataError, match="scores of 6 classes do not fit num_classes 5"):
        evaluate_model(Counted(6), loader(), "cpu", 5)
    with pytest.raises(DataError, match="2 class names do not fit num_classes 6"):
        evaluate_model(Counted(6), loader(), "cpu", 6, ["a", "b"])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_a_validation_loss_is_the_mean_over_pictures(reduction):
    """Whatever the sizes of the batches, and what the loss gives for one."""
    images, labels = pictures()
    model = Counted(6)
    loss_fn = nn.CrossEntropyLoss(label_smoothing=0.2, reduction=reduction)
    found = validate_loader(model, loader(), CPU, loss_fn, 3)
    with torch.no_grad():
        logits = model.head(images.flatten(1))
    expected = nn.functional.cross_entropy(logits, labels.long(), label_smoothing=0.2)
    assert found["val_loss"] == pytest.approx(float(expected), abs=1e-6)
    assert found["val_accuracy"] == float((logits.argmax(1) == labels).double().mean())
    assert all(name.startswith("val_") for name in found)
    plain = validate_loader(model, loader(), CPU)
    expected = nn.functional.cross_entropy(logits, labels.long())
    assert plain["val_loss"] == pytest.approx(float(expected), abs=1e-6)


def test_a_validation_that_is_not_finite_names_epoch_and_picture():
    """No number is given for it."""
    model = Counted(6)
    nn.init.constant_(model.head.bias, float("inf"))
    with pytest.raises(NonFiniteError, match="epoch 4: picture 0: the model's output"):
        validate_loader(model, loader(), CPU, nn.CrossEntropyLoss(), 4)


@pytest.mark.parametrize(("asked", "tested"), [(1000, 22), (13, 13), (16, 16)])
def test_as_many_pictures_are_timed_as_were_asked_for(asked, tested):
    """Or as there are; the model alone is timed, over batches of their own sizes."""
    model = Counted(6)
    speed = benchmark_inference_speed(model, loader(), torch.device("cpu"), num_samples=asked)
    assert list(speed) == FIELDS
    assert speed["samples_tested"] == tested
    assert speed["device"] == "cpu"
    timed = model.sizes[-1] if tested % 8 else 8
    assert timed == (tested % 8 or 8)
    assert speed["throughput_samples_per_sec"] == pytest.approx(
        1e3 / speed["avg_time_per_sample_ms"]
    )


def test_synthetic_pictures_are_timed_beside():
    """By position and by name."""
    model = timm.create_model("test_resnet", num_classes=3)
    assert list(benchmark_inference_speed(model, (3, 32, 32), num_samples=2)) == FIELDS
    speed = benchmark_inference_speed(model=Counted(6), dataloader=loader(), num_samples=4)
    assert speed["samples_tested"] == 4
    with pytest.raises(ConfigError, match="num_samples is 0"):
        benchmark_inference_speed(model, loader(), "cpu", 0)
