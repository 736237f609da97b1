"""One study, many processes: who does which trial, and what becomes of the dead."""

from __future__ import annotations

import contextlib
import sqlite3

import optuna
import pytest

from imgcls.errors import RunError
from imgcls.jobs.tune.study import Study, TrialFailed
from imgcls.storage.lock import this_process

NOBODY = {**this_process(), "started": "never"}


@pytest.fixture
def open_study(tmp_path):
    """A function that joins the study as a process of its own would."""

    def join(seed=1, **settings):
        return Study(
            f"sqlite:///{tmp_path}/study.db",
            "s",
            direction="maximize",
            seed=seed,
            pruner=optuna.pruners.NopPruner(),
            settings={"epochs": 3, **settings},
            start={"x": 0.5},
        )

    return join


def draw(study, wanted=10, value=None, within=None, choices=None):
    """An objective that draws, claims and perhaps does something before it ends."""

    def objective(trial):
        x = (
            trial.suggest_float("x", 0, 1)
            if choices is None
            else trial.suggest_categorical("x", choices)
        )
        trial.set_user_attr("worker", this_process())
        study.claim(trial, wanted)
        if within is not None:
            within(trial)
        return x if value is None else value

    return objective


def test_the_settings_as_they_are_come_first_and_once(open_study):
    """Also when a second process opens the study before the first trial."""
    one, two = open_study(), open_study()
    first = one.run_one(draw(one))
    second = two.run_one(draw(two))
    assert (first.params, first.is_start) == ({"x": 0.5}, True)
    assert not second.is_start
    assert sum(r.is_start for r in one.records()) == 1


def test_two_processes_draw_from_streams_of_their_own(open_study):
    """The same seed, one trial inside the other: never the same parameters."""
    one, two = open_study(), open_study()

    def other_draws(_trial):
        two.run_one(draw(two))

    for _ in range(4):
        one.run_one(draw(one, within=other_draws))
    drawn = [r.params["x"] for r in one.records()]
    assert len(drawn) == len(set(drawn)) == 8


def test_a_study_that_was_stopped_goes_on_with_the_draws_it_would_have_made(tmp_path):
    """One process or two in turn: the same parameters for the same seed."""

    def drawn(name, sittings):
        found = []
        for trials in sittings:
            study = Study(
                f"sqlite:///{tmp_path}/{name}.db", "s", direction="maximize", seed=5,
                pruner=optuna.pruners.NopPruner(), settings={}, start=None,
            )  # fmt: skip
            found += [study.run_one(draw(study)).params["x"] for _ in range(trials)]
        return found

    assert drawn("a", [4]) == drawn("b", [1, 3])


def test_one_trial_too_many_is_given_back(open_study):
    """Two processes that both see room for one: the lower number does it."""
    one, two = open_study(), open_study()
    given_back = []

    def other_draws(_trial):
        given_back.append(two.run_one(draw(two, wanted=1)))

    done = one.run_one(draw(one, wanted=1, within=other_draws))
    assert done.state == "complete"
    assert given_back == [None]
    assert [r.number for r in one.records()] == [0]


def test_a_finite_space_is_tried_once_each(open_study):
    """What was drawn before is given back, and drawing turns to chance until all were tried."""
    study = open_study()
    choices = [0.5, 1, 2, 3, 4]
    while study.begun() < len(choices):
        study.run_one(draw(study, choices=choices))
    assert sorted(r.params["x"] for r in study.records()) == choices


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_what_a_dead_process_left_is_queued_again_under_its_number(open_study):
    """The next free process goes on with it; it is still one trial."""
    study = open_study()
    study.run_one(draw(study))
    begun = study._optuna.ask()
    begun.suggest_float("x", 0, 1)
    begun.set_user_attr("worker", NOBODY)
    begun.set_user_attr("run", "trial-0001")
    assert [r.state for r in study.records()] == ["complete", "running"]
    study.reclaim()
    assert [(r.number, r.state, r.run) for r in study.records()] == [
        (0, "complete", None), (1, "waiting", "trial-0001"),
    ]  # fmt: skip
    assert study.begun() == 1
    again = study.run_one(lambda trial: trial.suggest_float("x", 0, 1))
    assert (again.number, again.params, again.run) == (1, begun.params, "trial-0001")
    assert [r.state for r in study.records()] == ["complete", "complete"]


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_a_trial_that_kills_its_process_three_times_is_given_up(open_study):
    """It may be what kills it."""
    study = open_study()
    for _ in range(3):
        trial = study._optuna.ask()
        trial.suggest_float("x", 0, 1)
        trial.set_user_attr("worker", NOBODY)
        study.reclaim()
    [record] = study.records()
    assert (record.state, record.error) == ("failed", "its process died")


