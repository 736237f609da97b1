"""The classifier's fit in blocks: as scikit-learn's, in little memory, and stopped at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from conftest import tiny_config
from safetensors.torch import save_file
from sklearn.datasets import load_digits, make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from imgcls.config.run import ResumeConfig
from imgcls.data.loading.features import FeatureSet
from imgcls.engine.training.events import HeadFitted, HeadPassDone
from imgcls.engine.training.interrupt import SignalledError, StopRequest, stop_on_signals
from imgcls.errors import InterruptedRunError, ModelError
from imgcls.jobs.plan.cost import fitting
from imgcls.jobs.train.head import features, in_blocks, loss_in_blocks
from imgcls.jobs.train.head.in_blocks import fit_in_blocks
from imgcls.jobs.train.head.logistic import fit_logistic, log_losses
from imgcls.jobs.train.resume import resume_run
from imgcls.jobs.train.train import train
from imgcls.storage.caches import FeatureFile, FitFile

CPU = torch.device("cpu")


def fitted(views, labels, num_classes, imbalance="none", **options):
    """Of features [R, N, D], the rows of a table that has as many others between them."""
    rows = np.arange(1, 2 * len(labels), 2)
    values = np.full((len(views), 2 * len(labels), views.shape[-1]), np.nan, dtype=np.float32)
    values[:, rows] = views
    found = FeatureSet(np.arange(2 * len(labels)), values)
    options = {"seed": 0, "device": CPU, **options}
    return fit_in_blocks(found, rows, labels, num_classes, imbalance=imbalance, **options)


def losses(head, inputs, labels):
    return log_losses((inputs @ head.weight.T + head.bias).astype(float), labels)


@pytest.mark.parametrize("imbalance", ["none", "logit-adjust", "weighted-loss"])
def test_it_is_as_good_as_scikit_learn(imbalance):
    """On what neither has seen, by a fraction of the losses' own scatter."""
    inputs, labels = make_classification(
        4000, 60, n_informative=30, n_classes=12, n_clusters_per_class=1, class_sep=1.5,
        weights=[0.3, *[0.7 / 11] * 11], flip_y=0.1, random_state=0,
    )  # fmt: skip
    inputs = inputs.astype(np.float32)
    train_x, test_x, train_y, test_y = train_test_split(inputs, labels, random_state=0)
    theirs = fit_logistic(train_x[None], train_y, 12, imbalance=imbalance, seed=0)
    ours = fitted(train_x[None], train_y, 12, imbalance)
    change = losses(ours, test_x, test_y) - losses(theirs, test_x, test_y)
    assert change.mean() < 2 * change.std() / len(change) ** 0.5 + 0.01
    agree = np.argmax(test_x @ ours.weight.T + ours.bias, 1) == np.argmax(
        test_x @ theirs.weight.T + theirs.bias, 1
    )
    assert agree.mean() > 0.9
    assert 0.3 < ours.c / theirs.c < 3.2


@pytest.mark.parametrize(("num_classes", "turned"), [(2, 64), (10, 64), (10, 30)])
def test_without_bounds_it_finds_what_scikit_learn_finds(monkeypatch, num_classes, turned):
    """The same objective at the same C, to the digits of float32, in blocks that do not divide."""
    digits = load_digits()
    inputs, labels = digits.data.astype(np.float32), digits.target % num_classes
    monkeypatch.setattr(in_blocks, "GRID", (1e-2,))
    monkeypatch.setattr(in_blocks, "_MOST_PASSES", 1000)
    monkeypatch.setattr(in_blocks, "_LAST_TOLERANCE", 1e-9)
    monkeypatch.setattr(loss_in_blocks, "_BLOCK", 64 * 100)
    monkeypatch.setattr(loss_in_blocks, "_TURNED_AT_ONCE", turned)
    views = np.stack([inputs, inputs[:, ::-1]])
    ours = fitted(views, labels, num_classes)
    assert ours.c == 1e-2
    both = views.reshape(-1, 64)
    scale = np.sqrt(both.var(axis=0).mean())
    # two views count as one picture
    theirs = LogisticRegression(C=1e-2 / 2, tol=1e-8, max_iter=5000)
    theirs.fit((both - both.mean(axis=0)) / scale, np.tile(labels, 2))
    logits = inputs @ ours.weight.T + ours.bias
    expected = ((inputs - both.mean(axis=0)) / scale) @ theirs.coef_.T + theirs.intercept_
    if num_classes == 2:  # of which it gives the difference
        expected = np.hstack([-expected, expected]) / 2
    # a constant of all classes together is none of the model's business
    logits -= logits.mean(axis=1, keepdims=True)
    expected -= expected.mean(axis=1, keepdims=True)
    assert logits == pytest.approx(expected, abs=2e-2)


