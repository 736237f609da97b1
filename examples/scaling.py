"""What limits a training on 1, 8, 64 and 512 GPUs, by formulas: the tables of scaling.md.

    python examples/scaling.py [inputs|decoding|network|step|evaluation|checkpoints|start ...]

What one machine can measure comes from scaling.json, which `tests/benchmarks/scaling.py --save`
writes. What it cannot (GPUs, their links, clusters) is assumed below, from public sources; nothing
here was measured on a GPU.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MEASURED: dict[str, Any] = json.loads(Path(__file__).with_name("scaling.json").read_text("utf-8"))

# ImageNet-21k as of fall 2011: image-net.org; 1.3 TB: Alibaba-MIIL/ImageNet21K, issue 16
PICTURES, CLASSES, DATA_BYTES = 14_197_122, 21_841, 1.3e12
# timm/imagenet-22k-wds on Hugging Face: its validation split of the same pictures
VAL_PICTURES = 472_840
GPUS = (1, 8, 64, 512)
GPUS_PER_NODE = 8
CORES_PER_GPU = 16  # DGX A100: 128 cores, 8 GPUs
GLOBAL_BATCHES = (4_096, 32_768)

# training pictures a second at 224 pixels, mixed precision, 1,000 classes: RTX 3090, timm's
# results/benchmark-train-amp-nhwc-pt112-cu113-rtx3090.csv
RTX_3090 = {
    "mobilenetv3_small_100": 8035.08,
    "resnet50": 1218.01,
    "vit_base_patch16_224": 392.99,
    "vit_large_patch16_224": 117.2,
}
# resnet50 on one A100 (NVIDIA DeepLearningExamples, ResNet50 v1.5); the others in proportion
A100_OVER_3090 = 2470 / RTX_3090["resnet50"]

BUCKET_BYTES = 25 * 2**20  # of torch's DistributedDataParallel
BACKWARD_SHARE = 2 / 3  # of a step, when the backward pass costs two forward ones
HOP_S = 5e-6  # nccl-tests: 630 us for 64 GPUs, 319 for 32, 163 for 16: 2 (N - 1) hops of 5 us


@dataclass(frozen=True)
class Network:
    """bandwidth: nccl-tests' bus bandwidth, bytes a second of one ring through all GPUs."""

    name: str
    bandwidth: float


NVLINK = Network("NVLink in a node", 200e9)  # NVIDIA/nccl-tests issue 149: 8 A100
NETWORKS = (
    Network("8 x 400 Gb/s a node", 180e9),  # NVIDIA/nccl issue 1031: 4 nodes of 8 H100
    Network("100 Gb/s a node", 12.5e9),  # line rate, which is not reached
    Network("10 Gb/s a node", 1.25e9),  # line rate
)


def gpu_rate(model: str) -> float:
    """Pictures a second of one GPU when nothing else limits it."""
    return RTX_3090[model] * A100_OVER_3090


def gradient_bytes(model: str, *, bf16: bool = False) -> int:
    """Bytes that each step sums over all GPUs."""
    return int(MEASURED["step"]["parameters"][model]) * (2 if bf16 else 4)


def all_reduce_s(gpus: int, size: float, network: Network) -> float:
    """Seconds to sum so many bytes over all GPUs, bucket by bucket, in a ring or a tree.

    Ring (Patarasuk & Yuan 2009): 2 (N - 1) / N of the bytes over the bandwidth, and 2 (N - 1) hops
    a bucket. Tree (Sanders et al. 2009, NCCL's): as many bytes, 2 log2 N hops. The faster counts.
    """
    if gpus == 1:
        return 0.0
    buckets = math.ceil(size / BUCKET_BYTES)
    hops = min(2 * (gpus - 1), 2 * math.ceil(math.log2(gpus)))
    return 2 * (gpus - 1) / gpus * size / network.bandwidth + buckets * hops * HOP_S


@dataclass(frozen=True)
class Step:
    """Seconds of one step by what they go to.

    compute_s: forward, backward and update. exposed_s: of the all-reduce what the backward pass
    does not cover: at least the last bucket, whose gradients come last. load_s: until the host has
    the next batch, beside all that.
    """

    compute_s: float
    reduce_s: float
    exposed_s: float
    load_s: float

    @property
    def total_s(self) -> float:
        """The slower of loading and training."""
        return max(self.compute_s + self.exposed_s, self.load_s)

    @property
    def limit(self) -> str:
        """What takes the most."""
        if self.load_s >= self.compute_s + self.exposed_s:
            return "decoding"
        return "network" if self.exposed_s > self.compute_s else "GPU"


