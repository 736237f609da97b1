"""Picture sets of 10 to 36 classes for benchmarks, made from what installed packages ship.

digits: scikit-learn's, thinned to a long tail, 12 to 1. letters: the fonts that come with
matplotlib, turned, shifted and under noise. emoji: two vendors' drawings of each emoji, by the
Unicode Consortium's subgroups of 20 and more, from `npm pack emoji-datasource-twitter
emoji-datasource-google`, unpacked beside each other as twitter/ and google/; a group is an emoji.
"""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits

TAIL = 12
LETTERS = "ABCDEFGHKMNPRSTX"
FEWEST_EMOJI = 20
SYMBOL_FONTS = ("LastResort", "STIXNonUni", "STIXSiz", "cmex", "cmsy", "cmmi")


@dataclass(frozen=True)
class Picture:
    """A picture, its class, and a group whose pictures are kept together ("" for none)."""

    image: Image.Image
    label: str
    group: str = ""


def digits() -> Iterator[Picture]:
    images, labels = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    for label in range(10):
        rows = rng.permutation(np.flatnonzero(labels == label))
        for row in rows[: round(len(rows) * TAIL ** (-label / 9))]:
            pixels = (images[row].reshape(8, 8) * 15.9).astype(np.uint8)
            yield Picture(Image.fromarray(pixels), str(label))


def letters(characters: str = LETTERS) -> Iterator[Picture]:
    rng = np.random.default_rng(0)
    fonts = sorted((Path(mpl.get_data_path()) / "fonts" / "ttf").glob("*.ttf"))
    fonts = [font for font in fonts if not font.name.startswith(SYMBOL_FONTS)]
    for letter in characters:
        for number in range(66):
            ink, paper = rng.permutation([rng.integers(0, 110), rng.integers(140, 256)])
            image = Image.new("L", (96, 96), int(paper))
            font = ImageFont.truetype(fonts[number % len(fonts)], int(rng.integers(36, 80)))
            place = tuple(48 + rng.integers(-14, 15, 2))
            ImageDraw.Draw(image).text(place, letter, int(ink), font, "mm")
            image = image.rotate(int(rng.integers(-25, 26)), fillcolor=int(paper))
            noisy = np.asarray(image, np.int16) + rng.normal(0, 30, (96, 96))
            yield Picture(Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)), letter)


def emoji(root: Path) -> Iterator[Picture]:
    listed = json.loads((root / "google" / "emoji.json").read_text(encoding="utf-8"))
    counts = Counter(entry["subcategory"] for entry in listed)
    for entry in sorted(listed, key=lambda entry: entry["image"]):
        for vendor in ("twitter", "google"):
            file = root / vendor / "img" / vendor / "64" / entry["image"]
            if counts[entry["subcategory"]] >= FEWEST_EMOJI and file.exists():
                drawn = Image.open(file).convert("RGBA")
                white = Image.new("RGBA", drawn.size, "white")
                image = Image.alpha_composite(white, drawn).convert("RGB")
                yield Picture(image, entry["subcategory"], entry["image"])


def write_table(
    pictures: Iterator[Picture],
    shares: tuple[float, float],
    folder: Path,
    without: Sequence[str] = (),
) -> Path:
    """The pictures as files and a table of path, label, group, split; the rest is "test".

    shares: of each class's groups, for train and val. Pictures of the classes `without` are all
    "test", under the label of another class, since the model knows no more; `class` is the truth.
    """
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    by_class: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for number, picture in enumerate(pictures):
        path = f"pictures/{number:05d}.png"
        if not (folder / path).exists():
            picture.image.save(folder / path)
        by_class[picture.label][picture.group or path].append(path)
    known = next(label for label in by_class if label not in without)
    rng = np.random.default_rng(1)
    table = folder / "-".join(["table", *without]).replace(" & ", "-")
    with table.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "group", "split", "class"))
        for label, groups in by_class.items():
            order = rng.permutation(list(groups))
            train = max(2, round(shares[0] * len(order)))
            val = train + max(1, round(shares[1] * len(order)))
            for place, group in enumerate(order):
                split = "train" if place < train else "val" if place < val else "test"
                given = (known, "test") if label in without else (label, split)
                for path in groups[group]:
                    writer.writerow((path, given[0], group, given[1], label))
    return table.with_suffix(".csv")
