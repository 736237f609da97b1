"""`--shard`: a model divided among processes trains, saves and goes on as one that is not."""

from __future__ import annotations

import csv
import importlib
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import timm
import torch
from conftest import save_crops
from killing import differences, only_run, remains
from safetensors.torch import load_file
from worlds import Worlds, history, largest_difference

LOSSES = ("train_loss", "val_loss")


@pytest.fixture(scope="module")
def worlds():
    started = Worlds()
    yield started
    started.close()


@pytest.fixture(scope="module")
def photos(tmp_path_factory, crops):
    """The pictures of all runs here; nothing changes them."""
    return save_crops(crops, tmp_path_factory.mktemp("data") / "photos", (20, 16, 12))


def train(photos, *more, epochs=2, model="test_vit"):
    return [
        "train", photos, "--model", model, "--no-pretrained", "--img-size", 32, "--batch-size", 8,
        "--epochs", epochs, "--patience", 0, "--lr", "1e-3", "--device", "cpu", "--quiet",
        "--workers", 0, "--no-preflight", "--amp", "off", "--no-channels-last", "--experiment", "r",
        "--output", "outputs", *more,
    ]  # fmt: skip


def last_weights(run):
    return load_file(run / "fold_0/checkpoints/last/model.safetensors")


def largest_weight_difference(a, b):
    a, b = last_weights(a), last_weights(b)
    assert list(a) == list(b)
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a)


def before_step(step, act):
    """Let this process do something before it makes its update of this number."""
    fit = importlib.import_module("imgcls.engine.training.fit")
    real = fit.train_step

    def acting(learner, micro_batches, number):
        if number == step:
            act(learner)
        return real(learner, micro_batches, number)

    fit.train_step = acting


def killed_at_step_9():
    if os.environ["RANK"] == "1":
        before_step(9, lambda _learner: os.kill(os.getpid(), signal.SIGKILL))


def signalled_at_step_7():
    if os.environ["RANK"] == "1":
        before_step(7, lambda _learner: os.kill(os.getpid(), signal.SIGTERM))


def signalled_at_step_12():
    before_step(12, lambda _learner: os.kill(os.getpid(), signal.SIGTERM))


def signalled_at_step_17():
    if os.environ["RANK"] == "0":
        before_step(17, lambda _learner: os.kill(os.getpid(), signal.SIGTERM))


def without_a_gradient_at_step_7():
    before_step(7, break_gradient)


def break_gradient(learner):
    loss_of = learner.loss
    # its value is 0, its derivative nan
    learner.loss = lambda logits, targets: loss_of(logits, targets) + (logits.sum() * 0).sqrt()


def signalled_while_it_validates():
    if os.environ["RANK"] == "1":
        validation = importlib.import_module("imgcls.engine.training.selection.validation")
        real = validation.predict

        def signalling(*of):
            os.kill(os.getpid(), signal.SIGTERM)
            return real(*of)

        validation.predict = signalling


def counting_bytes():
    before_step(2, write_bytes)


def write_bytes(learner):
    states = [v for state in learner.optimizer.state.values() for v in state.values()]
    weights = list(learner.model.parameters())
    tensors = [*weights, *(weight.grad for weight in weights), *states]
    own = [t.to_local() if hasattr(t, "to_local") else t for t in tensors]
    pieces = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in own}
    Path(f"bytes-{os.environ['RANK']}").write_text(str(sum(pieces.values())))


MANY = ("--model-ema", "--clip-grad", 0.5, "--grad-accum-steps", 2, "--dropout", 0.1,
        "--drop-path-rate", 0.1, "--mixup", 0.2)  # fmt: skip


