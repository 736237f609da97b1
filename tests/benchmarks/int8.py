"""What `imgcls export --format int8-onnx` costs and brings, on test pictures it has not seen.

    npm pack emoji-datasource-twitter emoji-datasource-google   # unpack into EMOJI/{twitter,google}
    python tests/benchmarks/int8.py WORK --weights tf_efficientnet_lite0.safetensors --emoji EMOJI

tf_efficientnet_lite0 is trained by `imgcls train` from ImageNet's weights on emoji at 224 pixels,
and exported in float32 and in int8, calibrated on train pictures. ONNX Runtime, on one thread, then
scores all test pictures with both, two drawings of an emoji being one group in the interval. The
two run in turn; a time is the median of the rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import onnxruntime
from picture_sets import emoji, write_table
from PIL import Image
from trained import imgcls, rows_of, train

from imgcls.metrics.comparison import paired_accuracy
from imgcls.metrics.predictions import Predictions
from imgcls.metrics.resampling import Resampler

SIZE = 224
SHARES = (0.5, 0.2)
OPTIONS = ("--model", "tf_efficientnet_lite0", "--img-size", str(SIZE), "--epochs", "8")
FORMATS = ("onnx", "int8-onnx")
WARMUP = 3


def session(file: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def scored(one: onnxruntime.InferenceSession, files: list[Path]) -> np.ndarray:
    """The probabilities of pictures, float32 [N, C]."""
    pictures = (np.asarray(Image.open(file).convert("RGB"))[None] for file in files)
    return np.concatenate([one.run(None, {"image": picture})[0] for picture in pictures])


def accuracy(folder: Path, table: Path) -> None:
    rows = rows_of(table)
    test = rows["split"] == "test"
    names = json.loads((folder / "onnx" / "export.json").read_text(encoding="utf-8"))["labels"]
    labels = np.array([names.index(label) for label in rows["label"][test]])
    keys = tuple(rows["path"][test])
    files = [table.parent / key for key in keys]
    plain, int8 = (
        Predictions(keys, np.log(np.maximum(scored(session(path), files), 1e-38)), labels)
        for path in (folder / name / "model.onnx" for name in FORMATS)
    )
    groups = rows["group"][test]
    found = paired_accuracy(
        int8.outcomes, plain.outcomes, Resampler(labels, 1000, 0, groups.tolist())
    )
    low, high = (-100 * end for end in reversed(found.interval))
    print(
        f"{len(keys)} test pictures of {len(names)} classes, {len(set(groups))} groups: accuracy "
        f"{found.other:.2%} in float32, {found.this:.2%} in int8, a drop of "
        f"{-100 * found.difference:.2f} points (95% interval {low:.2f} to {high:.2f}); top-1 the "
        f"same for {(plain.predicted == int8.predicted).mean():.1%}"
    )


def speed(folder: Path, profile: str, given: np.ndarray, rounds: int) -> None:
    suffix = "" if profile == "picture" else f"-{profile}"
    sessions = [session(folder / f"{name}{suffix}" / "model.onnx") for name in FORMATS]
    name = sessions[0].get_inputs()[0].name
    times: list[list[tuple[float, float]]] = [[], []]
    for turn in range(rounds + WARMUP):
        for which in (0, 1) if turn % 2 else (1, 0):
            start_s, start_cpu_s = time.perf_counter(), time.process_time()
            sessions[which].run(None, {name: given})
            taken = time.perf_counter() - start_s, time.process_time() - start_cpu_s
            if turn >= WARMUP:
                times[which].append(taken)
    told = []
    for part, by in ((0, "the wall"), (1, "the CPU")):
        plain, int8 = (1000 * statistics.median(t[part] for t in side) for side in times)
        told.append(f"{plain / int8:.2f}x by {by} ({plain:.1f} to {int8:.1f} ms)")
    print(f"{profile} {list(given.shape)}: {', '.join(told)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, help="where the set, the run and the exports are kept")
    parser.add_argument("--weights", type=Path, required=True, help="ImageNet's, safetensors")
    parser.add_argument("--emoji", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=51)
    chosen = parser.parse_args()
    table = write_table(emoji(chosen.emoji), SHARES, chosen.work / "emoji")
    fold = train(table, f"lite0-{SIZE}", (*OPTIONS, "--weights", chosen.weights))
    folder = fold / "exports"
    for profile in ("picture", "tensor"):
        imgcls("export", fold, "--format", ",".join(FORMATS), "--profile", profile, "--force")
    files = [folder / name / "model.onnx" for name in FORMATS]
    sizes = [file.stat().st_size / 2**20 for file in files]
    print(f"{sizes[0]:.1f} MiB in float32, {sizes[1]:.1f} MiB in int8")
    accuracy(folder, table)
    rng = np.random.default_rng(0)
    tensor = rng.standard_normal((8, 3, SIZE, SIZE)).astype(np.float32)
    for sides in ((64, 64), (375, 500)):
        picture = rng.integers(0, 256, (1, *sides, 3), np.uint8)
        speed(folder, "picture", picture, chosen.rounds)
    for batch in (tensor[:1], tensor):
        speed(folder, "tensor", batch, chosen.rounds)


if __name__ == "__main__":
    main()
