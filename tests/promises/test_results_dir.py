"""Where evaluations go, on disks that cannot be written, that other systems guard, or that fill."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import Finished

sys.path.append(str(Path(__file__).parents[1] / "promises" / "as_windows"))
from files_in_use import RESTRICTED, refused_while_in_use

from imgcls.storage.commit import recover
from imgcls.storage.evaluations import is_evaluation_file, read_predictions

FAST = ("--device", "cpu", "--workers", "0", "--ci", "none")


@pytest.fixture
def runs(trained, tmp_path):
    """A copy of the runs that a test may write to."""
    return Path(shutil.copytree(trained / "outputs", tmp_path / "outputs", symlinks=True))


NOT_MOUNTED, NEW_MOUNTS = 99, 0x20000  # CLONE_NEWNS of unshare(2)


def read_only(folder, *arguments, cwd):
    """`imgcls ARGUMENTS` while the folder cannot be written; root needs a mount for that.

    In a process of its own, with mounts of its own, that has torch in memory already.
    """
    is_root = os.geteuid() == 0
    for inner, _, _ in [] if is_root else os.walk(folder):
        Path(inner).chmod(0o555)
    files = [cwd / "stdout.txt", cwd / "stderr.txt"]
    try:
        child = os.fork()
        if child == 0:
            code = NOT_MOUNTED
            try:
                if not is_root or mounted_read_only(folder):
                    code = run_here(arguments, cwd, files)
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        for inner, _, _ in os.walk(folder):
            Path(inner).chmod(0o755)
    if code == NOT_MOUNTED:
        pytest.skip("this machine lets nobody mount")
    return Finished(code, *[file.read_text() for file in files])


def mounted_read_only(folder):
    """True when this process, and no other, sees the folder mounted so that it is read-only."""
    if ctypes.CDLL(None).unshare(NEW_MOUNTS):
        return False
    mounts = [
        ["--make-rprivate", "/"],
        ["--bind", folder, folder],
        ["-o", "remount,ro,bind", folder],
    ]
    return not any(subprocess.run(["mount", *mount], check=False).returncode for mount in mounts)


def run_here(arguments, cwd, files):
    """The exit code of `imgcls ARGUMENTS` in this process, its streams going to these files."""
    from imgcls.cli.boundary import run

    os.chdir(cwd)
    sys.stdout, sys.stderr = (file.open("w") for file in files)
    code = run([str(argument) for argument in arguments])
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def test_a_read_only_run_is_scored_with_its_results_elsewhere(runs, tmp_path):
    """As on Kaggle: refused in one line that names the way, before anything is scored."""
    run = runs / "single"
    done = read_only(runs, "evaluate", run, *FAST, "--no-report", cwd=tmp_path)
    assert done.code == 2, done.err
    [line] = done.err.splitlines()
    assert "the disk is read-only" in line or "no permission" in line
    assert "--results-dir" in line
    done = read_only(runs, "evaluate", run, *FAST, "--results-dir", "mine", cwd=tmp_path)
    assert done.code == 0, done.err
    assert (tmp_path / "mine" / "test" / "report.html").is_file()
    assert "mine/test" in done.out
    # the page can be drawn again there, with what the run says about itself
    (tmp_path / "mine" / "test" / "report.html").unlink()
    done = read_only(runs, "report", run, "--results-dir", "mine", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "img_size: 32" in (tmp_path / "mine" / "test" / "report.html").read_text()


def test_json_alone_needs_no_writing(runs, tmp_path):
    """The numbers are all there, a note says that no file is, and a fitted temperature is used."""
    arguments = ("evaluate", runs / "single", *FAST, "--calibrate", "temperature", "--json")
    before = sorted(runs.rglob("*"))
    done = read_only(runs, *arguments, cwd=tmp_path)
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert report["folder"] is None
    assert report["metrics"]["samples"] > 0
    assert report["calibration"]["temperature"] > 0
    assert any("no files were written; --results-dir" in note for note in report["notes"])
    assert any("temperature is not kept" in note for note in report["notes"])
    assert sorted(runs.rglob("*")) == before


def test_the_folds_of_a_run_have_their_places_in_a_results_dir(command, runs, tmp_path):
    """fold_0/val, fold_1/val, the pooled val and summary.json; the run stays as it was."""
    before = sorted(runs.rglob("*"))
    done = command("evaluate", runs / "folds", "--fold", "all", *FAST, "--no-report",
                   "--ci", "bootstrap", "--results-dir", "mine")  # fmt: skip
    assert done.code == 0, done.err
    assert sorted(runs.rglob("*")) == before
    found = {str(file.parent.relative_to("mine")) for file in Path("mine").rglob("logits.npy")}
    assert found >= {"fold_0/val", "fold_1/val", "val"}
    assert (tmp_path / "mine" / "summary.json").is_file()
    done = command("report", runs / "folds", "--split", "val", "--results-dir", "mine")
    assert done.code == 0, done.err
    assert (tmp_path / "mine" / "val" / "report.html").is_file()


def test_a_folder_of_something_else_is_not_written_into(command, runs, tmp_path):
    """--force adds the results, and what was there stays."""
    (tmp_path / "data" / "test").mkdir(parents=True)
    (tmp_path / "data" / "test" / "predictions.csv").write_text("mine")
    arguments = ("evaluate", runs / "single", *FAST, "--no-report", "--results-dir", "data")
    done = command(*arguments)
    assert done.code == 2
    assert "data/test: imgcls did not write it" in done.err
    assert (tmp_path / "data" / "test" / "predictions.csv").read_text() == "mine"
    (tmp_path / "data" / "test" / "notes.txt").write_text("mine")
    assert command(*arguments, "--force").code == 0
    assert (tmp_path / "data" / "test" / "notes.txt").read_text() == "mine"
    assert command(*arguments).code == 0  # imgcls wrote it by now


def test_models_that_lie_beside_one_another_do_not_replace_each_others_results(
    command, trained, tmp_path
):
    """The second is told where the first one's are; the same one is evaluated again."""
    best = (trained / "outputs/single/fold_0/checkpoints/best").resolve()
    one, two = (shutil.copytree(best, tmp_path / "models" / name) for name in ("one", "two"))
    common = ("--data", trained / "photos", *FAST, "--no-report")
    for _ in range(2):
        assert command("evaluate", one, *common).code == 0
    [metrics] = (tmp_path / "models/test_results").glob("*/test_metrics.json")
    before = metrics.read_bytes()
    refused = command("evaluate", two, *common)
    assert refused.code == 2
    assert "holds the evaluation of one" in refused.err
    assert "--results-dir" in refused.err
    assert metrics.read_bytes() == before
    assert command("evaluate", two, *common, "--results-dir", tmp_path / "two").code == 0