@pytest.mark.parametrize(
    "options", [(), pytest.param(MANY, marks=pytest.mark.slow)], ids=["plain", "many options"]
)
def test_a_divided_training_is_that_of_one_process(worlds, photos, tmp_path, options):
    """Its losses and weights are, but for rounding; its folder has the same files and opens."""
    asked = train(photos, *options)
    worlds.done(tmp_path / "one", 1, *asked)
    worlds.done(tmp_path / "two", 2, *asked, "--shard")
    one, two = only_run(tmp_path / "one"), only_run(tmp_path / "two")
    assert largest_difference(history(one), history(two), *LOSSES) < 1e-4
    assert largest_weight_difference(one, two) < 1e-3
    folder = two / "fold_0/checkpoints/best"
    assert remains(one).keys() == remains(two).keys()
    opened = timm.create_model(f"local-dir:{folder.resolve()}", pretrained=True)
    saved = load_file(folder / "model.safetensors")
    assert all(torch.equal(value, saved[name]) for name, value in opened.state_dict().items())


@pytest.mark.slow
def test_a_killed_divided_training_goes_on_to_the_bit(worlds, photos, tmp_path):
    """In as many processes, killed inside an epoch: all that is saved is as if it never was."""
    asked = train(photos, "--shard", "--model-ema", "--save-every-steps", 3, epochs=3)
    worlds.done(tmp_path / "whole", 2, *asked)
    ended = worlds.run(
        tmp_path / "cut", 2, *asked, patches=("promises.test_shard:killed_at_step_9",)
    )
    assert any(ended.codes)
    last = only_run(tmp_path / "cut") / "fold_0/checkpoints/last"
    assert last.resolve().name == "step-00000008"  # of five an epoch
    worlds.done(tmp_path / "cut", 2, "resume", "--quiet")
    assert not differences(
        remains(only_run(tmp_path / "whole")), remains(only_run(tmp_path / "cut"))
    )


@pytest.mark.slow
def test_a_divided_run_goes_on_undivided_and_back(worlds, photos, tmp_path):
    """In one process, then divided among three, then in two that each have all: one training."""
    asked = train(photos, "--model-ema", epochs=4)
    worlds.done(tmp_path / "one", 1, *asked)
    cut = tmp_path / "cut"
    stop = ("promises.test_shard:signalled_at_step_7",)
    ended = worlds.run(cut, 2, *asked, "--shard", patches=stop)
    assert ended.codes[0] == 143, ended.said
    ended = worlds.run(cut, 1, "resume", "--quiet")
    assert ended.codes == [2]
    assert "--no-shard" in ended.said
    arguments = ("resume", "--quiet")
    stop = ("promises.test_shard:signalled_at_step_12",)
    ended = worlds.run(cut, 1, *arguments, "--no-shard", patches=stop)
    assert ended.codes == [143], ended.said
    stop = ("promises.test_shard:signalled_at_step_17",)
    ended = worlds.run(cut, 3, *arguments, "--shard", patches=stop)
    assert ended.codes[0] == 143, ended.said
    worlds.done(cut, 2, *arguments, "--no-shard")
    one, run = only_run(tmp_path / "one"), only_run(cut)
    assert largest_difference(history(one), history(run), *LOSSES) < 1e-4
    assert largest_weight_difference(one, run) < 1e-3


@pytest.mark.record
@pytest.mark.slow
def test_a_divided_fine_tuning_is_that_of_one_process(worlds, photos, tmp_path):
    """With a fitted classifier, averaged weights, gradual unfreezing and interpolated weights."""
    worlds.done(tmp_path / "first", 1, *train(photos, epochs=1))
    weights = only_run(tmp_path / "first") / "fold_0/checkpoints/best"
    asked = train(photos, "--weights", weights, "--unfreeze-epochs", 1, epochs=3)
    asked.remove("--no-pretrained")
    worlds.done(tmp_path / "one", 1, *asked)
    worlds.done(tmp_path / "two", 2, *asked, "--shard")
    one, two = only_run(tmp_path / "one"), only_run(tmp_path / "two")
    assert largest_difference(history(one), history(two), *LOSSES) < 1e-4
    assert largest_weight_difference(one, two) < 1e-3
    state = json.loads((two / "fold_0/checkpoints/last/checkpoint.json").read_text())
    assert "interpolation" in json.dumps(state)


