"""`evaluate` and `report`, stopped or failing at their file-system operations, through their jobs.

The commands are the real ones, on a run that is small; of a row of equal operations the first and
the last are taken. Every single operation of the files' way to their names has its test beside
that of checkpoints.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest
from faults import FAULTS, STOP

from imgcls.config.evaluate import EvaluateConfig
from imgcls.config.report import ReportConfig
from imgcls.engine.checkpoint.folder import read_checkpoint
from imgcls.engine.checkpoint.temperature import Temperature, read_temperature, temperature_file
from imgcls.jobs.evaluate.evaluate import evaluate
from imgcls.jobs.page import page
from imgcls.storage.commit import recover
from imgcls.storage.evaluations import is_evaluation_file, read_predictions
from imgcls.storage.pointers import find_checkpoint

OLD, NEW, AGAIN = "old", "new", "again"
# the n-th of the instants
HOW_MANY = pytest.mark.parametrize("every", [9, pytest.param(1, marks=pytest.mark.slow)])


@pytest.fixture(autouse=True)
def _cheap(monkeypatch):
    """One plot, no search for what torch has left."""
    monkeypatch.setattr("imgcls.storage.staging.gc.collect", lambda: 0)
    monkeypatch.setattr("imgcls.storage.scores.gc.collect", lambda: 0)
    monkeypatch.setattr(page, "draw_confusion", lambda *_a, normalized, **_k: page_plot(normalized))
    for name in ("draw_roc", "draw_precision_recall", "draw_reliability", "draw_confidences"):
        monkeypatch.setattr(page, name, lambda *_a, **_k: page_plot(normalized=False))


def page_plot(normalized):
    """A drawing in no time, that tells what the environment says it is of."""
    return Plot("confusion_matrix_normalized" if normalized else "confusion_matrix")


class Plot:
    title = meaning = "a plot"
    width, tooltips = 100, ()

    def __init__(self, name):
        self.name = name

    @property
    def inline_svg(self):
        return f"<svg><text>{os.environ['PLOT']}</text></svg>"

    def files(self):
        return [(f"{self.name}.{kind}", os.environ["PLOT"].encode()) for kind in ("png", "svg")]


def evaluated(run, value, **options):
    """Evaluate so that the value shows in all files: other intervals, other pictures and plots."""
    os.environ["PLOT"] = value
    config = EvaluateConfig(
        checkpoint=run, device="cpu", workers=0, ci="none", amp="bf16" if value == OLD else "off",
        top_k=(1,) if value == OLD else (1, 2), **options,
    )  # fmt: skip
    return evaluate(config)


def digest(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


def standing(folder):
    """What each kind of file is of; whole and of one evaluation, as `report` would take it."""
    read_predictions(folder)  # which compares the hashes
    return {
        name: digest(folder / name)
        for name in (
            "logits.npy",
            "predictions.csv",
            "confusion_matrix.png",
            "confusion_matrix.svg",
        )
    }


def chosen(operations):
    """Of a row of equal operations the first and the last, counted from 1."""
    around = [None, *operations, None]
    return [i for i in range(1, len(operations) + 1) if len({*around[i - 1 : i + 2]}) > 1]


def fail(injector, root, number, fault, job):
    """Do the job while the operation of this number stops the process or fails."""
    assert not isinstance(injector.fail(root, number, fault, job), OSError)


def instants(operations):
    """(fault, number): all chosen ones once, their faults in turn, and kills where names change."""
    names = {"rename", "remove", "rmdir"}
    numbers = chosen(operations)
    kills = [i for i in numbers if operations[i - 1] in names]
    in_turn = [(tuple(FAULTS)[place % len(FAULTS)], i) for place, i in enumerate(numbers)]
    return list(dict.fromkeys([*in_turn, *((STOP, i) for i in kills)]))


@HOW_MANY
def test_an_evaluation_that_fails_anywhere_leaves_the_old_one_or_the_new(
    injector, trained, tmp_path, every
):
    """Logits, tables, page, plots and the fitted temperature; `report` and the same again work."""
    shutil.copytree(trained / "outputs" / "single", tmp_path / "begun", symlinks=True)
    evaluated(tmp_path / "begun", OLD)
    results = Path("fold_0/test_results/test")
    (tmp_path / "begun" / results / "notes.txt").write_text("mine")
    checkpoint = read_checkpoint(find_checkpoint(tmp_path / "begun", 0))
    file, text = temperature_file(checkpoint, Temperature(3.0, "val", 7))
    file.write_text(text)
    old = standing(tmp_path / "begun" / results)

    def job(root):
        evaluated(root, NEW, calibrate="temperature")

    shutil.copytree(tmp_path / "begun", tmp_path / "count", symlinks=True)
    operations = injector.count(tmp_path / "count", lambda: job(tmp_path / "count"))
    new = standing(tmp_path / "count" / results)
    assert all(old[name] != new[name] for name in old)
    fitted = read_temperature(read_checkpoint(find_checkpoint(tmp_path / "count", 0))).temperature
    left = set()
    for place, (fault, number) in enumerate(instants(operations)[::every]):
        root = tmp_path / f"{fault[:2]}-{number}"
        shutil.copytree(tmp_path / "begun", root, symlinks=True)
        fail(injector, root, number, fault, lambda root=root: job(root))
        if place % 6:
            recover(root / results, is_evaluation_file)
        else:
            made = page.report(ReportConfig(run=root, split="test"))
            assert made.page.is_file()
            assert os.environ["PLOT"] in made.page.read_text()
            for kind in ("png", "svg"):  # drawn again; the rest shows which evaluation it is
                (root / results / f"confusion_matrix.{kind}").write_text(
                    NEW if standing(root / results)["logits.npy"] == new["logits.npy"] else OLD
                )
        found = standing(root / results)
        assert found in (old, new), (fault, operations[number - 1], number)
        kept = read_temperature(read_checkpoint(find_checkpoint(root, 0))).temperature
        assert kept == (3.0 if found == old else fitted)
        assert (root / results / "notes.txt").read_text() == "mine"
        left.add((fault, found == new))
        if place % 6 == 1:
            job(root)
            assert standing(root / results) == new
            assert not list(root.rglob(".tmp-*")), "left-overs are cleared away"
        shutil.rmtree(root)
    assert {(STOP, True), (STOP, False)} <= left


def test_all_folds_that_fail_anywhere_are_all_old_or_all_new(injector, trained, tmp_path):
    """Each fold's pictures, the pooled ones, the average on test and summary.json."""
    shutil.copytree(trained / "outputs" / "folds", tmp_path / "begun", symlinks=True)

    def job(root, value=NEW):
        os.environ["PLOT"] = value
        top_k = EvaluateConfig().top_k
        config = EvaluateConfig(
            checkpoint=root, fold="all", device="cpu", workers=0, report=False, ci_samples=1000,
            batch_size=5, top_k=top_k,
        )  # fmt: skip
        evaluate(config)

    job(tmp_path / "begun")
    (tmp_path / "begun" / "summary.json").write_text("old")
    places = [f"fold_{fold}/test_results/val" for fold in (0, 1)]
    places += ["test_results/val", "test_results/test"]
    for name in places:
        # as if from another time: a mark that an old evaluation has and a new one has not
        (tmp_path / "begun" / name / "changed.csv").write_text("old")
    shutil.copytree(tmp_path / "begun", tmp_path / "count", symlinks=True)
    operations = injector.count(tmp_path / "count", lambda: job(tmp_path / "count"))
    names = [i for i, operation in enumerate(operations, 1) if operation == "rename"]
    left = set()
    for number in names[-18::2]:
        root = tmp_path / f"killed-{number}"
        shutil.copytree(tmp_path / "begun", root, symlinks=True)
        fail(injector, root, number, STOP, lambda root=root: job(root))
        recover(root / places[number % len(places)], is_evaluation_file)
        states = {(root / name / "changed.csv").exists() for name in places}
        states.add((root / "summary.json").read_text() == "old")
        assert len(states) == 1, number
        left |= states
        shutil.rmtree(root)
    assert left == {True, False}


