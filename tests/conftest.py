"""Real small pictures, tiny models, and the command as its users run it."""

from __future__ import annotations

import os

# one thread: tests run beside each other, and tiny models lose more to waiting than they win
os.environ.setdefault("OMP_NUM_THREADS", "1")

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TINY = {
    "model": {"name": "test_resnet", "pretrained": False, "img_size": 32},
    "data": {"batch_size": 16},
    "optim": {"epochs": 2, "lr": 1e-3},
    "runtime": {"workers": 0, "device": "cpu"},
}

OFFLINE = ("--model", "test_resnet", "--no-pretrained", "--img-size", "32", "--workers", "0")


def pytest_addoption(parser):
    parser.addoption(
        "--fast-paths", choices=("default", "off", "on"), default="default",
        help="run the tests with every fast path off, or every one on",
    )  # fmt: skip


def pytest_configure(config):
    which = config.getoption("--fast-paths")
    if which != "default":
        from fast_paths import switch

        switch(which)


def pytest_collection_modifyitems(config, items):
    from fast_paths import is_left_out

    which = config.getoption("--fast-paths")
    left_out = [item for item in items if is_left_out(which, item.nodeid)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory, monkeypatch):
    """No test reads or fills the user's own caches."""
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("IMGCLS_CACHE", str(cache))
    yield
    shutil.rmtree(cache, ignore_errors=True)


@pytest.fixture(autouse=True)
def _loaders_are_looked_after_often(monkeypatch):
    """torch looks every five seconds for loader processes that died, or that should have ended."""
    if "torch" in sys.modules:
        from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter as Batches

        monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.2)
        monkeypatch.setattr(Batches._try_get_data, "__defaults__", (0.2,))


@dataclass(frozen=True)
class Finished:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def error_lines(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("imgcls: ")]


def run_process(*arguments: str, cwd: Path, timeout: float = 300) -> Finished:
    """`imgcls ARGUMENTS` as a real process."""
    done = subprocess.run(
        [sys.executable, "-m", "imgcls", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": "default"},
    )
    return Finished(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def command(capsys, tmp_path, monkeypatch):
    """`imgcls ARGUMENTS` in this process, in an empty folder; much faster than a new process."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Finished:
        from imgcls.cli.boundary import run as run_boundary

        code = run_boundary([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Finished(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="module")
def launcher():
    """Starts commands as processes that are killed, each within a second."""
    from killing import Launcher

    started = Launcher()
    yield started
    started.close()


@pytest.fixture(scope="session")
def worlds():
    """Runs commands in several processes that meet, each within a moment."""
    from worlds import Worlds

    started = Worlds()
    yield started
    started.close()


@pytest.fixture(scope="session")
def crops():
    """Real 48-pixel crops from scikit-learn's two photographs: {name: uint8 [n, 48, 48, 3]}."""
    from sklearn.datasets import load_sample_images

    pictures = dict(zip(("china", "flower"), load_sample_images().images, strict=True))
    rng = np.random.default_rng(0)
    cut = {}
    for name, picture in pictures.items():
        tops = rng.integers(0, picture.shape[0] - 48, 40)
        lefts = rng.integers(0, picture.shape[1] - 48, 40)
        cut[name] = np.stack(
            [picture[t : t + 48, x : x + 48] for t, x in zip(tops, lefts, strict=True)]
        )
    # a third class that is neither: the flower's colours turned round
    cut["violet"] = cut["flower"][:, :, :, ::-1].copy()
    return cut


@pytest.fixture
def photos(tmp_path, crops):
    """A bare folder of three classes with 20, 16 and 12 JPEGs."""
    return save_crops(crops, tmp_path / "photos", (20, 16, 12))


def save_crops(crops, root, counts):
    """A new folder of three classes with so many JPEGs of the crops."""
    for (name, pictures), count in zip(crops.items(), counts, strict=True):
        (root / name).mkdir(parents=True)
        for index in range(count):
            Image.fromarray(pictures[index]).save(root / name / f"{index:03d}.jpg", quality=92)
    return root


@pytest.fixture(scope="session")
def trained(tmp_path_factory, crops):
    """A folder with photos/ and two runs of one epoch, `single`, and `folds` of two folds.

    Tests read it, and change copies of it only.
    """
    from imgcls.cli.boundary import run

    root = tmp_path_factory.mktemp("trained")
    save_crops(crops, root / "photos", (12, 12, 12))
    common = (*OFFLINE, "--epochs", "1", "--device", "cpu", "--quiet", "--no-preflight")
    for name, more in (("single", ()), ("folds", ("--folds", "2"))):
        options = ("--experiment", name, "--output", str(root / "outputs"), *more)
        assert run(["train", str(root / "photos"), *common, *options]) == 0
    return root


@pytest.fixture(scope="session")
def _audited():
    # an audit hook stays for as long as the process does: one for all tests
    from faults import Injector

    return Injector()


@pytest.fixture
def injector(_audited, monkeypatch):
    """An Injector that counts flushes too, and does none: a dead process loses nothing it wrote."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: _audited.operation("fsync"))
    return _audited


def tiny_config(source: object = "digits", **groups: dict[str, object]):
    """A TrainConfig that trains in about a second."""
    from imgcls.config.load import validate
    from imgcls.config.run import TrainConfig

    tree = {name: dict(values) for name, values in TINY.items()}
    tree["data"]["source"] = str(source)
    for name, values in groups.items():
        tree.setdefault(name, {}).update(values)
    return validate(TrainConfig, tree)


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium to open pages in."""
    from browser import running_browser

    yield from running_browser()
