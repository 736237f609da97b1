"""Signals: heard once, saved after, and left alone where somebody ignores them."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time

import pytest
from conftest import tiny_config

from imgcls.data.loading.loader import EvalLoader
from imgcls.engine.training import interrupt
from imgcls.engine.training.interrupt import (
    SignalledError,
    StopRequest,
    end_on_signals,
    stop_on_signals,
)
from imgcls.errors import InterruptedRunError, WorkerError
from imgcls.jobs.plan.plan import make_plan
from imgcls.jobs.train.start import start_run
from imgcls.jobs.train.trainer import train_run


def test_the_first_signal_asks_and_the_second_stops(monkeypatch):
    """SIGTERM and the first Ctrl-C are wishes; the second Ctrl-C is at once."""
    told = []
    with stop_on_signals(told.append) as stop:
        assert not stop
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
        assert stop.signal_number == signal.SIGTERM
        assert told == [signal.SIGTERM]
        monkeypatch.setattr(interrupt, "_SAME_WISH_S", 0.0)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_one_wish_sent_twice_is_one_wish():
    """`timeout -s INT` signals the process and then its group."""
    with stop_on_signals() as stop:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
        assert stop.signal_number == signal.SIGINT


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_a_signal_ignored_from_the_start_stays_ignored(number):
    """As nohup leaves SIGHUP, and a shell SIGINT for what it starts in the background."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with end_on_signals(), stop_on_signals() as stop:
            os.kill(os.getpid(), number)
            time.sleep(0.01)
            assert not stop
        assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_work_that_saves_nothing_is_ended_at_once_by_a_signal():
    """Also by one that was heard before it began; by the caller's own reason it is not."""
    with stop_on_signals() as stop:
        with stop.at_once():
            stop.reason = "because others did better"
        with pytest.raises(SignalledError):
            with stop.at_once():
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(5)
        with pytest.raises(SignalledError):
            with stop.at_once():
                pytest.fail("begun all the same")


HUNG_UP = """
import fcntl, sys, termios, time
from pathlib import Path
from imgcls.engine.training.interrupt import stop_on_signals

fcntl.ioctl(0, termios.TIOCSCTTY, 0)
with stop_on_signals() as stop:
    print("ready", flush=True)
    while not stop:
        time.sleep(0.01)
    print("saved", flush=True)
    print("imgcls: everything is saved", file=sys.stderr, flush=True)
Path("saved").write_text(str(stop.signal_number))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="terminals of POSIX")
def test_a_terminal_that_went_away_costs_nothing(tmp_path):
    """A closed ssh session: lines for it go nowhere, instead of ending the work with an error."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", HUNG_UP],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, cwd=tmp_path,
    )  # fmt: skip
    os.close(theirs)
    assert os.read(ours, 100).startswith(b"ready")
    os.close(ours)
    assert process.wait(60) == 0
    assert (tmp_path / "saved").read_text() == str(int(signal.SIGHUP))


@pytest.mark.parametrize("stopped", [True, False])
def test_a_dead_loader_is_the_stop_where_one_is_wanted(photos, tmp_path, monkeypatch, stopped):
    """In the validation as well; without a wish it is the error that it is. Both save first."""
    monkeypatch.chdir(tmp_path)
    plan = make_plan(tiny_config(photos, optim={"epochs": 4}))
    run, stop = start_run(plan), StopRequest()

    def dead(_self):
        if stopped:
            stop.signal_number = signal.SIGTERM
        raise WorkerError("a process that loads pictures died")
        yield

    monkeypatch.setattr(EvalLoader, "__iter__", dead)
    with pytest.raises(InterruptedRunError if stopped else WorkerError):
        train_run(plan, run, stop=stop)
    assert len(list(run.glob("fold_0/checkpoints/step-*"))) == 1
