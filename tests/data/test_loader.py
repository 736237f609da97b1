"""Batches depend on (seed, epoch, picture) alone."""

from __future__ import annotations

import random
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_sample_images
from timm.data import create_transform

from imgcls.config.augment import PRESETS
from imgcls.data.loading.bad_images import BadImage, BadImages
from imgcls.data.loading.loader import EvalLoader, TrainLoader, resolve_workers
from imgcls.data.loading.sampling import EpochSampler, Share, square_root_draw
from imgcls.data.open import open_source
from imgcls.data.pixels.transforms import eval_transform, train_transform
from imgcls.errors import BadImageError, ConfigError

FACTS = SimpleNamespace(
    input_size=(3, 32, 32),
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    interpolation="bicubic",
    crop_pct=0.875,
    crop_mode="center",
)


def heavy_transform(aa="rand-m9-mstd0.5"):
    changes = {"scale": 0.3, "vflip": 0.5, "color_jitter": 0.4, "auto_augment": aa}
    return train_transform(FACTS, replace(PRESETS["light"], **changes))


def train_loader(table, workers=0, *, rows=None, batch_size=8, grad_accum=1, even=False, **more):
    return TrainLoader(
        table,
        np.arange(len(table)) if rows is None else rows,
        heavy_transform(),
        batch_size=batch_size,
        grad_accum=grad_accum,
        seed=3,
        workers=workers,
        device_type="cpu",
        even_batches=even,
        **more,
    )


def flat(steps):
    return [batch for step in steps for batch in step]


def assert_same(one, two):
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert a.keys == b.keys
        assert torch.equal(a.labels, b.labels)
        assert torch.equal(a.images, b.images)


def test_worker_count_changes_nothing(photos):
    """0, 1 and 2 processes give the same pixels in the same order, in every epoch."""
    table = open_source(str(photos))
    loaders = [train_loader(table, workers) for workers in (0, 1, 2)]
    for epoch in (0, 1):
        batches = [flat(loader.steps(epoch)) for loader in loaders]
        assert_same(batches[0], batches[1])
        assert_same(batches[0], batches[2])


def test_epochs_differ_and_repeat(photos):
    """Another epoch brings other crops and another order; the same epoch the same."""
    loader = train_loader(open_source(str(photos)))
    first, second, again = (flat(loader.steps(epoch)) for epoch in (0, 1, 0))
    assert_same(first, again)
    assert [b.keys for b in first] != [b.keys for b in second]


def test_an_epoch_can_be_entered_in_the_middle(photos):
    """What a resumed run sees is what the rest of the epoch would have been."""
    loader = train_loader(open_source(str(photos)), grad_accum=2, batch_size=6)
    whole = list(loader.steps(4))
    assert_same(flat(whole[3:]), flat(loader.steps(4, start_step=3)))


def test_augmentation_leaves_the_global_randomness_alone(photos):
    """With no worker, the training process's own random states are as before."""
    loader = train_loader(open_source(str(photos)))
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    flat(loader.steps(0))
    assert random.getstate() == states[0]
    assert (np.random.get_state()[1] == states[1]).all()
    assert torch.equal(torch.get_rng_state(), states[2])


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 200), st.integers(1, 40), st.integers(1, 4), st.booleans())
def test_an_epoch_deals_every_picture_once(count, batch_size, grad_accum, even):
    """No picture is left out, no batch is tiny or too large; pairs where mixup needs them."""
    if even and (batch_size < 2 or count < 2):
        return
    sampler = EpochSampler(
        count, batch_size=batch_size, grad_accum=grad_accum, seed=1, even_batches=even
    )
    steps = list(sampler.micro_batches(0))
    assert len(steps) == sampler.steps_per_epoch
    dealt = [i for step in steps for batch in step for i in batch]
    assert len(dealt) == len(set(dealt)) == (count // 2 * 2 if even else count)
    sizes = [len(batch) for step in steps for batch in step]
    assert max(sizes) <= batch_size
    if even:
        assert all(size % 2 == 0 for size in sizes)
    per_step = [sum(map(len, step)) for step in steps]
    assert max(per_step) - min(per_step) <= (2 if even else 1)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 70), st.integers(1, 6), st.booleans())
def test_the_shares_of_a_batch_are_the_batch(size, processes, paired):
    """Each picture is in one share; with mixup's pairs, flipping a share is flipping the batch."""
    size -= size % 2 if paired else 0
    shares = [Share(number, processes).rows(size, paired=paired) for number in range(processes)]
    assert sorted(np.concatenate(shares).tolist()) == list(range(size))
    lengths = [len(rows) for rows in shares]
    assert max(lengths) - min(lengths) <= (2 if paired else 1)
    if paired:
        for rows in shares:
            assert (rows[::-1] == size - 1 - rows).all()