def step_of(
    model: str, gpus: int, batch: int, network: Network, *, bf16: bool = False, cores: int
) -> Step:
    """A step of so many pictures over all GPUs; cores: of the host for each GPU."""
    pictures = batch / gpus
    compute_s = pictures / gpu_rate(model)
    size = gradient_bytes(model, bf16=bf16)
    reduce_s = all_reduce_s(gpus, size, network)
    last_s = all_reduce_s(gpus, min(size, BUCKET_BYTES), network)
    exposed_s = max(last_s, reduce_s - BACKWARD_SHARE * compute_s)
    load_s = pictures / (cores * MEASURED["loading"]["train_batches_per_core"])
    return Step(compute_s, reduce_s, exposed_s, load_s)


def network_of(gpus: int, between: Network) -> Network:
    """NVLink for the GPUs of one node, else what is between nodes."""
    return NVLINK if gpus <= GPUS_PER_NODE else between


def epoch_s(step: Step, batch: int) -> float:
    """Seconds of an epoch of all pictures."""
    return math.ceil(PICTURES / batch) * step.total_s


def inputs() -> None:
    """What was measured."""
    loading, step, reduced = (MEASURED[part] for part in ("loading", "step", "all_reduce"))
    saved, merged, table = (MEASURED[part] for part in ("checkpoint", "merge", "table"))
    mb = 1e6
    rows: list[tuple[str, float, str]] = [
        ("JPEG, mean size", loading["mean_bytes"] / 1e3, "kB"),
        ("decoded whole", loading["decode_whole_per_core"], "pictures/s a core"),
        ("evaluation batches, normalised", loading["eval_batches_per_core"], "pictures/s a core"),
        ("training batches, normalised", loading["train_batches_per_core"], "pictures/s a core"),
        *(
            (f"updates of {model}", rate, "pictures/s a core")
            for model, rate in step["pictures_per_core_s"].items()
        ),
        ("gloo, loopback, latency", reduced["latency_s"] * 1e6, "us"),
        ("gloo, loopback, bandwidth", reduced["bandwidth_bytes_per_s"] / mb, "MB/s"),
        ("gloo, 105 MB as float32", reduced["seconds"]["104857600"] * 1e3, "ms"),
        ("gloo, the same as bf16", reduced["bf16_all_reduce_s"] * 1e3, "ms"),
        ("  casting there and back", reduced["bf16_cast_s"] * 1e3, "ms"),
        ("checkpoint, copied", saved["copy_bytes_per_s"] / mb, "MB/s"),
        ("checkpoint, written with hashes", saved["write_bytes_per_s"] / mb, "MB/s"),
        ("  hashes alone", saved["hash_bytes_per_core_s"] / mb, "MB/s a core"),
        ("checkpoint, verified", saved["verify_bytes_per_s"] / mb, "MB/s"),
        ("scores gathered, gloo, loopback", merged["gather"] / mb, "MB/s"),
        ("scores put in order", merged["order"] / mb, "MB/s"),
        ("scores written", merged["write"] / mb, "MB/s"),
        ("table opened", table["open_rows_per_s"], "rows/s"),
        ("table, memory", table["bytes_per_row"], "bytes a row"),
        ("table, sent to another process", table["pickle_bytes_per_row"], "bytes a row"),
        ("order of an epoch, 14.2 M", table["shuffle_s"], "s"),
    ]
    for name, value, unit in rows:
        print(f"{name:<38}{value:>12,.1f} {unit}")


def decoding() -> None:
    """Cores and bytes that a GPU's host must give."""
    per_core = MEASURED["loading"]["train_batches_per_core"]
    print(f"{'':<24}{'a GPU':>12}{'cores':>7}{'8 GPUs':>8}{'read, a GPU':>13}{'512 GPUs':>12}")
    for model in RTX_3090:
        rate = gpu_rate(model)
        read = rate * DATA_BYTES / PICTURES
        print(
            f"{model:<24}{rate:>8,.0f} /s{rate / per_core:>8.1f}{8 * rate / per_core:>8.0f}"
            f"{read / 1e6:>8,.0f} MB/s{512 * read / 1e9:>7,.0f} GB/s"
        )


