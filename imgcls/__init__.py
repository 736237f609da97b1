"""Turn a folder of labelled pictures into an image classifier you can trust.

Names load on first use: `import imgcls` itself loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imgcls.config.benchmark import BenchmarkConfig
    from imgcls.config.evaluate import EvaluateConfig
    from imgcls.config.model import ModelConfig
    from imgcls.config.run import ResumeConfig, TrainConfig
    from imgcls.engine.checkpoint.folder import take_snapshot
    from imgcls.engine.device.runtime import get_device, set_seed
    from imgcls.engine.scoring.evaluation import evaluate_model
    from imgcls.engine.training.trackers import AverageMeter, MetricTracker
    from imgcls.jobs.benchmark.inference_speed import benchmark_inference_speed
    from imgcls.jobs.benchmark.run import benchmark
    from imgcls.jobs.evaluate.evaluate import evaluate
    from imgcls.jobs.loaded_checkpoint import load_checkpoint
    from imgcls.jobs.saved_checkpoint import save_checkpoint
    from imgcls.jobs.train.resume import resume
    from imgcls.jobs.train.train import train
    from imgcls.jobs.train.trainer import Trainer
    from imgcls.metrics.calculator import MetricsCalculator
    from imgcls.metrics.curves import compute_pr_curves, compute_roc_auc
    from imgcls.models.build import create_model
    from imgcls.models.card import model_card
    from imgcls.models.catalog.read import get_available_models

_HOMES = {
    "AverageMeter": "imgcls.engine.training.trackers",
    "BenchmarkConfig": "imgcls.config.benchmark",
    "EvaluateConfig": "imgcls.config.evaluate",
    "MetricTracker": "imgcls.engine.training.trackers",
    "MetricsCalculator": "imgcls.metrics.calculator",
    "ModelConfig": "imgcls.config.model",
    "ResumeConfig": "imgcls.config.run",
    "TrainConfig": "imgcls.config.run",
    "Trainer": "imgcls.jobs.train.trainer",
    "benchmark": "imgcls.jobs.benchmark.run",
    "benchmark_inference_speed": "imgcls.jobs.benchmark.inference_speed",
    "compute_pr_curves": "imgcls.metrics.curves",
    "compute_roc_auc": "imgcls.metrics.curves",
    "create_model": "imgcls.models.build",
    "evaluate": "imgcls.jobs.evaluate.evaluate",
    "evaluate_model": "imgcls.engine.scoring.evaluation",
    "get_available_models": "imgcls.models.catalog.read",
    "get_device": "imgcls.engine.device.runtime",
    "load_checkpoint": "imgcls.jobs.loaded_checkpoint",
    "model_card": "imgcls.models.card",
    "resume": "imgcls.jobs.train.resume",
    "save_checkpoint": "imgcls.jobs.saved_checkpoint",
    "set_seed": "imgcls.engine.device.runtime",
    "take_snapshot": "imgcls.engine.checkpoint.folder",
    "train": "imgcls.jobs.train.train",
}

__all__ = [
    "AverageMeter",
    "BenchmarkConfig",
    "EvaluateConfig",
    "MetricTracker",
    "MetricsCalculator",
    "ModelConfig",
    "ResumeConfig",
    "TrainConfig",
    "Trainer",
    "benchmark",
    "benchmark_inference_speed",
    "compute_pr_curves",
    "compute_roc_auc",
    "create_model",
    "evaluate",
    "evaluate_model",
    "get_available_models",
    "get_device",
    "load_checkpoint",
    "model_card",
    "resume",
    "save_checkpoint",
    "set_seed",
    "take_snapshot",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'imgcls' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
