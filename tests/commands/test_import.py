"""`imgcls import`: what another trainer saved, as a checkpoint or a run of imgcls."""

from __future__ import annotations

import json
import os

import pytest
import timm
import torch
from conftest import save_crops
from earlier_files import CLASSES, Training, adamw, save_earlier, trained

from imgcls.config.import_ import ImportConfig
from imgcls.engine.checkpoint.folder import read_checkpoint, read_state
from imgcls.jobs.import_.import_ import import_checkpoint
from imgcls.storage.pointers import find_checkpoint
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


def test_it_is_evaluated_and_classified_with(command, tmp_path, classes, photos):
    """As any other checkpoint."""
    save_earlier(tmp_path / "old.pt")
    folder = imported(tmp_path / "old.pt", classes).checkpoint
    done = command("evaluate", folder, "--data", photos, "--workers", "0", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["metrics"]["accuracy"] is not None
    done = command("predict", photos / "china", "--checkpoint", folder, "--workers", "0", "--json")
    assert done.code == 0, done.err


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
    from imgcls.storage.runs import read_run_config
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
