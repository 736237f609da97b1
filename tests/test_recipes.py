"""The scripts beside the recipes' page."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import timm
from safetensors.torch import save_file

RECIPES = Path(__file__).parents[1] / "examples" / "recipes"


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, RECIPES / script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture
def arguments(photos, tmp_path):
    """A set of three kinds of crops, a tiny model with some weights, and a folder for results."""
    weights = tmp_path / "weights.safetensors"
    save_file(timm.create_model("test_resnet").state_dict(), weights)
    sets = tmp_path / "sets"
    sets.mkdir()
    photos.rename(sets / "photos")
    return (
        "compare.py", sets, "--weights", weights, "--model", "test_resnet", "--img-size", 32,
        "--work", tmp_path / "work", "--seeds", 0, "--contestants",
    )  # fmt: skip


@pytest.mark.slow
def test_the_comparison_goes_on_and_ends_with_a_table(arguments, tmp_path):
    """What is finished is not run again; the table has everyone's scores."""
    first = run(*arguments, "imgcls", "logistic regression")
    assert first.returncode == 0, first.stderr
    file = tmp_path / "work" / "results.jsonl"
    done = file.read_text()
    others = ("imgcls --tune head", "timm's recipe", "logistic regression, C by val")
    second = run(*arguments, "imgcls", "logistic regression", *others)
    assert second.returncode == 0, second.stderr
    assert file.read_text().startswith(done)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["contestant"] for row in rows] == ["imgcls", "logistic regression", *others]
    for row in rows:
        start = f"| {row['contestant']} | 1 | {100 * row['balanced_accuracy']:.1f} ± 0.0 | "
        assert start in second.stdout


@pytest.mark.slow
def test_timms_recipe_without_a_run_to_match_says_what_to_do(arguments, tmp_path):
    """And writes nothing down."""
    done = run(*arguments, "timm's recipe")
    assert done.returncode == 1
    assert "run that one too" in done.stderr
    assert not (tmp_path / "work" / "results.jsonl").exists()
