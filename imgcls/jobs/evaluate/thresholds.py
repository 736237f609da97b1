"""`--fail-under`: marks that a metric must reach, for use in CI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imgcls.errors import ConfigError, GateError
from imgcls.results.evaluation import EvalReport

_HIGHER_IS_BETTER = (
    "accuracy",
    "balanced_accuracy",
    *(f"{name}_{kind}" for name in ("precision", "recall", "f1") for kind in ("macro", "weighted")),
    *(f"{name}_{kind}" for name in ("roc_auc", "average_precision") for kind in ("macro", "micro")),
    "cohen_kappa",
    "mcc",
)


def require_gates(gates: Mapping[str, float], top_k: Sequence[int]) -> None:
    """Raise ConfigError for a metric that is not computed, or that is better when it is lower."""
    known = (*_HIGHER_IS_BETTER, *(f"top_{k}_accuracy" for k in top_k))
    for name in gates:
        if name not in known:
            raise ConfigError(f"--fail-under {name}: choose from {', '.join(known)}")


def passed_gates(metrics: Mapping[str, Any], gates: Mapping[str, float]) -> dict[str, Any]:
    """By metric: value, at_least, and whether it passed; an undefined metric does not pass."""
    return {
        name: {
            "value": metrics[name],
            "at_least": mark,
            "passed": metrics[name] is not None and metrics[name] >= mark,
        }
        for name, mark in gates.items()
    }


def check_gates(report: EvalReport) -> None:
    """Raise GateError, which exits with 1, when a metric is below its mark."""
    failed = [
        f"{name} is {'undefined' if gate['value'] is None else format(gate['value'], '.4f')}, "
        f"below {gate['at_least']:g}"
        for name, gate in report.gates.items()
        if not gate["passed"]
    ]
    if failed:
        raise GateError(f"--fail-under: {'; '.join(failed)}")
