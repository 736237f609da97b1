"""Time and memory of exact metrics, beside scikit-learn: `python tests/benchmarks/scale.py`.

`small` scores 50,000 pictures x 1,000 classes, by imgcls and by scikit-learn called class by class,
each in a process of its own, three times in turn. `wide` scores 50,000 x 20,000 and `large`
500,000 x 20,000 by imgcls alone, from scores that are generated as they are read: 40 GB that are
never in memory or on disk. `intervals` times 1,000 bootstrap resamples. Seconds are those of the
processor, so that other work does not count.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

SIZES = {"small": (50_000, 1_000), "wide": (50_000, 20_000), "large": (500_000, 20_000)}


class GeneratedLogits:
    """Logits [N, C] with some skill, the same whenever a block of rows is read."""

    dtype = np.dtype(np.float32)
    ndim = 2
    _CHUNK = 128

    def __init__(self, labels, classes):
        self.labels = labels
        self.shape = (len(labels), classes)
        self.size = len(labels) * classes

    def __getitem__(self, rows):
        start, stop, _ = rows.indices(len(self.labels))
        first = start // self._CHUNK * self._CHUNK
        chunks = [self._chunk(at) for at in range(first, stop, self._CHUNK)]
        return np.concatenate(chunks)[start - first : stop - first]

    def _chunk(self, at):
        own = self.labels[at : at + self._CHUNK]
        rng = np.random.default_rng(at)
        scores = rng.random((len(own), self.shape[1]), dtype=np.float32)
        scores *= 8
        scores[np.arange(len(own)), own] += 4
        return scores


def labels_of(size):
    count, classes = SIZES[size]
    return np.random.default_rng(1).integers(0, classes, count), classes


def by_imgcls(size):
    from imgcls.metrics.calculator import MetricsCalculator
    from imgcls.metrics.predictions import Predictions, require_scores

    class Generated(Predictions):
        """Predictions that leave their logits where they are."""

        def __post_init__(self):
            require_scores(self.logits, self.labels, self.keys)

    labels, classes = labels_of(size)
    logits = GeneratedLogits(labels, classes)
    if size == "small":
        logits = logits[slice(None)]
    ready_mib, start_s = begin(), time.process_time()
    predictions = Generated(tuple(map(str, range(len(labels)))), logits, labels)
    metrics = MetricsCalculator(list(map(str, range(classes)))).compute(predictions).metrics
    return report(start_s, ready_mib, metrics)


def by_sklearn(size):
    from scipy.special import logsumexp, softmax
    from sklearn import metrics as sk

    labels, classes = labels_of(size)
    logits = GeneratedLogits(labels, classes)[slice(None)]
    probabilities = softmax(logits, axis=1)
    ready_mib, start_s = begin(), time.process_time()
    aucs, areas = [], []
    for c in range(classes):
        aucs.append(sk.roc_auc_score(labels == c, probabilities[:, c]))
        areas.append(sk.average_precision_score(labels == c, probabilities[:, c]))
    guess = probabilities.argmax(axis=1)
    metrics = {
        "roc_auc_macro": float(np.mean(aucs)),
        "average_precision_macro": float(np.mean(areas)),
        "accuracy": sk.accuracy_score(labels, guess),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, guess),
        "f1_macro": sk.f1_score(labels, guess, average="macro"),
        "top_5_accuracy": sk.top_k_accuracy_score(labels, probabilities, k=5),
    }
    found = report(start_s, ready_mib, metrics)
    # in float64, as imgcls has it; not part of what is measured
    own = logits[np.arange(len(labels)), labels].astype(np.float64)
    found["metrics"]["nll"] = float(np.mean(logsumexp(logits.astype(np.float64), axis=1) - own))
    return found


def intervals():
    """Seconds of one core for 1,000 resamples, without and with ROC AUC and average precision."""
    from imgcls.metrics.predictions import Predictions
    from imgcls.metrics.registry import all_metrics
    from imgcls.metrics.resampling import Resampler
    from imgcls.metrics.tally import RankTally, Tally

    labels = np.random.default_rng(1).integers(0, 100, 10_000)
    logits = GeneratedLogits(labels, 100)[slice(None)]
    predictions = Predictions(tuple(map(str, range(len(labels)))), logits, labels)
    for title, with_ranks in (("without areas", False), ("with areas", True)):
        start_s = time.process_time()
        ranks = RankTally(predictions) if with_ranks else None
        tally = Tally(predictions.outcomes, all_metrics(), ranks)
        for weights in Resampler(labels, 1000, 0).weights():
            tally.metrics(weights)
        print(f"10,000 pictures x 100 classes, {title}: {time.process_time() - start_s:.1f} s")


def report(start_s, ready_mib, metrics):
    return {
        "seconds": round(time.process_time() - start_s, 1),
        "more_mib": round(memory_mib("VmHWM") - ready_mib),
        "metrics": {name: value for name, value in metrics.items() if isinstance(value, float)},
    }


def begin():
    """Forget the highest memory so far (Linux) and say what is taken now."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory_mib("VmRSS")


def memory_mib(which):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which)) / 1024


def in_own_process(which, size):
    done = subprocess.run(
        [sys.executable, __file__, size, which],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return json.loads(done.stdout)


if __name__ == "__main__":
    size = sys.argv[1] if len(sys.argv) > 1 else "small"
    if size == "intervals":
        intervals()
    elif len(sys.argv) > 2:
        print(json.dumps({"imgcls": by_imgcls, "scikit-learn": by_sklearn}[sys.argv[2]](size)))
    else:
        sides = ("imgcls", "scikit-learn") if size == "small" else ("imgcls",)
        rounds = [
            {which: in_own_process(which, size) for which in sides}
            for _ in range(3 if size == "small" else 1)
        ]
        found = rounds[-1]
        for which in sides:
            seconds = statistics.median(row[which]["seconds"] for row in rounds)
            more_mib = statistics.median(row[which]["more_mib"] for row in rounds)
            print(
                f"{which:<13} {seconds:7.1f} s of one core, {more_mib:6,.0f} MiB beyond the scores"
            )
        if size == "small":
            ours, theirs = (row["metrics"] for row in found.values())
            gaps = {name: abs(ours[name] - theirs[name]) for name in theirs}
            print(f"greatest difference {max(gaps.values()):.1e} ({max(gaps, key=gaps.get)})")
