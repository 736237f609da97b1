"""`imgcls runs`: the list, in every form, of runs in every state."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from imgcls.storage.lock import lock_run
from imgcls.storage.runs import note_failure
from imgcls.storage.tables import read_csv


@pytest.fixture(scope="module")
def evaluated(trained, tmp_path_factory):
    """The two trained runs, `single` evaluated on test and val, as copies."""
    from imgcls.cli.boundary import run

    root = tmp_path_factory.mktemp("evaluated")
    shutil.copytree(trained / "outputs", root / "outputs", symlinks=True)
    for split in ("test", "val"):
        common = ("--split", split, "--workers", "0", "--device", "cpu", "--quiet", "--no-report")
        assert (
            run(["evaluate", str(root / "outputs" / "single"), *common, "--ci-samples", "100"]) == 0
        )
    return root / "outputs"


@pytest.fixture
def outputs(evaluated, tmp_path):
    """A folder that a test may change."""
    return Path(shutil.copytree(evaluated, tmp_path / "outputs", symlinks=True))


def listed(command, *options):
    done = command("runs", *options, "--json")
    assert done.code == 0, done.err
    return {row["name"]: row for row in json.loads(done.out)["runs"]}


def test_a_run_is_listed_with_the_metric_of_its_test_split(outputs, command):
    """With its interval, as test_metrics.json has them; folds by summary.json."""
    rows = listed(command)
    metrics = json.loads(
        (outputs / "single/fold_0/test_results/test/test_metrics.json").read_text()
    )
    row = rows["single"]
    assert row["score"]["value"] == metrics["metrics"]["accuracy"]
    assert row["score"]["interval"] == metrics["intervals"]["accuracy"]
    assert (row["score"]["split"], row["score"]["evaluated"]) == ("test", True)
    assert (row["model"], row["epochs"], row["epochs_planned"]) == ("test_resnet", 1, 1)
    assert (row["status"], row["folds"]) == ("finished", 1)
    files = [f for f in (outputs / "single").rglob("*") if not f.is_dir() or f.is_symlink()]
    assert row["size_bytes"] == sum(f.lstat().st_size for f in files)
    summary = json.loads((outputs / "folds" / "summary.json").read_text())
    score = rows["folds"]["score"]
    assert (score["value"], score["mean"], score["std"]) == (
        summary["pooled"]["accuracy"], summary["mean"]["accuracy"], summary["std"]["accuracy"],
    )  # fmt: skip
    assert score["interval"] == summary["pooled_intervals"]["accuracy"]
    assert (rows["folds"]["folds"], rows["folds"]["epochs"]) == (2, 2)


def test_a_run_that_was_not_evaluated_is_listed_with_its_best_epoch(outputs, command):
    """Its val number is marked as such; one evaluated on val only has that."""
    shutil.rmtree(outputs / "single/fold_0/test_results/test")
    assert listed(command)["single"]["score"]["split"] == "val"
    assert listed(command)["single"]["score"]["evaluated"]
    shutil.rmtree(outputs / "single/fold_0/test_results")
    score = listed(command)["single"]["score"]
    [row] = read_csv(outputs / "single/fold_0/history.csv")
    assert score["value"] == float(row["val_accuracy"])
    assert (score["split"], score["evaluated"], score["interval"]) == ("val", False, None)
    assert "val, best epoch" in command("runs").out
    (outputs / "folds" / "summary.json").unlink()
    shutil.rmtree(outputs / "folds" / "test_results")
    row = listed(command)["folds"]
    assert (row["status"], row["score"]["evaluated"]) == ("stopped", False)


def test_an_evaluation_of_another_checkpoint_is_marked(outputs, command):
    """A number of an earlier best must not pass for the one of now."""
    file = outputs / "single/fold_0/test_results/test/test_metrics.json"
    metrics = json.loads(file.read_text())
    metrics["checkpoint"] = str(Path(metrics["checkpoint"]).with_name("step-00000000"))
    file.write_text(json.dumps(metrics, indent=2))
    assert not listed(command)["single"]["score"]["of_best"]
    done = command("runs")
    assert "test*" in done.out
    assert "* of another checkpoint than the best one now" in done.err


def test_folds_that_were_scored_at_other_epochs_are_marked(outputs, command):
    """In the list, which reads summary.json, and in what is shown of an evaluation of all folds."""
    common = ("--split", "val", "--workers", "0", "--device", "cpu", "--quiet", "--no-report")
    done = command("evaluate", "outputs/folds", "--fold", "all", *common, "--ci-samples", "100")
    assert done.code == 0, done.err
    shutil.rmtree(outputs / "folds/test_results/test")  # their average, listed first
    files = outputs / "folds/summary.json", outputs / "folds/test_results/val/test_metrics.json"
    for epoch, of_best in ((1, True), (2, False)):
        for file in files:
            found = json.loads(file.read_text())
            found.get("cross_validation", found)["per_fold"][1]["best_epoch"] = epoch
            file.write_text(json.dumps(found, indent=2))
        assert listed(command)["folds"]["score"]["of_best"] is of_best
        shown = json.loads(command("runs", "show", "folds", "--json").out)["evaluations"]
        assert ("val", "all", of_best) in {(e["split"], e["fold"], e["of_best"]) for e in shown}


def test_only_a_run_whose_lock_is_held_is_running(outputs, command):
    """Whatever a killed process has written into it."""
    run = outputs / "single"
    with lock_run(run):
        assert listed(command)["single"]["status"] == "running"
    assert listed(command)["single"]["status"] == "finished"
    hold = (
        "import sys, time; from pathlib import Path; from imgcls.storage.lock import lock_run\n"
        "with lock_run(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", hold, run], stdout=subprocess.PIPE)
    assert process.stdout.readline()
    assert listed(command)["single"]["status"] == "running"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert listed(command)["single"]["status"] == "finished"


def test_a_run_that_failed_says_so_until_it_begins_again(outputs, command, monkeypatch):
    """By the note that its training left; a stop leaves none."""
    run = outputs / "single"
    note_failure(run, "the loss became nan")
    assert listed(command)["single"]["status"] == "finished"
    sidecar = next(run.glob("fold_0/checkpoints/step-*/checkpoint.json"))
    sidecar.write_text(sidecar.read_text().replace('"finished": true', '"finished": false'))
    row = listed(command)["single"]
    assert (row["status"], row["reason"]) == ("failed", "the loss became nan")
    began = row["began"]
    note_failure(run, None)
    assert (listed(command)["single"]["status"], began) == ("stopped", row["began"])


def test_a_training_notes_why_it_failed(command, tmp_path, monkeypatch):
    """Not a stop, nor a request that was refused."""
    from conftest import OFFLINE

    def fails(*_arguments):
        raise RuntimeError("the machine is on fire")

    def stops(*_arguments):
        raise KeyboardInterrupt

    train = ("train", "digits", *OFFLINE, "--device", "cpu", "--no-preflight", "--epochs", "1")
    monkeypatch.setattr("imgcls.engine.training.fit.train_step", fails)
    assert command(*train, "--name", "r").code == 1
    row = listed(command)["r"]
    assert (row["status"], row["reason"]) == ("failed", "the machine is on fire")
    assert (row["epochs"], row["score"]) == (0, None)
    monkeypatch.setattr("imgcls.engine.training.fit.train_step", stops)
    assert command("resume", "outputs/r").code == 130
    assert listed(command)["r"]["status"] == "stopped"


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 20])


def replaced(file, make):
    file.unlink()
    make(file)


UNREADABLE = {
    "no config": lambda run: (run / "config.yaml").unlink(),
    "no YAML": lambda run: (run / "config.yaml").write_text("data: ["),
    "of another tool": lambda run: (run / "config.yaml").write_text("defaults:\n- db: mysql\n"),
    "a folder": lambda run: replaced(run / "config.yaml", Path.mkdir),
    "a pipe": lambda run: replaced(run / "config.yaml", os.mkfifo),
}
FORMS = ((), ("--csv",), ("--markdown",), ("--latex",))


@pytest.mark.parametrize("damage", UNREADABLE)
def test_a_run_without_a_usable_config_is_listed_as_damaged(outputs, command, damage):
    """With the reason, and never a traceback."""
    UNREADABLE[damage](outputs / "single")
    for form in FORMS:
        done = command("runs", *form)
        assert done.code == 0, done.err
        assert "single" in done.out
        assert "damaged" in done.out
        assert "single cannot be read: " in done.err
    row = listed(command)["single"]
    assert row["status"] == "damaged"
    assert "config.yaml" in row["reason"]
    assert row["size_bytes"] > 0


DAMAGED = {
    "no checkpoint": lambda run: shutil.rmtree(next(run.glob("fold_0/checkpoints/step-*"))),
    "half a sidecar": lambda run: cut(next(run.glob("fold_0/checkpoints/step-*/checkpoint.json"))),
    "no run.json": lambda run: (run / "run.json").unlink(),
    "bytes in run.json": lambda run: (run / "run.json").write_bytes(b"\xff\xfe"),
    "a list in run.json": lambda run: (run / "run.json").write_text("[1]"),
    "half a result": lambda run: cut(run / "fold_0/test_results/test/test_metrics.json"),
    "no history": lambda run: (run / "fold_0/history.csv").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_run_is_listed_as_far_as_it_can_be_read(outputs, command, damage):
    """What is gone or cut is not shown; the rest is."""
    whole = listed(command)["single"]
    DAMAGED[damage](outputs / "single")
    for form in FORMS:
        assert command("runs", *form).code == 0
    row = listed(command)["single"]
    lost = damage in ("no checkpoint", "half a sidecar")
    assert (row["status"], row["epochs"]) == (("stopped", 0) if lost else ("finished", 1))
    assert (row["data"], row["model"]) == (whole["data"], whole["model"])
    assert row["began"] is not None
    assert row["score"]["split"] == ("val" if damage == "half a result" else "test")


@pytest.mark.parametrize("form", ["followed", "text", "left out"])
def test_a_copied_run_is_listed_as_it_was(outputs, command, form):
    """Links followed, kept as text, or left out."""
    before = listed(command)["single"]
    checkpoints = outputs / "single/fold_0/checkpoints"
    for name in ("best", "last"):
        target = (checkpoints / name).resolve()
        (checkpoints / name).unlink()
        if form == "followed":
            shutil.copytree(target, checkpoints / name)
        elif form == "text":
            (checkpoints / name).write_text(target.name)
    after = listed(command)["single"]
    changing = {"size_bytes"}
    assert {k: v for k, v in after.items() if k not in changing} == {
        k: v for k, v in before.items() if k not in changing
    }


def test_what_is_no_run_is_left_out_with_a_line(outputs, command):
    """A folder of notes, a file; what a killed command left is not even that."""
    (outputs / "notes").mkdir()
    (outputs / ".tmp-run-1-2").mkdir()
    (outputs / "a.txt").touch()
    done = command("runs")
    assert (done.code, done.err) == (0, "left out: 1 folder that is no run (notes)\n")
    assert json.loads(command("runs", "--json").out)["left_out"] == ["notes"]


def test_trials_of_a_search_are_listed_by_their_study(outputs, command):
    """`tune.yaml` tells the folder of a study."""
    study = outputs / "study"
    shutil.copytree(outputs / "single", study / "trial-0000", symlinks=True)
    for name in ("tune.yaml", "splits.csv"):
        (study / name).write_text("search:\n")
    rows = listed(command)
    assert rows["study/trial-0000"]["study"] == "study"
    assert rows["single"]["study"] is None
    assert set(rows) == {"single", "folds", "study/trial-0000"}


def test_runs_are_sorted_by_any_column(outputs, command):
    """The newest, best, longest and largest first; texts from A to Z; what has none last."""
    for name, model in (("a", "zebra"), ("b", "ant")):
        shutil.copytree(outputs / "single", outputs / name, symlinks=True)
        config = outputs / name / "config.yaml"
        config.write_text(config.read_text().replace("name: test_resnet", f"name: {model}"))
    (outputs / "b" / "run.json").write_text('{"began": "2031-01-01T00:00:00+00:00"}')
    (outputs / "a" / "large").write_bytes(bytes(10**7))
    shutil.rmtree(outputs / "a" / "fold_0")

    def order(column):
        return [row["name"] for row in listed(command, "--sort", column).values()]

    assert order("name") == ["a", "b", "folds", "single"]
    assert order("model") == ["b", "folds", "single", "a"]
    assert order("when")[0] == "b"
    assert order("size")[0] == "a"
    assert order("epochs") == ["folds", "b", "single", "a"]
    assert order("metric")[-1] == "a"
    assert order("status") == ["b", "folds", "single", "a"]
    assert list(listed(command, "--sort", "name", "--limit", "2")) == ["a", "b"]


def test_every_form_holds_each_run_and_escapes_its_name(outputs, command):
    """CSV with all digits, read back; Markdown and LaTeX as they read there."""
    evil = "=1+1|a_b&$<b>"
    (outputs / "single").rename(outputs / evil)
    done = command("runs", "--csv")
    rows = {row["name"]: row for row in csv.DictReader(done.out.splitlines())}
    assert set(rows) == {f"'{evil}", "folds"}
    score = listed(command)[evil]["score"]
    assert float(rows[f"'{evil}"]["value"]) == score["value"]
    assert [float(rows[f"'{evil}"][k]) for k in ("low", "high")] == score["interval"]
    lines = command("runs", "--markdown").out.splitlines()
    assert len(lines) == 4
    assert all(line.replace("\\|", "").count("|") == 10 for line in lines)
    assert r"=1+1\|a\_b\&\$\<b\>" in "\n".join(lines)
    latex = command("runs", "--latex").out
    assert r"=1+1\textbar{}a\_b\&\$\textless{}b\textgreater{}" in latex
    assert latex.count(r"\\") == 3


@pytest.mark.parametrize("options", [("--csv", "--latex"), ("--csv", "--json")])
def test_one_form_is_given(command, options):
    """Exit 2, and a line that names both."""
    done = command("runs", *options)
    assert (done.code, len(done.error_lines)) == (2, 1)
    assert all(option in done.error_lines[0] for option in options)


def test_a_folder_without_runs_says_how_to_make_one(command, tmp_path):
    """The default one may not be there yet; one that was named must be."""
    assert command("runs").out == "No runs in outputs; `imgcls train` makes one.\n"
    assert json.loads(command("runs", "--json").out)["runs"] == []
    assert "no such folder" in command("runs", "nowhere").error_lines[0]
    assert command("runs", "--csv").out.startswith("name,path,status,began,data,model,")


def test_the_list_loads_nothing_heavy(outputs):
    """Neither torch nor what else takes long."""
    heavy = {
        "torch",
        "timm",
        "sklearn",
        "numpy",
        "pandas",
        "PIL",
        "rich",
        "yaml",
        "filelock",
        "psutil",
    }
    code = (
        "import sys; from imgcls.cli.boundary import run\n"
        f"assert run(['runs', {str(outputs)!r}]) == 0\n"
        f"print('LOADED', sorted(m for m in sys.modules if m in {heavy!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "single" in done.stdout
    assert done.stdout.rstrip().endswith("LOADED []")


def test_the_whole_of_a_run_is_shown(outputs, command):
    """What was set, splits with counts, the best epoch, evaluations, checkpoints, the command."""
    done = command("runs", "show", "single", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    settings = {each["name"]: (each["value"], each["default"]) for each in found["settings"]}
    assert settings["model.name"] == ("test_resnet", "resnet18")
    assert "optim.opt" not in settings
    rows = read_csv(outputs / "single" / "splits.csv")
    [fold] = found["folds"]
    for split in ("train", "val", "test"):
        pictures = sum(row["split"] == split for row in rows)
        assert fold["pictures"][split] == pictures
        assert sum(counts[split] for counts in found["class_counts"].values()) == pictures
    [history] = read_csv(outputs / "single/fold_0/history.csv")
    assert fold["best"]["val_loss"] == float(history["val_loss"])
    assert [each["split"] for each in found["evaluations"]] == ["test", "val"]
    metrics = json.loads(
        (outputs / "single/fold_0/test_results/test/test_metrics.json").read_text()
    )
    assert found["evaluations"][0]["metrics"] == metrics["metrics"]
    assert found["evaluations"][0]["intervals"] == metrics["intervals"]
    [checkpoint] = fold["checkpoints"]
    assert (checkpoint["best"], checkpoint["last"]) == (True, True)
    assert checkpoint["size_bytes"] > 10**5
    shown = command("runs", "show", outputs / "single").out
    for text in ("model.name", "Balanced accuracy", "best, last"):
        assert text in shown
    again = shown.partition("Again")[2].split("\n")[0].split()
    assert command(*again[1:], "--dry-run").code == 0


@pytest.mark.parametrize("named", ["folds", "outputs/folds", "outputs/folds/fold_1", None])
def test_a_run_is_named_by_its_path_its_name_or_not_at_all(outputs, command, named):
    """The newest, then; a fold stands for its run."""
    found = json.loads(command("runs", "show", *filter(None, [named]), "--json").out)
    assert found["row"]["name"] == "folds"
    assert [fold["fold"] for fold in found["folds"]] == [0, 1]
    assert [each["fold"] for each in found["evaluations"]] == ["all", 0, 1]


@pytest.mark.parametrize(
    ("named", "said"),
    [("nothing", "no such run, neither here nor in outputs"), ("notes", "is no run")],
)
def test_what_is_no_run_is_not_shown(outputs, command, named, said):
    """Exit 2, one line."""
    (outputs / "notes").mkdir()
    done = command("runs", "show", named)
    assert (done.code, len(done.error_lines)) == (2, 1)
    assert said in done.error_lines[0]


@pytest.mark.parametrize("damage", [*UNREADABLE, *DAMAGED, "no splits"])
def test_a_damaged_run_is_shown_or_refused_in_one_line(outputs, command, damage):
    """As far as it can be read; without a config it is no run."""
    if damage == "no splits":
        (outputs / "single" / "splits.csv").unlink()
    else:
        {**UNREADABLE, **DAMAGED}[damage](outputs / "single")
    done = command("runs", "show", "single")
    assert done.code == (2 if damage in UNREADABLE else 0), done.err
    assert len(done.error_lines) == (1 if damage in UNREADABLE else 0)


def test_the_page_is_written_and_replaces_only_our_own(outputs, command):
    """Beside the table, whose last line names it; what imgcls did not write stays."""
    done = command("runs", "--html", "runs.html")
    assert done.code == 0
    assert done.out.endswith("Page          runs.html\n")
    page = Path("runs.html").read_text()
    assert "single" in page
    assert "folds" in page
    assert command("runs", "--html", "runs.html").code == 0
    Path("mine.html").write_text("my own")
    done = command("runs", "--html", "mine.html")
    assert (done.code, len(done.error_lines)) == (2, 1)
    assert Path("mine.html").read_text() == "my own"
    assert command("runs", "--html", "mine.html", "--force", "--csv").code == 0
    assert Path("mine.html").read_text() != "my own"
