"""`imgcls benchmark` beside a tight loop written by hand: they must tell the same speed.

Run by hand: `python tests/benchmarks/tight_loop.py [ROUNDS] [cpu]`. For each model the two sides
take turns, with the same number of batches; the ratio is the median of the rounds'. With `cpu` both
go by the processor's clock, for a machine with other work; set OMP_NUM_THREADS=1 then.
"""

from __future__ import annotations

import statistics
import sys
import time

import timm
import torch

import imgcls

MODELS = ("resnet18", "mobilenetv3_small_100", "vit_tiny_patch16_224")
BATCHES, WARMUP = 60, 30


def by_hand(name: str) -> float:
    """Images a second of batches of one."""
    model = timm.create_model(name).eval()
    images = torch.randn(1, *model.pretrained_cfg["input_size"])
    with torch.inference_mode():
        for _ in range(WARMUP):
            model(images)
        start_s = time.perf_counter()
        for _ in range(BATCHES):
            model(images)
        return BATCHES / (time.perf_counter() - start_s)


def by_imgcls(name: str) -> float:
    config = imgcls.BenchmarkConfig(
        models=(name,), num_samples=BATCHES, device="cpu", channels_last=False
    )
    return imgcls.benchmark(config).results[0].images_per_sec


def main() -> None:
    words = sys.argv[1:]
    if "cpu" in words:
        time.perf_counter = time.process_time
        words.remove("cpu")
    rounds = int(words[0]) if words else 5
    print(f"{'model':<24} {'by hand':>10} {'imgcls':>10} {'ratio':>7}   each round's ratio")
    for name in MODELS:
        pairs = []
        for turn in range(rounds):
            # neither side is always the one that finds the machine warm
            sides = (by_hand, by_imgcls) if turn % 2 else (by_imgcls, by_hand)
            speeds = {side: side(name) for side in sides}
            pairs.append((speeds[by_hand], speeds[by_imgcls]))
        hand, ours = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratios = [b / a for a, b in pairs]
        ratio, each = statistics.median(ratios), " ".join(f"{r:.2f}" for r in ratios)
        print(f"{name:<24} {hand:>8.1f}/s {ours:>8.1f}/s {ratio:>7.3f}   {each}", flush=True)


if __name__ == "__main__":
    main()
