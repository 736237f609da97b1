"""Batches from loader processes, in shared memory that is used again."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from imgcls.data.loading.handover import Reader, Sender
from imgcls.data.loading.loader import EvalLoader, TrainLoader
from imgcls.data.open import open_source
from imgcls.data.pixels.transforms import eval_transform

FACTS = SimpleNamespace(
    input_size=(3, 32, 32), mean=(0.5,) * 3, interpolation="bicubic", crop_pct=1.0,
    crop_mode="squash",
)  # fmt: skip


def eval_batches(table, workers, batch_size=5):
    return EvalLoader(
        table, np.arange(len(table)), eval_transform(FACTS), batch_size=batch_size,
        workers=workers, device_type="cpu",
    )  # fmt: skip


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_that_are_kept_are_not_written_over(photos, workers):
    """Though the memory they came in was: two passes, all batches held, as without processes."""
    table = open_source(str(photos))
    loader = eval_batches(table, workers)
    kept = [batch.images for _ in range(2) for batch in loader]
    expected = [batch.images for _ in range(2) for batch in eval_batches(table, 0)]
    assert len(kept) == 20
    assert all(torch.equal(one, two) for one, two in zip(kept, expected, strict=True))
    assert all(image.is_contiguous(memory_format=torch.channels_last) for image in kept)


def test_a_pass_that_is_left_takes_nothing_from_the_next(photos):
    """What was under way when it was left never comes, and other batches come right."""
    table = open_source(str(photos))
    loader = eval_batches(table, 2)
    expected = torch.cat([batch.images for batch in eval_batches(table, 0)])
    for leave_after in (1, 2, 3, 1, 2, 3):
        for _ in itertools.islice(loader, leave_after):
            pass
    assert torch.equal(torch.cat([batch.images for batch in loader]), expected)


def test_training_has_the_same_batches_from_processes_and_without(photos):
    """Several micro-batches an update are in hand at once."""
    table = open_source(str(photos))

    def epoch(workers):
        loader = TrainLoader(
            table, np.arange(len(table)), eval_transform(FACTS), batch_size=4, grad_accum=3, seed=1,
            workers=workers, device_type="cpu", even_batches=False,
        )  # fmt: skip
        steps = [step for number in range(2) for step in loader.steps(number)]
        return [batch.images for step in steps for batch in step]

    for one, two in zip(epoch(2), epoch(0), strict=True):
        assert torch.equal(one, two)


def rows(value, count=2):
    return [torch.full((2, 2, 3), value, dtype=torch.uint8) for _ in range(count)]


def test_a_buffer_is_used_again_when_it_was_read():
    """And not before: there are four, then memory of its own."""
    sender, reader = Sender(reuse=True), Reader()
    stacked = [sender.stack(rows(value)) for value in range(5)]
    assert [in_buffer for _, in_buffer in stacked] == [True] * 4 + [False]
    first = reader.own(stacked[0][0], in_buffer=True)
    again, in_buffer = sender.stack(rows(9))
    assert in_buffer
    assert again.data_ptr() == stacked[0][0].data_ptr()
    assert first.unique().tolist() == [0]
    assert [int(batch.max()) for batch, _ in stacked[1:]] == [1, 2, 3, 4]


def test_a_smaller_batch_fits_into_a_buffer_and_a_larger_one_does_not():
    """The last of an epoch is small; the first may have lost pictures that could not be read."""
    sender, reader = Sender(reuse=True), Reader()
    small, _ = sender.stack(rows(1, count=1))
    reader.own(small, in_buffer=True)
    large, in_buffer = sender.stack(rows(2, count=3))
    assert in_buffer
    assert large.data_ptr() != small.data_ptr()
    reader.own(large, in_buffer=True)
    again, _ = sender.stack(rows(3, count=1))
    assert again.data_ptr() == small.data_ptr()


class _Numbers(torch.utils.data.Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, index):
        return torch.full((8, 8, 3), index, dtype=torch.uint8)


def test_memory_of_a_process_is_mapped_once():
    """The reader holds it, or torch would map it anew for each batch."""
    reader = Reader()
    loader = DataLoader(
        _Numbers(), batch_size=2, num_workers=1, collate_fn=Sender(reuse=True).stack,
        multiprocessing_context="fork",
    )  # fmt: skip
    seen = []
    for images, in_buffer in loader:
        assert in_buffer
        seen.append(images.data_ptr())
        reader.own(images, in_buffer=True)
    assert len(seen) == 20
    assert len(set(seen)) <= 4
