"""`imgcls import`: what another trainer saved, as a checkpoint or a run of imgcls."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import timm
import torch
from conftest import save_crops
from earlier_files import CLASSES, Training, Wrapped, adamw, of_timm, save_earlier, trained
from faults import STOP
from timm.optim import param_groups_weight_decay

from imgcls.config.import_ import ImportConfig
from imgcls.engine.checkpoint.folder import read_checkpoint, read_state
from imgcls.jobs.import_.import_ import import_checkpoint
from imgcls.jobs.import_.order import in_another_order
from imgcls.jobs.import_.source import read_source
from imgcls.metrics.predictions import Predictions
from imgcls.storage.pointers import find_checkpoint
from imgcls.storage.runs import read_run_config, splits_were_given
from imgcls.storage.tables import read_csv


@pytest.fixture(scope="module")
def photos(tmp_path_factory, crops):
    """Three classes of few pictures."""
    return save_crops(crops, tmp_path_factory.mktemp("import") / "photos", (10, 8, 7))


@pytest.fixture
def classes(tmp_path):
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES) + "\n", encoding="utf-8")
    return tmp_path / "classes.txt"


def imported(file, classes=None, **options):
    """The checkpoint of an import by the Python API."""
    options = {"model": "test_resnet", "img_size": 32, "output": file.parent / "out", **options}
    return import_checkpoint(ImportConfig(file=file, classes=classes, **options))


def logits(folder, images):
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    with torch.no_grad():
        return model(images)


def images():
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(9))


def test_an_earlier_checkpoint_answers_as_it_did(command, tmp_path, classes):
    """Opened by timm alone, to the last bit; its epoch and metrics are kept, the file is not."""
    training = save_earlier(tmp_path / "old.pt")
    content = (tmp_path / "old.pt").read_bytes()
    done = command("import", "old.pt", "--model", "test_resnet", "--classes", classes,
                   "--img-size", "32")  # fmt: skip
    assert done.code == 0, done.err
    folder = tmp_path / "outputs" / "old-test_resnet"
    assert f"Checkpoint    {os.path.relpath(folder, tmp_path)}" in done.out
    assert "proves the order of the classes" in done.err
    training.model.eval()
    with torch.no_grad():
        expected = training.model(images())
    assert torch.equal(logits(folder, images()), expected)
    sidecar = read_checkpoint(folder).sidecar
    assert (sidecar.epoch, sidecar.class_names) == (3, CLASSES)
    assert sidecar.metrics == {"val_accuracy": 0.5, "val_loss": 1.25}
    assert (tmp_path / "old.pt").read_bytes() == content


def test_a_second_import_writes_over_nothing(tmp_path, classes):
    """It gets a number behind its name."""
    save_earlier(tmp_path / "old.pt")
    first = imported(tmp_path / "old.pt", classes).checkpoint
    before = {f.name: f.read_bytes() for f in first.iterdir()}
    second = imported(tmp_path / "old.pt", classes).checkpoint
    assert (first.name, second.name) == ("old-test_resnet", "old-test_resnet-2")
    assert {f.name: f.read_bytes() for f in first.iterdir()} == before
    assert sorted(p.name for p in first.parent.iterdir()) == [first.name, second.name]


def test_it_is_evaluated(command, tmp_path, classes, photos):
    """As any other checkpoint."""
    save_earlier(tmp_path / "old.pt")
    folder = imported(tmp_path / "old.pt", classes).checkpoint
    done = command("evaluate", folder, "--data", photos, "--workers", "0", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["metrics"]["accuracy"] is not None


OPTIMIZERS = {
    "adamw": adamw,
    "adam": lambda m: torch.optim.Adam(m.parameters(), lr=1e-3),
    "sgd": lambda m: torch.optim.SGD(m.parameters(), lr=0.02, momentum=0.8, weight_decay=1e-4),
    "nesterov": lambda m: torch.optim.SGD(m.parameters(), lr=0.02, momentum=0.9, nesterov=True),
    "amsgrad": lambda m: torch.optim.AdamW(m.parameters(), lr=1e-3, amsgrad=True),
    "two groups": lambda m: torch.optim.AdamW(
        [{"params": m.classifier.parameters()}, {"params": m.backbone.parameters()}], lr=1e-3
    ),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_run_steps_on_as_the_old_training_would(tmp_path, classes, photos, kind):
    """The optimizer's state is that of plain torch's: after one more step all parameters agree."""
    from imgcls.jobs.plan.plan import make_plan
    from imgcls.jobs.train.assemble import assemble
    from imgcls.jobs.train.restore import restore
    from imgcls.storage.splits import read_splits

    training = save_earlier(tmp_path / "old.pt", trained(OPTIMIZERS[kind]))
    report = imported(tmp_path / "old.pt", classes, data=str(photos), workers=0, device="cpu")
    assert (report.epoch, report.epochs) == (3, 6), report.notes
    plan = make_plan(read_run_config(report.run), read_splits(report.run))
    assembly = assemble(plan, 0, load_weights=False)
    checkpoint = read_checkpoint(find_checkpoint(report.run, which="last"), to_resume=True)
    restore(plan, 0, assembly.parts, checkpoint)
    parts = assembly.parts
    assert (parts.progress.epoch, parts.progress.finished) == (3, False)
    model, optimizer = parts.learner.model, parts.learner.optimizer
    rates = [group["lr"] for group in training.optimizer.param_groups]
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx(
        rates[:1] * len(optimizer.param_groups)
    )
    Training(model, optimizer, None).step(100)
    training.step(100)
    theirs = {
        k.removeprefix("backbone.").replace("classifier.1", "fc"): v
        for k, v in training.model.state_dict().items()
    }
    assert theirs.keys() == model.state_dict().keys()
    for key, value in model.state_dict().items():
        close = torch.allclose(value, theirs[key], rtol=1e-6, atol=1e-7)
        assert close, key


def test_a_run_is_resumed_at_the_next_epoch(command, tmp_path, classes, photos):
    """With its moments in place, and a history that goes on behind the epoch it came with."""
    training = save_earlier(tmp_path / "old.pt")
    done = command("import", "old.pt", "--model", "test_resnet", "--classes", classes, "--data",
                   photos, "--img-size", "32", "--workers", "0", "--device", "cpu", "--epochs",
                   "4", "--experiment", "run")  # fmt: skip
    assert done.code == 0, done.err
    assert "with epoch 4" in done.out
    assert "4 epochs in all, its own had 6" in done.out
    assert "the splits are new: the old training may have been given val and test" in done.err
    run = tmp_path / "outputs" / "run"
    saved = read_state(read_checkpoint(find_checkpoint(run, which="last"), to_resume=True))
    ours, theirs = (
        sorted(float(moment["exp_avg"].norm()) for moment in state["state"].values())
        for state in (saved["optimizer"]["optimizer"], training.optimizer.state_dict())
    )
    assert ours == pytest.approx(theirs)
    done = command("resume", run, "--workers", "0")
    assert done.code == 0, done.err
    assert "at epoch 4" in done.err
    assert "imported" in done.err
    assert "from scratch" not in done.err
    assert [row["epoch"] for row in read_csv(run / "fold_0" / "history.csv")] == ["3", "4"]
    done = command("evaluate", run, "--json")
    assert done.code == 0, done.err
    assert "its run was made by `imgcls import`" in json.dumps(json.loads(done.out))


def test_outputs_in_another_order_meet_the_right_classes(tmp_path, photos):
    """A run has the data's order: weights, averages and moments are reordered by name."""
    training = save_earlier(tmp_path / "old.pt")
    (tmp_path / "classes.json").write_text(json.dumps(["violet", "china", "flower"]))
    report = imported(
        tmp_path / "old.pt", tmp_path / "classes.json", data=str(photos), workers=0, device="cpu"
    )
    assert report.class_names == CLASSES
    with torch.no_grad():
        expected = training.model(images())[:, [1, 2, 0]]
    assert torch.equal(logits(report.checkpoint, images()), expected)
    saved = read_state(read_checkpoint(find_checkpoint(report.run), to_resume=True))
    moments = saved["optimizer"]["optimizer"]["state"].values()
    [bias] = [m["exp_avg"] for m in moments if m["exp_avg"].shape == (3,)]
    theirs = training.optimizer.state[training.model.classifier[1].bias]["exp_avg"]
    assert torch.equal(bias, theirs[[1, 2, 0]])


