"""Make the picture sets of the comparison from what registries' packages ship.

    apt-get download tuxpaint-stamps-default openclipart-png fonts-noto-color-emoji unicode-data
    python make_sets.py sets --debs .

sets/
  stamps/   Tux Paint's stamps by subject: photographs and drawings
  clipart/  openclipart's drawings by subject
  emoji/    Noto's emoji by the Unicode Consortium's groups
  digits/   scikit-learn's digits, the training pictures with a long tail, all classes in test/

Needs dpkg-deb, which every Debian and Ubuntu has. Nothing is installed.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE = 192
IMBALANCE_FACTOR = 50

STAMPS = (
    "animals", "clothes", "food", "hobbies", "household", "plants", "seasonal", "space", "sports",
    "symbols", "town", "vehicles",
)  # fmt: skip
CLIPART = {
    "mammals": "animals/mammals", "birds": "animals/birds", "bugs": "animals/bugs",
    "fish": "animals/fish", "fruit": "food/fruit", "desserts": "food/desserts",
    "beverages": "food/beverages", "meat": "food/meats_and_eggs", "flowers": "plants/flowers",
    "homes": "buildings/homes", "music": "recreation/music", "boats": "transportation/boating",
    "vehicles": "transportation/vehicles", "tools": "tools",
}  # fmt: skip
EMOJI = {
    "mammal": ("animal-mammal",), "bird": ("animal-bird",), "bug": ("animal-bug",),
    "marine": ("animal-marine",), "fruit": ("food-fruit",), "dish": ("food-prepared",),
    "sweet": ("food-sweet",), "face": ("face-smiling", "face-affection", "face-concerned"),
    "clothing": ("clothing",), "sport": ("sport",), "ground": ("transport-ground",),
    "building": ("place-building",), "sky": ("sky & weather",), "flag": ("country-flag",),
}  # fmt: skip


def save(image: Image.Image, file: Path) -> None:
    """The picture on white, its longer side at most SIDE pixels."""
    image = image.convert("RGBA")
    image.thumbnail((SIDE, SIDE))
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.alpha_composite(white, image).convert("RGB").save(file)


def copy_tree(root: Path, label: str, out: Path) -> None:
    """All pictures below `root` as pictures of class `label`."""
    for number, file in enumerate(sorted(root.rglob("*.png"))):
        # a stamp's mirror image is no other picture
        if "mirror" in file.stem or "flip" in file.stem:
            continue
        save(Image.open(file), out / label / f"{number:04d}-{file.stem}.png")


def emoji_of(listing: Path) -> Iterator[tuple[str, str, str]]:
    """(label, code points, emoji) of the chosen groups, without skin tones."""
    label = None
    for line in listing.read_text(encoding="utf-8").splitlines():
        if line.startswith("# subgroup:"):
            group = line.partition(":")[2].strip()
            label = next((name for name, groups in EMOJI.items() if group in groups), None)
        elif label and "; fully-qualified" in line and "skin tone" not in line:
            codes = line.partition(";")[0].split()
            yield label, "-".join(codes), "".join(chr(int(code, 16)) for code in codes)


def draw_emoji(font_file: Path, listing: Path, out: Path) -> None:
    """Noto's own bitmaps, which are 109 points high."""
    font = ImageFont.truetype(str(font_file), 109)
    for label, name, text in emoji_of(listing):
        if label == "flag" and int(name.split("-")[0], 16) % 2:
            continue  # every other flag; there are as many as of all else
        image = Image.new("RGBA", (136, 128), (255, 255, 255, 0))
        ImageDraw.Draw(image).text((0, 0), text, font=font, embedded_color=True)
        save(image, out / label / f"{name}.png")


def draw_digits(out: Path) -> None:
    """A third of each class to test/; of the rest, class k keeps a share of 50 ** (-k / 9)."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    generator = np.random.default_rng(0)
    for label in range(10):
        rows = generator.permutation(np.flatnonzero(digits.target == label))
        test, rest = np.split(rows, [len(rows) // 3])
        kept = rest[: max(2, round(len(rest) * IMBALANCE_FACTOR ** (-label / 9)))]
        for split, chosen in (("test", test), ("train", kept)):
            for row in chosen:
                pixels = Image.fromarray((digits.images[row] * 15.9).astype(np.uint8))
                picture = pixels.resize((32, 32), Image.Resampling.BICUBIC)
                save(picture, out / split / str(label) / f"{row:04d}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--debs", type=Path, default=Path())
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for package in (
            "tuxpaint-stamps-default", "openclipart-png", "fonts-noto-color-emoji", "unicode-data",
        ):  # fmt: skip
            file = next(iter(sorted(args.debs.glob(f"{package}_*.deb"))), None)
            if file is None:
                parser.error(f"{args.debs} holds no {package}_*.deb; apt-get download {package}")
            command = ["dpkg-deb", "-x", str(file), str(root)]
            subprocess.run(command, check=True)  # noqa: S603  the files are the user's own choice
        share = root / "usr/share"
        for label in STAMPS:
            copy_tree(share / "tuxpaint/stamps" / label, label, args.out / "stamps")
        for label, place in CLIPART.items():
            copy_tree(share / "openclipart/png" / place, label, args.out / "clipart")
        draw_emoji(
            share / "fonts/truetype/noto/NotoColorEmoji.ttf",
            share / "unicode/emoji/emoji-test.txt",
            args.out / "emoji",
        )
    draw_digits(args.out / "digits")
    for name in ("stamps", "clipart", "emoji", "digits/train"):
        counts = [len(list(c.iterdir())) for c in sorted((args.out / name).iterdir())]
        print(f"{name}: {sum(counts)} pictures, {len(counts)} classes of {sorted(counts)}")


if __name__ == "__main__":
    main()
