"""Every metric, declared once; whatever computes, shows or compares metrics reads them here.

A number of `test_metrics.json` is one `Metric`. That alone computes it, with its interval where it
can have one, and puts it on the screen, the page, `--fail-under` and `--compare`. A column of
`history.csv`, by which the best epoch may be chosen, is one `ValidationMetric`.

No numpy is loaded from here: `--help` reads the names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from imgcls.metrics.curves import RankScores
    from imgcls.metrics.predictions import PictureOutcomes, ScoredPictures
    from imgcls.metrics.scores import ClassCounts

# counts beside the metrics: of pictures, of classes, and of the classes that have areas
SIZES = ("samples", "num_classes", "classes_scored")


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number of `test_metrics.json`: what it is computed from, and where it is shown.

    One of these says how it is computed:
    from_counts: from hits, support and predictions of each class, for many resamples at once.
    from_pictures: the mean of what it gives for each picture, float or bool [N].
    from_areas: from areas under curves; the interval is what RankTally gives of the same name.
    from_outcomes, from_scores: from all pictures, or all their scores, at once. These have no
    intervals: that of a calibration error, for one, would be biased upwards.

    title: as it reads, where that does not follow from the name. limits: the lowest and the highest
    value. share: reads in percent. more_classes_than: undefined for so many classes or fewer.
    undefined: why it can be None; may name {num_classes}.

    headline: its row on the screen of an evaluation, from 1; 0 is none. card: is one of the numbers
    on top of the page. compared: has a row in `--compare`. sliced: has a column in `--by`. Those
    that are higher for a better model can be held to a threshold by `--fail-under`.
    """

    name: str
    from_counts: Callable[[ClassCounts], np.ndarray] | None = None
    from_pictures: Callable[[PictureOutcomes], np.ndarray] | None = None
    from_areas: Callable[[RankScores], float] | None = None
    from_outcomes: Callable[[PictureOutcomes], float] | None = None
    from_scores: Callable[[ScoredPictures], float] | None = None
    title: str = ""
    limits: tuple[float, float] = (0.0, 1.0)
    higher_is_better: bool = True
    share: bool = False
    more_classes_than: int = 0
    undefined: str = "it is no finite number"
    headline: int = 0
    card: bool = False
    compared: bool = False
    sliced: bool = False

    def __post_init__(self) -> None:
        ways = (
            self.from_counts,
            self.from_pictures,
            self.from_areas,
            self.from_outcomes,
            self.from_scores,
        )
        assert sum(way is not None for way in ways) == 1, self.name
        assert self.resampled or not self.compared, self.name
        assert self.resampled or self.from_outcomes or not self.sliced, self.name

    @property
    def resampled(self) -> bool:
        """True when it can be computed for many resamples of the pictures at once."""
        return self.from_counts is not None or self.from_pictures is not None


_share = partial(Metric, share=True)
_loss = partial(Metric, limits=(0.0, float("inf")), higher_is_better=False)
_error = partial(Metric, higher_is_better=False, share=True)
_one_sided = "no class has both a picture that belongs to it and one that does not"
_area = partial(Metric, undefined=_one_sided)


def _ece(outcomes: PictureOutcomes, *, equal_mass: bool = False) -> float:
    from imgcls.metrics.calibration import expected_calibration_error, reliability_bins

    return expected_calibration_error(reliability_bins(outcomes, equal_mass=equal_mass))


def _classwise_ece(predictions: ScoredPictures) -> float:
    from imgcls.metrics.calibration import classwise_calibration_error

    return classwise_calibration_error(predictions)


# in the order of test_metrics.json, with top-k accuracies between the two
_OF_CLASSES = (
    _share(name="accuracy", from_counts=lambda c: c.accuracy,
           headline=1, card=True, compared=True, sliced=True),
    _share(name="balanced_accuracy", from_counts=lambda c: c.balanced_accuracy,
           headline=2, card=True, compared=True, sliced=True),
    _share(name="precision_macro", from_counts=lambda c: c.macro(c.precision), headline=3),
    _share(name="precision_weighted", from_counts=lambda c: c.weighted(c.precision)),
    _share(name="recall_macro", from_counts=lambda c: c.macro(c.recall), headline=4),
    _share(name="recall_weighted", from_counts=lambda c: c.weighted(c.recall)),
    _share(name="f1_macro", from_counts=lambda c: c.macro(c.f1),
           headline=5, card=True, compared=True, sliced=True),
    _share(name="f1_weighted", from_counts=lambda c: c.weighted(c.f1)),
    Metric(name="cohen_kappa", title="Cohen's kappa", from_counts=lambda c: c.cohen_kappa,
           limits=(-1.0, 1.0), undefined="all labels and all predictions are one same class",
           headline=9, compared=True),
    Metric(name="mcc", title="Matthews correlation", limits=(-1.0, 1.0),
           from_counts=lambda c: c.matthews_correlation, headline=10),
)  # fmt: skip
_OF_SCORES = (
    _area(name="roc_auc_micro", from_areas=lambda a: a.roc_auc_micro),
    _area(name="roc_auc_macro", from_areas=lambda a: a.roc_auc_macro, headline=7, card=True),
    _area(name="average_precision_micro", from_areas=lambda a: a.average_precision_micro),
    _area(name="average_precision_macro", from_areas=lambda a: a.average_precision_macro,
          headline=8, card=True),
    _loss(name="nll", title="NLL (log loss)", from_pictures=lambda f: f.picture_losses,
          headline=11, compared=True, sliced=True),
    _loss(name="brier", title="Brier score", from_pictures=lambda f: f.brier_scores,
          limits=(0.0, 2.0), headline=12, compared=True),
    _error(name="ece", title="Calibration error", from_outcomes=_ece, card=True, sliced=True),
    _error(name="ece_equal_mass", title="Calibration error (equal mass)",
           from_outcomes=partial(_ece, equal_mass=True)),
    _error(name="classwise_ece", title="Calibration error (classwise)", from_scores=_classwise_ece),
)  # fmt: skip


