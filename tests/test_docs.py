"""The docs say what the program does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from imgcls.api.stub import stub
from imgcls.cli.app import COMMANDS as TYPED
from imgcls.config.base import option_fields
from imgcls.config.load import load_config
from imgcls.config.reference import COMMANDS, option_reference
from imgcls.config.run import TrainConfig

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_command_stands_in_the_readme():
    """By its live table."""
    assert set(COMMANDS) == set(TYPED)
    for command in TYPED:
        assert f"imgcls {command}" in README, command


def test_the_option_reference_is_true():
    """Made from the declarations."""
    assert (ROOT / "examples" / "options.md").read_text(encoding="utf-8") == option_reference()


def test_the_types_of_the_public_names_are_true():
    """Made from the same declarations, by `python -m imgcls.api.stub > imgcls/__init__.pyi`."""
    assert (ROOT / "imgcls" / "__init__.pyi").read_text(encoding="utf-8") == stub()


def test_every_option_the_readme_names_exists():
    """No option that was renamed or taken away."""
    known = set(re.findall(r"--[a-z][a-z-]+", option_reference()))
    known |= {
        "--config",
        "--set",
        "--dry-run",
        "--json",
        "--quiet",
        "--debug",
        "--help",
        "--help-all",
    }
    known |= {"--version", "--install-completion", "--no-deps", "--editable", "--upgrade"}
    known |= {"--nproc-per-node"}  # torchrun's
    options = [option for config in COMMANDS.values() for option in option_fields(config)]
    known |= {alias for option in options for alias in option.flag.aliases}
    known |= {f"--no-{name[2:]}" for name in known}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)) <= known


def test_links_in_the_readme_lead_somewhere():
    """Files beside it."""
    for target in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (ROOT / target).exists(), target


def test_the_example_config_is_valid():
    """What examples/ shows can be given to --config."""
    assert load_config(TrainConfig, ROOT / "examples" / "digits.yaml").optim.epochs == 3


@pytest.mark.slow
def test_the_python_example_runs():
    """As its first line says."""
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "python_api.py"],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert re.search(r"on 269 test pictures\n\d+ images/s", done.stdout)


@pytest.mark.slow
def test_the_python_page_runs(tmp_path):
    """Its blocks one behind the other, without a warning."""
    page = (ROOT / "examples" / "python_api.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    script = tmp_path / "page.py"
    script.write_text("\n".join([*blocks, "print(start)"]), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", script],
        cwd=tmp_path, capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "4"
    assert (tmp_path / "last.pth" / "config.json").is_file()


def test_links_of_the_python_page_lead_somewhere():
    """Files beside it."""
    page = (ROOT / "examples" / "python_api.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!http)([^)#]+)", page):
        assert (ROOT / "examples" / target).exists(), target


def test_what_ci_runs_exists():
    """Each test file and test that .ci/run names: it would stop there, an hour into its work."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    named = re.findall(r"(tests/[\w/]+\.py)(?:::(\w+))?", script)
    assert named
    for file, test in named:
        assert (ROOT / file).is_file(), file
        assert not test or f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), test
