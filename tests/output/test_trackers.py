"""What trackers are told of a run, and that none of them can harm it."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import replace

import numpy as np
import pytest
from conftest import OFFLINE, save_crops, tiny_config
from killing import differences, remains
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tracked import history_of, mlflow_run, trackio_rows, wandb_history

import imgcls
from imgcls.cli.boundary import run
from imgcls.config.runs import RunsConfig
from imgcls.engine.training.events import EpochDone, TrackerFailed
from imgcls.engine.training.interrupt import StopRequest
from imgcls.errors import InterruptedRunError
from imgcls.jobs.runs.listing import list_runs
from imgcls.jobs.train.epochs import find_resumable
from imgcls.jobs.train.train import train
from imgcls.output.trackers import process
from imgcls.output.trackers.tensorboard import TensorBoard, read_scalars
from imgcls.output.trackers.tracker import TrackedFold
from imgcls.storage.runs import is_finished
from imgcls.storage.tracked import read_tracked, write_tracked

OPTIONS = (
    *OFFLINE, "--batch-size", "16", "--device", "cpu", "--no-preflight", "--epochs", "2",
)  # fmt: skip


# what MLflow and SQLAlchemy warn of between themselves
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def files_of(client, run, folder):
    return {item.path.rpartition("/")[2] for item in client.list_artifacts(run.info.run_id, folder)}


def run_in(folder, *arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run([*map(str, arguments), "--quiet"]) == 0


@pytest.fixture(scope="module")
def tracked(tmp_path_factory, crops):
    """A run logged to TensorBoard and MLflow, trained on for an epoch, and evaluated on test."""
    root = tmp_path_factory.mktemp("tracked")
    photos = save_crops(crops, root / "photos", (16, 16, 16))
    log = ("--log", "tensorboard,mlflow", "--experiment", "one")
    with pytest.MonkeyPatch.context() as patch:
        # the resumption's is enough
        patch.setattr(imgcls.Trainer, "_evaluate_for_trackers", lambda *_: None)
        run_in(root, "train", photos, *OPTIONS, *log)
    # from elsewhere: the store is the one that the run began in
    other = root / "elsewhere"
    other.mkdir()
    run_in(other, "resume", "../outputs/one", "--epochs", "3")
    run_in(other, "evaluate", "../outputs/one", "--ci", "none", "--no-report")
    assert not list(other.iterdir())
    return root


def test_what_trackers_hold_is_history_csv(tracked):
    """Every column under its own name, each step once, across a resumption."""
    run = tracked / "outputs" / "one"
    history = history_of(run)
    assert set(history["val_loss"]) == {1, 2, 3}
    _, _, metrics = mlflow_run(f"sqlite:///{tracked / 'mlflow.db'}")
    scalars = read_scalars(run / "fold_0" / "tensorboard")
    for name, values in history.items():
        assert sorted(metrics[name]) == sorted(values.items())
        assert scalars[name] == {step: np.float32(value) for step, value in values.items()}
    speeds = {
        k: v for k, v in metrics.items() if k not in history and not k.startswith("evaluate/")
    }
    assert list(speeds) == ["images_per_s"]
    assert [step for step, _ in sorted(speeds["images_per_s"])] == [1, 2, 3]


def test_a_tracked_run_says_what_it_is_and_how_it_scored(tracked):
    """Options, tags, and each evaluation's metrics, plots and page; val is scored at the end."""
    run = tracked / "outputs" / "one"
    client, logged, metrics = mlflow_run(f"sqlite:///{tracked / 'mlflow.db'}")
    assert logged.info.status == "FINISHED"
    assert logged.info.run_name == "one"
    assert logged.data.params["optim.epochs"] == "2"
    assert logged.data.tags["changed.optim.epochs"] == "3"
    assert logged.data.params["data.batch_size"] == "16"
    tags = logged.data.tags
    assert (tags["run"], tags["fold"], tags["model"]) == (str(run), "0", "test_resnet")
    assert tags["torch"]
    assert len(tags["data_fingerprint"]) == 64
    wanted = {"report.html", "confusion_matrix.png", "roc_curves.png"}
    assert wanted <= files_of(client, logged, "evaluate/val")
    for split in ("val", "test"):
        assert "test_metrics.json" in files_of(client, logged, f"evaluate/{split}")
        scores = json.loads((run / "fold_0/test_results" / split / "test_metrics.json").read_text())
        [*_, (_, accuracy)] = metrics[f"evaluate/{split}/accuracy"]
        assert accuracy == scores["metrics"]["accuracy"]