def test_a_class_without_pictures_is_never_predicted():
    """Neither one without any, nor one whose only picture is held out."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 3], 40)
    inputs = (rng.normal(size=(120, 5)) + labels[:, None]).astype(np.float32)
    head = fitted(inputs[None], labels, 4)
    assert (inputs @ head.weight.T + head.bias)[:, 2].max() < -1000
    assert np.isfinite(head.weight).all()
    single = np.append(labels, 2)
    alone = fitted(np.append(inputs, inputs[:1] + 9, axis=0)[None], single, 4)
    assert np.isfinite(alone.nll)
    assert (inputs @ alone.weight.T + alone.bias)[:, 2].max() > -1000


def test_classes_without_pictures_change_nothing():
    """Neither C nor the loss that chose it; they took probability from the others once."""
    inputs, labels = make_classification(
        1000, 20, n_informative=12, n_classes=5, n_clusters_per_class=1, flip_y=0.2, random_state=0
    )
    few, many = (fitted(inputs[None].astype(np.float32), labels, count) for count in (5, 200))
    assert many.c == few.c
    assert many.nll == pytest.approx(few.nll, rel=1e-3)
    assert many.reason == few.reason


def test_groups_are_held_out_whole():
    """Features that tell the group and not the class say nothing of another group's class."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(200), 5)
    labels = groups % 2
    inputs = (rng.normal(size=(200, 200))[groups] + 0.1 * rng.normal(size=(1000, 200)))[None]
    inputs = inputs.astype(np.float32)
    apart = fitted(inputs, labels, 2)
    together = fitted(inputs, labels, 2, groups=[f"g{group}" for group in groups])
    assert apart.nll < 0.3
    assert together.nll > 0.6
    nothing = fitted(inputs, labels, 2, groups=[f"g{label}" for label in labels])
    assert (nothing.folds, nothing.c) == (0, 1.0)


def test_passes_are_told_and_bounded():
    """Never more than was said before."""
    digits, told = load_digits(), []
    fitted(
        digits.data[None].astype(np.float32), digits.target, 10, on_pass=lambda *n: told.append(n)
    )
    done, most = zip(*told, strict=True)
    assert list(done) == list(range(1, len(done) + 1))
    assert len(set(most)) == 1
    assert done[-1] <= most[0]


@pytest.mark.parametrize("steepness", [0, 2])
def test_few_passes_suffice_however_unlike_the_features_variances_are(monkeypatch, steepness):
    """Within a tenth of a per cent of the objective that a thousand passes find, from nothing."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 20, 3000)
    axes, _ = np.linalg.qr(rng.normal(size=(100, 100)))
    inputs = rng.normal(size=(20, 100))[labels] + 2 * rng.normal(size=(3000, 100))
    inputs = (inputs * np.arange(1, 101.0) ** -steepness) @ axes
    monkeypatch.setattr(in_blocks, "GRID", (1.0,))
    found = []
    for passes, tolerance in ((20, in_blocks._LAST_TOLERANCE), (1000, 1e-9)):
        monkeypatch.setattr(in_blocks, "_MOST_PASSES", passes)
        monkeypatch.setattr(in_blocks, "_LAST_TOLERANCE", tolerance)
        head = fitted(inputs[None].astype(np.float32), labels, 20)
        penalty = (head.weight.astype(float) ** 2).sum() * inputs.var(axis=0).mean() / 2
        found.append(losses(head, inputs, labels).sum() + penalty)
    assert found[0] < found[1] * 1.001


class Ended(BaseException):
    """As a kill ends a process, with nothing said behind it."""


@pytest.fixture
def digits():
    found = load_digits()
    return found.data[None].astype(np.float32), found.target


def kept_until(file, digits, last):
    """The passes of a fit that ends behind the last-th, or of a whole one, and what it gave."""
    told = []

    def tell(done, most):
        told.append(done)
        if done == last:
            raise Ended

    head = None
    with contextlib.suppress(Ended):
        head = fitted(*digits, 10, on_pass=tell, keep=FitFile(file))
    return told, head


@pytest.mark.parametrize("last", [1, 2, 12, 33, -1])
def test_it_goes_on_from_the_last_fit_that_ended(tmp_path, digits, last):
    """To the same bits; what is made again is a part of one fit, and after the last one nothing."""
    passes, whole = kept_until(tmp_path / "straight", digits, None)
    before, _ = kept_until(tmp_path / "killed", digits, passes[last - 1 if last > 0 else last])
    rest, head = kept_until(tmp_path / "killed", digits, None)
    assert head.weight.tobytes() == whole.weight.tobytes()
    assert head.bias.tobytes() == whole.bias.tobytes()
    assert (head.c, head.nll, head.folds, head.reason) == (
        whole.c, whole.nll, whole.folds, whole.reason
    )  # fmt: skip
    assert rest[-1] == len(passes)
    assert len(before) - rest[0] < in_blocks._MOST_PASSES
    again, head = kept_until(tmp_path / "killed", digits, None)
    assert again == []
    assert head.weight.tobytes() == whole.weight.tobytes()


@pytest.mark.parametrize("how", ["cut", "changed", "emptied", "other labels", "other features"])
def test_a_kept_fit_that_is_damaged_or_anothers_is_not_used(tmp_path, digits, how):
    """The fit begins again, and gives what it gives without one."""
    file = tmp_path / "fit"
    kept_until(file, digits, None)
    if how.startswith("other"):
        inputs, labels = digits
        digits = (inputs, 9 - labels) if how == "other labels" else (inputs[:, :, ::-1] + 1, labels)
    else:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        parts = {"cut": content[: len(content) // 2], "changed": content, "emptied": b""}
        file.write_bytes(parts[how])
    passes, head = kept_until(file, digits, None)
    straight, whole = kept_until(tmp_path / "straight", digits, None)
    assert passes == straight
    assert head.weight.tobytes() == whole.weight.tobytes()


def test_a_fit_that_cannot_be_kept_costs_no_fit(tmp_path, digits):
    """A warning, once, and the fit goes on."""
    with pytest.warns(features.NotKeptWarning, match="the folder is gone") as warned:
        _, head = kept_until(tmp_path / "gone" / "fit", digits, None)
    assert len(warned) == 1
    assert head.weight.tobytes() == fitted(*digits, 10).weight.tobytes()


def test_a_signal_is_heard_between_any_two_blocks(tmp_path, digits, monkeypatch):
    """While features are measured, in a pass, in what tells a C's worth: no block is read then."""
    monkeypatch.setattr(loss_in_blocks, "_BLOCK", 64 * 300)
    read = []
    whole = FeatureSet.of

    def stopped_at(number):
        def of(self, rows, view=0):
            read.append(len(rows))
            if len(read) == number:
                os.kill(os.getpid(), signal.SIGTERM)
            return whole(self, rows, view)

        read.clear()
        monkeypatch.setattr(FeatureSet, "of", of)
        stop = StopRequest()
        with stop_on_signals(request=stop), stop.at_once():
            fitted(*digits, 10)

    stopped_at(0)
    for number in np.linspace(1, len(read), 25, dtype=int).tolist():
        with pytest.raises(SignalledError):
            stopped_at(number)
        assert len(read) == number
        assert max(read) <= 300


