"""Results that replace earlier ones: the old or the new, whole, whatever stops the writing."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from faults import FAULTS, STOP
from PIL import Image

from imgcls.engine.checkpoint.folder import Checkpoint
from imgcls.engine.checkpoint.temperature import Temperature, read_temperature
from imgcls.errors import RunError
from imgcls.jobs.evaluate.result_folders import ResultFolders
from imgcls.metrics.calculator import MetricsCalculator
from imgcls.metrics.predictions import Predictions
from imgcls.results.checkpoint import Sidecar
from imgcls.results.evaluation import EvalReport
from imgcls.storage.commit import recover
from imgcls.storage.evaluations import (
    is_evaluation_file,
    read_predictions,
    write_evaluation,
    write_explanations,
)
from imgcls.storage.scores import ScoreFile
from imgcls.storage.staging import StagedFolders

NAMES = ("a", "b", "c")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    # of all that torch has in memory, a hundred times over
    monkeypatch.setattr("imgcls.storage.staging.gc.collect", lambda: 0)


def checkpoint_in(fold):
    folder = fold / "checkpoints" / "step-1"
    folder.mkdir(parents=True, exist_ok=True)
    said = Sidecar(class_names=NAMES, fold=0)
    return Checkpoint(folder, {"architecture": "tiny"}, said, {}, "hash of the weights", {})


def evaluate(fold, value):
    """What a job does with its files, in no time; every one of them tells the value."""
    checkpoint = checkpoint_in(fold)
    with ResultFolders() as results:
        folder = results.of_fold(checkpoint, "test")
        with ScoreFile(folder / "logits.npy", 3) as file:
            file.append(np.eye(3, dtype=np.float32) * value)
            predictions = Predictions(("p", "q", "r"), file.mapped(), np.array([0, 1, 1]))
        scored = MetricsCalculator(NAMES).compute(predictions)
        report = EvalReport(
            checkpoint=checkpoint.folder,
            model_name="tiny",
            split="test",
            fold=0,
            data={"source": f"value {value}"},
            metrics=scored.metrics,
            speed_metrics={},
            undefined=scored.undefined,
            class_names=NAMES,
            per_class=scored.per_class,
            confusion_matrix=scored.confusion_matrix,
            folder=folder,
        )
        write_explanations(folder, "Grad-CAM", [(f"p{value}", Image.new("RGB", (4, 4)))])
        write_evaluation(folder, report, predictions)
        (folder / "report.html").write_text(f"value {value}")
        results.keep(checkpoint, Temperature(float(value), "val", 3))
        del predictions
        results.commit()


def begin(fold):
    """An earlier evaluation, and what a user put beside its files."""
    evaluate(fold, 1)
    folder = fold / "test_results" / "test"
    (folder / "notes.txt").write_text("mine")
    (folder / "explanations" / "mine.jpg").write_text("mine")
    (folder / "figures" / "deep").mkdir(parents=True)
    (folder / "figures" / "deep" / "roc_curves.png").write_text("mine")


def assert_whole(fold):
    """Old or new, all files of one evaluation; the user's own are there; the value."""
    folder = fold / "test_results" / "test"
    recover(folder, is_evaluation_file)
    value = int(read_predictions(folder).logits[0, 0])  # which compares the hashes
    assert value in (1, 2)
    assert (folder / "report.html").read_text() == f"value {value}"
    assert f"p{value}" in (folder / "explanations" / "index.csv").read_text()
    assert f'"value {value}"' in (folder / "test_metrics.json").read_text()
    for name in ("notes.txt", "explanations/mine.jpg", "figures/deep/roc_curves.png"):
        assert (folder / name).read_text() == "mine"
    assert read_temperature(checkpoint_in(fold)).temperature == value
    return value


def test_every_operation_survives_every_fault(injector, tmp_path):
    """The old or the new evaluation is there, whole, never a mixture; the same again works."""
    begin(tmp_path / "begun")
    shutil.copytree(tmp_path / "begun", tmp_path / "count")
    operations = injector.count(tmp_path / "count", lambda: evaluate(tmp_path / "count", 2))
    assert len(operations) > 40
    errors = [fault for fault in FAULTS if fault != STOP]
    left = set()
    for number in range(1, len(operations) + 1):
        # one error is met as another is: each operation has its turn of them
        for fault in (STOP, errors[number % len(errors)]):
            fold = tmp_path / f"{fault[:2]}-{number}"
            shutil.copytree(tmp_path / "begun", fold)
            injector.fail(fold, number, fault, lambda fold=fold: evaluate(fold, 2))
            value = assert_whole(fold)
            left.add((fault, value))
            evaluate(fold, 2)
            assert assert_whole(fold) == 2
            assert not list(fold.rglob(".tmp-*")), "left-overs are cleared away"
            shutil.rmtree(fold)
    assert left == {(fault, value) for fault in FAULTS for value in (1, 2)}


def test_two_processes_do_not_write_one_folder(tmp_path):
    """The second is told who writes, and the first ends as if alone."""
    final = tmp_path / "test"
    child = os.fork()
    if child == 0:
        with StagedFolders(is_evaluation_file) as other:
            other.stage(final)
            (tmp_path / "begun").touch()
            while not (tmp_path / "refused").exists():
                os.sched_yield()
            other.commit()
        os._exit(0)
    while not (tmp_path / "begun").exists():
        os.sched_yield()
    with StagedFolders(is_evaluation_file) as staged, pytest.raises(RunError, match="in use by"):
        staged.stage(final)
    (tmp_path / "refused").touch()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert final.is_dir()


