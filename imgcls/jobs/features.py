"""The features of a run's pictures: computed once, for all epochs and all folds."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable

import numpy as np

from imgcls.data.features import FeatureSet
from imgcls.data.loader import EvalLoader
from imgcls.data.transforms import eval_transform, train_transform
from imgcls.engine.batches import Normalizer
from imgcls.engine.features import ClassifierAlone, extract_features
from imgcls.engine.runtime import derive_seed
from imgcls.jobs.plan import Plan
from imgcls.models.card import Preprocessing

_MOST_IN_MEMORY_BYTES = 2**30


class FeatureStore:
    """Computes features when they are first asked for, and keeps them.

    It covers every picture that some fold trains or validates with, in the table's order,
    whichever fold asks first: so folds share one pass, and a resumed run finds the same bits.
    Above 1 GiB they lie in a temporary file that is mapped into memory.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._held: tuple[str, FeatureSet] | None = None
        self.on_batch: Callable[[int, int], None] = lambda _done, _total: None

    def of(self, alone: ClassifierAlone, facts: Preprocessing) -> FeatureSet:
        """The features that this classifier's backbone gives. Raises ModelError, BadImageError."""
        key = _backbone_key(alone)
        if self._held is None or self._held[0] != key:
            self._held = (key, self._compute(alone, facts))
        return self._held[1]

    def _compute(self, alone: ClassifierAlone, facts: Preprocessing) -> FeatureSet:
        plan, views = self._plan, self._plan.recipe.feature_views
        split = plan.assignment.split
        rows = np.flatnonzero((split == "train") | (split == "val"))
        trained = np.flatnonzero(split == "train")
        total, done = len(rows) + (views - 1) * len(trained), 0

        def count(samples: int) -> None:
            nonlocal done
            done += samples
            self.on_batch(done, total)

        values: np.ndarray | None = None
        for view in range(views):
            wanted = rows if view == 0 else trained
            loader = EvalLoader(
                plan.table,
                wanted,
                eval_transform(facts) if view == 0 else train_transform(facts, plan.recipe.views),
                batch_size=plan.pace.batch_size,
                workers=plan.workers,
                device_type=plan.compute.device.type,
                seed=None if view == 0 else derive_seed(plan.config.runtime.seed, "view", view),
            )
            normalizer = Normalizer(facts.mean, facts.std, plan.compute)
            found = extract_features(alone, loader, normalizer, plan.compute, count)
            if values is None:
                values = _room((views, len(rows), found.shape[1]))
            values[view, np.searchsorted(rows, wanted)] = found
        assert values is not None
        return FeatureSet(rows, values)


def _room(shape: tuple[int, int, int]) -> np.ndarray:
    if np.prod(shape) * 4 <= _MOST_IN_MEMORY_BYTES:
        return np.zeros(shape, dtype=np.float32)
    with tempfile.TemporaryFile(prefix="imgcls-features-") as file:
        return np.memmap(file, np.float32, "w+", shape=shape)


def _backbone_key(alone: ClassifierAlone) -> str:
    own = {id(tensor) for tensor in alone.state_dict(keep_vars=True).values()}
    digest = hashlib.sha256()
    for name, tensor in alone.whole.state_dict(keep_vars=True).items():
        if id(tensor) not in own:
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