def test_a_run_of_timms_goes_on_with_its_average(tmp_path, classes, photos):
    """The average is evaluated, the trained weights go on; timm's own groups find their layers."""
    torch.manual_seed(4)
    model = timm.create_model("test_resnet", num_classes=3)
    groups = param_groups_weight_decay(model, weight_decay=0.05)
    training = Training(model, torch.optim.AdamW(groups, lr=2e-3), None)
    training.step(0)
    for group in training.optimizer.param_groups:
        group["initial_lr"] = 4e-3
    average = timm.create_model("test_resnet", num_classes=3)
    content = of_timm(
        model, training.optimizer, img_size=32, epochs=9, sched="cosine", warmup_epochs=2,
        min_lr=1e-5, model_ema_decay=0.99,
    )  # fmt: skip
    torch.save({**content, "state_dict_ema": average.state_dict()}, tmp_path / "last.pth.tar")
    report = imported(
        tmp_path / "last.pth.tar", classes, model=None, img_size=None, data=str(photos),
        workers=0, device="cpu",
    )  # fmt: skip
    assert (report.epoch, report.epochs) == (5, 9), report.notes
    config = read_run_config(report.run)
    optim = config.optim
    assert (optim.sched, optim.lr, optim.min_lr, optim.warmup_epochs) == ("cosine", 4e-3, 1e-5, 2)
    assert (optim.model_ema, optim.model_ema_decay, config.model.img_size) == (True, 0.99, 32)
    with torch.no_grad():
        assert torch.equal(logits(report.checkpoint, images()), average.eval()(images()))
    saved = read_state(read_checkpoint(find_checkpoint(report.run), to_resume=True))
    assert torch.equal(saved["model"]["fc.weight"], model.fc.weight)
    kept, theirs = (
        saved["optimizer"]["optimizer"]["state"],
        training.optimizer.state_dict()["state"],
    )
    assert len(kept) == len(theirs)
    for number, moments in theirs.items():
        assert torch.equal(kept[number]["exp_avg"], moments["exp_avg"])


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("none", "holds no state of an optimizer"),
        ("frozen", "its optimizer has 2 parameters, the model 47"),
        ("input", "its input is not the model's own"),
        ("at 0", "had come to a rate of 0; say by --lr"),
    ],
)
def test_what_cannot_go_on_is_told_and_evaluated_all_the_same(
    command, tmp_path, classes, photos, kind, words
):
    """No optimizer is begun anew in silence."""
    training = trained(
        (lambda m: torch.optim.AdamW(m.classifier.parameters())) if kind == "frozen" else adamw,
        t_max=None,
    )
    content = training.content(3)
    if kind == "none":
        del content["optimizer_state_dict"]
    if kind == "at 0":
        content["optimizer_state_dict"]["param_groups"][0]["lr"] = 0.0
    torch.save(content, tmp_path / "old.pt")
    options = {"mean": (0.1, 0.1, 0.1)} if kind == "input" else {}
    report = imported(
        tmp_path / "old.pt", classes, data=str(photos), workers=0, device="cpu", **options
    )
    [told] = [note for note in report.notes if note.startswith("it cannot be resumed: ")]
    assert words in told
    assert report.epochs is None
    assert report.validation["val_accuracy"] is not None
    done = command("resume", "--output", tmp_path / "out")
    assert "no run is unfinished" in done.out


