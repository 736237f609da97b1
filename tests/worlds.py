"""Commands in several processes, what each of them trained on, and how it ended."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
from killing import wait_for


@dataclass(frozen=True)
class Ended:
    """How the processes of a command ended: exit codes by rank, and all that they said."""

    codes: list[int]
    said: str

    @property
    def error_lines(self) -> list[str]:
        return [line for line in self.said.splitlines() if line.startswith("imgcls: ")]


@dataclass(frozen=True)
class Launched:
    """A command that was begun: its process id, and its exit code once it has ended."""

    pid: int
    folder: Path
    code: Callable[[], int | None]

    @property
    def said(self) -> str:
        return (self.folder / "log.txt").read_text(errors="replace")

    @property
    def error_lines(self) -> list[str]:
        return [line for line in self.said.splitlines() if line.startswith("imgcls: ")]

    def sessions(self) -> list[int]:
        """The process ids of the command and, behind it, of those that it has started."""
        # one that has just begun may not have written its line to the end
        return [int(line) for line in (self.folder / "pids.txt").read_text().split("\n")[:-1]]

    def workers(self) -> list[int]:
        """The process ids of those that it has started, by rank; [] before they are there."""
        return [pid for pid in self.sessions() if pid != self.pid]

    def alive(self) -> list[int]:
        """All processes of the command that still run, and all that these have started."""
        sessions, found = set(self.sessions()), []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                ours = os.getsid(process.pid) in sessions
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
        return found

    def wait(self, timeout_s: float = 300) -> int:
        """The exit code, once the command and all that it has started have ended."""
        wait_for(lambda: self.code() is not None, timeout_s)
        wait_for(lambda: not self.alive(), timeout_s)
        return self.code()


class Worlds:
    """Runs commands in several processes, by a server that has torch in memory already."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("world_server.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert self._server.stdout.readline() == "ready\n"

    def run(
        self, folder: Path, processes: int, *arguments: object, patches: tuple[str, ...] = ()
    ) -> Ended:
        """Run a command in so many processes, from `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "log.txt").unlink(missing_ok=True)
        codes = self._ask("run", str(folder), processes, patches, [*map(str, arguments)])
        return Ended(codes, (folder / "log.txt").read_text(errors="replace"))

    def launch(self, folder: Path, *arguments: object, patches: tuple[str, ...] = ()) -> Launched:
        """Begin a command as it is typed, from `folder`; `--devices N` comes last."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("log.txt", "pids.txt"):
            (folder / name).unlink(missing_ok=True)
        pid = self._ask("launch", str(folder), patches, [*map(str, arguments)])
        return Launched(pid, folder, partial(self._ask, "ended", pid))

    def _ask(self, *what: object) -> object:
        self._server.stdin.write(json.dumps(what) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def done(self, folder: Path, processes: int, *arguments: object, **patches) -> Ended:
        """Run a command that must not fail."""
        ended = self.run(folder, processes, *arguments, **patches)
        assert ended.codes == [0] * processes, ended.said
        return ended

    def close(self) -> None:
        self._server.stdin.close()
        self._server.stdout.close()
        self._server.wait(30)


def record_steps() -> None:
    """Let this process write down what it trains on, and the losses; see `recorded`."""
    from imgcls.engine.training import fit

    # a folder's number of sittings so far is in a file
    number = Path("sitting.txt")
    rank, sitting = os.environ.get("RANK", "0"), number.read_text() if number.exists() else "0"
    real = fit.train_step

    def recording(learner, micro_batches, step):
        found = real(learner, micro_batches, step)
        parts = []
        for batch in micro_batches:
            rows = range(len(batch.keys)) if batch.rows is None else batch.rows.tolist()
            pixels = [
                hashlib.blake2b(image.contiguous().numpy().tobytes(), digest_size=8).hexdigest()
                for image in batch.images
            ]
            parts.append([list(each) for each in zip(rows, batch.keys, pixels, strict=True)])
        line = {"step": step, "parts": parts, "loss": found[0] / found[1], "pictures": found[1]}
        with Path(f"steps-{sitting}-{rank}.jsonl").open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        return found

    fit.train_step = recording


def soften_rectifiers() -> None:
    """Let rectifiers be smooth in this process: at a kink, rounding decides on a whole gradient."""
    from torch.nn import functional

    functional.relu = lambda values, inplace=False: functional.silu(values)


@dataclass(frozen=True)
class Step:
    """One update: (micro-batch, place in it, key, digest of the pixels) of each picture."""

    pictures: tuple[tuple[int, int, str, str], ...]
    loss: float


def recorded(folder: Path) -> list[list[Step]]:
    """What all processes together trained on, by step; each time that a step was made."""
    by_rank = [_lines(path) for path in sorted(folder.glob("steps-0-*.jsonl"))]
    assert len({len(lines) for lines in by_rank}) == 1, "some process has made fewer steps"
    found: list[list[Step]] = []
    for lines in zip(*by_rank, strict=True):
        step, loss, pictures = {(one["step"], one["loss"], one["pictures"]) for one in lines}.pop()
        assert all((one["step"], one["loss"]) == (step, loss) for one in lines)
        seen = [picture for one in lines for picture in _pictures(one)]
        assert len(seen) == pictures
        found += [[] for _ in range(step + 1 - len(found))]
        found[step].append(Step(tuple(sorted(seen)), loss))
    return found


def made_in(folder: Path, sitting: int) -> dict[int, list[list[tuple[int, int, str, str]]]]:
    """What each process that got so far trained on at each step of a sitting, which was cut off."""
    found: dict[int, list[list[tuple[int, int, str, str]]]] = {}
    for path in folder.glob(f"steps-{sitting}-*.jsonl"):
        for line in _lines(path):
            found.setdefault(line["step"], []).append(_pictures(line))
    return found


def _lines(path: Path) -> list[dict]:
    # what was cut off by a kill is no line
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


def _pictures(line: dict) -> list[tuple[int, int, str, str]]:
    return [(micro, *picture) for micro, part in enumerate(line["parts"]) for picture in part]


def history(run: Path, fold: int = 0) -> list[dict[str, float]]:
    """The rows of a fold's history.csv, without times."""
    with (run / f"fold_{fold}" / "history.csv").open(newline="") as stream:
        return [
            {name: float(value) for name, value in row.items() if value and name != "epoch_time"}
            for row in csv.DictReader(stream)
        ]


def largest_difference(a: list[dict[str, float]], b: list[dict[str, float]], *names: str) -> float:
    """Between two histories, of these columns."""
    assert len(a) == len(b)
    pairs = [(x.get(n), y.get(n)) for x, y in zip(a, b, strict=True) for n in names]
    assert all((x is None) == (y is None) for x, y in pairs)
    return max(abs(x - y) for x, y in pairs if x is not None)
