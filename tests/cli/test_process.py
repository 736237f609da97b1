"""The installed command as a process: start-up, streams, the four commands as typed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import OFFLINE, run_process

from imgcls.cli.app import COMMANDS

HEAVY = {"torch", "timm", "sklearn", "numpy", "PIL", "matplotlib", "jinja2"}


@pytest.mark.parametrize("typed", ["", *COMMANDS])
def test_help_loads_nothing_heavy(typed):
    """--help of everything imports none of torch, timm, sklearn, numpy, PIL, ..."""
    arguments = [*typed.split(), "--help"]
    code = (
        f"import sys, runpy; sys.argv = ['imgcls', *{arguments!r}]\n"
        "try: runpy.run_module('imgcls', run_name='__main__')\n"
        "except SystemExit as e: assert not e.code\n"
        f"print('LOADED', sorted(m for m in sys.modules if m in {HEAVY!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage: imgcls" in done.stdout
    assert done.stdout.rstrip().endswith("LOADED []")


def test_list_models_loads_neither_rich_nor_anything_heavy():
    """Plain text is enough for a list, and is there sooner."""
    heavy = HEAVY | {"rich", "yaml"}
    code = (
        "import sys; from imgcls.cli.boundary import run\n"
        "assert run(['list-models', 'vit_*']) == 0\n"
        f"print('LOADED', sorted(m for m in sys.modules if m in {heavy!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "vit_tiny_patch16_224" in done.stdout
    assert done.stdout.rstrip().endswith("LOADED []")


def test_train_says_something_before_torch_is_there(tmp_path):
    """The first line comes while torch loads; here torch never comes."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from imgcls.cli.boundary import run; run(['train'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert done.stderr.startswith("Loading torch ...\n")


def test_importing_the_package_loads_nothing_heavy():
    """`import imgcls` is lazy."""
    code = f"import imgcls, sys; print(sorted(m for m in sys.modules if m in {HEAVY!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_version_is_the_packages():
    """`imgcls --version` and `python -m imgcls` are the same program."""
    from importlib.metadata import version

    script = Path(sys.executable).with_name("imgcls")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"imgcls {version('imgcls')}"


def test_benchmark_on_a_missing_device_is_one_line(tmp_path):
    """`imgcls benchmark --device mps` on a machine without it: exit 2."""
    import torch

    if torch.backends.mps.is_available():
        pytest.skip("this machine has mps")
    done = run_process("benchmark", "--device", "mps", cwd=tmp_path)
    assert done.code == 2
    assert done.err == "imgcls: --device mps: not available on this machine; available: cpu\n"


def shell(command, cwd, **environment):
    """A shell's answer to `$IMGCLS ...`: exit code (of the first in a pipe), stdout, stderr."""
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "IMGCLS": f"{sys.executable} -m imgcls", **environment},
    )
    return done.returncode, done.stdout, done.stderr


def test_a_closed_pipe_is_no_error(tmp_path):
    """`imgcls list-models '*' | head -1`."""
    code, out, err = shell("$IMGCLS list-models '*' | head -1", tmp_path)
    assert (code, err) == (0, "")
    assert out


@pytest.mark.parametrize(
    ("stream", "reason"), [(">&-", "Bad file descriptor"), ("> /dev/full", "the disk is full")]
)
def test_output_that_cannot_be_written_is_one_line_and_exit_1(tmp_path, stream, reason):
    """As of cat and ls."""
    code, _, err = shell(f"$IMGCLS list-models vit_tiny* {stream}", tmp_path)
    assert code == 1
    [line] = err.splitlines()
    assert line.startswith("imgcls: the output cannot be written to stdout")
    assert reason in line


@pytest.mark.parametrize("streams", ["2>&-", "2> /dev/full", "<&- 2>&-"])
def test_messages_that_nobody_takes_change_nothing(tmp_path, streams):
    """The result is there, and the exit code is that of the command."""
    assert shell(f"$IMGCLS list-models vit_tiny* {streams}", tmp_path)[0] == 0
    assert shell(f"$IMGCLS evaluate /no/such {streams}", tmp_path)[0] == 2


