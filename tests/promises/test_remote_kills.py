"""Pictures behind URLs: a run that is killed and goes on ends as one on disk that never stopped."""

from __future__ import annotations

import csv
import io
import os
import random
import subprocess
import sys
import time

import pytest
import yaml
from killing import Launcher, differences, kill_until_done, only_run, remains
from packing import SPECS, pack
from PIL import Image
from serving import served

OPTIONS = [
    "--model", "test_resnet", "--no-pretrained", "--img-size", "32", "--batch-size", "6",
    "--epochs", "3", "--patience", "0", "--save-every-steps", "2", "--lr", "1e-3",
    "--device", "cpu", "--quiet", "--mixup", "0.2",
]  # fmt: skip
# fsspec's memory is filled anew in each process
IN_MEMORY = """
import sys
from pathlib import Path
import fsspec
from imgcls.cli.boundary import run
system = fsspec.filesystem("memory")
for file in Path(sys.argv[1]).rglob("*"):
    if file.is_file():
        place = file.relative_to(sys.argv[1]).as_posix()
        system.pipe_file("/shelf/" + place, file.read_bytes())
sys.exit(run(sys.argv[2:]))
"""


@pytest.fixture(scope="module")
def packed(tmp_path_factory, crops):
    """A folder of 48 pictures in each form; nothing changes it."""
    root = tmp_path_factory.mktemp("packed")
    pictures = []
    for name, pixels in crops.items():
        for picture in pixels[:16]:
            stream = io.BytesIO()
            Image.fromarray(picture).save(stream, "PNG")
            pictures.append((name, stream.getvalue()))
    # each shard with pictures of each class
    pack(root, pictures[::2] + pictures[1::2])
    return root


@pytest.fixture(scope="module")
def without_cache():
    """Starts commands that keep nothing of what they fetch, so that each epoch fetches it again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGCLS_REMOTE_CACHE", "0")
        started = Launcher()
    yield started
    started.close()


@pytest.fixture(scope="module")
def on_disk(launcher, packed, tmp_path_factory):
    """A function that trains on the local copy in one go: what remains, splits.csv, seconds."""
    ended = {}

    def train(spec):
        if spec not in ended:
            folder, begun = tmp_path_factory.mktemp("disk"), time.monotonic()
            code = launcher.run(folder, "train", f"{packed}/{spec}", *OPTIONS, "--workers", "0")
            assert code == 0, (folder / "log.txt").read_text()
            run = only_run(folder)
            ended[spec] = remains(run), splits_of(run), time.monotonic() - begun
        return ended[spec]

    return train


def splits_of(run):
    with (run / "splits.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def spec_of(kind):
    # a server has no list of its files for a pattern
    return "p-0.parquet" if kind == "parquet" else SPECS[kind]


@pytest.mark.parametrize("kind", ["tar", "parquet", pytest.param("table", marks=pytest.mark.slow)])
def test_killed_while_a_server_fails_it_ends_as_on_disk(
    without_cache, on_disk, packed, tmp_path, kind
):
    """Weights, optimizer state and history, bit for bit; and the pictures' splits."""
    spec = spec_of(kind)
    expected, splits, took_s = on_disk(spec)
    with served(packed) as (url, faults):
        # of Parquet whole row groups are fetched, by few requests
        faults.every = 2 if kind == "parquet" else 25
        arguments = [f"{url}/{spec}", *OPTIONS, "--workers", "0"]
        kill_until_done(
            without_cache, tmp_path, arguments, kills=3, longest_s=took_s, rng=random.Random(kind)
        )
        run = only_run(tmp_path)
        assert faults.failed
        config = yaml.safe_load((run / "config.yaml").read_text())
        assert config["data"]["source"] == f"{url}/{spec}"
        assert splits_of(run) == splits
        assert differences(remains(run), expected) == []
        assert without_cache.run(tmp_path, "evaluate", "--no-report", "--quiet") == 0


@pytest.mark.record
@pytest.mark.slow
@pytest.mark.parametrize("kind", SPECS)
def test_killed_with_loader_processes_it_ends_as_on_disk(launcher, on_disk, packed, tmp_path, kind):
    """These are begun anew and not forked, and share the cache of blocks; none outlives the run."""
    spec = spec_of(kind)
    expected, splits, took_s = on_disk(spec)
    with served(packed) as (url, faults):
        faults.every = 6
        arguments = [f"{url}/{spec}", *OPTIONS, "--workers", "2"]
        kill_until_done(
            launcher, tmp_path, arguments, kills=6, longest_s=took_s * 4, rng=random.Random(kind)
        )
        run = only_run(tmp_path)
        assert splits_of(run) == splits
        assert differences(remains(run), expected) == []


@pytest.mark.record
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tar", "parquet", "table"])
def test_killed_with_its_pictures_in_memory_it_ends_as_on_disk(on_disk, packed, tmp_path, kind):
    """fsspec's own, which each process fills."""
    expected, splits, _ = on_disk(SPECS[kind])
    rng = random.Random(kind)
    kills = 0
    while True:
        begun = list(tmp_path.glob("outputs/[!.]*/config.yaml"))
        arguments = ["train", f"memory://shelf/{SPECS[kind]}", *OPTIONS, "--workers", "0"]
        process = subprocess.Popen(
            [sys.executable, "-c", IN_MEMORY, packed, *(["resume"] if begun else arguments)],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        try:
            _, errors = process.communicate(timeout=rng.uniform(9, 14) if kills < 2 else 300)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
            continue
        assert process.returncode == 0, errors.decode()
        break
    run = only_run(tmp_path)
    assert splits_of(run) == splits
    assert differences(remains(run), expected) == []
