"""What other trainers, and this one's predecessor, call the options."""

from __future__ import annotations

# their name -> the option's, in hyphen-case
OTHER_NAMES = {
    **dict.fromkeys(("model-name", "arch", "architecture", "backbone", "encoder"), "model"),
    **dict.fromkeys(("image-size", "input-size", "img", "size", "resolution"), "img-size"),
    **dict.fromkeys(("num-inference-samples", "n-samples"), "num-samples"),
    **dict.fromkeys(("data-dir", "data-path", "data-root", "dataset", "train-dir"), "data"),
    **dict.fromkeys(("learning-rate", "lr0", "base-lr"), "lr"),
    **dict.fromkeys(
        ("num-epochs", "n-epochs", "max-epochs", "num-train-epochs", "epoch"), "epochs"
    ),
    **dict.fromkeys(("num-workers", "n-workers"), "workers"),
    **dict.fromkeys(("num-folds", "n-folds", "k-folds", "n-splits"), "folds"),
    **dict.fromkeys(("output-dir", "out-dir", "save-dir", "logdir", "log-dir"), "output"),
    **dict.fromkeys(("checkpoint-path", "ckpt", "ckpt-path", "resume", "weights"), "checkpoint"),
    **dict.fromkeys(("experiment-name", "run-name"), "experiment"),
    **dict.fromkeys(("random-seed", "random-state"), "seed"),
    **dict.fromkeys(("gpu", "gpus", "num-gpus", "n-gpus", "accelerator", "cuda"), "device"),
    **dict.fromkeys(("mixed-precision", "fp16", "bf16", "half", "amp-dtype"), "amp"),
    **dict.fromkeys(("batchsize", "bs", "per-device-train-batch-size"), "batch-size"),
    **dict.fromkeys(("wd", "l2"), "weight-decay"),
    **dict.fromkeys(("loss", "class-weights", "class-weight", "focal-loss"), "imbalance"),
    **dict.fromkeys(("early-stopping", "early-stopping-patience"), "patience"),
    **dict.fromkeys(("scheduler", "lr-scheduler", "lr-scheduler-type", "cos-lr"), "sched"),
    **dict.fromkeys(("metric", "monitor", "metric-for-best-model"), "eval-metric"),
    **dict.fromkeys(("val-split", "val-pct", "valid-pct", "validation-split"), "val-size"),
    **dict.fromkeys(("test-split", "test-pct"), "test-size"),
    **dict.fromkeys(("initial-checkpoint", "weights-path", "pretrained-path"), "weights"),
    **dict.fromkeys(("time-limit", "max-time"), "max-minutes"),
    **dict.fromkeys(("torchcompile", "torch-compile"), "compile"),
}