def test_a_living_process_keeps_its_trial(open_study):
    """Also when another looks for the dead."""
    one, two = open_study(), open_study()

    def other_looks(_trial):
        two.reclaim()

    assert one.run_one(draw(one, within=other_looks)).state == "complete"
    assert len(one.records()) == 1


def test_a_failed_trial_says_why_and_the_study_goes_on(open_study):
    """It counts as one of those asked for."""
    study = open_study()

    def fails(trial):
        trial.set_user_attr("error", "the loss became nan")
        raise TrialFailed

    assert study.run_one(fails).error == "the loss became nan"
    assert study.run_one(draw(study)).state == "complete"
    assert study.begun() == 2


def test_other_settings_are_refused(open_study):
    """By name; the pictures by their fingerprint."""
    open_study(pictures="abc")
    with pytest.raises(RunError, match=r"the study s was begun with epochs = 3, not 4"):
        open_study(epochs=4, pictures="abc")
    with pytest.raises(RunError, match="was begun with other pictures"):
        open_study(pictures="def")


def test_importances_tell_what_mattered(open_study):
    """A parameter that is the value has all of the differences, one that is nothing has none."""
    study = open_study()

    def objective(trial):
        trial.suggest_float("nothing", 0, 1)
        return trial.suggest_float("x", 0, 1)

    for _ in range(4):
        study.run_one(objective)
    assert study.importances() == {}
    for _ in range(11):
        study.run_one(objective)
    shares = study.importances()
    assert list(shares) == ["x", "nothing"]
    assert shares["x"] > 2 * shares["nothing"]
    assert sum(shares.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sqlite:////nowhere/at/all/study.db", "unable to open database file"),
        ("mysql+nosuchdriver://host/db", "NoSuchModuleError|Can't load plugin|driver"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_line(url, reason, monkeypatch):
    """With the reason."""
    monkeypatch.setattr("imgcls.jobs.tune.database._PAUSES_S", ())
    with pytest.raises(
        RunError, match=f"--storage {url.replace('+', '.')}: .*({reason})"
    ) as caught:
        Study(
            url, "s", direction="maximize", seed=1, pruner=optuna.pruners.NopPruner(), settings={},
            start=None,
        )  # fmt: skip
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_database_is_one_line(tmp_path, open_study, monkeypatch):
    """And it is left as it is."""
    monkeypatch.setattr("imgcls.jobs.tune.database._PAUSES_S", (0.01,))
    file = tmp_path / "study.db"
    file.write_text("not a database, but something of the user's, long enough to look at" * 20)
    before = file.read_bytes()
    with pytest.raises(RunError, match="file is not a database"):
        open_study()
    assert file.read_bytes() == before


def test_a_locked_database_is_told_and_not_waited_for(open_study, tmp_path, monkeypatch):
    """Another process may hold it for ever; the time it is waited for is made short here."""
    monkeypatch.setattr("imgcls.jobs.tune.database._LOCKED_S", 0.1)
    open_study()
    with contextlib.closing(sqlite3.connect(tmp_path / "study.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(RunError, match="another process has held it locked") as caught:
            open_study()
    assert str(tmp_path) in str(caught.value)
    assert len(open_study().records()) == 1
