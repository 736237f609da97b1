"""The public surface is what was promised."""

from __future__ import annotations

import imgcls

PROMISED = {
    "create_model", "get_available_models", "load_checkpoint", "save_checkpoint", "evaluate_model",
    "benchmark_inference_speed", "compute_roc_auc", "compute_pr_curves", "MetricsCalculator",
    "MetricTracker", "AverageMeter", "get_device", "set_seed", "Trainer",
}  # fmt: skip


def test_every_promised_name_can_be_imported():
    """The names of the system this one succeeds, and each public name exists."""
    assert set(imgcls.__all__) >= PROMISED
    for name in imgcls.__all__:
        assert getattr(imgcls, name).__doc__, name
    assert {"train_fold", "validate_epoch"} <= set(dir(imgcls.Trainer))


def test_an_unknown_name_is_an_attribute_error():
    """As of any module."""
    assert not hasattr(imgcls, "nonsense")