def test_the_folder_behind_a_link_is_replaced_and_the_link_stays(tmp_path):
    """Results that were moved to a larger disk stay there."""
    (tmp_path / "large").mkdir()
    (tmp_path / "large" / "report.html").write_text("old")
    link = tmp_path / "test"
    link.symlink_to(tmp_path / "large")
    with StagedFolders(is_evaluation_file) as staged:
        (staged.stage(link) / "report.html").write_text("new")
        staged.commit()
    assert link.is_symlink()
    assert (tmp_path / "large" / "report.html").read_text() == "new"


def test_without_a_commit_nothing_has_changed(tmp_path):
    """What is staged is gone with the block."""
    final = tmp_path / "test"
    final.mkdir()
    (final / "report.html").write_text("old")
    with pytest.raises(KeyError), StagedFolders(is_evaluation_file) as staged:
        (staged.stage(final) / "report.html").write_text("new")
        raise KeyError
    assert [file.read_text() for file in Path(final).iterdir()] == ["old"]
    assert not list(tmp_path.glob(".tmp-*"))


def test_a_note_of_another_ones_run_reaches_no_file_of_ours(tmp_path):
    """It may come in any copied run: it gives no other file a text, and moves no other folder."""
    mine, run = tmp_path / "mine", tmp_path / "run" / "test_results"
    mine.mkdir()
    (mine / "a").mkdir()
    (mine / ".tmp-a.new").mkdir()
    (mine / "b.sh").write_text("mine")
    (run / "test").mkdir(parents=True)
    for folders, texts in (
        (["test"], {"../../mine/b.sh": "theirs"}),
        (["test", "../../mine/a"], {}),
        (["test"], {"calibration.json": 3}),
    ):
        note = {"folders": folders, "texts": texts}
        (run / ".tmp-test.commit").write_text(json.dumps(note))
        recover(run / "test", is_evaluation_file)
        assert (mine / "b.sh").read_text() == "mine"
        assert sorted(path.name for path in mine.iterdir()) == [".tmp-a.new", "a", "b.sh"]
        assert not (run / "calibration.json").exists()
        assert not (run / ".tmp-test.commit").exists()


def test_a_commit_outlives_a_checkpoint_that_was_removed(injector, tmp_path):
    """Decided, then killed; resuming has pruned the checkpoint that got a temperature with it."""
    final, checkpoint = tmp_path / "test", tmp_path / "step-1"
    checkpoint.mkdir()

    def job(value):
        with StagedFolders(is_evaluation_file) as staged:
            (staged.stage(final) / "report.html").write_text(value)
            if value == "one":
                staged.put(checkpoint / "calibration.json", value)
            staged.commit()

    operations = injector.count(tmp_path, lambda: job("other"))
    first = operations.index("rename") + 3  # the first of carrying out, behind the decision
    injector.fail(tmp_path, first, STOP, lambda: job("one"))
    assert (tmp_path / ".tmp-test.commit").exists()
    checkpoint.rmdir()
    recover(final, is_evaluation_file)
    assert (final / "report.html").read_text() == "one"
    job("two")
    assert (final / "report.html").read_text() == "two"
    assert not checkpoint.exists()


def commit_three(root, value):
    """Two folds, the folder of both, and a file elsewhere; all tell the value."""
    with StagedFolders(is_evaluation_file) as staged:
        for name in ("fold_0/val", "fold_1/val", "results/val"):
            (staged.stage(root / name) / "report.html").write_text(value)
        staged.put(root / "summary.json", value)
        staged.commit()


PARTS = ("fold_0", "fold_1", "results")


def values_of(root):
    files = [root / part / "val" / "report.html" for part in PARTS]
    return {file.read_text() for file in (*files, root / "summary.json")}


def test_folders_of_one_commit_are_all_old_or_all_new(injector, tmp_path):
    """Whichever of them is looked at first behind a kill, also where the whole was moved."""
    commit_three(tmp_path / "begun", "old")
    (tmp_path / "begun" / "fold_1" / "val" / "notes.txt").write_text("mine")
    shutil.copytree(tmp_path / "begun", tmp_path / "count")
    operations = injector.count(tmp_path / "count", lambda: commit_three(tmp_path / "count", "new"))
    left = set()
    for fault in (STOP, "EIO"):
        for number in range(1, len(operations) + 1):
            root = tmp_path / f"{fault[:2]}-{number}"
            shutil.copytree(tmp_path / "begun", root)
            injector.fail(root, number, fault, lambda root=root: commit_three(root, "new"))
            if fault == STOP:
                root = root.rename(tmp_path / f"moved-{number}")
            recover(root / PARTS[number % 3] / "val", is_evaluation_file)
            [value] = values_of(root)
            left.add((fault, value))
            commit_three(root, "again")
            assert values_of(root) == {"again"}
            assert (root / "fold_1" / "val" / "notes.txt").read_text() == "mine"
            assert not list(root.rglob(".tmp-*"))
    assert left == {(fault, value) for fault in (STOP, "EIO") for value in ("old", "new")}
