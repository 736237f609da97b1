"""The order of training pictures: a function of (seed, epoch) alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np


class Share(NamedTuple):
    """Which part of every batch is loaded here: that of process `number`, from 0, `of` so many."""

    number: int = 0
    of: int = 1

    def bounds(self, count: int) -> tuple[int, int]:
        """The first of `count` things that are this process's, and the one behind its last."""
        return count * self.number // self.of, count * (self.number + 1) // self.of

    def rows(self, size: int, *, paired: bool = False) -> np.ndarray:
        """The positions in a batch of `size` pictures that are this process's: int64.

        paired: each comes with its partner, the one as far from the batch's other end, in the order
        in which flipping these positions is flipping the batch. `size` is even then.
        """
        if not paired:
            return np.arange(*self.bounds(size))
        first, behind = self.bounds(size // 2)
        return np.concatenate([np.arange(first, behind), np.arange(size - behind, size - first)])


def sample_seed(seed: int, epoch: int, key: str, repeat: int = 0) -> int:
    """The 63-bit seed of one picture's random changes in one epoch.

    repeat: how often the picture has come in that epoch before.
    """
    again = f"/{repeat}" if repeat else ""
    digest = hashlib.blake2b(f"{seed}/{epoch}{again}/{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def square_root_draw(labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """One epoch's N samples, a class of n pictures drawn in proportion to sqrt(n): int64 [N].

    Square-root sampling (Mahajan et al. 2018, arXiv:1805.00932), which is repeat-factor sampling
    (Gupta et al. 2019, arXiv:1908.03195) with the largest class as its threshold, at the same
    number of pictures an epoch. No picture comes again before all of its class have come. Sample
    i in its r-th repetition (from 0) is i + r * N.
    """
    counts = np.bincount(labels)
    shares = np.sqrt(counts) / np.sqrt(counts).sum()
    # rounded together, so that they add up to N and are right on average
    edges = np.floor(np.concatenate([[0.0], np.cumsum(shares)]) * len(labels) + generator.random())
    edges[-1] = len(labels) + edges[0]
    drawn = []
    for label, quota in enumerate(np.diff(edges).astype(np.int64)):
        rows = np.flatnonzero(labels == label)
        rounds = -(-int(quota) // max(len(rows), 1))
        passes = [generator.permutation(rows) + r * len(labels) for r in range(rounds)]
        drawn.append(np.concatenate([rows[:0], *passes])[:quota])
    return generator.permutation(np.concatenate(drawn))


def smallest_batch(pictures: int, batch_size: int, grad_accum: int) -> int:
    """The pictures in the smallest micro-batch that EpochSampler deals, without even batches."""
    sizes = _update_sizes(pictures, batch_size * grad_accum)
    return min(size // -(-size // batch_size) for size in sizes)


def largest_batch(pictures: int, batch_size: int, grad_accum: int) -> int:
    """The pictures in the largest micro-batch that EpochSampler deals, without even batches."""
    sizes = _update_sizes(pictures, batch_size * grad_accum)
    return max(-(-size // -(-size // batch_size)) for size in sizes)


def _update_sizes(pictures: int, most: int) -> tuple[int, ...]:
    size, larger = divmod(pictures, -(-pictures // most))
    return (size, size + 1) if larger else (size,)


class EpochSampler:
    """Deals N samples into updates, and each update into micro-batches of at most `batch_size`.

    Sizes differ by one at most, so no picture is left out and no batch is tiny. With
    `even_batches`, which mixup needs, sizes are even and an odd picture out waits for the next
    epoch. With `balance_by`, int64 [N] labels, rare classes come more often (square_root_draw) and
    repeated samples have numbers from N up.
    """

    def __init__(
        self,
        num_samples: int,
        *,
        batch_size: int,
        grad_accum: int,
        seed: int,
        even_batches: bool,
        balance_by: np.ndarray | None = None,
    ) -> None:
        self._num_samples = num_samples
        self._balance_by = balance_by
        self._batch_size = batch_size
        self._grad_accum = grad_accum
        self._seed = seed
        self._even_batches = even_batches

    @property
    def steps_per_epoch(self) -> int:
        """Updates in one epoch."""
        return -(-self._num_samples // (self._batch_size * self._grad_accum))

    def micro_batches(self, epoch: int, start_step: int = 0) -> Iterator[list[np.ndarray]]:
        """The epoch's updates from `start_step` on, each as the positions of its micro-batches."""
        generator = np.random.default_rng([self._seed, epoch])
        order = (
            generator.permutation(self._num_samples)
            if self._balance_by is None
            else square_root_draw(self._balance_by, generator)
        )
        if self._even_batches:
            order = order[: len(order) // 2 * 2].reshape(-1, 2)
        # as np.array_split has it, whose list of views would grow with the epoch
        size, larger = divmod(len(order), self.steps_per_epoch)
        for step in range(start_step, self.steps_per_epoch):
            first = step * size + min(step, larger)
            yield self._split_step(order[first : first + size + (step < larger)])

    def _split_step(self, step: np.ndarray) -> list[np.ndarray]:
        units_per_batch = self._batch_size // 2 if self._even_batches else self._batch_size
        count = max(1, -(-len(step) // max(units_per_batch, 1)))
        return [part.ravel() for part in np.array_split(step, count) if len(part)]
