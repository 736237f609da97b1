"""The classifier alone: features once, logistic regression, and the head that competes."""

from __future__ import annotations

import functools
import itertools
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from conftest import tiny_config
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression

from imgcls.config.imbalance import IMBALANCE_METHODS
from imgcls.config.run import ResumeConfig
from imgcls.engine.checkpoint.folder import read_checkpoint
from imgcls.engine.device.batches import ComputeSettings, Normalizer
from imgcls.engine.scoring.features import extract_features, whole_model
from imgcls.engine.training.events import (
    EpochDone,
    FeaturesDone,
    HeadFitted,
    ValidationBatchDone,
)
from imgcls.engine.training.interrupt import StopRequest
from imgcls.errors import ConfigError, InterruptedRunError, ModelError
from imgcls.jobs.plan.plan import make_plan
from imgcls.jobs.train.epochs import find_trainable
from imgcls.jobs.train.head import features
from imgcls.jobs.train.head.logistic import fit_logistic
from imgcls.jobs.train.resume import resume_run
from imgcls.jobs.train.train import train
from imgcls.jobs.train.trainer import Trainer
from imgcls.models.head import ClassifierAlone
from imgcls.storage.caches import FeatureFile, feature_file, feature_files
from imgcls.storage.pointers import find_checkpoint


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def weights(tmp_path):
    """test_resnet's weights in a file, random but the same in every run."""
    torch.manual_seed(0)
    file = tmp_path / "weights.safetensors"
    save_file(timm.create_model("test_resnet").state_dict(), file)
    return file


def config_of(photos, weights, **groups):
    groups["model"] = {"weights": str(weights), **groups.get("model", {})}
    return tiny_config(photos, **groups)


def trained(config):
    """(trainer, fold result, events, pictures that went through the backbone)."""
    events, pictures = [], []
    trainer = Trainer.begin(config, [events.append])

    def count(module, inputs):
        # the one black picture that tries the input size is none of the data's
        if type(module).__name__ == "ResNet" and inputs[0].any():
            pictures.append(len(inputs[0]))

    handle = torch.nn.modules.module.register_module_forward_pre_hook(count)
    try:
        return trainer, trainer.train_fold(0), events, sum(pictures)
    finally:
        handle.remove()


@pytest.mark.parametrize("head", ["linear", "logistic"])
def test_the_backbone_sees_each_picture_once(photos, weights, head):
    """However many epochs follow."""
    config = config_of(
        photos, weights, recipe={"tune": "head", "head": head}, optim={"epochs": 7, "lr": 1e-2}
    )
    trainer, result, _, pictures = trained(config)
    split = trainer.plan.data.assignment.split
    assert pictures == int((split != "test").sum())
    assert result.epochs_run == (7 if head == "linear" else 0)


def test_folds_share_the_features(photos, weights):
    """Three folds, one pass over all that is not test."""
    config = config_of(photos, weights, recipe={"tune": "head"}, data={"folds": 3})
    trainer, _, _, pictures = trained(config)
    assert pictures == int((trainer.plan.data.assignment.split != "test").sum())
    fitted = []
    trainer._emit = fitted.append
    trainer.train_fold(1)
    [head] = [event for event in fitted if isinstance(event, HeadFitted)]
    assert head.features_s < head.elapsed_s / 10


def with_pictures(monkeypatch, work):
    """(the weights at the end of a run, pictures whose features were computed)."""
    pictures = []
    append = FeatureFile.append

    def count(self, rows, found):
        pictures.append(len(rows))
        append(self, rows, found)

    with monkeypatch.context() as patched:
        patched.setattr(FeatureFile, "append", count)
        run = work().run
    return load_file(find_checkpoint(run) / "model.safetensors"), sum(pictures)