def test_a_signal_is_heard_while_axes_are_sought(digits, monkeypatch):
    """Their search is one call of seconds; the one who waits for it is let go."""
    called = threading.Event()

    def long(_matrix):
        called.set()
        signal.raise_signal(signal.SIGTERM)
        time.sleep(60)

    monkeypatch.setattr(np.linalg, "eigh", long)
    stop = StopRequest()
    with pytest.raises(SignalledError), stop_on_signals(request=stop), stop.at_once():
        fitted(*digits, 10)
    assert called.is_set()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_no_numbers_are_refused(digits, bad):
    """A classifier would be fitted to nothing."""
    inputs, labels = digits
    inputs[0, 5, 7] = bad
    with pytest.raises(ModelError, match=r"not all finite numbers; use --amp off"):
        fitted(inputs, labels, 10)


@pytest.fixture
def weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


@pytest.fixture
def config(photos, weights, monkeypatch):
    """Of a training whose features are said to be too many."""
    monkeypatch.setattr(fitting, "MOST_PRODUCTS", 0)
    recipe = {"tune": "head", "feature_views": 2}
    return tiny_config(photos, model={"weights": str(weights)}, recipe=recipe)


def test_a_training_with_it_is_one_like_any_other(config):
    """It tells its passes and how it chose, and is repeated to the bit."""
    told = []
    first, second = (train(config, [told.append]).folds[0] for _ in range(2))
    assert any(isinstance(event, HeadPassDone) for event in told)
    [event] = {event.folds for event in told if isinstance(event, HeadFitted)}
    assert event == 1
    assert first.best_metrics["val_loss"] == second.best_metrics["val_loss"]


@pytest.mark.parametrize("by", ["signal", "reason"])
def test_it_is_stopped_at_once_and_its_features_are_kept(config, monkeypatch, by):
    """After a signal, or by the job that runs it; a resume fits to what was computed."""
    stop = StopRequest()

    def end(event):
        if isinstance(event, HeadPassDone) and event.done == 3:
            if by == "signal":
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(30)
            else:
                stop.reason = "because the time is up"

    begun_s = time.monotonic()
    with pytest.raises(InterruptedRunError, match="before the first"):
        train(config, [end], stop=stop)
    assert time.monotonic() - begun_s < 25
    [run] = Path("outputs").iterdir()
    monkeypatch.setattr(FeatureFile, "append", None)
    assert resume_run(run, ResumeConfig()).folds[0].epochs_run == 0
