"""The records of an evaluation as JSON: the keys of test_metrics.json, in their order."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgcls.results.comparison import (
    ChangedPicture,
    Comparison,
    Difference,
    McNemar,
    RecallChange,
    TrainedOn,
)
from imgcls.results.evaluation import (
    Calibration,
    CalibrationScores,
    ClassScores,
    Confusion,
    CorruptionRow,
    Corruptions,
    CorruptionScores,
    Costs,
    CoveragePoint,
    CrossValidation,
    EnsembleGain,
    MeanCost,
    OperatingPoint,
    Prior,
    Slice,
    ThresholdCheck,
)
from imgcls.results.unknown import Conformal, ConformalClass, Unlike, UnlikeClass

GAIN = {"accuracy": Difference(0.8, 0.7, 0.1, (0.0, 0.2))}
SEEN = TrainedOn(pictures=4, train=1, val=0, not_compared=0, reason=None, excluded=0)
SCORES = CalibrationScores(0.1, 0.2, 0.3, 0.4, 0.5, {"lower": [0.0]})
WORSE = CorruptionScores(0.5, 0.4)
AVERAGED = EnsembleGain((0, 1), "none", 1, (None, 2.0), 4, GAIN)
ON_TEST = EnsembleGain((0, 1), "none", 1, (None, 2.0), 4, GAIN, "test", {}, {})
POINT = OperatingPoint("cat", None, None, None, None, 0.1, 0.2, "no better")
RECALL = RecallChange("cat", 3, 1.0, 0.5, 0.5)
COMPARED = Comparison(Path("runs/r"), "m", GAIN, McNemar(1, 0, 1.0), (RECALL,), (), SEEN)
COVERED, CAUGHT = ConformalClass("cat", 0, None, None, own=False), UnlikeClass("cat", 3, 0.5)
ROW = CorruptionRow("jpeg", (WORSE,), WORSE, WORSE)

KEYS = [
    (
        Calibration(1.5, "val", 7, None, SCORES, SCORES),
        "temperature fitted_on samples reason before after",
    ),
    (SCORES, "nll brier ece ece_equal_mass classwise_ece reliability"),
    (CrossValidation(2, None, {}, {}, {}, ()), "folds splitter mean std interval per_fold"),
    (AVERAGED, "folds tta views temperatures samples gain"),
    (ON_TEST, "folds tta views temperatures samples gain split metrics intervals"),
    (GAIN["accuracy"], "this other difference interval"),
    (
        ClassScores("cat", 2, 1, 1.0, 0.5, 0.67, None, None),
        "class support predicted precision recall f1 roc_auc average_precision",
    ),
    (Confusion("cat", "dog", 1), "true predicted count"),
    (CoveragePoint(0.9, 0.9, 0.5, 9, 1.0), "wanted coverage threshold pictures accuracy"),
    (POINT, "class threshold precision recall f1 held_out_f1 predicted_f1 reason"),
    (MeanCost(1.0, None), "mean interval"),
    (
        Costs(Path("c.csv"), *[MeanCost(1.0, None)] * 3, changed=2),
        "file predicted least_cost saved changed",
    ),
    (Slice("", 3, {}, {}), "value samples metrics intervals"),
    (SEEN, "pictures train val not_compared reason excluded"),
    (COMPARED, "checkpoint model_name metrics mcnemar per_class changed trained_on"),
    (McNemar(1, 0, 1.0), "only_this_right only_other_right p_value"),
    (RECALL, "class support this other difference"),
    (ChangedPicture("p", "a", "a", "b", now_right=True), "path label this other now_right"),
    (Corruptions(WORSE, (ROW,), WORSE, WORSE), "clean by_corruption mean drop"),
    (ROW, "corruption severities mean drop"),
    (WORSE, "accuracy balanced_accuracy"),
    (COVERED, "class pictures coverage mean_size own"),
    (
        Conformal(0.9, 9, 9, 9, 0.9, None, 0.9, 1.2, 0.8, ("cat",), (COVERED,)),
        (
            "wanted fitted_on units pictures coverage interval macro_coverage mean_size single "
            "marginal_only classes"
        ),
    ),
    (CAUGHT, "class pictures caught"),
    (
        Unlike(0.05, 9.5, 20, 19, 19, 9, 0.1, None, 0.5, (CAUGHT,)),
        "rate threshold trained fitted_on units pictures false_alarms interval caught classes",
    ),
    (ThresholdCheck(None, 0.5, passed=False), "value at_least passed"),
    (Prior("none", {"cat": 0.5}), "imbalance shares"),
]


@pytest.mark.parametrize(("record", "keys"), KEYS, ids=lambda value: type(value).__name__)
def test_the_keys_are_those_of_the_file(record, keys):
    """A script that reads test_metrics.json, or --json, finds each under its name."""
    assert list(record.to_json()) == keys.split()


def test_records_inside_records_are_plain_json_too():
    """Paths are strings, tuples lists, a class stands under "class"."""
    found = COMPARED.to_json()
    assert found["checkpoint"] == "runs/r"
    assert found["metrics"]["accuracy"]["interval"] == [0.0, 0.2]
    assert found["per_class"][0]["class"] == "cat"
    assert found["trained_on"]["train"] == 1