def test_one_summary_whoever_wrote_it(command, runs):
    """Training and `evaluate --fold all` give one summary.json; other options leave it alone."""
    file = runs / "folds" / "summary.json"
    trained = json.loads(file.read_text())
    common = ("evaluate", runs / "folds", "--fold", "all", *FAST[:4], "--no-report")
    assert command(*common).code == 0
    assert json.loads(file.read_text()) == trained
    done = command(*common, "--amp", "bf16")
    assert done.code == 0, done.err
    assert "summary.json is left as it was" in done.err
    assert json.loads(file.read_text()) == trained


def test_files_of_two_evaluations_are_not_drawn(command, runs):
    """A page of mixed files is refused in one line that names the file."""
    arguments = ("evaluate", runs / "single", *FAST, "--no-report")
    assert command(*arguments).code == 0
    folder = runs / "single" / "fold_0" / "test_results" / "test"
    for name in ("logits.npy", "predictions.csv", "per_class.csv"):
        before = (folder / name).read_bytes()
        if name == "logits.npy":
            np.save(folder / name, np.load(folder / name) + 1)
        else:
            (folder / name).write_bytes(before + before.splitlines(keepends=True)[-1])
        done = command("report", runs / "single")
        assert done.code == 2
        assert f"{name} is not the file that test_metrics.json was written beside" in done.err
        (folder / name).write_bytes(before)
    assert command("report", runs / "single").code == 0


def test_a_page_of_an_earlier_version_says_what_it_could_not_check(command, runs):
    """Its JSON has no hashes."""
    assert command("evaluate", runs / "single", *FAST, "--no-report").code == 0
    file = runs / "single" / "fold_0" / "test_results" / "test" / "test_metrics.json"
    metrics = json.loads(file.read_text())
    del metrics["sha256"]
    file.write_text(json.dumps(metrics))
    done = command("report", runs / "single")
    assert done.code == 0
    assert "was not checked" in done.err


@pytest.fixture
def windows_rules(monkeypatch):
    """os.rename, replace, unlink and rmdir as Windows has them."""
    for name in RESTRICTED:
        monkeypatch.setattr(os, name, refused_while_in_use(getattr(os, name)))


@pytest.mark.parametrize(
    "options",
    [
        ("single", "--calibrate", "temperature"),
        ("single", "--tta", "hflip", "--no-report"),
        ("single", "--corruptions", "--no-report"),
        ("folds", "--fold", "all", "--no-report"),
        ("folds", "--ensemble", "--calibrate", "temperature", "--no-report"),
        ("single", "--compare", "single", "--no-report"),
    ],
)
def test_nothing_is_renamed_while_it_is_mapped_or_open(command, runs, windows_rules, options):
    """Windows' rule, for a first evaluation and one that replaces it."""
    run, *more = options
    more = [runs / word if word == "single" else word for word in more]
    for _ in range(2):
        done = command("evaluate", runs / run, *FAST, *more)
        assert done.code == 0, done.err
    assert not list(runs.rglob(".tmp-*"))


