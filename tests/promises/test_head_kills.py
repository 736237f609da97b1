"""Trainings that are really killed before their first epoch: nothing that was computed is lost."""

from __future__ import annotations

import random
import shutil
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from conftest import save_crops
from killing import Launcher, differences, kill_until_done, only_run, remains
from safetensors.torch import save_file

from imgcls.storage.caches import feature_files

pytestmark = pytest.mark.slow

HEAD = "imgcls.jobs.train.head"
LOSS = f"{HEAD}.loss_in_blocks"
COMPUTE = f"{HEAD}.features", "features_together"
FIT, FITTED = (f"{HEAD}.in_blocks", "fit_from"), (f"{HEAD}.fit", "set_classifier")
CHECK_SUM = "zlib", "crc32"


@pytest.fixture(scope="module")
def launcher():
    """Starts commands for which all features are too many to be fitted whole."""
    found = Launcher(("imgcls.jobs.plan.cost.fitting", "MOST_PRODUCTS", 0))
    yield found
    found.close()


@pytest.fixture(scope="module")
def straight(launcher, crops, tmp_path_factory):
    """The options of a training, how it ends, and how many batches and fits it takes."""
    place = tmp_path_factory.mktemp("straight")
    photos = save_crops(crops, place / "photos", (20, 16, 12))
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet").state_dict(), place / "weights.safetensors")
    options = [
        str(photos), "--model", "test_resnet", "--weights", str(place / "weights.safetensors"),
        "--img-size", "32", "--workers", "0", "--device", "cpu", "--batch-size", "8",
        "--no-preflight", "--tune", "head", "--feature-views", "2",
    ]  # fmt: skip
    assert launcher.run(place, "train", *options) == 0, (place / "log.txt").read_text()
    ended = remains(only_run(place))
    found = SimpleNamespace(options=options, ended=ended)
    run = killed(launcher, found, tmp_path_factory.mktemp("fitted"), *FITTED, 1)
    found.batches, found.fits = batches_kept(run), fits_kept(run)
    assert min([*found.batches, found.fits]) > 2
    return found


def fits_kept(run):
    file = run / "features" / "fit-0"
    if not file.exists():
        return 0
    with np.load(file) as found:
        return int(found["tried"]) + bool(found["is_fitted_to_all"])


def batches_kept(run):
    """Those of each view that are whole."""
    views = [feature_files(run / "features", view) for view in range(2)]
    return [sum(len(list(file.read())) for _, file in files) for files in views]


def killed(launcher, straight, folder, *where):
    launcher.start(folder, "train", *straight.options, kill_at=where)
    assert launcher.wait() == -signal.SIGKILL, (folder / "log.txt").read_text()
    return only_run(folder)


def ends_the_same_without(launcher, straight, run, *where):
    """Resume a copy of the run, which would die where the function is called for the n-th time."""
    place = run.parents[1].with_name(f"without-{where[1]}")
    shutil.copytree(run.parents[1], place, symlinks=True)
    launcher.start(place, "resume", kill_at=where)
    assert launcher.wait() == 0, (place / "log.txt").read_text()
    assert differences(straight.ended, remains(only_run(place))) == []


# as fits begin, in the middle of passes, as what a C is worth is told, as a fit is kept, at the end
IN_THE_FIT = [
    (*FIT, 1), (*FIT, 3), (LOSS, "_sum", 1), (LOSS, "_sum", 20), (LOSS, "_sum", 40),
    (LOSS, "cross_entropy", 4), ("numpy", "savez", 3), (*FITTED, 1),
]  # fmt: skip


@pytest.mark.parametrize("where", IN_THE_FIT, ids=lambda where: f"{where[1]}-{where[2]}")
def test_killed_in_the_fit_it_makes_what_is_left_alone(launcher, straight, tmp_path, where):
    """No feature is computed again, nor a fit made again that had ended; the bits are the same."""
    folder = tmp_path / "killed"
    folder.mkdir()
    run = killed(launcher, straight, folder, *where)
    assert batches_kept(run) == straight.batches
    left = straight.fits - fits_kept(run)
    ends_the_same_without(launcher, straight, run, *COMPUTE, 1)
    ends_the_same_without(launcher, straight, run, *FIT, left + 1)


@pytest.mark.parametrize("number", [2, 5, -2])
def test_killed_among_the_features_it_computes_what_is_left_alone(
    launcher, straight, tmp_path, number
):
    """In either view: batches that are on disk are read, and the bits are the same.

    The check sum is made once for each batch, as it is written or as it is read.
    """
    folder, total = tmp_path / "killed", sum(straight.batches)
    folder.mkdir()
    run = killed(launcher, straight, folder, *CHECK_SUM, number % total)
    assert sum(batches_kept(run)) == number % total - 1
    assert fits_kept(run) == 0
    ends_the_same_without(launcher, straight, run, *CHECK_SUM, total + 1)


def test_killed_at_any_instant_it_ends_the_same(launcher, straight, tmp_path):
    """By the clock, again and again, until it is done."""
    begun_s = time.monotonic()
    whole = tmp_path / "whole"
    whole.mkdir()
    assert launcher.run(whole, "train", *straight.options) == 0
    took_s = time.monotonic() - begun_s
    killed, _ = kill_until_done(
        launcher, tmp_path, straight.options, kills=6, longest_s=took_s, rng=random.Random(0)
    )
    assert killed >= 1
    assert differences(straight.ended, remains(only_run(tmp_path))) == []
