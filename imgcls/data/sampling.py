"""Which pictures come when: a function of (seed, epoch) alone."""

from __future__ import annotations

import hashlib

import numpy as np


def sample_seed(seed: int, epoch: int, key: str) -> int:
    """The 63-bit seed of one picture's random changes in one epoch."""
    digest = hashlib.blake2b(f"{seed}/{epoch}/{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class EpochSampler:
    """Deals N samples into updates, and each update into micro-batches of at most `batch_size`.

    Sizes differ by one at most, so no picture is left out and no batch is tiny. With
    `even_batches`, which mixup needs, sizes are even and an odd picture out waits for the next
    epoch.
    """

    def __init__(
        self, num_samples: int, *, batch_size: int, grad_accum: int, seed: int, even_batches: bool
    ) -> None:
        self._num_samples = num_samples
        self._batch_size = batch_size
        self._grad_accum = grad_accum
        self._seed = seed
        self._even_batches = even_batches

    @property
    def steps_per_epoch(self) -> int:
        """Updates in one epoch."""
        return -(-self._num_samples // (self._batch_size * self._grad_accum))

    def micro_batches(self, epoch: int, start_step: int = 0) -> list[list[list[int]]]:
        """The epoch's updates from `start_step` on, each a list of micro-batches of positions."""
        generator = np.random.default_rng([self._seed, epoch])
        order = generator.permutation(self._num_samples)
        if self._even_batches:
            pairs = order[: len(order) // 2 * 2].reshape(-1, 2)
            steps = np.array_split(pairs, self.steps_per_epoch)
        else:
            steps = np.array_split(order, self.steps_per_epoch)
        return [self._split_step(step) for step in steps[start_step:]]

    def _split_step(self, step: np.ndarray) -> list[list[int]]:
        units_per_batch = self._batch_size // 2 if self._even_batches else self._batch_size
        count = max(1, -(-len(step) // max(units_per_batch, 1)))
        return [part.ravel().tolist() for part in np.array_split(step, count) if len(part)]