def test_another_order_of_names_is_told_with_the_one_that_fits(tmp_path, photos):
    """By the answers to the val pictures, whose truth the data know."""
    found = Predictions(
        keys=tuple(map(str, range(30))),
        logits=np.eye(3, dtype=np.float32)[np.arange(30) % 3] * 9,
        labels=(np.arange(30) + 1) % 3,
    )
    save_earlier(tmp_path / "old.pt")
    (tmp_path / "classes.json").write_text(json.dumps(CLASSES))
    config = ImportConfig(
        file=tmp_path / "old.pt", classes=tmp_path / "classes.json", model="test_resnet"
    )
    told = in_another_order(found, read_source(config))
    assert "accuracy 0.0% on 30 val pictures is no better than naming the largest class" in told[0]
    assert "would be 100.0%: what is called 'china' looks like 'flower'" in told[1]
    right = Predictions(found.keys, found.logits, np.arange(30) % 3)
    assert in_another_order(right, read_source(config)) == []


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["china", "flower", "rose"], "photos has a class the model does not know: 'violet'"),
        (["china", "flower", "Violet"], "photos has a class the model does not know: 'violet'"),
    ],
)
def test_data_of_other_classes_make_no_run(command, tmp_path, photos, names, words):
    """The model's classes and the data's are the same, by name."""
    save_earlier(tmp_path / "old.pt")
    (tmp_path / "classes.json").write_text(json.dumps(names))
    done = command("import", "old.pt", "--model", "test_resnet", "--classes", "classes.json",
                   "--data", photos, "--img-size", "32", "--workers", "0")  # fmt: skip
    assert done.code == 2
    [line] = done.error_lines
    assert words in line
    assert not (tmp_path / "outputs").exists()


