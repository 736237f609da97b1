"""From Python: the same promises as the commands', and checkpoints of one's own."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import threading

import pytest
import timm
import torch
from conftest import OFFLINE, tiny_config
from safetensors.torch import load_file, save_file

import imgcls
from imgcls.engine.training.events import EpochDone, Resumed, StepDone
from imgcls.errors import CheckpointError, ConfigError, InterruptedRunError, ModelError, RunError
from imgcls.jobs.plan.plan import make_plan
from imgcls.jobs.train.epochs import find_resumable
from imgcls.models.build import create_model
from imgcls.storage.runs import is_finished


def history(run, fold=0):
    with (run / f"fold_{fold}" / "history.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_one_call_trains_a_run(tmp_path, photos):
    """As the command does: folder, history and result; told when the folder is there."""
    begun = []
    config = tiny_config(photos, runtime={"output": str(tmp_path / "out")}, optim={"epochs": 1})
    result = imgcls.train(config, on_begun=begun.append)
    assert result.run == begun[0].run
    assert len(history(result.run)) == 1
    assert is_finished(result.run)
    longer = imgcls.resume(imgcls.ResumeConfig(run=result.run, epochs=2))
    assert longer.folds[0].epochs_run == 2
    assert imgcls.resume(imgcls.ResumeConfig(output=tmp_path / "out")) is None


def test_a_trainer_locks_its_run_and_keeps_its_history(tmp_path, photos):
    """While it trains nobody else can; every epoch has its row."""
    config = tiny_config(photos, runtime={"output": str(tmp_path / "out")})
    seen = []

    def watch(event):
        if isinstance(event, EpochDone):
            seen.append(len(history(trainer.run)))
            with pytest.raises(RunError, match="in use"):
                imgcls.resume(imgcls.ResumeConfig(run=trainer.run))

    trainer = imgcls.Trainer.begin(config, [watch])
    assert trainer.train_fold(0).epochs_run == 2
    assert seen == [1, 2]
    own = trainer.validate_epoch()
    model = timm.create_model("test_resnet", num_classes=3)
    batches = [(torch.zeros(n, 3, 32, 32), torch.arange(n)) for n in (3, 2)]
    given = trainer.validate_epoch(model, batches, torch.nn.CrossEntropyLoss(), 3)
    assert set(own) - set(given) <= {"val_temperature", "val_calibrated_loss"}
    assert set(given) <= set(own)
    with pytest.raises(ConfigError, match="give the dataloader"):
        trainer.validate_epoch(model)


def test_a_signal_saves_and_the_same_trainer_goes_on(tmp_path, photos):
    """In the main thread; the rows of history.csv are one a whole epoch."""
    config = tiny_config(photos, runtime={"output": str(tmp_path / "out")})

    def interrupt(event):
        if isinstance(event, StepDone) and len(steps) == 0:
            steps.append(event)
            os.kill(os.getpid(), signal.SIGTERM)

    steps = []
    before = signal.getsignal(signal.SIGTERM)
    trainer = imgcls.Trainer.begin(config, [interrupt])
    with pytest.raises(InterruptedRunError, match="go on with: imgcls resume") as caught:
        trainer.train_fold(0)
    assert caught.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is before
    assert trainer.train_fold(0).epochs_run == 2
    assert [row["epoch"] for row in history(trainer.run)] == ["1", "2"]


def test_an_observer_that_raises_ends_the_training_and_loses_nothing(tmp_path, photos):
    """Its own error comes through, observers behind it see no more; the run can go on."""
    config = tiny_config(photos, runtime={"output": str(tmp_path / "out")}, optim={"epochs": 3})
    seen = []

    def fail(event):
        if isinstance(event, EpochDone) and event.epoch == 2:
            raise ZeroDivisionError("of the observer")

    with pytest.raises(ZeroDivisionError, match="of the observer"):
        imgcls.train(config, [fail, seen.append])
    assert [event.epoch for event in seen if isinstance(event, EpochDone)] == [1]
    [run] = (tmp_path / "out").iterdir()
    assert len(history(run)) == 2
    assert imgcls.resume(imgcls.ResumeConfig(run=run)).folds[0].epochs_run == 3
    assert [row["epoch"] for row in history(run)] == ["1", "2", "3"]


def test_a_trainer_works_in_another_thread(tmp_path, photos):
    """Where python allows no handlers, signals keep their meaning."""
    config = tiny_config(photos, runtime={"output": str(tmp_path / "out")}, optim={"epochs": 1})
    trainer, results = imgcls.Trainer.begin(config), []
    thread = threading.Thread(target=lambda: results.append(trainer.train_fold(0)))
    thread.start()
    thread.join()
    assert results[0].epochs_run == 1


@pytest.mark.parametrize("how", [imgcls.Trainer.begin, imgcls.train])
def test_what_cannot_be_assembled_leaves_no_run(tmp_path, photos, how):
    """So that `resume` finds nothing that can never be resumed."""
    output = tmp_path / "out"
    config = tiny_config(
        photos,
        runtime={"output": str(output)},
        model={"weights": str(tmp_path / "no.safetensors"), "pretrained": "auto"},
    )
    with pytest.raises(ModelError, match="no such file"):
        how(config)
    assert not output.exists()
    assert find_resumable(None, output, extend=False).run is None


def trainer_of_two_folds(photos, output):
    """Of one epoch each."""
    config = tiny_config(
        photos,
        runtime={"output": str(output)},
        data={"folds": 2, "fold": "all"},
        optim={"epochs": 1},
    )
    return imgcls.Trainer.begin(config)


def test_a_fold_that_the_run_has_not_is_refused(tmp_path, photos):
    """Before anything of it is made."""
    trainer = trainer_of_two_folds(photos, tmp_path / "out")
    with pytest.raises(ConfigError, match="folds 0 to 1"):
        trainer.train_fold(2)
    assert not (trainer.run / "fold_2").exists()


def test_folds_trained_one_by_one_are_summed_up(tmp_path, photos):
    """With the last of them, in whatever order; then the run is finished."""
    trainer = trainer_of_two_folds(photos, tmp_path / "out")
    trainer.train_fold(1)
    assert not is_finished(trainer.run)
    trainer.train_fold(0)
    assert (trainer.run / "summary.json").is_file()
    assert is_finished(trainer.run)


@pytest.mark.parametrize(("given", "rate"), [("auto", 0.2), (0.0, 0.0), (0.4, 0.4)])
def test_the_dropout_that_holds_stands_in_the_plan(given, rate):
    """rexnet's own is 0.2: the run's config keeps the number, and the plan says whose it is."""
    config = tiny_config("digits", model={"name": "rexnet_100", "dropout": given})
    plan = make_plan(config)
    assert plan.config.model.dropout == rate
    assert ("dropout 0.2: rexnet_100's own" in plan.reasons) == (given == "auto")
    assert create_model(plan.config.model).drop_rate == rate


@pytest.fixture
def model():
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=3).eval()


NAMES = ["china", "flower", "violet"]


def test_a_checkpoint_saved_from_python_is_used_everywhere(command, tmp_path, photos, model):
    """A model, its class names and its preprocessing: evaluated, timed and loaded again."""
    card = imgcls.model_card(model, NAMES, input_size=(3, 32, 32), crop_pct=1.0)
    saved = imgcls.save_checkpoint(imgcls.take_snapshot(model, card), tmp_path / "mine")
    report = imgcls.evaluate(
        imgcls.EvaluateConfig(
            checkpoint=saved, data=str(photos), ci="none", report=False, workers=0, device="cpu"
        )
    )
    assert report.metrics["samples"] == 48
    assert report.model_name == "test_resnet"
    done = command("benchmark", saved, "--num-samples", "4", "--device", "cpu")
    assert done.code == 0, done.err
    other = timm.create_model("test_resnet", num_classes=3)
    assert imgcls.load_checkpoint(other, saved, "cpu").class_names == tuple(NAMES)
    assert torch.equal(other.fc.weight, model.fc.weight)
    done = command("evaluate", saved)
    assert done.code == 2
    assert "--data" in done.error_lines[0]


@pytest.mark.parametrize(
    ("names", "changes", "words"),
    [
        (["a", "b"], {}, "2 class names for 3 outputs"),
        (NAMES, {"size": 3}, "size is no part of a preprocessing"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(model, names, changes, words):
    """Before anything is saved under it."""
    with pytest.raises(ModelError, match=words):
        imgcls.model_card(model, names, **changes)
    with pytest.raises(ModelError, match="not a timm model"):
        imgcls.model_card(torch.nn.Linear(2, 3), NAMES)


@pytest.mark.parametrize("form", ["timm", "id2label", "transformers", "pickled", "old"])
def test_a_model_folder_of_others_is_evaluated_and_timed(command, tmp_path, photos, model, form):
    """timm's and Hugging Face's: classes by name, in whatever order the model has them."""
    card = imgcls.model_card(model, NAMES[::-1], input_size=(3, 32, 32))
    card["model_args"] = {"drop_path_rate": 0.1}
    weights = {key: value.contiguous() for key, value in model.state_dict().items()}
    if form == "id2label":
        del card["label_names"]
        card["id2label"] = {str(i): name for i, name in enumerate(NAMES[::-1])}
    elif form == "transformers":
        card.update(model_type="timm_wrapper", architectures=["TimmWrapperForImageClassification"])
        weights = {f"timm_model.{key}": value for key, value in weights.items()}
    elif form == "old":
        card = {**card, **card.pop("pretrained_cfg")}
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "config.json").write_text(as_json(card))
    if form == "pickled":
        torch.save(weights, folder / "pytorch_model.bin")
    else:
        save_file(weights, folder / "model.safetensors")
    done = command(
        "evaluate", folder, "--data", photos, "--ci", "none", "--no-report", "--workers", "0",
        "--device", "cpu", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    with (tmp_path / "test_results/data-photos/predictions.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["label"] for row in rows} == set(NAMES)
    assert command("benchmark", folder, "--num-samples", "4", "--device", "cpu").code == 0
    assert command("evaluate", folder).code == 2


@pytest.mark.parametrize(
    ("card", "words"),
    [
        ({"model_type": "resnet"}, "not a timm model's of a resnet"),
        ({"architecture": "nope", "num_classes": 2}, "timm has no architecture 'nope'"),
        ({"architecture": "test_resnet", "num_classes": 3, "label_names": ["a"]}, "not 3 names"),
        ({"architecture": "test_resnet", "num_classes": 10**9}, "more than its weights have"),
        (
            {"architecture": "test_resnet", "num_classes": 2, "label_names": ["a", "\ud800"]},
            "not all different texts",
        ),
    ],
)
def test_a_model_folder_that_timm_cannot_build_is_refused(
    command, tmp_path, photos, model, card, words
):
    """In one line that names its config.json."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    facts = imgcls.model_card(model, NAMES)["pretrained_cfg"]
    (folder / "config.json").write_text(as_json({"pretrained_cfg": facts, **card}))
    save_file(model.state_dict(), folder / "model.safetensors")
    for arguments in (("evaluate", folder, "--data", photos), ("benchmark", folder)):
        done = command(*arguments)
        assert done.code == 2
        assert words in done.error_lines[0]


