"""Real runs that are really killed, and the comparison of what they leave behind."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

from imgcls.engine.checkpoint.folder import read_checkpoint, read_state
from imgcls.storage.pointers import find_checkpoint


class Launcher:
    """Commands as processes, started by a server that has torch in memory already.

    bounds: module, name and number of each bound that they have in place of their own.
    """

    def __init__(self, *bounds: tuple[str, str, int]) -> None:
        own = [str(part) for bound in bounds for part in bound]
        self._server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("launcher.py")), *own],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self._server.stdout.readline()

    def start(
        self, folder: Path, *arguments: str, kill_at: tuple[str, str, int] | None = None
    ) -> int:
        """The pid of a command just begun; kill_at: module, function and at which of its calls."""
        self._server.stdin.write(json.dumps([str(folder), kill_at, *arguments]) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())

    def wait(self) -> int:
        """The exit code of the command begun last."""
        return int(self._server.stdout.readline())

    def run(self, folder: Path, *arguments: str, kill_after_s: float | None = None) -> int:
        """The exit code; -9 when the whole process group was killed after so many seconds."""
        pid = self.start(folder, *arguments)
        timer = threading.Timer(kill_after_s or 0, _kill_group, [pid])
        if kill_after_s is not None:
            timer.start()
        code = self.wait()
        timer.cancel()
        return code

    def close(self) -> None:
        self._server.stdin.close()
        self._server.stdout.close()
        self._server.wait(30)


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        # not yet its own group: the process itself then
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def only_run(folder: Path) -> Path:
    # what a killed start leaves is hidden
    [run] = (folder / "outputs").glob("[!.]*")
    return run


def kill_until_done(
    launcher: Launcher,
    folder: Path,
    arguments: list[str],
    *,
    kills: int,
    longest_s: float,
    rng: random.Random,
) -> tuple[int, int]:
    """Train, kill at random instants, resume, until done; (kills, kills inside a write).

    After `kills` kills the run is left to end.
    """
    killed = inside_a_write = 0
    while True:
        outputs = folder / "outputs"
        begun = any((run / "config.yaml").exists() for run in outputs.glob("[!.]*"))
        command = ["resume"] if begun else ["train", *arguments]
        if not begun and outputs.exists():
            subprocess.run(["rm", "-rf", str(outputs)], check=True)
        pause = rng.uniform(0.05, longest_s) if killed < kills else None
        code = launcher.run(folder, *command, kill_after_s=pause)
        if code == 0:
            return killed, inside_a_write
        assert code == -signal.SIGKILL, (folder / "log.txt").read_text()[-3000:]
        killed += 1
        inside_a_write += bool(list(folder.glob("outputs/*/fold_*/checkpoints/.tmp-step*")))


def remains(run: Path, fold: int = 0) -> dict[str, object]:
    """All that a fold of two equal runs must share: weights, state, history; times left out."""
    found = {}
    for which in ("best", "last"):
        checkpoint = read_checkpoint(find_checkpoint(run, fold, which))
        state = read_state(checkpoint)
        state["progress"].pop("elapsed_s")
        for row in state["history"]["rows"]:
            row.pop("epoch_time")
        metrics = {k: v for k, v in checkpoint.sidecar.metrics.items() if k != "epoch_time"}
        found[which] = {
            "weights": load_file(checkpoint.folder / "model.safetensors"),
            "state": state,
            "metrics": metrics,
            "step": checkpoint.sidecar.step,
        }
    with (run / f"fold_{fold}" / "history.csv").open(newline="") as stream:
        found["history"] = [
            {k: v for k, v in row.items() if k != "epoch_time"} for row in csv.DictReader(stream)
        ]
    return found


def differences(a: object, b: object, path: str = "") -> list[str]:
    """Where two trees differ, bit for bit."""
    if isinstance(a, torch.Tensor):
        return [] if isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b) else [
            path
        ]  # fmt: skip
    if isinstance(a, dict):
        if not isinstance(b, dict) or a.keys() != b.keys():
            return [path + " keys"]
        return [d for k in a for d in differences(a[k], b[k], f"{path}/{k}")]
    if isinstance(a, (list, tuple)):
        if type(a) is not type(b) or len(a) != len(b):
            return [path + " length"]
        return [
            d
            for i, (x, y) in enumerate(zip(a, b, strict=True))
            for d in differences(x, y, f"{path}/{i}")
        ]
    if hasattr(a, "tobytes"):
        return [] if a.tobytes() == b.tobytes() else [path]
    return [] if a == b else [path]


def wait_for(condition, timeout_s: float = 120) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.01)
