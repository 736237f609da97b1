"""One writer for a run folder, whatever died before and wherever."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest
from filelock import FileLock

from imgcls.errors import RunError
from imgcls.storage.lock import LOCK_NAME, is_alive, is_locked, lock_run, this_process

HOLD = """
import os, sys, time
from pathlib import Path
from imgcls.storage.lock import lock_run
with lock_run(Path(sys.argv[1])):
    if os.fork() == 0:
        time.sleep(float(sys.argv[2]))
        os._exit(0)
    print("held", flush=True)
    time.sleep(600)
"""

CONTEND = """
import os, sys, time
from pathlib import Path
from imgcls.storage.lock import lock_run
from imgcls.errors import RunError
run, inside = Path(sys.argv[1]), Path(sys.argv[2])
taken = 0
print("ready", flush=True)
sys.stdin.readline()
end = time.monotonic() + 1.0
while time.monotonic() < end:
    try:
        with lock_run(run):
            os.mkdir(inside)
            taken += 1
            os.rmdir(inside)
    except RunError:
        pass
print(taken)
"""


def python(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_run_has_one_writer(tmp_path):
    """A second one is refused in one line that names the holder and the file."""
    assert not is_locked(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with lock_run(tmp_path):
        assert is_locked(tmp_path)
        for _ in range(2):
            with pytest.raises(RunError) as refused, lock_run(tmp_path):
                pass
            assert f"{tmp_path}: in use by " in str(refused.value)
            assert str(tmp_path / LOCK_NAME) in str(refused.value)
            assert is_locked(tmp_path)
    assert not is_locked(tmp_path)
    with lock_run(tmp_path):
        pass


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"pid": 1, "host": "elsewhere", "started": None}),
        json.dumps({"pid": os.getppid(), "host": socket.gethostname()}),
        json.dumps({"pid": 10**40, "host": socket.gethostname()}),
        "[" * 100_000,
        "not JSON \ud800",
        "",
    ],
    ids=["another-host", "a-living-process", "huge-pid", "deep", "no-text", "empty"],
)
def test_what_lies_in_the_file_holds_nothing(tmp_path, monkeypatch, text):
    """A lock of an earlier version, of another host or container, or a damaged one."""
    monkeypatch.setattr("imgcls.storage.lock._ORPHANS_S", 0.2)
    (tmp_path / LOCK_NAME).write_bytes(text.encode(errors="surrogatepass"))
    assert not is_locked(tmp_path)
    with lock_run(tmp_path), pytest.raises(RunError, match="in use by"), lock_run(tmp_path):
        pass


@pytest.mark.parametrize("orphans_s", [0, 1])
def test_a_killed_process_holds_nothing(tmp_path, orphans_s):
    """Nor do the processes that it had forked, once they have seen that it has gone."""
    process = python(HOLD, tmp_path, orphans_s)
    assert process.stdout.readline() == "held\n"
    assert is_locked(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with lock_run(tmp_path):
        pass
    process.communicate()


def test_two_processes_never_hold_it_together(tmp_path):
    """Also not when they meet a lock that a dead process left."""
    (tmp_path / LOCK_NAME).write_text(json.dumps({"pid": 2**22 + 1, "host": socket.gethostname()}))
    processes = [python(CONTEND, tmp_path, tmp_path / "inside") for _ in range(3)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], answers
    assert sum(int(out) for out, _ in answers) > 0


def test_a_look_at_the_lock_is_no_writer(tmp_path):
    """Who only looks holds it for an instant, though the last writer lives on."""
    with lock_run(tmp_path):
        pass
    look = FileLock(tmp_path / LOCK_NAME, thread_local=False)
    look.acquire()
    end = threading.Timer(0.1, look.release)
    end.start()
    with lock_run(tmp_path):
        pass
    end.join()


def test_a_folder_in_its_place_is_named(tmp_path):
    """One line that says what to remove."""
    (tmp_path / LOCK_NAME).mkdir()
    with pytest.raises(RunError, match=r"\.lock: is a folder .* remove it"), lock_run(tmp_path):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    """No permission, a read-only disk: one line, and nothing left behind."""
    tmp_path.chmod(0o500)
    with pytest.raises(RunError, match=r"\.lock: cannot be written"), lock_run(tmp_path):
        pass
    tmp_path.chmod(0o700)
    assert list(tmp_path.iterdir()) == []


def test_only_an_ended_process_of_this_machine_is_dead():
    """Elsewhere, and in another container, nobody can tell."""
    me = this_process()
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert is_alive(me)
    assert not is_alive({**me, "pid": child})
    assert not is_alive({**me, "pid": 10**40})
    assert not is_alive({**me, "started": "earlier"})
    assert is_alive({**me, "pid": child, "host": "elsewhere"})
    assert is_alive({**me, "pid": child, "namespace": "pid:[1]"})
    assert is_alive({})
