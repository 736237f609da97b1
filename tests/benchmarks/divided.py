"""What each process holds of a model that several train, with `--shard` and without.

Run by hand: `python tests/benchmarks/divided.py [MODEL PROCESSES]`, by default
`vit_small_patch16_224` in 2. It trains an epoch of the digits on the CPU, each way, and prints of
each process the MiB of weights, gradients and optimizer state between two updates, by their
tensors, and the seconds of an update.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

_MIB = 2**20


def own_mib(tensors: list[torch.Tensor]) -> float:
    """Of what this process has of them; several may lie in one piece of memory."""
    own = [t.to_local() if hasattr(t, "to_local") else t for t in tensors]
    pieces = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in own}
    return sum(pieces.values()) / _MIB


def within(folder: Path, arguments: list[str]) -> int:
    """One of the processes of a training, which writes down what it holds."""
    from imgcls.cli.boundary import run
    from imgcls.engine.training import fit

    found: dict[str, float] = {}
    times_s: list[float] = []
    train_step = fit.train_step

    def step(learner, micro_batches, number):
        start_s = time.monotonic()
        result = train_step(learner, micro_batches, number)
        times_s.append(time.monotonic() - start_s)
        weights = list(learner.model.parameters())
        states = [v for state in learner.optimizer.state.values() for v in state.values()]
        found["weights"] = own_mib(weights)
        found["gradients"] = own_mib([p.grad for p in weights if p.grad is not None])
        found["optimizer"] = own_mib(states)
        return result

    fit.train_step = step
    code = run(arguments)
    found["update_s"] = statistics.median(times_s[1:])
    (folder / f"{os.environ['RANK']}.json").write_text(json.dumps(found))
    return code


def measure(model: str, processes: int, *options: str) -> list[dict[str, float]]:
    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        command = [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", processes),
            *(__file__, "--within", folder, "train", "digits", "--model", model),
            *("--no-pretrained", "--img-size", 64, "--batch-size", 16, "--epochs", 1),
            *("--device", "cpu", "--amp", "off", "--no-channels-last", "--workers", 0),
            *("--no-preflight", "--quiet", "--output", folder / "runs", *options),
        ]
        subprocess.run(
            list(map(str, command)),
            check=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        return [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]


def main(model: str = "vit_small_patch16_224", processes: str = "2") -> None:
    names = ("weights", "gradients", "optimizer", "update_s")
    print(" " * 22, *(f"{name:>11}" for name in names))
    for title, options in (("each has all", ()), ("--shard", ("--shard",))):
        for rank, found in enumerate(measure(model, int(processes), *options)):
            row = (f"{found[name]:11.1f}" for name in names[:-1])
            print(f"{title}, process {rank}".ljust(22), *row, f"{found['update_s']:11.2f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--within"]:
        sys.exit(within(Path(sys.argv[2]), sys.argv[3:]))
    main(*sys.argv[1:])
