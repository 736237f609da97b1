"""What several processes load of a batch is, together, what one process loads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_loader import FACTS

from imgcls.config.augment import PRESETS
from imgcls.data.loading.bad_images import BadImages
from imgcls.data.loading.loader import WHOLE, EvalLoader, TrainLoader
from imgcls.data.loading.sampling import EpochSampler, Share, largest_batch, smallest_batch
from imgcls.data.open import open_source
from imgcls.data.pixels.transforms import eval_transform, train_transform
from imgcls.engine.device.batches import ComputeSettings, Normalizer, TrainBatcher
from imgcls.engine.device.runtime import set_seed
from imgcls.engine.device.world import World
from imgcls.engine.training.interrupt import StopRequest
from imgcls.engine.training.parallel.data_parallel import DataParallel
from imgcls.engine.training.parallel.whole_batch import BLANK
from imgcls.errors import BadImageError

CPU = torch.device("cpu")
BROKEN = (1, 2, 3, 30, 47)


@pytest.fixture
def table(photos):
    """48 pictures, of which five cannot be read."""
    found = open_source(str(photos))
    for row in BROKEN:
        (photos / found.keys[row]).write_bytes(b"")
    return found


def steps(table, share=WHOLE, *, even=False, skip=True, **more):
    settings = {"batch_size": 8, "grad_accum": 1, "workers": 0, **more}
    loader = TrainLoader(
        table,
        np.arange(len(table)),
        train_transform(FACTS, PRESETS["heavy"]),
        seed=3,
        device_type="cpu",
        even_batches=even,
        bad_images=BadImages(skip=skip),
        share=share,
        **settings,
    )
    return list(loader.steps(1))


def pictures(batch):
    """{place in the whole batch: (key, pixels)}."""
    rows = range(len(batch.keys)) if batch.rows is None else batch.rows.tolist()
    return dict(zip(rows, zip(batch.keys, batch.images, strict=True), strict=True))


def assert_same_pictures(found, wanted):
    assert found.keys() == wanted.keys()
    for place, (key, pixels) in found.items():
        assert key == wanted[place][0]
        assert torch.equal(pixels, wanted[place][1])


@pytest.mark.parametrize("processes", [2, 3, 4])
@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize("more", [{}, {"grad_accum": 2, "balanced": True, "workers": 1}], ids=str)
def test_the_parts_of_each_batch_are_the_batch_of_one_process(table, processes, even, more):
    """Same pictures, places, and pixels after augmentation; also where some cannot be read."""
    whole = steps(table, even=even, **more)
    parts = [steps(table, Share(n, processes), even=even, **more) for n in range(processes)]
    for step, shared in zip(whole, zip(*parts, strict=True), strict=True):
        # a micro-batch of which nothing can be read has no place in the whole step
        found = [
            {place: one for part in micro for place, one in pictures(part).items()}
            for micro in zip(*shared, strict=True)
        ]
        found = [one for one in found if one]
        assert len(found) == len(step)
        for one, batch in zip(found, step, strict=True):
            assert_same_pictures(one, pictures(batch))


def test_a_part_without_pictures_is_no_error_of_its_own(table):
    """The others of its batch may be there: only all together can tell."""
    root = table.images.location(0)
    assert root.endswith("000.jpg")
    nothing = 0
    for number in range(8):
        for step in steps(table, Share(number, 8)):
            for part in step:
                nothing += not len(part.keys)
                assert part.whole_size is None or len(part.rows) == len(part.keys)
    # each of 8 processes has one picture of each batch of 8
    assert nothing == len(BROKEN)


@pytest.mark.parametrize("number", [0, 1])
def test_a_bad_picture_is_an_error_where_it_is_not_to_be_skipped(table, number):
    """In the process that has it in its part."""
    with pytest.raises(BadImageError):
        steps(table, Share(number, 2), skip=False)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 300), st.integers(1, 40), st.integers(1, 4))
def test_the_smallest_and_the_largest_batch_are_foretold(pictures, batch_size, grad_accum):
    """As EpochSampler deals them."""
    sampler = EpochSampler(
        pictures, batch_size=batch_size, grad_accum=grad_accum, seed=0, even_batches=False
    )
    sizes = [len(batch) for step in sampler.micro_batches(0) for batch in step]
    assert smallest_batch(pictures, batch_size, grad_accum) == min(sizes)
    assert largest_batch(pictures, batch_size, grad_accum) == max(sizes)


@pytest.mark.parametrize("processes", [2, 3, 7])
def test_the_parts_of_an_evaluation_are_the_evaluation(photos, processes):
    """The batches are those of one process, each in one part, in order."""
    table = open_source(str(photos))
    of = {"batch_size": 10, "workers": 0, "device_type": "cpu"}
    whole = EvalLoader(table, np.arange(len(table)), eval_transform(FACTS), **of)
    parts = [whole.part_of(number, processes) for number in range(processes)]
    assert sum(map(len, parts)) == len(whole)
    together = [batch for part in parts for batch in part]
    for one, other in zip(together, whole, strict=True):
        assert one.keys == other.keys
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


MIXES = {
    "mixup": {"mixup": 0.4},
    "cutmix": {"cutmix": 1.0},
    "both": {"mixup": 0.4, "cutmix": 1.0, "smoothing": 0.1},
    "erasing": {"reprob": 0.9},
    "all": {"mixup": 0.4, "cutmix": 1.0, "reprob": 0.5},
}


@pytest.mark.parametrize("which", MIXES)
@pytest.mark.parametrize("processes", [2, 3, 5])
def test_mixing_and_erasing_a_part_is_that_of_the_whole(table, which, processes):
    """Each picture is mixed with the same other one, and erased at the same place."""
    augment = replace(PRESETS["none"], **MIXES[which])
    normalizer = Normalizer((0.5,) * 3, (0.25,) * 3, ComputeSettings(CPU))
    batcher = TrainBatcher(normalizer, augment, 3, CPU)
    whole = steps(table, even=augment.mixes)
    parts = [steps(table, Share(n, processes), even=augment.mixes) for n in range(processes)]
    for seed, (step, shared) in enumerate(zip(whole, zip(*parts, strict=True), strict=True)):
        for batch, micro in zip(step, zip(*shared, strict=True), strict=True):
            set_seed(seed)
            images, targets = batcher.prepare(batch)
            behind = np.random.rand(), torch.rand(1).item()
            rows = range(len(batch.keys)) if batch.rows is None else batch.rows.tolist()
            places = {place: at for at, place in enumerate(rows)}
            for part in micro:
                set_seed(seed)
                given = part if len(part.keys) else blank()
                found, wanted = batcher.prepare(given)
                # what comes next in this update draws the same
                assert (np.random.rand(), torch.rand(1).item()) == behind
                if len(part.keys):
                    own = [places[place] for place in part.rows.tolist()]
                    assert torch.equal(found, images[own])
                    assert torch.equal(wanted, targets[own])


def blank():
    stop = StopRequest()
    made = DataParallel(World(), (3, 32, 32), stop, stop, compresses=False).blank()
    assert len(made.keys) == BLANK
    return made