def test_classes_of_one_name_are_told_apart(command, tmp_path, photos, model):
    """ImageNet has two kinds of crane: which one the data's are is not guessed."""
    card = {**imgcls.model_card(model, NAMES), "label_names": ["china", "china", "violet"]}
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "config.json").write_text(as_json(card))
    save_file(model.state_dict(), folder / "model.safetensors")
    done = command("evaluate", folder, "--data", photos)
    assert done.code == 2
    assert "knows: china (0), china (1), violet" in done.error_lines[0]


def test_changed_weights_are_told_how_to_be_taken(command, tmp_path, photos, model):
    """Weights averaged into a copy of a checkpoint do not fit its sidecar."""
    card = imgcls.model_card(model, NAMES, input_size=(3, 32, 32))
    saved = imgcls.save_checkpoint(imgcls.take_snapshot(model, card), tmp_path / "mine")
    weights = {k: v + 0 for k, v in load_file(saved / "model.safetensors").items()}
    weights["fc.bias"] += 1
    save_file(weights, saved / "model.safetensors")
    arguments = ("evaluate", saved, "--data", photos, "--ci", "none", "--no-report")
    assert "without checkpoint.json" in command(*arguments).error_lines[0]
    (saved / "checkpoint.json").unlink()
    assert command(*arguments).code == 0


