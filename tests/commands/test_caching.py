"""--cache: decoded once, the same in every epoch, run and process; within its limit."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import pickle
import random
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import tiny_config
from PIL import Image
from sklearn.datasets import load_sample_images

from imgcls.config.augment import PRESETS
from imgcls.config.run import ResumeConfig
from imgcls.data.loading import cache as pixel_cache
from imgcls.data.loading import pipeline
from imgcls.data.loading.cache import CachedImages, PixelSlots, Squeezed
from imgcls.data.pixels.decode import DecodeSettings, decode_crop
from imgcls.data.pixels.transforms import train_transform
from imgcls.data.table import ImageStore
from imgcls.errors import ConfigError, OutputError
from imgcls.jobs.plan import loading
from imgcls.jobs.plan.plan import make_plan
from imgcls.jobs.train.assemble import assemble
from imgcls.jobs.train.resume import reopen_run
from imgcls.jobs.train.start import begin
from imgcls.jobs.train.trainer import Trainer, train_folds


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def decoded(monkeypatch):
    """How many pictures were decoded to be kept."""
    seen = []

    def count(content, settings, choose):
        seen.append(len(content))
        return decode_crop(content, settings, choose)

    monkeypatch.setattr(pixel_cache, "decode_crop", count)
    return seen


def batches(photos, cache, workers=0, epochs=(0, 1), **data):
    config = tiny_config(photos, data={"cache": cache, **data}, runtime={"workers": workers})
    parts = assemble(make_plan(config), 0).parts
    train = [b for epoch in epochs for step in parts.train_batches.steps(epoch) for b in step]
    return train, list(parts.val_batches)


def assert_same(one, two):
    assert [b.keys for b in one] == [b.keys for b in two]
    assert all(torch.equal(a.images, b.images) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("cache", ["ram", "disk"])
def test_the_cache_changes_no_validation_and_only_sharpness_in_training(photos, cache):
    """Validation sees the same pixels; training the same crops, mirrored and coloured alike."""
    train, val = batches(photos, "none")
    cached_train, cached_val = batches(photos, cache)
    assert_same(val, cached_val)
    assert [b.keys for b in train] == [b.keys for b in cached_train]
    apart = [
        (a.images.float() - b.images.float()).abs().mean()
        for a, b in zip(train, cached_train, strict=True)
    ]
    assert max(apart) < 12


def test_places_and_processes_give_the_same_pixels(photos):
    """ram and disk, no worker and two, the first epoch and later ones."""
    reference = batches(photos, "ram")
    for cache, workers in (("ram", 2), ("disk", 0), ("disk", 2)):
        for one, two in zip(reference, batches(photos, cache, workers), strict=True):
            assert_same(one, two)


def test_each_picture_is_decoded_once_also_for_later_runs(photos, decoded):
    """Epochs and folds share what is kept; on disk a later run decodes nothing."""
    batches(photos, "disk")
    assert len(decoded) == 41  # 34 of train, 7 of val
    batches(photos, "disk", epochs=(5,))
    assert len(decoded) == 41


def test_folds_share_the_cache(photos, decoded):
    """A picture is decoded once for training and once for validation, whatever the folds."""
    trainer = Trainer.begin(
        tiny_config(photos, data={"cache": "ram", "folds": 3}, optim={"epochs": 1})
    )
    for fold in range(3):
        trainer.train_fold(fold)
    pictures = sum(len(trainer.plan.data.assignment.indices("val", fold)) for fold in range(3))
    assert len(decoded) == 2 * pictures


def test_what_was_decoded_to_measure_the_time_is_not_decoded_again(photos, decoded):
    """The run that follows has it; another run on the same plan has not, in memory."""
    config = tiny_config(photos, data={"cache": "ram"}, optim={"epochs": 1, "max_minutes": 60})
    begun = begin(config)
    assert decoded
    train_folds(Trainer(begun.plan, begun.run, first=begun.first))
    assert len(decoded) == 41
    list(assemble(begun.plan, 0).parts.val_batches)
    assert len(decoded) == 41 + 7


@pytest.mark.parametrize("what", ["changed picture", "damaged slot"])
def test_what_is_not_as_it_was_is_decoded_again(photos, decoded, what):
    """A changed file is noticed by its bytes, damage on disk by the checksum."""
    before = batches(photos, "disk", epochs=(0,))
    count = len(decoded)
    if what == "changed picture":
        names = [key for batch in before[0] for key in batch.keys]
        Image.new("RGB", (48, 48), "red").save(photos / names[0])
    else:
        file = max(loading.pictures_folder().glob("*/pixels.bin"), key=lambda f: f.stat().st_size)
        content = np.memmap(file, np.uint8, "r+")
        content[10] ^= 255
        content.flush()
    after = batches(photos, "disk", epochs=(0,))
    assert len(decoded) == count + 1
    if what == "damaged slot":
        assert_same(before[0], after[0])


def test_the_limit_is_kept(photos):
    """A size that is not allowed is an error that states it, or `none` with auto."""
    with pytest.raises(
        ConfigError, match=r"--cache\) ram: 0.2 MiB for 41 pictures, allowed are 0.0 MiB"
    ):
        make_plan(tiny_config(photos, data={"cache": "ram", "cache_limit": 1e-6}))
    plan = make_plan(tiny_config(photos, data={"cache": "auto", "cache_limit": 1e-6}))
    assert plan.config.data.cache == "none"
    assert any(reason.startswith("no cache: 0.2 MiB") for reason in plan.reasons)
    plan = make_plan(tiny_config(photos, data={"cache": "auto"}))
    assert plan.config.data.cache == "ram"
    assert any(reason.startswith("cache on ram: 0.2 MiB for 41") for reason in plan.reasons)


def test_a_runs_own_cache_is_not_what_the_limit_is_used_up_by(photos):
    """The same run again, its resumption and a trial of a search find it; other pictures count."""
    wanted = tiny_config(
        photos, data={"cache": "disk", "cache_limit": 0.25 / 1024}, optim={"epochs": 1}
    )
    trainer = Trainer.begin(wanted)
    trainer.train_fold(0)
    used = sum(file.stat().st_size for file in loading.pictures_folder().glob("*/*.bin"))
    assert used > 0.125 * 2**20
    assert make_plan(wanted).config.data.cache == "disk"
    assert reopen_run(trainer.run, ResumeConfig(epochs=2)).config.data.cache == "disk"
    other = wanted.model_copy(update={"runtime": wanted.runtime.model_copy(update={"seed": 9})})
    with pytest.raises(ConfigError, match=r"--cache\) disk: 0.2 MiB"):
        make_plan(other)


def test_a_cache_that_fills_the_disk_is_found_again(photos, monkeypatch):
    """What it takes is not missing for itself, with `auto` either."""
    wanted = tiny_config(photos, data={"cache": "disk"}, optim={"epochs": 1})
    Trainer.begin(wanted).train_fold(0)
    monkeypatch.setattr("shutil.disk_usage", lambda _path: SimpleNamespace(free=2**18))
    assert make_plan(wanted).config.data.cache == "disk"


def test_a_plan_alone_takes_no_room(photos):
    """--dry-run leaves nothing on disk."""
    assemble(make_plan(tiny_config(photos, data={"cache": "disk"})), 0)
    assert not loading.pictures_folder().exists()


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    """The room is taken before the first picture; a map with holes would end the process."""

    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(OutputError, match=r"--cache: it does not go into .*: No space left"):
        PixelSlots(4, (8, 8, 3), tmp_path / "slots").prepare()


@pytest.mark.parametrize("error", [None, errno.EOPNOTSUPP, errno.EINVAL])
def test_room_is_taken_where_the_file_system_cannot_allocate(tmp_path, monkeypatch, error):
    """NFS and FUSE: the C library writes into each block, which a file to append to refuses."""
    allocate = os.posix_fallocate
    flags = []

    def refuse(descriptor, offset, length):
        flags.append(fcntl.fcntl(descriptor, fcntl.F_GETFL))
        if error is not None:
            raise OSError(error, "refused")
        allocate(descriptor, offset, length)

    monkeypatch.setattr("os.posix_fallocate", refuse)
    for _ in range(2):
        PixelSlots(1000, (64, 64, 3), tmp_path / "slots").prepare()
    assert (tmp_path / "slots" / "pixels.bin").stat().st_size == 1000 * 64 * 64 * 3
    assert not any(flag & os.O_APPEND for flag in flags)


@pytest.mark.parametrize("cache", ["ram", "disk"])
def test_cached_pictures_reach_processes_that_inherit_nothing(photos, monkeypatch, cache):
    """As on macOS and Windows, where processes are spawned: the same pixels, kept for all."""
    here = batches(photos, cache, workers=0, epochs=(0,))
    monkeypatch.setattr(pipeline, "_START_METHOD", "spawn")
    for one, two in zip(here, batches(photos, cache, workers=1, epochs=(0,)), strict=True):
        assert_same(one, two)


def test_slots_reach_a_process_that_does_not_inherit_them(tmp_path):
    """Pickled, they are the same files, not copies."""
    slots = PixelSlots(2, (4, 4), tmp_path / "slots")
    slots.prepare()
    other = pickle.loads(pickle.dumps(slots))
    slots.fill(1, (40, 30), np.arange(16, dtype=np.uint8).reshape(4, 4), 7)
    assert other.read(1)[0] == (40, 30)
    assert other.check(1, 7)
    assert not other.check(1, 8)


def test_a_crop_from_the_cache_is_the_same_part_of_a_large_photograph():
    """Also of one whose sides differ: the square slot gives each crop its own aspect back.

    To the nearest kept pixel; another part would be 40 levels off.
    """
    photo = Image.fromarray(load_sample_images().images[0]).resize((1400, 700))
    stream = io.BytesIO()
    photo.save(stream, "JPEG", quality=95)

    class One(ImageStore):
        def content(self, index):
            return stream.getvalue()

        def location(self, index):
            return "photo"

    facts = SimpleNamespace(
        input_size=(3, 64, 64), mean=(0.5,) * 3, interpolation="bicubic", crop_pct=1.0
    )
    transform = train_transform(facts, replace(PRESETS["light"], hflip=0.0, color_jitter=0.0))
    slots = PixelSlots(1, (146, 146, 3), None)
    keep = Squeezed(146, Image.Resampling.BICUBIC)
    cached = CachedImages(One(), np.array([0]), slots, keep, final=False)
    cached.prepare()
    for seed in range(5):
        crops = []
        for choose in (
            lambda c: cached.open_crop(0, c),
            lambda c: decode_crop(stream.getvalue(), DecodeSettings(), c),
        ):
            random.seed(seed)
            crops.append(np.asarray(choose(transform.choose), float))
        assert np.abs(crops[0] - crops[1]).mean() < 9
