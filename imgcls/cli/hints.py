"""What to type instead of an option that a command does not have."""

from __future__ import annotations

from typing import Any

# as other trainers call it, and this one's predecessor -> as it is called here
_HERE = {
    **dict.fromkeys(("model-name", "arch", "architecture", "backbone"), "model"),
    **dict.fromkeys(("image-size", "input-size", "img", "size", "resolution"), "img-size"),
    **dict.fromkeys(("num-inference-samples", "n-samples"), "num-samples"),
    **dict.fromkeys(("data-dir", "data-path", "data-root", "dataset", "train-dir"), "data"),
    **dict.fromkeys(("learning-rate", "lr0"), "lr"),
    **dict.fromkeys(("num-epochs", "n-epochs", "max-epochs"), "epochs"),
    **dict.fromkeys(("num-workers", "n-workers"), "workers"),
    **dict.fromkeys(("num-folds", "n-folds", "k-folds", "n-splits"), "folds"),
    **dict.fromkeys(("output-dir", "out-dir", "save-dir"), "output"),
    **dict.fromkeys(("checkpoint-path", "ckpt", "ckpt-path", "resume"), "checkpoint"),
    **dict.fromkeys(("experiment-name", "run-name"), "experiment"),
    **dict.fromkeys(("random-seed", "random-state"), "seed"),
    "gpu": "device",
    "mixed-precision": "amp",
    "batchsize": "batch-size",
}


def instead_of(option: str, command: Any) -> str | None:
    """What to type for an option that the command lacks, or None where nobody knows.

    option: as it was typed, such as `--model_name`. command: with its params.
    """
    name = option.lstrip("-").partition("=")[0].replace("_", "-").lower()
    wanted = _HERE.get(name, name)
    for parameter in command.params:
        if f"--{wanted}" in parameter.opts:
            return f"did you mean --{wanted}?"
        named = parameter.param_type_name == "argument" and _metavar(parameter)
        if named in (wanted, f"{wanted}s"):
            return f"give it without an option: {command.name} {_metavar(parameter).upper()}"
    return None


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name).lower().strip("[].")
