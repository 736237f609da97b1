"""imgcls's losses in training beside a plain timm loop's: `python tests/benchmarks/curves.py`.

    python tests/benchmarks/curves.py [MODEL:AMP ...]

Both train on scikit-learn's digits as JPEGs of 224 pixels, from fresh weights at the same constant
rate, with several seeds each, which draw weights, order and crops; imgcls in the precision named
(of which `--amp auto` takes the faster), timm in float32. Printed is the mean loss of each block of
updates over the seeds, and how far the two means lie apart in standard errors of the difference.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

SIDES = Path(__file__).with_name("sides.py")
SEEDS = range(4)
BLOCK = 5
CASES = ("resnet18:bf16", "tf_efficientnet_lite0:off", "mobilenetv3_small_100:off")


def make_digits(folder: Path) -> str:
    digits = load_digits()
    for index, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        place = folder / str(label)
        place.mkdir(parents=True, exist_ok=True)
        grey = Image.fromarray((image * 255 / 16).astype(np.uint8))
        large = grey.resize((224, 224), Image.Resampling.BICUBIC).convert("RGB")
        large.save(place / f"{index:04d}.jpg", quality=90)
    return str(folder)


def losses(who: str, folder: str, model: str, amp: str, seed: int) -> np.ndarray:
    """Mean loss of each block of updates: float64 [blocks]."""
    done = subprocess.run(
        [sys.executable, str(SIDES), "curve", who, folder, model, amp, "cpu", str(seed)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return np.array(json.loads(done.stdout)["losses"]).reshape(-1, BLOCK).mean(axis=1)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        make_digits(Path(folder))
        for case in sys.argv[1:] or CASES:
            model, _, amp = case.partition(":")
            curves = {
                who: np.array([losses(who, folder, model, used, seed) for seed in SEEDS])
                for who, used in (("imgcls", amp), ("timm", "off"))
            }
            means = {who: runs.mean(axis=0) for who, runs in curves.items()}
            errors = np.sqrt(sum(runs.var(axis=0, ddof=1) / len(runs) for runs in curves.values()))
            apart = (means["imgcls"] - means["timm"]) / errors
            print(f"{model}, {len(SEEDS)} seeds, mean loss of {BLOCK} updates each")
            for who, mean in means.items():
                name = f"{who}, {amp if who == 'imgcls' else 'float32'}"
                print(f"  {name:<18}{''.join(f'{value:8.3f}' for value in mean)}")
            print(f"  {'standard errors':<18}{''.join(f'{value:+8.1f}' for value in apart)}")


if __name__ == "__main__":
    main()