def test_each_process_holds_its_part_alone(worlds, photos, tmp_path):
    """Of weights, gradients and optimizer state: half in each of two, and what cannot be cut."""
    asked = train(photos, epochs=1)
    patches = ("promises.test_shard:counting_bytes",)
    worlds.done(tmp_path / "one", 1, *asked, patches=patches)
    worlds.done(tmp_path / "two", 2, *asked, "--shard", patches=patches)
    [whole] = map(held, (tmp_path / "one").glob("bytes-*"))
    parts = list(map(held, (tmp_path / "two").glob("bytes-*")))
    assert len(parts) == 2
    assert max(parts) < 0.55 * whole


def held(file):
    return int(file.read_text())


@pytest.mark.parametrize(
    ("processes", "options", "word"),
    [
        (1, (), "--no-shard"),
        (2, ("--opt", "lamb"), "--opt lamb"),
        (2, ("--compile",), "--compile"),
        (2, ("--max-minutes", 1), "--max-minutes"),
        (2, ("--batch-size", "auto"), "--batch-size"),
        (2, ("--folds", 2, "--parallel-folds"), "--parallel-folds"),
        (2, ("--tune", "head", "--aa", "none"), "classifier alone"),
    ],
)
def test_what_cannot_be_divided_is_refused_in_a_line(
    worlds, photos, tmp_path, processes, options, word
):
    """Before anything is written, with what to do."""
    ended = worlds.run(tmp_path, processes, *train(photos, "--shard", *options))
    assert ended.codes[0] == 2, ended.said
    [line] = ended.error_lines
    assert word in line
    assert not list(tmp_path.glob("outputs/[!.]*"))


def test_a_stop_in_a_divided_validation_saves_and_goes_on_to_the_bit(worlds, photos, tmp_path):
    """Heard by one process between two of its own batches, for which no other one waits."""
    asked = train(photos, "--shard", epochs=2)
    worlds.done(tmp_path / "whole", 2, *asked)
    patches = ("promises.test_shard:signalled_while_it_validates",)
    ended = worlds.run(tmp_path / "cut", 2, *asked, patches=patches)
    assert ended.codes[0] == 143, ended.said
    assert "everything is saved" in ended.said
    worlds.done(tmp_path / "cut", 2, "resume", "--quiet")
    whole, cut = (remains(only_run(tmp_path / name)) for name in ("whole", "cut"))
    assert not differences(whole, cut)


def test_a_gradient_of_a_divided_model_that_is_none_ends_it_in_a_line(worlds, photos, tmp_path):
    """It names the parameter, wherever its rows are, and leaves the last checkpoint as it is."""
    patches = ("promises.test_shard:without_a_gradient_at_step_7",)
    ended = worlds.run(tmp_path, 2, *train(photos, "--shard"), patches=patches)
    assert ended.codes[0] == 1, ended.said
    [line] = ended.error_lines
    assert "the gradient of head.bias became inf or nan at step 7" in line
    last = only_run(tmp_path) / "fold_0/checkpoints/last"
    assert last.resolve().name == "step-00000005"


@pytest.mark.slow
def test_a_picture_that_one_process_cannot_read_leaves_a_divided_run_to_go_on(
    worlds, photos, tmp_path
):
    """All that was trained is saved, inside the epoch, and nothing is trained twice."""
    own = Path(shutil.copytree(photos, tmp_path / "own"))
    asked = train(own, "--shard")
    worlds.done(tmp_path / "whole", 2, *asked)
    with (only_run(tmp_path / "whole") / "splits.csv").open(newline="") as splits:
        trained = [row["path"] for row in csv.DictReader(splits) if row["split"] == "train"]
    broken = own / trained[-1]
    content = broken.read_bytes()
    broken.write_bytes(content[:300])
    ended = worlds.run(tmp_path / "cut", 2, *asked)
    assert ended.codes[0] == 1, ended.said
    assert broken.name in ended.said
    broken.write_bytes(content)
    worlds.done(tmp_path / "cut", 2, "resume", "--quiet")
    whole, cut = (remains(only_run(tmp_path / name)) for name in ("whole", "cut"))
    assert not differences(whole, cut)
