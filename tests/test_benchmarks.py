"""The sides of the benchmarks run: a benchmark is read more often than it is run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SIDES = Path(__file__).parent / "benchmarks" / "sides.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("loading", ("train", "train")),
        ("loading", ("cache", "train")),
        ("loading", ("eval", "eval")),
        ("evaluation", ("bf16", "off")),
        ("training", ("off", "off")),
    ],
)
def test_both_sides_run(photos, kind, options):
    """Speeds and, in evaluation, as many answers."""
    found = []
    for who, option in zip(("imgcls", "timm"), options, strict=True):
        done = subprocess.run(
            [sys.executable, SIDES, kind, who, photos, "lcnet_035", option],
            capture_output=True,
            text=True,
            check=True,
        )
        found.append(json.loads(done.stdout))
    assert all(result["images_per_sec"] > 0 < result["images_per_cpu_sec"] for result in found)
    if kind == "evaluation":
        assert len(found[0]["answers"]) == len(found[1]["answers"]) == 48