def test_evaluation_keeps_the_order_and_timms_pixels(photos):
    """uint8 normalised afterwards equals timm's float pipeline."""
    from PIL import Image

    ours = eval_transform(FACTS)
    theirs = create_transform(
        (3, 32, 32), interpolation="bicubic", mean=FACTS.mean, std=FACTS.std, crop_pct=0.875
    )
    mean, std = (torch.tensor(v).view(3, 1, 1) * 255 for v in (FACTS.mean, FACTS.std))
    for pixels in load_sample_images().images:
        image = Image.fromarray(pixels)
        assert torch.allclose((ours(image).float() - mean) / std, theirs(image), atol=1e-5)
    table = open_source(str(photos))
    rows = np.arange(0, len(table), 2)
    loader = EvalLoader(table, rows, ours, batch_size=7, workers=0, device_type="cpu")
    keys = [key for batch in loader for key in batch.keys]
    assert keys == [table.keys[row] for row in rows]
    assert len(loader) == -(-len(rows) // 7)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_picture_is_named(photos, workers):
    """Also when another process met it; nothing takes its place."""
    broken = photos / "china" / "003.jpg"
    broken.write_bytes(b"not a picture")
    loader = train_loader(open_source(str(photos)), workers)
    with pytest.raises(BadImageError, match=r"003\.jpg: cannot be read \(not a picture format"):
        flat(loader.steps(0))


@pytest.mark.parametrize("even", [False, True])
def test_a_batch_shrinks_by_its_bad_pictures_and_nothing_else_changes(photos, even):
    """Others keep their batch and their pixels; none takes the place; pairs stay pairs."""
    table = open_source(str(photos))
    broken = [table.keys[row] for row in (1, 2, 3, 30, 47)]
    whole = flat(train_loader(table, even=even).steps(1))
    for key in broken:
        (photos / key).write_bytes(b"")
    bad_images = BadImages(skip=True)
    fewer = flat(train_loader(table, even=even, bad_images=bad_images).steps(1))
    assert len(fewer) == len(whole)
    for before, after in zip(whole, fewer, strict=True):
        # mixup's pairs: the first with the last, and so on
        partners = before.keys[::-1] if even else before.keys
        pairs = zip(before.keys, partners, strict=True)
        expected = [key for key, partner in pairs if not {key, partner} & set(broken)]
        assert list(after.keys) == expected
        rows = [before.keys.index(key) for key in expected]
        assert torch.equal(after.images, before.images[rows])
    assert {image.key for image in bad_images.met} == set(broken)


def test_a_batch_without_a_readable_picture_stops_also_when_skipping(photos):
    """That is no bad picture: a disk or a mount has gone. So for a whole evaluation."""
    table = open_source(str(photos))
    loader = train_loader(table, bad_images=BadImages(skip=True))
    evaluation = EvalLoader(
        table,
        np.arange(len(table)),
        eval_transform(FACTS),
        batch_size=7,
        workers=0,
        device_type="cpu",
        bad_images=BadImages(skip=True),
    )
    for file in sorted(photos.rglob("*.jpg"))[1:]:
        file.unlink()
    assert [batch.keys for batch in evaluation] == [("china/000.jpg",)]
    next(photos.rglob("*.jpg")).unlink()
    for batches in (evaluation, loader.steps(0)):
        with pytest.raises(BadImageError, match="disk or the mount still there"):
            list(batches)


def test_those_left_out_are_told_of_once_also_to_a_late_listener():
    """A fold is built before anyone hears of it: what was met until then is told behind."""
    met, told = [BadImage(f"{n}.jpg", "cat", f"/{n}.jpg", "empty") for n in range(3)], []
    bad_images = BadImages(skip=True)
    bad_images.meet(met[:2])
    bad_images.tell(told.append)
    bad_images.meet(met)
    assert told == met


def test_an_unknown_policy_is_named():
    """--aa takes timm's words."""
    with pytest.raises(ConfigError, match="'nonsense'"):
        heavy_transform("nonsense")


def test_auto_workers_follow_source_and_device():
    """Pictures in memory need none; a number is taken as it is."""
    assert resolve_workers("auto", in_memory=True, device_type="cuda") == 0
    assert resolve_workers("auto", in_memory=False, device_type="cpu") >= 1
    assert resolve_workers(5, in_memory=True, device_type="cpu") == 5


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_there_are_no_more_processes_than_pictures(photos):
    """Of 48 pictures in 40 processes most would have one, of 3 in 40 most would have none."""
    table = open_source(str(photos))
    for rows, expected in ((np.arange(3), 3), (np.arange(48), 40)):
        loader = EvalLoader(
            table, rows, eval_transform(FACTS), batch_size=1, workers=40, device_type="cpu"
        )
        assert loader._pipeline._loader.num_workers == expected


@given(
    counts=st.lists(st.integers(1, 40), min_size=2, max_size=6),
    seed=st.integers(0, 2**31),
)
def test_square_root_sampling_draws_by_the_roots(counts, seed):
    """N pictures; each class within one of its share; all of a class before one comes again."""
    labels = np.repeat(np.arange(len(counts)), counts)
    drawn = square_root_draw(labels, np.random.default_rng(seed))
    total = len(labels)
    assert len(drawn) == len(set(drawn.tolist())) == total
    shares = np.sqrt(counts) / np.sqrt(counts).sum() * total
    found = np.bincount(labels[drawn % total], minlength=len(counts))
    assert (np.abs(found - shares) < 1).all()
    for label, count in enumerate(counts):
        rounds = drawn[labels[drawn % total] == label] // total
        complete = np.bincount(rounds, minlength=1)
        assert (complete[:-1] == count).all()
        assert complete[-1] <= count


def test_a_repeated_picture_is_changed_anew(photos):
    """Within one epoch the copies of a picture of a rare class differ."""
    table = open_source(str(photos))
    indices = np.flatnonzero(table.labels == 2)[:1]
    rows = np.concatenate([np.flatnonzero(table.labels == 0), indices])
    loader = train_loader(table, rows=rows, batch_size=64, balanced=True)
    [[batch]] = list(loader.steps(0))
    copies = batch.images[batch.labels == 2]
    assert len(copies) > 1
    assert all(not torch.equal(copies[0], other) for other in copies[1:])
