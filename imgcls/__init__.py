"""Turn a folder of labelled pictures into an image classifier you can trust.

Names load on first use: `import imgcls` itself loads no torch. Their types are in __init__.pyi.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "AverageMeter": "imgcls.engine.training.selection.trackers",
    "BenchmarkConfig": "imgcls.config.benchmark",
    "EvaluateConfig": "imgcls.config.evaluate",
    "ExportConfig": "imgcls.config.export",
    "ImageClassifier": "imgcls.api.classifier",
    "ImportConfig": "imgcls.config.import_",
    "InspectConfig": "imgcls.config.inspect",
    "ListModelsConfig": "imgcls.config.list_models",
    "MetricTracker": "imgcls.engine.training.selection.trackers",
    "MetricsCalculator": "imgcls.metrics.calculator",
    "Model": "imgcls.api.model",
    "ModelConfig": "imgcls.config.model",
    "PredictConfig": "imgcls.config.predict",
    "Prediction": "imgcls.api.prediction",
    "ReportConfig": "imgcls.config.report",
    "ResumeConfig": "imgcls.config.run",
    "TrainConfig": "imgcls.config.run",
    "Trainer": "imgcls.jobs.train.trainer",
    "TuneConfig": "imgcls.config.tune",
    "benchmark": "imgcls.api.calls",
    "benchmark_inference_speed": "imgcls.jobs.benchmark.inference_speed",
    "compute_pr_curves": "imgcls.metrics.curves",
    "compute_roc_auc": "imgcls.metrics.curves",
    "create_model": "imgcls.models.build",
    "evaluate": "imgcls.api.calls",
    "evaluate_model": "imgcls.engine.scoring.evaluation",
    "export": "imgcls.api.calls",
    "get_available_models": "imgcls.models.catalog.read",
    "get_device": "imgcls.engine.device.runtime",
    "import_checkpoint": "imgcls.api.calls",
    "inspect": "imgcls.api.calls",
    "list_models": "imgcls.api.calls",
    "list_runs": "imgcls.api.calls",
    "load": "imgcls.api.model",
    "load_checkpoint": "imgcls.jobs.loaded_checkpoint",
    "model_card": "imgcls.models.card",
    "predict": "imgcls.api.calls",
    "report": "imgcls.api.calls",
    "resume": "imgcls.api.calls",
    "save_checkpoint": "imgcls.jobs.saved_checkpoint",
    "set_seed": "imgcls.engine.device.runtime",
    "take_snapshot": "imgcls.engine.checkpoint.folder",
    "train": "imgcls.api.calls",
    "tune": "imgcls.api.calls",
}

__all__ = [*_HOMES]  # noqa: PLE0604  they are texts


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'imgcls' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