def network() -> None:
    """The all-reduce of one step in milliseconds, float32 and bf16, beside the backward pass."""
    print(f"{'':<24}{'gradient':>10} {'':<26}" + "".join(f"{n:>16}" for n in GPUS[1:]))
    for model in RTX_3090:
        for between in NETWORKS:
            cells = []
            for n in GPUS[1:]:
                both = (gradient_bytes(model), gradient_bytes(model, bf16=True))
                times = [1e3 * all_reduce_s(n, size, network_of(n, between)) for size in both]
                cells.append("/".join(f"{time_ms:.1f}" for time_ms in times))
            size = f"{gradient_bytes(model) / 1e6:,.0f} MB"
            print(f"{model:<24}{size:>10} {between.name:<26}" + "".join(f"{c:>16}" for c in cells))
    print("backward pass of one GPU's share of 4,096 and of 32,768 pictures, ms")
    for model in RTX_3090:
        cells = [
            "/".join(
                f"{1e3 * BACKWARD_SHARE * batch / n / gpu_rate(model):.1f}"
                for batch in GLOBAL_BATCHES
            )
            for n in GPUS[1:]
        ]
        print(f"{model:<61}" + "".join(f"{c:>16}" for c in cells))


def step() -> None:
    """Speed-up over one GPU that lacks nothing, and what takes the most of a step."""
    print(f"{CORES_PER_GPU} cores a GPU, bf16 gradients; speed-up over one GPU with enough cores")
    for batch in GLOBAL_BATCHES:
        print(f"batch {batch:,}{'':<42}" + "".join(f"{n:>16}" for n in GPUS))
        for model in RTX_3090:
            for between in NETWORKS:
                cells = []
                for n in GPUS:
                    one = step_of(
                        model, n, batch, network_of(n, between), bf16=True, cores=CORES_PER_GPU
                    )
                    ideal_s = batch / gpu_rate(model)
                    cells.append(f"{ideal_s / one.total_s:.1f} {one.limit}")
                print(f"{model:<24}{between.name:<26}" + "".join(f"{c:>16}" for c in cells))


def evaluation() -> None:
    """What process 0 does alone, whatever the number of GPUs, beside an epoch of all of them."""
    merged = MEASURED["merge"]
    # examples/evaluation.md: 540.6 s of one core for 500,000 x 20,000
    metrics_s_per_score = 540.6 / (500_000 * 20_000)
    batch = GLOBAL_BATCHES[1]
    alone_s = epoch_s(step_of("resnet50", 1, batch, NVLINK, bf16=True, cores=CORES_PER_GPU), batch)
    print(
        f"{'pictures':>10}{'scores':>10}{'gathered':>11}{'written':>10}{'metrics':>10}"
        f"{'as an epoch of resnet50 on':>38}"
    )
    for pictures in (50_000, VAL_PICTURES, round(0.15 * PICTURES)):
        scores = pictures * CLASSES
        size = 4 * scores
        gather_s, write_s = size / merged["gather"], size / merged["write"]
        metrics_s = scores * metrics_s_per_score
        print(
            f"{pictures:>10,}{size / 1e9:>7,.0f} GB{gather_s:>9,.0f} s{write_s:>8,.0f} s"
            f"{metrics_s:>8,.0f} s{alone_s / gather_s:>10,.0f} GPUs to gather,"
            f"{alone_s / (gather_s + write_s + metrics_s):>6,.0f} for all"
        )
    print(f"an epoch of resnet50: {alone_s:,.0f} s on one GPU, {alone_s / 512:,.0f} s on 512")


def checkpoints() -> None:
    """Sizes with AdamW's two moments, and seconds at what was measured here."""
    saved = MEASURED["checkpoint"]
    print(f"{'':<24}{'bytes':>9}{'copied':>10}{'written':>10}{'verified':>10}{'at 2 GB/s':>11}")
    for model in RTX_3090:
        size = 3 * gradient_bytes(model)
        print(
            f"{model:<24}{size / 1e9:>6.2f} GB{size / saved['copy_bytes_per_s']:>8.1f} s"
            f"{size / saved['write_bytes_per_s']:>8.1f} s"
            f"{size / saved['verify_bytes_per_s']:>8.1f} s{size / 2e9:>9.1f} s"
        )


def start() -> None:
    """Opening a table of all pictures."""
    table = MEASURED["table"]
    opened_s = PICTURES / table["open_rows_per_s"]
    memory, sent = (PICTURES * table[name] for name in ("bytes_per_row", "pickle_bytes_per_row"))
    pickled_s = PICTURES / table["pickle_rows_per_s"]
    print(f"opened by one process: {opened_s:,.0f} s, {memory / 1e9:.1f} GB")
    print(f"by each of 8 on a node: {8 * memory / 1e9:.0f} GB, and {PICTURES:,} files looked for")
    print(f"sent to another: {sent / 1e9:.2f} GB, {pickled_s:.0f} s to pack")
    print(f"order of an epoch: {table['shuffle_s']:.1f} s in each process")


TABLES = {
    part.__name__: part
    for part in (inputs, decoding, network, step, evaluation, checkpoints, start)
}

if __name__ == "__main__":
    for part in sys.argv[1:] or TABLES:
        TABLES[part]()