@HOW_MANY
def test_a_page_that_fails_anywhere_is_the_old_one_or_the_new(injector, trained, tmp_path, every):
    """With its plots; the evaluation stays as it was, and so do the user's own files."""
    shutil.copytree(trained / "outputs" / "single", tmp_path / "begun", symlinks=True)
    evaluated(tmp_path / "begun", OLD)
    results = Path("fold_0/test_results/test")
    begun = tmp_path / "begun" / results
    (begun / "notes.txt").write_text("mine")
    (begun / "roc_curves.png").write_text("a plot that the page no longer has")
    tables = ("logits.npy", "predictions.csv", "per_class.csv", "test_metrics.json")
    before = {name: digest(begun / name) for name in tables}

    def job(root, value=NEW):
        os.environ["PLOT"] = value
        page.report(ReportConfig(run=root, split="test"))

    def value_of(root):
        """OLD or NEW: of the page and of the plots beside it."""
        folder = root / results
        [value] = {(folder / f"confusion_matrix.{kind}").read_text() for kind in ("png", "svg")}
        assert f"<text>{value}</text>" in (folder / "report.html").read_text()
        assert (folder / "roc_curves.png").exists() == (value == OLD)
        assert {name: digest(folder / name) for name in tables} == before
        assert (folder / "notes.txt").read_text() == "mine"
        return value

    shutil.copytree(tmp_path / "begun", tmp_path / "count", symlinks=True)
    operations = injector.count(tmp_path / "count", lambda: job(tmp_path / "count"))
    assert value_of(tmp_path / "count") == NEW
    left = set()
    for place, (fault, number) in enumerate(instants(operations)[::every]):
        root = tmp_path / f"{fault[:2]}-{number}"
        shutil.copytree(tmp_path / "begun", root, symlinks=True)
        fail(injector, root, number, fault, lambda root=root: job(root))
        recover(root / results, is_evaluation_file)
        left.add((fault, value_of(root)))
        if not place % 4:
            job(root, AGAIN)
            assert value_of(root) == AGAIN
            assert not list(root.rglob(".tmp-*")), "left-overs are cleared away"
        shutil.rmtree(root)
    assert {(STOP, OLD), (STOP, NEW)} <= left
