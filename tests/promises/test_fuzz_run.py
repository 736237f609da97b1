"""Damaged and forged files of a run and of a search, through the commands that read them."""

from __future__ import annotations

import random
import shutil
import sys
import tempfile

import pytest
from conftest import OFFLINE, save_crops
from forging import damage

COMMON = ("--device", "cpu", "--quiet")
SCORE = (*COMMON, "--workers", "0", "--ci", "none", "--no-report")
COMMANDS = (
    ("resume", "out/r", "--epochs", "3", "--workers", "0", *COMMON),
    ("resume", "out/r", "--workers", "0", *COMMON),
    ("evaluate", "out/r", *SCORE),
    ("evaluate", "--output", "out", *SCORE),
    ("evaluate", "out/r", "--split", "train", "--calibrate", "temperature", *SCORE),
    ("evaluate", "out/r", "--data", "photos", "--on-bad-image", "skip", *SCORE),
    ("train", "--config", "out/r/config.yaml", "--dry-run", "--quiet"),
    ("train", "photos", *OFFLINE, "--weights", "out/r", "--dry-run", "--quiet"),
)
TUNE = ("tune", "photos", "--config", "out/t/tune.yaml", "--name", "t", "--trials", "2", *COMMON)
REPORT = ("report", "out/r")
BENCHMARK = ("benchmark", "out/r", "--num-samples", "1", *COMMON)
# each draws, or times, for seconds
SLOW = (REPORT, BENCHMARK)

# of what may be anywhere on the disk, in Python's words for audit hooks
CHANGES = {"os.remove", "os.rename", "os.rmdir", "os.mkdir"}
written: list[str] = []
watching = [False]


def _audit(event, arguments):
    if not watching[0]:
        return
    opens = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if opens or event in CHANGES:
        written.append(str(arguments[0]))
    elif event in {"os.system", "socket.connect"}:
        written.append(f"/{event}")


sys.addaudithook(_audit)


@pytest.fixture(scope="module")
def original(tmp_path_factory, crops):
    """photos/ with a bad picture; out/r: a run, evaluated and calibrated; out/t: a search."""
    from imgcls.cli.boundary import run

    root = tmp_path_factory.mktemp("original")
    save_crops(crops, root / "photos", (8, 8, 8))
    (root / "photos" / "china" / "bad.jpg").write_bytes(b"no picture")
    data = ("photos", *OFFLINE, "--epochs", "1", "--batch-size", "8", "--on-bad-image", "skip")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert run(["train", *data, "--output", "out", "--name", "r", *COMMON]) == 0
        score = ("--device", "cpu", "--workers", "0", "--quiet", "--ci", "none", "--no-report")
        assert run(["evaluate", "out/r", "--calibrate", "temperature", *score]) == 0
        search = ("tune", *data, "--trials", "1", "--output", "out", "--name", "t", *COMMON)
        assert run([*search]) == 0
    return root


def readers_of(file, rng):
    if "t" in file.parts:
        return TUNE
    if "test_results" in file.parts or file.name == "history.csv":
        return REPORT
    quick = rng.choice(COMMANDS)
    return rng.choice(SLOW) if rng.random() < 0.1 else quick


@pytest.mark.parametrize(
    "cases",
    [
        pytest.param(16, id="short"),
        pytest.param(
            300, id="long", marks=[pytest.mark.slow, pytest.mark.record, pytest.mark.timeout(1800)]
        ),
    ],
)
def test_no_damage_to_a_run_does_harm(original, command, tmp_path, monkeypatch, cases):
    """It works, or one line says why not; no traceback, nothing run, nothing written elsewhere."""
    if cases < 100:
        monkeypatch.setattr("imgcls.jobs.page.page._drawings", lambda *_read: {})
    rng = random.Random(cases)
    shutil.copytree(original / "photos", tmp_path / "photos")
    files = sorted(
        path.relative_to(original)
        for path in (original / "out").rglob("*")
        if path.is_file() and not {"best", "last"} & set(path.parts) and path.suffix != ".lock"
    )
    own = (str(tmp_path.parent), f"{tempfile.gettempdir()}/imgcls-", "/proc/self")
    ended = dict.fromkeys((0, 1, 2), 0)
    for case in range(cases):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        shutil.copytree(original / "out", tmp_path / "out", symlinks=True)
        file = rng.choice(files)
        damage(tmp_path / file, rng)
        line = readers_of(file, rng)
        written.clear()
        watching[0] = True
        try:
            done = command(*line)
        finally:
            watching[0] = False
        what = f"case {case}: {file}, {line[0]}: {done.code} {done.err[-600:]}"
        assert done.code in ended, what
        ended[done.code] += 1
        assert "unexpected error" not in done.err, what
        assert len(done.error_lines) == (done.code > 0), what
        assert not done.error_lines or len(done.error_lines[0]) < 2000, what
        foreign = [path for path in written if path.startswith("/") and not path.startswith(own)]
        assert foreign == [], what
        assert not (tmp_path / "ran").exists(), what
    print(f"\n{cases} damages: {ended[0]} harmless, {ended[2]} refused, {ended[1]} failed")
    assert ended[2]