@pytest.mark.slow
def test_a_finished_job_keeps_its_result_whatever_its_streams_take(tmp_path):
    """Trained with stderr closed, evaluated with stdout full or unread: all files are there."""
    options = f"{' '.join(OFFLINE)} --device cpu --quiet"
    train = f"$IMGCLS train {options} --epochs 1 --experiment r --no-preflight"
    assert shell(f"{train} >&- 2>&-", tmp_path)[0] == 1
    results = tmp_path / "outputs/r/fold_0/test_results"
    assert (results.parent / "checkpoints" / "best").exists()
    options = "--device cpu --workers 0 --ci none --no-report"
    assert shell(f"$IMGCLS evaluate {options} --split val > /dev/full", tmp_path)[0] == 1
    assert (results / "val" / "test_metrics.json").is_file()
    # a reader that leaves does not hide a missed threshold
    threshold = "--fail-under accuracy=0.999999"
    code, _, err = shell(f"$IMGCLS evaluate {options} {threshold} | true", tmp_path)
    assert code == 1, err
    assert "--fail-under: accuracy is" in err
    assert (results / "test" / "test_metrics.json").is_file()


def test_json_is_valid_in_any_encoding(tmp_path, crops):
    """A class that the terminal's encoding lacks is escaped as JSON has it."""
    from PIL import Image

    for name in ("甲虫😀", "é"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for index, pixels in enumerate(crops["china"][:4]):
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{index}.png")
    command = "$IMGCLS inspect data --workers 0"
    code, out, err = shell(f"{command} --json", tmp_path, PYTHONIOENCODING="ascii")
    assert code == 0, err
    assert set(json.loads(out)["class_names"]) == {"甲虫😀", "é"}
    assert shell(command, tmp_path, PYTHONIOENCODING="ascii")[0] == 0


@pytest.mark.slow
def test_the_main_job_as_typed(tmp_path):
    """train, evaluate --split test, resume, with no argument more; 97% and better."""
    done = run_process("train", cwd=tmp_path)
    assert done.code == 0, done.err
    assert not re.search(r"warning|traceback", done.err, re.IGNORECASE)
    done = run_process("evaluate", "--split", "test", "--json", cwd=tmp_path)
    assert json.loads(done.out)["metrics"]["accuracy"] >= 0.97
    done = run_process("resume", cwd=tmp_path)
    assert (done.code, done.out) == (0, "Nothing to resume: no run is unfinished.\n")


@pytest.mark.parametrize(("given", "expected"), [({}, "20000"), ({"GOMP_SPINCOUNT": "7"}, "7")])
def test_waiting_threads_sleep_soon_unless_told_otherwise(given, expected):
    """It is in the environment before torch is loaded; the user's own number is left alone."""
    code = (
        "import atexit, os, sys\n"
        "sys.argv[1:] = ['--version']\n"
        "from imgcls.__main__ import main\n"
        "atexit.register(lambda: print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules))\n"
        "main()\n"
    )
    inherited = {k: v for k, v in os.environ.items() if k != "GOMP_SPINCOUNT"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**inherited, **given},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == f"{expected} False"


@pytest.mark.parametrize(
    ("typed", "word", "offered"),
    [
        ("imgcls tra", 1, "train"),
        ("imgcls train --aug", 2, "--augment"),
        ("imgcls train --augment ", 3, "light"),
        ("imgcls evaluate --split t", 3, "test"),
        ("imgcls runs s", 2, "show"),
        ("imgcls runs show --o", 3, "--output"),
    ],
)
def test_a_shell_completes_verbs_options_and_choices(tmp_path, typed, word, offered):
    """As bash asks for it, by the script of --install-completion."""
    asked = {"_IMGCLS_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(word)}
    done = subprocess.run(
        [Path(sys.executable).with_name("imgcls")],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, **asked},
    )
    assert offered in done.stdout.split(), done.stderr


def test_one_of_several_processes_says_what_is_wrong_into_a_pipe(tmp_path):
    """Its line is there, once, although the process leaves without Python's own way out."""
    done = subprocess.run(
        [sys.executable, "-m", "imgcls", "train", "--devices", "2", "--batch-size", "1", "--quiet"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("too few for 2 processes") == 1
