"""How many planted duplicates `imgcls inspect` finds, and what it takes for one wrongly.

Run by hand: `python tests/benchmarks/near_duplicates.py`. Pictures go to train/, changed copies of
all of them to test/: byte for byte, re-encoded as JPEG of quality 60, at half the size, and both.
Found: copies whose pair was reported. False alarms: pictures reported with one that is no copy of
it. With imagehash installed, its phash (64 bits) is measured on the same files, at the largest
distance that keeps its false alarms within 1% of all pictures, and by comparing all pairs.
"""

from __future__ import annotations

import importlib.util
import io
import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits, load_sample_images

from imgcls.config.inspect import InspectConfig
from imgcls.jobs.inspect import inspect

SEED = 0


def photo_tiles(side: int) -> Iterator[Image.Image]:
    for photo in load_sample_images().images:
        for top in range(0, photo.shape[0] - side + 1, side):
            for left in range(0, photo.shape[1] - side + 1, side):
                yield Image.fromarray(photo[top : top + side, left : left + side])


def digits(side: int) -> Iterator[Image.Image]:
    for pixels in load_digits().images:
        image = Image.fromarray(np.round(pixels * (255 / 16)).astype(np.uint8))
        yield image.resize((side, side), Image.Resampling.BICUBIC)


def clouds(count: int, side: int) -> Iterator[Image.Image]:
    """Noise with the spectrum of photographs."""
    rng = np.random.default_rng(SEED)
    for _ in range(count):
        pixels = np.zeros((side, side, 3))
        for cells in (2, 4, 8, 16, 32, 64):
            layer = rng.normal(size=(cells, cells, 3)).astype(np.float32)
            grown = [
                Image.fromarray(layer[..., c]).resize((side, side), Image.Resampling.BICUBIC)
                for c in range(3)
            ]
            pixels += np.stack([np.asarray(g) for g in grown], axis=-1) / cells ** rng.uniform(
                0.3, 1.0
            )
        pixels *= rng.uniform(10, 60) / pixels.std()
        yield Image.fromarray(np.clip(128 + pixels, 0, 255).astype(np.uint8))


def shapes(count: int, side: int) -> Iterator[Image.Image]:
    """Discs and boxes of flat colours."""
    rng = np.random.default_rng(SEED)

    def colour() -> tuple[int, ...]:
        return tuple(int(value) for value in rng.integers(0, 255, 3))

    for _ in range(count):
        image = Image.new("RGB", (side, side), colour())
        draw = ImageDraw.Draw(image)
        for _ in range(rng.integers(1, 8)):
            xs, ys = np.sort(rng.integers(0, side, (2, 2)), axis=1)
            box = [int(xs[0]), int(ys[0]), int(xs[1]) + 1, int(ys[1]) + 1]
            (draw.ellipse if rng.random() < 0.5 else draw.rectangle)(box, fill=colour())
        yield image


def gradients(count: int, side: int) -> Iterator[Image.Image]:
    """From one colour to another in one direction."""
    rng = np.random.default_rng(SEED)
    y, x = np.mgrid[0:side, 0:side] / side
    for _ in range(count):
        angle = rng.uniform(0, 2 * np.pi)
        ramp = np.cos(angle) * x + np.sin(angle) * y
        ramp = (ramp - ramp.min()) / (ramp.max() - ramp.min())
        one, other = rng.integers(0, 255, (2, 3))
        yield Image.fromarray((one + (other - one) * ramp[..., None]).astype(np.uint8))