def test_tensorboard_shows_the_plots_and_options(tracked):
    """As images, text and the columns of its table of runs."""
    events = EventAccumulator(str(tracked / "outputs/one/fold_0/tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert {"evaluate/val/confusion_matrix", "evaluate/val/roc_curves"} <= set(tags["images"])
    assert {"run", "evaluate/test/files", "_hparams_/session_start_info"} <= set(tags["tensors"])


def test_a_run_left_before_its_trackers_had_everything_is_unfinished(tracked):
    """As by a kill behind the last checkpoint: `resume` then logs the rest."""
    run = tracked / "outputs" / "one"
    assert is_finished(run)
    [row] = list_runs(RunsConfig(folder=tracked / "outputs")).runs
    assert row.status == "finished"
    known = read_tracked(run / "fold_0")
    try:
        write_tracked(run / "fold_0", replace(known, open=True))
        assert not is_finished(run)
        [row] = list_runs(RunsConfig(folder=tracked / "outputs")).runs
        assert row.status == "stopped"
        assert find_resumable(None, tracked / "outputs", extend=False).run == run
    finally:
        write_tracked(run / "fold_0", known)


def fake_mlflow(folder, body):
    """A package called mlflow, which processes that are started from here on import."""
    (folder / "fake" / "mlflow").mkdir(parents=True)
    (folder / "fake" / "mlflow" / "__init__.py").write_text(body)
    return folder / "fake"


# each fails in its own way: at once, in the middle, never answering, taking its process with it
FAULTS = {
    "raises": ("raise RuntimeError('no server\\nat http://me:secret@x')", "http://me:***@x"),
    "hangs": ("import time; time.sleep(600)", "no answer for"),
    "dies": ("import os; os._exit(3)", "its process ended"),
    "prompts": ("print('who?'); input()", "EOF"),
}


@pytest.mark.parametrize(
    "fault",
    [
        "raises",
        "hangs",
        pytest.param("dies", marks=pytest.mark.slow),
        pytest.param("prompts", marks=pytest.mark.slow),
    ],
)
def test_a_tracker_that_fails_never_stops_a_training(fault, tmp_path, photos, monkeypatch):
    """One warning, and then none of it; the other tracker logs on, and the run is finished."""
    body, reason = FAULTS[fault]
    monkeypatch.syspath_prepend(fake_mlflow(tmp_path, body))
    monkeypatch.setattr(process, "FIRST_ANSWER_S", 2.0 if fault == "hangs" else 180.0)
    monkeypatch.setattr(imgcls.Trainer, "_evaluate_for_trackers", lambda *_: None)
    heard = []
    config = tiny_config(
        photos, runtime={"output": str(tmp_path), "log": ["mlflow", "tensorboard"]}
    )
    run = imgcls.train(config, (heard.append,)).run
    [failed] = [event for event in heard if isinstance(event, TrackerFailed)]
    assert failed.name == "mlflow"
    assert reason in failed.reason
    assert is_finished(run)
    history = history_of(run)
    scalars = read_scalars(run / "fold_0" / "tensorboard")
    assert set(scalars["val_loss"]) == set(history["val_loss"]) == {1, 2}


@pytest.mark.slow
def test_a_server_that_never_answers_costs_one_warning(tmp_path, photos, monkeypatch):
    """A network that hangs, as MLflow itself meets it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        monkeypatch.setattr(process, "FIRST_ANSWER_S", 8.0)
        heard = []
        config = tiny_config(
            photos, runtime={"output": str(tmp_path), "log": ["mlflow"]}, optim={"epochs": 1}
        )
        start_s = time.monotonic()
        monkeypatch.setattr(imgcls.Trainer, "_evaluate_for_trackers", lambda *_: None)
        imgcls.train(config, (heard.append,))
        assert time.monotonic() - start_s < 120
    assert [e.reason for e in heard if isinstance(e, TrackerFailed)] == ["no answer for 8 s"]


def test_a_missing_package_is_a_wrong_request(command, photos, monkeypatch):
    """One line that names the extra, before anything is written."""
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "wandb" else found(name, *a)
    )
    done = command("train", photos, *OFFLINE, "--log", "tensorboard,wandb")
    assert done.code == 2
    assert done.error_lines == [
        'imgcls: --log wandb: the package wandb is missing: pip install "imgcls[wandb]"'
    ]
    assert not (photos.parent / "outputs").exists()


@pytest.mark.slow
def test_wandb_offline_and_trackio_hold_history_csv(tmp_path, photos, monkeypatch):
    """Without a login, a question or a network; one run of each, across a resumption."""
    pytest.importorskip("wandb")
    pytest.importorskip("trackio")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    run_in(tmp_path, "train", photos, *OPTIONS, "--log", "wandb,trackio", "--experiment", "one")
    run_in(tmp_path, "resume", "outputs/one", "--epochs", "3")
    history = history_of(tmp_path / "outputs/one")
    by_epoch = {
        epoch: {name: values[epoch] for name, values in history.items() if epoch in values}
        for epoch in (1, 2, 3)
    }
    key = read_tracked(tmp_path / "outputs/one/fold_0").key
    rows = trackio_rows(tmp_path / "trackio")
    assert {(row[0], row[1]) for row in rows} == {(key, "one")}
    epochs = [(step, values) for _, _, step, values in rows if "epoch" in values]
    assert [step for step, _ in epochs] == [1, 2, 3]
    for step, values in epochs:
        values.pop("images_per_s")
        assert values == by_epoch[step]
    assert any("evaluate/val/accuracy" in values for *_, values in rows)
    files = sorted((tmp_path / "wandb").glob(f"offline-run-*-{key}/*.wandb"))
    assert len(files) == 2
    logged = [row for file in files for row in wandb_history(file)]
    epochs = [row for row in logged if "epoch" in row]
    assert [row["epoch"] for row in epochs] == [1, 2, 3]
    for row in epochs:
        assert {name: row[name] for name in by_epoch[row["epoch"]]} == by_epoch[row["epoch"]]
    assert any("evaluate/val/confusion_matrix._type" in row for row in logged)


def test_tensorboard_forgets_what_was_trained_again(tmp_path):
    """Behind a damaged checkpoint: the steps beyond the one that is gone on from are purged."""
    fold = TrackedFold(
        key="k", name="one", group="g", folder=str(tmp_path), epoch=0, hyperparameters={"a": 1},
        tags={},
    )  # fmt: skip
    first = TensorBoard(fold)
    first.log([{"epoch": n, "val_loss": n / 3} for n in (1, 2, 3)])
    first.end("stopped")
    again = TensorBoard(replace(fold, epoch=2))
    again.log([{"epoch": 2, "val_loss": 2 / 3}, {"epoch": 3, "val_loss": 0.5}])
    again.end("finished")
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("val_loss")]
    assert found == [(1, np.float32(1 / 3)), (2, np.float32(2 / 3)), (3, 0.5)]


@pytest.mark.slow
def test_a_stop_is_told_and_the_same_tracked_run_goes_on(tmp_path, photos, monkeypatch):
    """As a signal's: KILLED in MLflow until it is finished; and logging changes no bit."""
    monkeypatch.chdir(tmp_path)
    config = tiny_config(
        photos, runtime={"output": "outputs", "log": ["mlflow"]}, data={"preflight": False}
    )
    stop = StopRequest()

    def stop_behind_the_first(event):
        if isinstance(event, EpochDone):
            stop.reason = "by the test"

    with pytest.raises(InterruptedRunError):
        train(config, (stop_behind_the_first,), stop=stop)
    _, stopped, metrics = mlflow_run(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert stopped.info.status == "KILLED"
    assert [step for step, _ in metrics["val_loss"]] == [1]
    resumed = imgcls.resume(output="outputs", progress=False)
    _, finished, metrics = mlflow_run(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert finished.info.status == "FINISHED"
    assert finished.info.run_id == stopped.info.run_id
    assert sorted(metrics["val_loss"]) == sorted(history_of(resumed.run)["val_loss"].items())
    plain = config.model_copy(update={"runtime": config.runtime.model_copy(update={"log": "none"})})
    assert differences(remains(imgcls.train(plain).run), remains(resumed.run)) == []


@pytest.mark.slow
def test_each_fold_and_each_trial_is_a_tracked_run(tmp_path, photos):
    """Folds in the group of their run, trials in that of their search; with an own key each."""
    run_in(tmp_path, "train", photos, *OPTIONS, "--log", "tensorboard", "--folds", "2",
           "--experiment", "two")  # fmt: skip
    run_in(tmp_path, "tune", photos, *OPTIONS, "--log", "tensorboard", "--trials", "2",
           "--experiment", "search")  # fmt: skip
    folds = [tmp_path / "outputs" / "two" / f"fold_{n}" for n in (0, 1)]
    trials = sorted((tmp_path / "outputs" / "search").glob("trial-*/fold_0"))
    assert len(trials) == 2
    for fold in (*folds, *trials):
        scalars = read_scalars(fold / "tensorboard")
        number = int(fold.name[-1])
        losses = history_of(fold.parent, number)["val_loss"]
        assert scalars["val_loss"] == {n: np.float32(value) for n, value in losses.items()}
        assert "evaluate/val/accuracy" in scalars
        assert not read_tracked(fold).open
    assert len({read_tracked(fold).key for fold in (*folds, *trials)}) == 4


@pytest.mark.slow
def test_a_run_can_go_on_without_its_trackers_or_with_new_ones(tmp_path, photos):
    """`resume --log`: none leaves them as they are; a new one gets the earlier epochs too."""
    run_in(tmp_path, "train", photos, *OPTIONS, "--experiment", "one")
    run, events = tmp_path / "outputs" / "one", tmp_path / "outputs/one/fold_0/tensorboard"
    run_in(tmp_path, "resume", run, "--epochs", "3", "--log", "tensorboard")
    assert set(read_scalars(events)["val_loss"]) == {1, 2, 3}
    run_in(tmp_path, "resume", run, "--epochs", "4", "--log", "none")
    assert set(read_scalars(events)["val_loss"]) == {1, 2, 3}
    assert is_finished(run)
