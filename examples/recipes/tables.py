"""The comparison's tables, from the probabilities of every test picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from compare import probabilities_file
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import rankdata

from imgcls.metrics.calibration import expected_calibration_error, reliability_bins
from imgcls.metrics.comparison import paired_differences
from imgcls.metrics.predictions import PictureOutcomes, Predictions
from imgcls.metrics.resampling import Resampler
from imgcls.results.comparison import Difference

RESAMPLES = 2000


@dataclass(frozen=True)
class Pooled:
    """A contestant on a set: the test pictures of all folds behind one another.

    nll: as trained. outcomes: at the temperature that suits val best, fold by fold; imgcls's own
    have theirs already. cpu_s: the folds' median.
    """

    nll: float
    outcomes: PictureOutcomes
    groups: np.ndarray
    cpu_s: float

    @property
    def ece(self) -> float:
        """Expected calibration error in 15 bins."""
        return expected_calibration_error(reliability_bins(self.outcomes))

    @property
    def calibrated_nll(self) -> float:
        """The mean cross-entropy at the temperatures."""
        return float(self.outcomes.picture_losses.mean())


def log_of(probabilities: np.ndarray) -> np.ndarray:
    """Their logarithm, a zero as what six digits would make of it."""
    return np.log(np.maximum(probabilities, 1e-7))


def temperature_of(logits: np.ndarray, labels: np.ndarray) -> float:
    """The one with the lowest cross-entropy (Guo et al. 2017, arXiv:1706.04599)."""

    def loss(log_t: float) -> float:
        scores = log_softmax(logits / np.exp(log_t), axis=1)
        return -float(scores[np.arange(len(labels)), labels].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-2.3, 2.3), method="bounded").x))


def pool(work: Path, rows: Sequence[Mapping[str, Any]], *, has_temperature: bool) -> Pooled:
    """What a contestant gave for the test pictures of these rows' folds."""
    logits, calibrated, labels, groups = [], [], [], []
    for row in sorted(rows, key=lambda row: row["fold"]):
        file = probabilities_file(work, row["set"], row["fold"], row["contestant"])
        with np.load(file) as found:
            own = log_of(found["test"])
            temperature = 1.0
            if not has_temperature:
                temperature = temperature_of(log_of(found["val"]), found["val_labels"])
            logits.append(own)
            calibrated.append(own / temperature)
            labels.append(found["test_labels"])
            groups.append(found["test_groups"])
    truth = np.concatenate(labels)
    keys = tuple(map(str, range(len(truth))))
    raw, cooled = (Predictions(keys, np.concatenate(x), truth) for x in (logits, calibrated))
    nll = float(raw.outcomes.picture_losses.mean())
    seconds = float(np.median([row["cpu_s"] for row in rows]))
    return Pooled(nll, cooled.outcomes, np.concatenate(groups), seconds)


def shown(difference: Difference, scale: float, digits: int) -> str:
    """The difference with its interval, in bold where that leaves out zero."""
    text = f"{scale * difference.difference:+.{digits}f}"
    if difference.interval is None:
        return text
    low, high = (scale * end for end in difference.interval)
    text = f"{text} ({low:+.{digits}f} to {high:+.{digits}f})"
    return f"**{text}**" if low > 0 or high < 0 else text


def sign(difference: Difference) -> int:
    """1 or -1 where the interval is above or below zero, else 0."""
    if difference.interval is None:
        return 0
    return int(difference.interval[0] > 0) - int(difference.interval[1] < 0)


