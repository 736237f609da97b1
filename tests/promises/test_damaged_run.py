"""Damaged files of a run: one line that names what is wrong, or a note, never a defect of ours."""

from __future__ import annotations

import json
import random
import shutil

import pytest
from conftest import OFFLINE

from imgcls.storage.model_folder import SIDECAR, own_hash

FAST = ("--device", "cpu", "--workers", "0", "--ci", "none")
DAMAGE = (
    b"",
    b"\xff\xfe\x00",
    b"[]",
    b'{"facts": [], "files": 3}',
    b"[" * 100_000,
    b"a,b\n1\n2,3,4\n",
    b"path,label,reason\n" + b'"' + b"x" * 200_000,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, crops):
    """A run that left a bad picture out, evaluated."""
    from PIL import Image

    from imgcls.cli.boundary import run

    root = tmp_path_factory.mktemp("damaged")
    for name, pictures in crops.items():
        (root / "photos" / name).mkdir(parents=True)
        for index, picture in enumerate(pictures[:12]):
            Image.fromarray(picture).save(root / "photos" / name / f"{index:02d}.png")
    (root / "photos" / "china" / "bad.png").write_bytes(b"no picture")
    common = ("--output", str(root), "--quiet", "--on-bad-image", "skip")
    options = (*OFFLINE, "--epochs", "1", "--device", "cpu", "--name", "run")
    assert run(["train", str(root / "photos"), *options, *common]) == 0
    assert run(["evaluate", str(root / "run"), *FAST, "--quiet"]) == 0
    return root / "run"


@pytest.fixture
def copied(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run", symlinks=True)


@pytest.mark.parametrize(
    "name",
    [
        "run.json",
        "config.yaml",
        "splits.csv",
        "preflight.json",
        "bad_images.csv",
        ".lock",
        "fold_0/history.csv",
        "fold_0/test_results/test/test_metrics.json",
        "fold_0/test_results/test/per_class.csv",
        "fold_0/test_results/test/predictions.csv",
        "fold_0/test_results/test/logits.npy",
        "fold_0/checkpoints/best/checkpoint.json",
        "fold_0/checkpoints/best/config.json",
        "fold_0/checkpoints/best/calibration.json",
    ],
)
def test_a_damaged_file_is_one_line_or_does_no_harm(copied, command, monkeypatch, name):
    """Of every file in a run, by `report`, which reads them all."""
    # what takes all the time, and comes behind all reading
    monkeypatch.setattr("imgcls.jobs.page.page._drawings", lambda *_read: {})
    monkeypatch.setattr("imgcls.jobs.page.page.evaluation_page", lambda *_read: "page")
    whole = (copied / name).read_bytes() if (copied / name).exists() else b'{"a": 1}'
    cut = random.Random(name).randrange(len(whole))
    for damage in (*DAMAGE, whole[:cut]):
        (copied / name).write_bytes(damage)
        done = command("report", copied, "--split", "test")
        assert "unexpected error" not in done.err, damage[:20]
        assert done.code in (0, 2), done.err
        assert len(done.error_lines) == (done.code == 2)


@pytest.mark.parametrize("damage", DAMAGE[-2:])
def test_a_damaged_list_of_bad_pictures_is_named(copied, command, damage):
    """It is read at the end of a training, where an error of ours would cost its result."""
    (copied / "bad_images.csv").write_bytes(damage)
    done = command("resume", copied, "--epochs", "2", "--device", "cpu", "--quiet")
    assert "unexpected error" not in done.err
    assert done.code == 2
    assert "bad_images.csv: is damaged" in done.error_lines[0]


@pytest.mark.parametrize(
    "facts",
    [
        {"splits": 3},
        {"splits": {"assigned": "x"}},
        {"prior": {"imbalance": "none", "shares": [1]}},
        {"prior": 3},
        {"model_name": []},
        {"fold": "x"},
        {"val_pictures": "x"},
        {"config": {"data": 3}},
        {"epoch": None, "metrics": None},
    ],
    ids=str,
)
def test_forged_facts_of_a_checkpoint_are_one_line_or_do_no_harm(copied, command, facts):
    """Whoever forges them makes the hash fit."""
    best = (copied / "fold_0" / "checkpoints" / "best").resolve()
    sidecar = json.loads((best / SIDECAR).read_text())
    sidecar["facts"].update(facts)
    del sidecar["sha256"]
    sidecar["sha256"] = own_hash(sidecar)
    (best / SIDECAR).write_text(json.dumps(sidecar))
    for arguments in (
        ("evaluate", copied, *FAST, "--no-report"),
        ("resume", copied, "--epochs", "2", "--device", "cpu"),
    ):
        done = command(*arguments, "--quiet")
        assert "unexpected error" not in done.err
        assert done.code in (0, 2), done.err