def as_json(card):
    from imgcls.storage.durable import strict_json

    return strict_json(card)


def test_a_resumption_says_what_is_not_as_it_was(tmp_path, photos, capsys):
    """Another precision, batch size, number of threads; a cache begun or ended; no workers."""
    config = tiny_config(
        photos,
        runtime={"output": str(tmp_path / "out"), "amp": "bf16"},
        data={"cache": "ram"},
        optim={"epochs": 1},
    )
    run = imgcls.train(config).run

    def told(**changes):
        events = []
        imgcls.resume(imgcls.ResumeConfig(run=run, **changes), [events.append])
        return next(e.inexact for e in events if isinstance(e, Resumed))

    assert told(epochs=2, cache="disk", workers=1) == ()
    assert told(epochs=3, amp="off", cache="none") == (
        "amp off, before bf16",
        "cache none, before disk",
    )
    assert told(epochs=4, batch_size=4) == ("batch size 4, before 16",)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        assert told(epochs=5) == (f"threads {threads + 1}, before {threads}",)
    finally:
        torch.set_num_threads(threads)


def test_a_checkpoint_of_another_fold_is_refused(tmp_path, photos):
    """Its pictures were others."""
    trainer = trainer_of_two_folds(photos, tmp_path / "out")
    trainer.train_fold(0)
    shutil.copytree(trainer.run / "fold_0", trainer.run / "fold_1", symlinks=True)
    with pytest.raises(CheckpointError, match="was trained on fold 0, not on fold 1"):
        trainer.train_fold(1)


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "nowhere"),
        ("train", "digits", "--weights", "nowhere.pth"),
        ("evaluate", "no/where"),
        ("evaluate", "--data", "nowhere"),
        ("evaluate", "--costs", "nowhere.csv"),
        ("benchmark", "--data", "nowhere"),
        ("benchmark", "--baseline", "nowhere.json"),
    ],
)
def test_what_is_not_there_is_told_before_torch_is_loaded(command, arguments):
    """Which takes seconds."""
    done = command(*arguments)
    assert done.code == 2
    assert "no such" in done.error_lines[0]
    assert "Loading torch" not in done.err


def test_a_monitor_that_cannot_exist_is_told_before_training(command, photos):
    """Top 5 of three classes; the run is not begun."""
    done = command("train", photos, *OFFLINE, "--eval-metric", "val_top_5_accuracy")
    assert done.code == 2
    assert "undefined with 3 classes" in done.error_lines[0]
    assert not (photos.parent / "outputs").exists()


def test_a_taken_name_is_told_and_nothing_overwritten(command, photos):
    """As Ultralytics does without exist_ok: the next number, and a word."""
    arguments = ("train", photos, *OFFLINE, "--epochs", "1", "--experiment", "mine")
    assert "stays as it is" not in command(*arguments).err
    done = command(*arguments)
    assert "outputs/mine is there already and stays as it is; this run is mine-2" in done.err