def tables(
    work: Path, rows: Sequence[Mapping[str, Any]], contestants: Sequence[str], baseline: str
) -> str:
    """Markdown: a table for each set, and the mean ranks over the sets.

    Of a set the folds count that the baseline has done; who lacks one of them is left out, and
    named. Differences are the contestant's minus the baseline's; their 95% intervals are paired,
    by bootstrap over the pictures' groups.
    """
    begun = {row["contestant"] for row in rows}
    contestants = [one for one in contestants if one in begun]
    parts, ranks, verdicts = [], [], []
    for name in dict.fromkeys(row["set"] for row in rows):
        by_contestant: dict[str, list[Mapping[str, Any]]] = {one: [] for one in contestants}
        for row in rows:
            if row["set"] == name and row["contestant"] in by_contestant:
                by_contestant[row["contestant"]].append(row)
        folds = {row["fold"] for row in by_contestant.get(baseline, [])}
        if not folds:
            parts.append(f"### {name}\n\nNothing to compare with: no fold of {baseline} is done.")
            continue
        lacking = [
            one for one, own in by_contestant.items() if not folds <= {row["fold"] for row in own}
        ]
        pools = {
            one: pool(
                work,
                [row for row in own if row["fold"] in folds],
                has_temperature=one.startswith("imgcls"),
            )
            for one, own in by_contestant.items()
            if one not in lacking
        }
        text, signs = set_table(pools, baseline)
        parts.append(f"### {name}\n\n{extent(len(folds), pools[baseline], lacking)}\n\n{text}")
        ranks.append(rank(pools))
        verdicts.append(signs)
    return "\n\n".join([*parts, f"### Mean ranks\n\n{rank_table(ranks, verdicts, contestants)}"])


def extent(folds: int, pooled: Pooled, lacking: Sequence[str]) -> str:
    """What a table stands on."""
    text = f"{folds} {'fold' if folds == 1 else 'folds'}, {len(pooled.groups)} test pictures."
    return f"{text} Not done: {'; '.join(lacking)}." if lacking else text


def balanced_accuracy(outcomes: PictureOutcomes) -> float:
    """The mean of the classes' recalls."""
    return float(
        np.mean([outcomes.correct[outcomes.labels == k].mean() for k in np.unique(outcomes.labels)])
    )


def set_table(pools: Mapping[str, Pooled], baseline: str) -> tuple[str, dict[str, tuple[int, int]]]:
    """The table, and for each contestant the signs of its two differences."""
    lines = [
        "| contestant | balanced accuracy | difference | NLL | at T | difference | ECE | time |",
        "|---|---|---|---|---|---|---|---|",
    ]
    signs = {}
    reference = pools[baseline]
    for name, pooled in pools.items():
        cells = ["", ""]
        if name != baseline:
            resampler = Resampler(pooled.outcomes.labels, RESAMPLES, 0, pooled.groups)
            found = paired_differences(pooled.outcomes, [reference.outcomes], resampler)
            accuracy, nll = found["balanced_accuracy"], found["nll"]
            cells = [shown(accuracy, 100, 1), shown(nll, 1, 2)]
            signs[name] = (sign(accuracy), sign(nll))
        lines.append(
            f"| {name} | {100 * balanced_accuracy(pooled.outcomes):.1f} | {cells[0]} "
            f"| {pooled.nll:.2f} | {pooled.calibrated_nll:.2f} | {cells[1]} "
            f"| {100 * pooled.ece:.1f}% | {pooled.cpu_s:.0f} s |"
        )
    return "\n".join(lines), signs


def rank(pools: Mapping[str, Pooled]) -> dict[str, tuple[float, float]]:
    """By balanced accuracy and by NLL at val's temperature; 1 is the best, ties share."""
    accuracies = rankdata([-balanced_accuracy(pooled.outcomes) for pooled in pools.values()])
    losses = rankdata([pooled.calibrated_nll for pooled in pools.values()])
    return dict(zip(pools, zip(accuracies, losses, strict=True), strict=True))


def rank_table(
    ranks: Sequence[Mapping[str, tuple[float, float]]],
    verdicts: Sequence[Mapping[str, tuple[int, int]]],
    contestants: Sequence[str],
) -> str:
    """Mean ranks, and on how many sets the contestant differs from imgcls beyond doubt."""
    lines = [
        "| contestant | sets | rank, balanced accuracy | better, worse | NLL | better, worse |",
        "|---|---|---|---|---|---|",
    ]
    for name in contestants:
        own = [found[name] for found in ranks if name in found]
        if not own:
            continue
        means = np.mean(own, axis=0)
        signs = np.array([found[name] for found in verdicts if name in found])
        cells = ["", ""]
        if len(signs):
            above, below = (signs > 0).sum(axis=0), (signs < 0).sum(axis=0)
            cells = [f"{above[0]}, {below[0]}", f"{below[1]}, {above[1]}"]
        lines.append(
            f"| {name} | {len(own)} | {means[0]:.2f} | {cells[0]} | {means[1]:.2f} | {cells[1]} |"
        )
    return "\n".join(lines)
