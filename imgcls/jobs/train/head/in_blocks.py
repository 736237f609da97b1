"""Logistic regression on many features: by torch on the device, a block of pictures at a time."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from imgcls.config.imbalance import IMBALANCE_METHODS
from imgcls.data.loading.features import FeatureSet
from imgcls.engine.device.runtime import exact_float32
from imgcls.jobs.train.head.descent import fit_from
from imgcls.jobs.train.head.features import NotKeptWarning
from imgcls.jobs.train.head.logistic import GRID, NEVER, FittedHead, deal, doubt
from imgcls.jobs.train.head.loss_in_blocks import LossInBlocks
from imgcls.metrics.resampling import Units, unit_numbers
from imgcls.storage.caches import FitFile
from imgcls.storage.durable import why_not_written

# of so many pictures one part tells what each value is worth
_PARTS = 10
# gradients for each value, and for the last fit to all pictures
_MOST_PASSES = 20
# what all of them together come to, of which a half is usual: tests/benchmarks/large_head.py
EXPECTED_PASSES = 80
# what a fit may leave of the objective, by an estimate, while C is chosen and at last
_TOLERANCE, _LAST_TOLERANCE = 2e-3, 2e-4
# past the valley of held-out losses there is nothing to find
_RISE = 1.01
Told = Callable[[int, int], None]


def fit_in_blocks(
    features: FeatureSet,
    rows: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    *,
    imbalance: str,
    seed: int,
    device: torch.device,
    groups: Units | None = None,
    on_pass: Told = lambda _done, _most: None,
    keep: FitFile | None = None,
) -> FittedHead:
    """Logistic regression as `fit_logistic` has it, in bounded memory and so many passes at most.

    rows, labels int64 [N], groups [N]: those of the pictures. C is chosen by a held-out tenth, and
    each is fitted by scipy's L-BFGS from where the one before ended, in exact float32 on the device
    but for the sums. Beyond the features themselves it takes some 200 MiB and forty
    times the classifier's weights in float64. on_pass is told (passes over the
    features, passes at most). keep: where every fit is kept that has ended, for one that goes on
    after a stop or a kill and gives the same bits. Raises ModelError for features that are not
    finite.
    """
    counts = np.bincount(labels, minlength=num_classes)
    method = IMBALANCE_METHODS[imbalance]
    class_weights, shift = method.class_weights(counts), method.prior_shift(counts)
    weights = np.ones(len(labels)) if class_weights is None else class_weights[labels]
    units = np.arange(len(labels)) if groups is None else unit_numbers(groups)
    strata = labels[np.unique(units, return_index=True)[1]]
    held_out = (deal(strata, _PARTS, seed) == 0)[units]
    known = np.flatnonzero(held_out & np.isin(labels, labels[~held_out]))
    fitted = np.flatnonzero(~held_out)
    tried = GRID if len(known) else ()
    most = (len(tried) + 1) * _MOST_PASSES
    with exact_float32(device):
        loss = LossInBlocks(features, rows, labels, weights, num_classes, device=device)
        kept = _Kept(keep, _fingerprint(loss, held_out))
        path = kept.path or _Path.beginning(loss)

        def one_more() -> None:
            nonlocal path
            path = replace(path, passes=path.passes + 1)
            on_pass(path.passes, most)

        while path.tried < len(tried) and not path.is_past_valley:
            candidate = tried[path.tried]
            table = fit_from(
                path.table, loss, fitted, candidate,
                tolerance=_TOLERANCE, most_passes=_MOST_PASSES, on_pass=one_more,
            )  # fmt: skip
            path = path.with_fit(candidate, table, loss.held_out(table, known, fitted))
            kept.write(path)
        if not path.is_fitted_to_all:
            table = fit_from(
                path.best, loss, np.arange(len(labels)), path.c,
                tolerance=_LAST_TOLERANCE, most_passes=_MOST_PASSES, on_pass=one_more,
            )  # fmt: skip
            path = replace(path, table=table, is_fitted_to_all=True)
            kept.write(path)
    weight, bias = loss.classifier(path.table)
    bias[counts == 0] = NEVER
    if shift is not None:
        bias = bias - shift
    reason = doubt(path.c, path.nll, np.bincount(labels, weights)) if tried else None
    return FittedHead(
        weight.astype(np.float32),
        bias.astype(np.float32),
        path.c,
        path.nll,
        int(bool(tried)),
        reason,
    )


@dataclass(frozen=True, eq=False)
class _Path:
    """How far the way from strong to weak regularisation is gone.

    tried: values of C that are fitted; table: that of the last one, at last of all pictures. c,
    best, nll: the value with the least held-out loss, its table and that loss. passes: those made.
    """

    table: np.ndarray
    best: np.ndarray
    tried: int = 0
    c: float = 1.0
    nll: float = math.nan
    passes: int = 0
    is_past_valley: bool = False
    is_fitted_to_all: bool = False

    @classmethod
    def beginning(cls, loss: LossInBlocks) -> _Path:
        """No weights, and biases by how common the classes are."""
        table = np.zeros((loss.num_classes, loss.width + 1))
        common = np.bincount(loss.labels, loss.weights, minlength=loss.num_classes)
        present = common > 0
        table[present, -1] = np.log(common[present] / common.sum())
        return cls(table, table)

    def with_fit(self, c: float, table: np.ndarray, nll: float) -> _Path:
        """The way with one value more."""
        further = replace(self, table=table, tried=self.tried + 1)
        if nll > self.nll * _RISE:
            return replace(further, is_past_valley=True)
        if nll >= self.nll:
            return further
        # the first is better than nan
        return replace(further, c=c, nll=nll, best=table)


class _Kept:
    """The way as it is on disk, if it is kept there."""

    def __init__(self, file: FitFile | None, fingerprint: str) -> None:
        self._file, self._fingerprint = file, fingerprint
        found = None if file is None else file.read(fingerprint)
        self.path = None if found is None else _Path(
            found["table"],
            found["best"],
            int(found["tried"]),
            float(found["c"]),
            float(found["nll"]),
            int(found["passes"]),
            bool(found["is_past_valley"]),
            bool(found["is_fitted_to_all"]),
        )  # fmt: skip

    def write(self, path: _Path) -> None:
        """Keep it; a warning where that cannot be done."""
        if self._file is None:
            return
        try:
            self._file.write(self._fingerprint, vars(path))
        except OSError as error:
            warnings.warn(
                f"the fit of the classifier is not kept ({why_not_written(error)}): a run that is "
                "stopped before its first epoch fits it again",
                NotKeptWarning,
                stacklevel=2,
            )
            self._file = None


def _fingerprint(loss: LossInBlocks, held_out: np.ndarray) -> str:
    """A hash of all that the fits follow from; of the features, of their mean and covariance."""
    digest = hashlib.sha256(repr((GRID, _MOST_PASSES, _TOLERANCE, _LAST_TOLERANCE)).encode())
    for array in (loss.mean, loss.spread, loss.labels, loss.weights, held_out):
        digest.update(array.tobytes())
    return digest.hexdigest()
