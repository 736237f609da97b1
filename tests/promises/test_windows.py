"""The commands under Windows' rules, as far as these can be played on Linux."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import OFFLINE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="plays Windows on Linux")

TWO_WORKERS = (*OFFLINE[:-1], "2")


def as_windows(*arguments, cwd):
    """`imgcls ARGUMENTS` as a process without forks, links and most signals."""
    rules = str(Path(__file__).parent / "as_windows")
    path = os.pathsep.join(filter(None, (rules, os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-m", "imgcls", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_commands_work_by_the_rules_of_windows(photos):
    """Trained with spawned loaders and a cache, resumed, scored twice, drawn, timed, audited."""
    cwd = photos.parent
    train = ("train", photos, *TWO_WORKERS, "--experiment", "run", "--cache", "ram")
    as_windows(*train, "--epochs", "1", cwd=cwd)
    checkpoints = cwd / "outputs" / "run" / "fold_0" / "checkpoints"
    assert not any(path.is_symlink() for path in checkpoints.iterdir())
    as_windows("resume", "outputs/run", "--epochs", "2", "--workers", "0", cwd=cwd)
    evaluate = ("evaluate", "outputs/run", "--workers", "0", "--calibrate", "temperature")
    first, again = (json.loads(as_windows(*evaluate, "--json", cwd=cwd)) for _ in range(2))
    assert first["metrics"] == again["metrics"]
    as_windows("report", "outputs/run", cwd=cwd)
    assert not list((cwd / "outputs").rglob(".tmp-*"))
    found = json.loads(as_windows("inspect", photos, "--workers", "2", "--json", cwd=cwd))
    assert found["pictures"] == 48
    as_windows("benchmark", "outputs/run", "--device", "cpu", cwd=cwd)