def jpeg60(image: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    image.convert("RGB").save(stream, "JPEG", quality=60)
    return Image.open(io.BytesIO(stream.getvalue()))


def half(image: Image.Image) -> Image.Image:
    size = (max(1, image.width // 2), max(1, image.height // 2))
    return image.resize(size, Image.Resampling.LANCZOS)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "jpeg60": jpeg60,
    "half": half,
    "both": lambda image: jpeg60(half(image)),
}
SETS: dict[str, Callable[[], Iterator[Image.Image]]] = {
    "photo tiles, 128 px": lambda: photo_tiles(128),
    "photo tiles, 64 px": lambda: photo_tiles(64),
    "photo tiles, 32 px": lambda: photo_tiles(32),
    "digits, 64 px": lambda: digits(64),
    "digits, 32 px": lambda: digits(32),
    "clouds, 224 px": lambda: clouds(300, 224),
    "clouds, 64 px": lambda: clouds(1000, 64),
    "shapes, 224 px": lambda: shapes(300, 224),
    "shapes, 64 px": lambda: shapes(1000, 64),
    "gradients, 64 px": lambda: gradients(500, 64),
}


def plant(folder: Path, images: Iterator[Image.Image]) -> int:
    """Pictures in train/, their changed copies in test/, under one name; how many pictures."""
    for split in ("train", "test"):
        for kind in ("original", "copy", *CHANGES):
            (folder / split / kind).mkdir(parents=True)
    count = 0
    for count, image in enumerate(images, 1):
        name = f"{count:05d}"
        original = folder / "train" / "original" / f"{name}.png"
        image.save(original)
        (folder / "test" / "copy" / f"{name}.png").write_bytes(original.read_bytes())
        for kind, change in CHANGES.items():
            changed = change(image)
            # what was a JPEG stays the JPEG it was
            if isinstance(changed, Image.Image) and changed.format == "JPEG":
                changed.save(folder / "test" / kind / f"{name}.jpg", quality="keep")
            else:
                changed.save(folder / "test" / kind / f"{name}.png")
    # a class must be known in train
    for kind in ("copy", *CHANGES):
        Image.new("RGB", (8, 8)).save(folder / "train" / kind / "none.png")
    return count


def reported(folder: Path) -> tuple[set[frozenset[str]], set[frozenset[str]]]:
    """The identical pairs and the near pairs that the audit reports."""
    report = inspect(InspectConfig(source=str(folder)))
    pairs: dict[bool, set[frozenset[str]]] = {False: set(), True: set()}
    for finding in report.findings:
        if "leak" in finding.kind or "conflict" in finding.kind or "duplicates" in finding.kind:
            for pictures in finding.sets:
                paths = [p.path for p in pictures if not p.path.endswith("none.png")]
                pairs["near" in finding.kind] |= set(
                    map(frozenset, itertools.combinations(paths, 2))
                )
    return pairs[False], pairs[True]


def number(path: str) -> str:
    return Path(path).stem


def phash_pairs(folder: Path) -> tuple[int, set[frozenset[str]]]:
    """imagehash's phash, at the largest distance with at most 1% false alarms, and its pairs."""
    import imagehash

    files = [p for p in sorted(folder.rglob("*.*")) if p.name != "none.png"]
    files = [p for p in files if p.parent.name != "copy"]
    bits = np.stack([imagehash.phash(Image.open(f)).hash.ravel() for f in files])
    paths = [f.relative_to(folder).as_posix() for f in files]
    numbers = np.array([int(f.stem) for f in files])
    signs = bits.astype(np.float32) * 2 - 1
    distances = ((64 - signs @ signs.T) / 2).round().astype(int)
    np.fill_diagonal(distances, 65)
    alien = numbers[:, None] != numbers[None]
    best = max(
        (d for d in range(21) if ((distances <= d) & alien).any(axis=1).mean() <= 0.01), default=-1
    )  # -1: even equal hashes are too often those of different pictures
    one, other = np.nonzero(np.triu(distances <= best, 1))
    return best, {frozenset((paths[a], paths[b])) for a, b in zip(one, other, strict=True)}


def row(title: str, count: int, pairs: set[frozenset[str]]) -> tuple[list[int], int]:
    """Prints one line and gives (copies found by kind of change, pictures falsely alarmed)."""
    found = [
        sum(
            any(f"test/{kind}/" in p for p in pair) and any(p.startswith("train/") for p in pair)
            for pair in pairs
            if len({number(p) for p in pair}) == 1
        )
        for kind in CHANGES
    ]
    wrong = {p for pair in pairs if len({number(p) for p in pair}) > 1 for p in pair}
    shares = "".join(f"{value / count:>9.1%}" for value in found)
    print(f"{title:<30}{count:>9,}{shares}{len(wrong) / (count * (1 + len(CHANGES))):>14.2%}")
    return found, len(wrong)


def main() -> None:
    with_phash = importlib.util.find_spec("imagehash") is not None
    titles = "".join(f"{kind:>9}" for kind in CHANGES)
    print(f"{'':<30}{'pictures':>9}{titles}{'false alarms':>14}")
    total, copies, found_all, wrong_all = 0, 0, np.zeros(len(CHANGES)), 0
    for name, make in SETS.items():
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "data"
            count = plant(folder, make())
            same, near = reported(folder)
            copies += sum(len({number(p) for p in pair}) == 1 for pair in same)
            found, wrong = row(name, count, near)
            total, found_all, wrong_all = total + count, found_all + found, wrong_all + wrong
            if with_phash:
                distance, pairs = phash_pairs(folder)
                row(f"  phash, distance {distance if distance >= 0 else 'none'}", count, pairs)
    shares = "".join(f"{value / total:>9.1%}" for value in found_all)
    print(f"{'all':<30}{total:>9,}{shares}{wrong_all / (total * (1 + len(CHANGES))):>14.2%}")
    print(f"Near duplicates found: {found_all.sum() / (total * len(CHANGES)):.1%}")
    print(f"Identical copies across splits found: {copies:,} of {total:,}")


if __name__ == "__main__":
    main()