def test_a_model_of_more_classes_than_the_data_makes_no_run(command, tmp_path, photos):
    """What is left to do is said."""
    torch.save({"model_state_dict": Wrapped(classes=4).state_dict()}, tmp_path / "old.pt")
    (tmp_path / "classes.txt").write_text("\n".join([*CLASSES, "rose"]))
    done = command("import", "old.pt", "--model", "test_resnet", "--classes", "classes.txt",
                   "--data", photos, "--img-size", "32", "--workers", "0")  # fmt: skip
    assert done.code == 2
    assert "has no pictures of: 'rose'; a run needs the same classes" in done.error_lines[0]


def test_what_the_weights_began_with_is_not_known(tmp_path, classes):
    """timm's licence of its own weights says nothing of these."""
    save_earlier(tmp_path / "old.pt")
    folder = imported(tmp_path / "old.pt", classes).checkpoint
    checkpoint = read_checkpoint(folder)
    assert checkpoint.sidecar.began_with(checkpoint.card).kind == "unknown"
    assert not {"license", "tag"} & checkpoint.card["pretrained_cfg"].keys()


def test_the_input_is_as_it_is_told(tmp_path, classes):
    """What is not said is the model's own."""
    save_earlier(tmp_path / "old.pt")
    report = imported(
        tmp_path / "old.pt", classes, mean=(0.1, 0.2, 0.3), resize_mode="squash", crop_pct=None
    )
    card = read_checkpoint(report.checkpoint).card["pretrained_cfg"]
    assert card["mean"] == [0.1, 0.2, 0.3]
    assert card["std"] == list(timm.create_model("test_resnet").pretrained_cfg["std"])
    assert (card["crop_mode"], card["crop_pct"], card["input_size"]) == ("squash", 1.0, [3, 32, 32])


def test_a_command_that_wants_a_checkpoint_names_the_way(command, tmp_path):
    """To a file that is none."""
    save_earlier(tmp_path / "old.pt")
    done = command("evaluate", "old.pt", "--data", "digits")
    assert done.code == 2
    assert "by `imgcls import old.pt`" in done.error_lines[0]


def test_splits_of_the_data_are_those_of_the_old_training(tmp_path, classes, photos):
    """A val split that they lack is new, and may have been trained on."""
    save_earlier(tmp_path / "old.pt")
    for folder in ("train", "test", "val"):
        shutil.copytree(photos, tmp_path / "data" / folder)
    options = {"data": str(tmp_path / "data"), "workers": 0, "device": "cpu"}
    with_val = imported(tmp_path / "old.pt", classes, **options)
    assert splits_were_given(with_val.run)
    assert not [note for note in with_val.notes if " new: " in note]
    shutil.rmtree(tmp_path / "data" / "val")
    without = imported(tmp_path / "old.pt", classes, **options)
    assert [note for note in without.notes if note.startswith("the val split is new: ")]


@pytest.mark.slow
@pytest.mark.parametrize("fault", [STOP, "ENOSPC"])
@pytest.mark.parametrize("with_data", [False, True], ids=["checkpoint", "run"])
def test_a_fault_at_any_moment_leaves_all_or_nothing(
    tmp_path, classes, photos, injector, fault, with_data
):
    """A power cut or a full disk at each change of the folder: no part of a result is there."""
    save_earlier(tmp_path / "old.pt")
    options = {"data": str(photos), "workers": 0, "device": "cpu"} if with_data else {}

    def job():
        imported(tmp_path / "old.pt", classes, experiment="it", **options)

    count = len(injector.count(tmp_path / "out", job))
    assert count > 5
    for number in range(1, count + 1, 3 if with_data else 1):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        injector.fail(tmp_path / "out", number, fault, job)
        there = [p for p in tmp_path.glob("out/*") if not p.name.startswith(".tmp-")]
        for folder in there:
            assert folder.name == "it"
            read_state(read_checkpoint(find_checkpoint(folder), to_resume=True)) if with_data else (
                read_checkpoint(folder)
            )
        if fault != STOP:
            assert list(tmp_path.glob("out/.tmp-*")) == []