# (module, function, call): instants that a kill by the clock seldom meets
INSTANTS = [
    ("imgcls.jobs.evaluate.evaluate", "write_evaluation", 1),
    ("imgcls.storage.commit", "write_text", 1),
    ("imgcls.storage.commit", "write_text", 2),
    ("imgcls.storage.commit", "_merge", 2),
    ("imgcls.storage.commit", "sync_folder", 1),
]


def kills(launcher, folder, arguments, count):
    """Really kill the command so many times, wherever it is; yields behind each kill."""
    begun_s = time.monotonic()
    assert launcher.run(folder, *arguments) == 0, (folder / "log.txt").read_text()[-2000:]
    longest_s, rng = time.monotonic() - begun_s, random.Random(0)
    killed = 0
    for number in range(10 * count):
        if number < len(INSTANTS) and arguments[0] == "evaluate":
            launcher.start(folder, *arguments, kill_at=INSTANTS[number])
            code = launcher.wait()
        else:
            code = launcher.run(folder, *arguments, kill_after_s=rng.uniform(0.02, longest_s))
        assert code in (0, -signal.SIGKILL), (folder / "log.txt").read_text()[-2000:]
        killed += code != 0
        yield
        if killed == count:
            return
    pytest.fail("the command is always done before it is killed")


@pytest.mark.slow
def test_an_evaluation_killed_at_any_time_is_the_old_one_or_the_new(launcher, runs, tmp_path):
    """Ten real kills: `report` works behind each, and so does the same command again."""
    run = runs / "single"
    folder = run / "fold_0" / "test_results" / "test"
    # the two differ in what their metrics are, and in their scores
    commands = [
        ["evaluate", str(run), *FAST, "--top-k", "1", "--amp", "bf16"],
        ["evaluate", str(run), *FAST, "--top-k", "1,2", "--calibrate", "temperature"],
    ]
    states = []
    for arguments in commands:
        assert launcher.run(tmp_path, *arguments) == 0, (tmp_path / "log.txt").read_text()[-2000:]
        states.append(what_is_there(folder))
    assert states[0] != states[1]
    for arguments, state, other in zip(commands, states, reversed(commands), strict=True):
        for _ in kills(launcher, tmp_path, arguments, 5):
            assert launcher.run(tmp_path, "report", str(run)) == 0
            assert what_is_there(folder) in states
            assert "</html>" in (folder / "report.html").read_text()
            # so that the next kill, too, is one of a change
            assert launcher.run(tmp_path, *other) == 0
        assert launcher.run(tmp_path, *arguments) == 0
        assert what_is_there(folder) == state
        assert not list(runs.rglob(".tmp-*"))


@pytest.mark.slow
def test_a_report_killed_at_any_time_leaves_a_whole_page(launcher, runs, tmp_path):
    """Ten real kills: the evaluation is as it was, and the page the old one or the new."""
    run = runs / "single"
    folder = run / "fold_0" / "test_results" / "test"
    assert launcher.run(tmp_path, "evaluate", str(run), *FAST) == 0
    state = what_is_there(folder)
    for _ in kills(launcher, tmp_path, ["report", str(run)], 10):
        recover(folder, is_evaluation_file)
        assert what_is_there(folder) == state
        assert "</html>" in (folder / "report.html").read_text()
        assert (folder / "roc_curves.svg").is_file()
    assert launcher.run(tmp_path, "report", str(run)) == 0
    assert not list(runs.rglob(".tmp-*"))


def what_is_there(folder):
    """The scores and the names of the metrics, of files that are of one evaluation."""
    logits = read_predictions(folder).logits.tobytes()
    return logits, sorted(json.loads((folder / "test_metrics.json").read_text())["metrics"])


def test_a_report_says_what_it_could_not_clear_away(command, runs, monkeypatch):
    """The page is whole; the files that it replaces still lie beside it."""
    assert command("evaluate", runs / "single", *FAST).code == 0

    def busy(*_arguments):
        raise OSError(errno.EBUSY, "Device or resource busy", "old/report.html")

    with monkeypatch.context() as patch:
        patch.setattr("imgcls.storage.commit.Commit.finish", busy)
        done = command("report", runs / "single")
    assert done.code == 0, done.err
    assert "the page is whole, but the earlier files could not be cleared away" in done.err
    assert "Device or resource busy: old/report.html" in done.err
    done = command("report", runs / "single")
    assert "cleared away" not in done.err
    assert not list(runs.rglob(".tmp-*"))


def test_a_report_loads_no_torch(command, runs, tmp_path):
    """All that the page needs is on disk."""
    run = str(runs / "single")
    assert command("evaluate", run, *FAST, "--no-report").code == 0
    code = (
        "import sys; from imgcls.cli.boundary import run; code = run(['report', sys.argv[1]]);"
        "sys.exit(code or int('torch' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, run], cwd=tmp_path, check=False)
    assert done.returncode == 0
