"""Scripts of the system that this one succeeds run with the import changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sk

import imgcls

SCRIPT = Path(__file__).with_name("earlier_script.py")
SPEED = {
    "samples_tested", "avg_time_per_sample_ms", "std_time_per_sample_ms",
    "min_time_per_sample_ms", "max_time_per_sample_ms", "median_time_per_sample_ms",
    "throughput_samples_per_sec", "device",
}  # fmt: skip


@pytest.mark.slow
def test_a_script_that_knows_torch_and_imgcls_runs(tmp_path):
    """Every call, by position and by name; its numbers are scikit-learn's."""
    done = subprocess.run(
        [sys.executable, "-W", "error", SCRIPT, tmp_path],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    *epochs, found = done.stdout.splitlines()
    assert [line.split(":")[0] for line in epochs] == [f"epoch {n}" for n in (1, 2, 3, 4)]
    found = json.loads(found)
    targets, preds, probs = (np.array(found[name]) for name in ("targets", "preds", "probs"))
    metrics = found["metrics"]
    assert 1 <= found["epoch"] <= 4
    assert metrics["balanced_accuracy"] == sk.balanced_accuracy_score(targets, preds)
    for average in ("macro", "weighted"):
        scores = sk.precision_recall_fscore_support(
            targets, preds, average=average, zero_division=0
        )
        for name, score in zip(("precision", "recall", "f1"), scores, strict=False):
            assert metrics[f"{name}_{average}"] == pytest.approx(score), name
    for k in (3, 5):
        assert metrics[f"top_{k}_accuracy"] == sk.top_k_accuracy_score(targets, probs, k=k)
    one_hot = np.eye(6)[targets]
    for average in ("micro", "macro"):
        area = sk.roc_auc_score(one_hot, probs, average=average)
        assert metrics[f"roc_auc_{average}"] == pytest.approx(area, abs=1e-9)
        assert found["areas"][average] == pytest.approx(area, abs=1e-9)
    areas = sk.average_precision_score(one_hot, probs, average=None)
    names = ("red", "green", "blue", "grey", "dark", "light")
    assert found["curves"] == pytest.approx(dict(zip(names, areas, strict=True)), abs=1e-4)
    assert found["val"]["val_macro_f1"] == pytest.approx(metrics["f1_macro"])
    assert set(found["speed"]) == SPEED
    assert (found["speed"]["samples_tested"], found["samples"]) == (60, 70)


@pytest.mark.slow
def test_the_types_of_the_public_names_fit_such_scripts(tmp_path):
    """mypy finds nothing, in strict mode: neither in one for this version, nor in any name."""
    pytest.importorskip("mypy")
    names = tmp_path / "names.py"
    used = [f"print(imgcls.{name})" for name in imgcls.__all__]
    names.write_text("\n".join(["import imgcls", *used, ""]))
    wrong = tmp_path / "wrong.py"
    wrong.write_text("import imgcls\nimgcls.train('photos', epoch=3)\nimgcls.load(top_k='3')\n")
    done = subprocess.run(
        [
            sys.executable, "-m", "mypy", "--strict", "--config-file", os.devnull,
            "--ignore-missing-imports", "--cache-dir", tmp_path,
            SCRIPT, SCRIPT.with_name("user_script.py"), names, wrong,
        ],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    found = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert [line.partition("wrong.py:")[2][:1] for line in found] == ["2", "3"], done.stdout