@pytest.mark.parametrize("head", ["linear", "logistic"])
@pytest.mark.parametrize("views", [1, 2])
def test_features_outlive_a_stop_wherever_it_comes(photos, weights, monkeypatch, head, views):
    """Within their pass, in the fit behind it: none is computed again, and the bits are the same.

    With the end of the run they are gone.
    """
    config = config_of(
        photos, weights, recipe={"tune": "head", "head": head, "feature_views": views},
        optim={"epochs": 2},
    )  # fmt: skip
    straight, total = with_pictures(monkeypatch, lambda: train(config))
    whole = FeatureFile.append
    written = []

    def stop_behind_the_second(self, rows, found):
        whole(self, rows, found)
        written.append(len(rows))
        if len(written) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched, pytest.raises(InterruptedRunError) as stopped:
        patched.setattr(FeatureFile, "append", stop_behind_the_second)
        train(config)
    assert stopped.value.exit_code == 143
    run = max(Path("outputs").iterdir(), key=lambda folder: folder.stat().st_mtime)
    [damaged, *_] = (run / "features").glob("view-0-0")
    kept = damaged.read_bytes()
    # as a power cut leaves it: half of a record at its end
    damaged.write_bytes(kept + kept[: len(kept) // 3])
    found, rest = with_pictures(monkeypatch, lambda: resume_run(run, ResumeConfig()))
    assert rest == total - sum(written)
    assert all(torch.equal(found[name], value) for name, value in straight.items())
    assert not (run / "features").exists()


@pytest.mark.parametrize("seed", range(4))
def test_features_of_any_whole_batches_are_merged(photos, weights, monkeypatch, seed):
    """By rows, however many files they lie in; what is in none is computed, to the same bits."""
    config = config_of(
        photos, weights, data={"batch_size": 4}, recipe={"tune": "head", "feature_views": 2}
    )
    straight, total = with_pictures(monkeypatch, lambda: train(config))

    def stop(*_arguments, **_options):
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched, pytest.raises(InterruptedRunError):
        patched.setattr("imgcls.jobs.train.head.fit.fit_logistic", stop)
        train(config)
    run = max(Path("outputs").iterdir(), key=lambda folder: folder.stat().st_mtime)
    kept, rng = 0, np.random.default_rng(seed)
    for view in range(2):
        [(begin, file)] = feature_files(run / "features", view)
        assert begin == 0
        batches = list(file.read())
        (run / "features" / f"view-{view}-0").unlink()
        # each part from one cut to the next is a file, but for one in three, which is nowhere
        cuts = np.unique(np.append(rng.integers(0, len(batches), 3), [0, len(batches)]))
        for begin, end in itertools.pairwise(cuts.tolist()):
            if rng.random() < 2 / 3:
                for rows, found in batches[begin:end]:
                    feature_file(run / "features", view, 4 * begin).append(rows, found)
                    kept += len(rows)
    found, rest = with_pictures(monkeypatch, lambda: resume_run(run, ResumeConfig()))
    assert rest == total - kept
    assert all(torch.equal(found[name], value) for name, value in straight.items())


def test_a_run_stopped_before_a_last_bad_picture_goes_on(photos, weights, monkeypatch):
    """What is left of the pass is that one picture alone: skipped as in one sitting."""
    data = {"batch_size": 20, "on_bad_image": "skip", "preflight": False}
    config = config_of(photos, weights, recipe={"tune": "head"}, data=data)
    plan = make_plan(config)
    rows = np.flatnonzero(plan.data.assignment.split != "test")
    assert len(rows) % 20 == 1
    Path(plan.data.table.images.location(int(rows[-1]))).write_bytes(b"no picture")
    whole = FeatureFile.append

    def stop(self, rows, found):
        whole(self, rows, found)
        if rows[-1] >= 32:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched, pytest.raises(InterruptedRunError):
        patched.setattr(FeatureFile, "append", stop)
        train(config)
    [run] = Path("outputs").iterdir()
    _, pictures = with_pictures(monkeypatch, lambda: resume_run(run, ResumeConfig()))
    assert pictures == 0


def test_a_signal_ends_the_fit_at_once(photos, weights, monkeypatch):
    """It may take long; the features are kept, and it is done again."""
    config = config_of(photos, weights, recipe={"tune": "head"})

    def long(*_arguments, **_options):
        os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(30)

    with monkeypatch.context() as patched, pytest.raises(InterruptedRunError) as stopped:
        patched.setattr("imgcls.jobs.train.head.logistic._held_out_logits", long)
        train(config)
    assert stopped.value.exit_code == 129
    [run] = Path("outputs").iterdir()
    assert f"go on with: imgcls resume {run}" in str(stopped.value)
    _, pictures = with_pictures(monkeypatch, lambda: resume_run(run, ResumeConfig()))
    assert pictures == 0


def test_a_stop_in_the_features_says_why(photos, weights):
    """A job's own reason is no signal."""
    stop = StopRequest()

    def end(event):
        if isinstance(event, FeaturesDone):
            stop.reason = "because the time is up"

    config = config_of(photos, weights, recipe={"tune": "head"})
    with pytest.raises(InterruptedRunError, match=r"^stopped because the time is up before"):
        train(config, [end], stop=stop)


@pytest.mark.parametrize("tune", ["head", "head+full"])
def test_a_stop_while_the_fitted_head_is_scored_loses_nothing(photos, weights, tune):
    """Its epoch 0 is not done, so the run is not finished: it goes on and has the same rows."""
    config = config_of(photos, weights, recipe={"tune": tune, "head": "logistic"})

    def stop(event):
        if isinstance(event, ValidationBatchDone):
            assert event.epoch == 0
            os.kill(os.getpid(), signal.SIGTERM)

    whole = train(config).folds[0]
    with pytest.raises(InterruptedRunError, match="before the first epoch; everything is saved"):
        train(config, [stop])
    run = find_trainable(None, Path("outputs"), None).run
    result = resume_run(run, ResumeConfig()).folds[0]
    assert (result.best_epoch, result.epochs_run) == (whole.best_epoch, whole.epochs_run)
    rows = [(fold.folder / "history.csv").read_text().splitlines() for fold in (whole, result)]
    assert [line.split(",")[:3] for line in rows[0]] == [line.split(",")[:3] for line in rows[1]]


def test_features_that_cannot_be_kept_cost_no_training(photos, weights, monkeypatch):
    """A full disk: a note, and the run goes on."""

    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FeatureFile, "append", full)
    config = config_of(photos, weights, recipe={"tune": "head"})
    with pytest.warns(features.NotKeptWarning, match=r"not kept \(the disk is full"):
        assert train(config).folds[0].best_epoch == 0


def test_one_picture_a_class_is_enough_to_fit(command, tmp_path, crops, weights):
    """Nothing can be held out, so the penalty is scikit-learn's own, and it is said."""
    for name in ("china", "flower"):
        (tmp_path / "few" / name).mkdir(parents=True)
        for number in range(3):
            Image.fromarray(crops[name][number]).save(tmp_path / "few" / name / f"{number}.jpg")
    done = command(
        "train", tmp_path / "few", "--model", "test_resnet", "--weights", weights, "--img-size",
        "32", "--epochs", "1", "--workers", "0", "--device", "cpu",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "C 1 (scikit-learn's; no class has two pictures to choose it by)" in done.err


def test_the_hook_goes_with_a_model_that_raises(weights):
    """A second pass, after a want of memory say, sees each picture once."""
    model = timm.create_model("test_resnet")
    alone = ClassifierAlone(model, "fc", 0.0)
    settings = ComputeSettings(torch.device("cpu"))

    class Broken(Normalizer):
        def images(self, _batch):
            return torch.zeros(1, 7, 32, 32)

    with pytest.raises(RuntimeError):
        list(extract_features(alone, [None], Broken((0.0,), (1.0,), settings), settings))
    assert not alone.classifier._forward_pre_hooks


def test_features_train_as_the_backbone_would(photos, weights):
    """Epochs on cached features give the weights of epochs through the frozen backbone."""
    recipe = {"tune": "head", "head": "linear"}
    optim = {"epochs": 3, "lr": 1e-2, "model_ema": True}
    quick, *_ = trained(config_of(photos, weights, recipe=recipe, optim=optim))
    # a chance of erasing too small to come true forces the pictures through the backbone
    augment = {"reprob": 1e-12}
    slow, *_, pictures = trained(
        config_of(photos, weights, recipe=recipe, optim=optim, augment=augment)
    )
    assert pictures > 3 * 30
    best = [load_file(find_checkpoint(t.run) / "model.safetensors") for t in (quick, slow)]
    for name, value in best[0].items():
        assert torch.allclose(value, best[1][name], atol=1e-4), name


def fit_head_alone(command, photos, weights):
    done = command(
        "train", photos, "--model", "test_resnet", "--weights", weights, "--img-size", "32",
        "--tune", "head", "--workers", "0", "--device", "cpu",
    )  # fmt: skip
    assert done.code == 0, done.err
    return done


def test_the_checkpoint_is_an_ordinary_one(command, photos, weights):
    """timm loads it without imgcls, and an evaluation gives the validation's numbers."""
    done = fit_head_alone(command, photos, weights)
    assert "Logistic regression on the features of" in done.err
    best = find_checkpoint(next(iter((weights.parent / "outputs").iterdir())))
    metrics = read_checkpoint(best).sidecar.metrics
    scored = ("evaluate", "--split", "val", "--calibrate", "none", "--no-report", "--json")
    report = json.loads(command(*scored).out)["metrics"]
    assert report["balanced_accuracy"] == pytest.approx(metrics["val_balanced_accuracy"])
    assert report["nll"] == pytest.approx(metrics["val_loss"], rel=1e-4)
    model = timm.create_model(f"local-dir:{best}", pretrained=True)
    backbone = load_file(weights)
    for name, value in model.state_dict().items():
        assert torch.equal(value, backbone[name]) != name.startswith("fc."), name


def test_the_page_of_a_fitted_head_has_no_training_curves(command, photos, weights):
    """There were no epochs: neither an empty plot nor a warning of one; and its row fits 80."""
    done = fit_head_alone(command, photos, weights)
    assert all(len(line) <= 80 for line in done.err.splitlines() if "head" in line[:8])
    assert command("evaluate", "--split", "val").code == 0
    [page] = (weights.parent / "outputs").glob("*/fold_0/test_results/val/report.html")
    assert 'id="training"' not in page.read_text(encoding="utf-8")
    assert not (page.parent / "training_curves.png").exists()


def test_the_fitted_head_competes_for_best(photos, weights):
    """With a rate that destroys the model, what is handed back is the head alone."""
    config = config_of(
        photos, weights, optim={"epochs": 2, "lr": 0.1}, early_stopping={"metric": "val_loss"}
    )
    trainer, result, events, _ = trained(config)
    assert trainer.plan.recipe.tune == "head+full"
    epochs = [event for event in events if isinstance(event, EpochDone)]
    assert [event.epoch for event in epochs] == [0, 1, 2]
    assert (result.best_epoch, result.epochs_run) == (0, 2)
    best = load_file(find_checkpoint(trainer.run) / "model.safetensors")
    backbone = load_file(weights)
    assert all(torch.equal(best[n], backbone[n]) for n in best if not n.startswith("fc."))


@pytest.mark.parametrize("imbalance", ["none", "weighted-loss", "logit-adjust"])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_fit_is_scikit_learns(imbalance, classes):
    """At the C it chose, on features as they are, scikit-learn gives the same logits."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), (30, 12, 6)[:classes])
    features = (rng.normal(size=(len(labels), 5)) + labels[:, None]).astype(np.float32)
    fitted = fit_logistic(features[None], labels, classes, imbalance=imbalance, seed=0)
    centred = features - features.mean(axis=0)
    scale = np.sqrt(np.mean(centred**2))
    reference = LogisticRegression(
        C=fitted.c, class_weight="balanced" if imbalance == "weighted-loss" else None, tol=1e-6
    ).fit(centred / scale, labels)
    logits = features @ fitted.weight.T + fitted.bias
    shift = IMBALANCE_METHODS[imbalance].prior_shift(np.bincount(labels))
    logits = logits if shift is None else logits + shift
    shares = torch.from_numpy(logits).softmax(1).numpy()
    assert shares == pytest.approx(reference.predict_proba(centred / scale), abs=5e-3)


def test_fewer_pictures_than_features_and_classes_of_one():
    """The turn into the spanned space changes nothing that can be seen, and nothing breaks."""
    rng = np.random.default_rng(1)
    labels = np.array([0] * 9 + [1] * 6 + [2])
    views = rng.normal(size=(2, 16, 40)).astype(np.float32) + labels[:, None]
    fitted = fit_logistic(views, labels, 4, imbalance="none", seed=0)
    assert fitted.weight.shape == (4, 40)
    logits = views[0] @ fitted.weight.T + fitted.bias
    assert (logits.argmax(1) == labels).mean() > 0.8
    # the fourth class has no picture to learn from
    assert (logits[:, 3] < logits.max(1) - 1000).all()


def test_last_n_trains_the_last_groups(photos, weights):
    """last:1 changes layer4 and the classifier, nothing before; too many groups are refused."""
    config = config_of(photos, weights, recipe={"tune": "last:1"}, optim={"epochs": 1, "lr": 1e-2})
    trainer, *_ = trained(config)
    backbone = load_file(weights)
    model = trainer._assembly.parts.learner.model.state_dict()
    changed = {
        name.split(".")[0]
        for name, value in model.items()
        if "running" not in name and not torch.equal(value, backbone[name])
        and "num_batches" not in name
    }  # fmt: skip
    assert changed == {"layer4", "fc"}
    many = config_of(photos, weights, recipe={"tune": "last:9"})
    with pytest.raises(ModelError, match="last:1 to last:5"):
        trained(many)


def test_groups_are_unfrozen_one_after_another(photos, weights):
    """The classifier first, then one more group an epoch from the last; norms do not move."""
    config = config_of(
        photos,
        weights,
        recipe={"unfreeze_epochs": 1},
        optim={"epochs": 3, "lr": 1e-2, "model_ema": False, "layer_decay": 1.0},
    )
    seen, trainer = [], Trainer.begin(config)

    def remember(event):
        if isinstance(event, EpochDone):
            model = whole_model(trainer._assembly.parts.learner.model)
            seen.append({k: v.clone() for k, v in model.state_dict().items()})

    trainer._emit = remember
    trainer.train_fold(0)
    changes = [
        {k.split(".")[0] for k in before if not torch.equal(before[k], after[k])}
        for before, after in itertools.pairwise(seen)
    ]
    assert changes == [{"fc"}, {"fc", "layer4"}, {"fc", "layer4", "layer3"}]
    assert all(
        torch.equal(seen[0][k], seen[-1][k]) for k in seen[0] if "running" in k or "num_b" in k
    )


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ({"recipe": {"tune": "full", "head": "logistic"}}, "--tune head"),
        ({"recipe": {"tune": "full", "feature_views": 3}}, "--feature-views"),
        ({"augment": {"preset": "heavy"}, "data": {"batch_size": 1}}, "nothing to mix"),
        ({"recipe": {"tune": "full"}, "model": {"freeze_backbone": True}}, "freeze_backbone"),
    ],
)
def test_what_does_not_go_together_is_refused(photos, groups, words):
    """Before anything is built, with what to give instead."""
    with pytest.raises(ConfigError, match=words):
        make_plan(tiny_config(photos, **groups))


def test_c_is_chosen_by_whole_groups_left_out():
    """Features that tell the group and not the class ask for another C by single pictures."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(16), 10)
    labels = groups % 2
    of_group = rng.normal(size=(16, 16))[groups]
    features = (of_group + 0.1 * rng.normal(size=(160, 16))).astype(np.float32)[None]
    fit = functools.partial(fit_logistic, features, labels, 2, imbalance="none", seed=0)
    apart, together = fit(), fit(groups=[f"g{group}" for group in groups])
    assert apart.nll < 0.3
    assert together.nll > 0.6
    assert together.c < apart.c / 100
    # a blank is no group
    assert fit(groups=[""] * 160).nll == apart.nll
    # where each class is one group, nothing can be held out
    alone = fit(groups=[f"g{label}" for label in labels])
    assert (alone.folds, alone.c) == (0, 1.0)
    assert fit(groups=["g"] * 160).folds == 0


def test_the_groups_of_the_data_choose_c(weights, photos, tmp_path, monkeypatch):
    """They reach the fit by the rows of its pictures."""
    asked = {}

    def fit(views, labels, *args, groups, **options):
        asked.update(labels=list(labels), groups=groups)
        return fit_logistic(views, labels, *args, groups=groups, **options)

    monkeypatch.setattr("imgcls.jobs.train.head.fit.fit_logistic", fit)
    files = sorted(photos.glob("*/*.jpg"))
    rows = [f"{f},{f.parent.name},{f.parent.name}{int(f.stem) // 3}" for f in files]
    (tmp_path / "table.csv").write_text("\n".join(["path,label,group", *rows]))
    trained(config_of(tmp_path / "table.csv", weights, recipe={"tune": "head"}))
    names = ("china", "flower", "violet")
    assert len(asked["groups"]) == len(asked["labels"]) > 20
    for label, group in zip(asked["labels"], asked["groups"], strict=True):
        assert group.startswith(names[label])


def test_a_distilled_model_falls_back_to_epochs():
    """Its two classifiers see different features, so the default is to train them by epochs."""
    model = {"name": "deit_tiny_distilled_patch16_224", "pretrained": True}
    plan = make_plan(tiny_config(model=model))
    assert (plan.recipe.tune, plan.recipe.head) == ("head+full", "linear")


def test_a_fit_that_learned_nothing_says_so():
    """Features without any knowledge of the labels; those that tell all say another thing."""
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    noise = rng.normal(size=(1, 40, 3)).astype(np.float32)
    found = fit_logistic(noise, labels, 2, imbalance="none", seed=0)
    assert "no better than by how common the classes are" in found.reason
    told = noise + 30 * labels[None, :, None].astype(np.float32)
    found = fit_logistic(told, labels, 2, imbalance="none", seed=0)
    assert found.reason in (None, "C is the largest that is tried")
    assert found.nll < 0.5
