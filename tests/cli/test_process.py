"""The installed command as a process: start-up, streams, the four commands as typed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import run_process

from imgcls.cli.app import VERBS

HEAVY = {"torch", "timm", "sklearn", "numpy", "PIL", "matplotlib", "jinja2"}


@pytest.mark.parametrize("arguments", [["--help"], *([verb, "--help"] for verb in VERBS)])
def test_help_loads_nothing_heavy(arguments):
    """--help of everything imports none of torch, timm, sklearn, numpy, PIL, ..."""
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


def test_a_closed_pipe_is_no_error(tmp_path):
    """`imgcls list-models '*' | head -1`."""
    command = f"{sys.executable} -m imgcls list-models '*' | head -1"
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert done.stderr == ""


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