def _top_k_accuracy(k: int) -> Metric:
    """Share of pictures whose class is among the k highest scores (ties: `label_ranks`)."""
    return Metric(
        name=f"top_{k}_accuracy",
        from_pictures=lambda f: f.label_ranks < k,
        share=True,
        more_classes_than=k,
        undefined=f"with {{num_classes}} classes the top {k} always hold the right one",
        headline=0 if k == 1 else 6,  # the top 1 are the accuracy, but for ties
    )


def all_metrics(
    top_k: Sequence[int] = (1, 3, 5), *, num_classes: int | None = None
) -> tuple[Metric, ...]:
    """Every metric of `test_metrics.json` in its order, with a top-k accuracy for each k.

    num_classes: only those that are defined for so many classes.
    """
    metrics = (*_OF_CLASSES, *map(_top_k_accuracy, top_k), *_OF_SCORES)
    if num_classes is None:
        return metrics
    return tuple(metric for metric in metrics if num_classes > metric.more_classes_than)


def find_metric(name: str) -> Metric | None:
    """The metric of that name, for top_k_accuracy of any k; None where there is no such."""
    k = re.fullmatch(r"top_([1-9]\d*)_accuracy", name)
    found = all_metrics((int(k[1]),) if k else ())
    return next((metric for metric in found if metric.name == name), None)


def get_metric(name: str) -> Metric:
    """The metric of that name; KeyError where there is no such."""
    found = find_metric(name)
    if found is None:
        raise KeyError(name)
    return found


@dataclass(frozen=True, kw_only=True)
class ValidationMetric:
    """A column of `history.csv`: a metric of an epoch, by which the best one may be chosen.

    of: its name in `test_metrics.json`. title: short, for the table of epochs. shown: stands in
    that table, whatever chooses. standard_error: fills a further column of the name and `_se`.
    """

    name: str
    of: str
    title: str
    shown: bool = False
    standard_error: Callable[[ClassCounts], float] | None = None

    @property
    def metric(self) -> Metric:
        """What it is computed by."""
        return get_metric(self.of)

    @property
    def columns(self) -> tuple[str, ...]:
        """Its columns in `history.csv`."""
        return (self.name, *([f"{self.name}_se"] if self.standard_error else []))


_column = ValidationMetric
# in the order of history.csv
VALIDATION = (
    _column(name="val_loss", of="nll", title="val loss", shown=True),
    _column(name="val_accuracy", of="accuracy", title="acc", shown=True,
            standard_error=lambda c: c.accuracy_error),
    _column(name="val_balanced_accuracy", of="balanced_accuracy", title="bal. acc", shown=True,
            standard_error=lambda c: c.balanced_accuracy_error),
    _column(name="val_precision_macro", of="precision_macro", title="precision"),
    _column(name="val_recall_macro", of="recall_macro", title="recall"),
    _column(name="val_macro_f1", of="f1_macro", title="F1", shown=True),
    _column(name="val_precision_weighted", of="precision_weighted", title="w. prec."),
    _column(name="val_recall_weighted", of="recall_weighted", title="w. recall"),
    _column(name="val_f1_weighted", of="f1_weighted", title="w. F1"),
    _column(name="val_top_3_accuracy", of="top_3_accuracy", title="top 3"),
    _column(name="val_top_5_accuracy", of="top_5_accuracy", title="top 5"),
)  # fmt: skip
# what may choose the best epoch
MONITORS = tuple(column.name for column in VALIDATION)


def lower_is_better(monitor: str) -> bool:
    """Whether a number by which epochs are chosen wants to fall, as all whose name ends in loss."""
    column = next((column for column in VALIDATION if column.name == monitor), None)
    return monitor.endswith("loss") if column is None else not column.metric.higher_is_better
