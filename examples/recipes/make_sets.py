"""Make the picture sets of the comparison from what registries' packages ship.

    apt-get download oxygen-icon-theme fonts-noto-core python3-skimage
    npm pack emoji-datasource-twitter emoji-datasource-google @tabler/icons @tabler/icons-png
    python make_sets.py sets --packages .

sets/
  digits/    scikit-learn's digits with a long tail, 12 to 1
  emoji/     two vendors' drawings of emoji, by the Unicode Consortium's subgroups
  icons/     Oxygen's desktop icons by what they stand for
  shifted/   the same; in the test they are blurred, noisy, faded or compressed
  patches/   small grey pieces of photographs: which photograph is it from
  scripts/   words of sixteen writing systems in Noto's fonts
  symbols/   Tabler's line drawings by category
  draws/     20 tables of one split each: 500 pictures of 14 of the emoji's classes

A set is a folder of pictures and table.csv with path, label and group: pictures of a group are of
one thing, and stay on one side of a split. test_path, where it is there, is shown in its place in
the test. Each set is thinned to --size pictures, its classes as uneven as in the source.
Needs dpkg-deb, which every Debian and Ubuntu has. Nothing is installed.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import subprocess
import tarfile
import tempfile
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

SIDE = 128
# the standard deviation of grey levels under which nothing is to be seen
FAINT = 4
DIGITS_MOST, DIGITS_TAIL = 120, 12
DEBS = ("oxygen-icon-theme", "fonts-noto-core", "python3-skimage")
TARBALLS = (
    "emoji-datasource-twitter", "emoji-datasource-google", "tabler-icons", "tabler-icons-png",
)  # fmt: skip
EMOJI = (
    "animal-mammal", "animal-bird", "person-role", "person-activity", "person-sport",
    "transport-ground", "sky & weather", "clothing", "food-prepared", "food-fruit", "family",
    "tool", "household", "place-building", "sport", "face-concerned", "geometric",
)  # fmt: skip
DRAW_CLASSES, DRAWS = EMOJI[:14], 20
ICONS = (
    "actions", "apps", "categories", "devices", "emotes", "mimetypes", "places", "status",
)  # fmt: skip
PHOTOGRAPHS = (
    "astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "coffee.png",
    "coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png",
    "motorcycle_left.png", "retina.jpg", "rocket.jpg",
)  # fmt: skip
SCRIPTS = (
    "Bengali", "Cherokee", "Devanagari", "Ethiopic", "Gujarati", "Gurmukhi", "Kannada", "Khmer",
    "Lao", "Malayalam", "Myanmar", "Oriya", "Sinhala", "Tamil", "Telugu", "Thai",
)  # fmt: skip
SYMBOLS = (
    "Arrows", "Brand", "Buildings", "Charts", "Currencies", "Devices", "Food", "Letters", "Math",
    "Mood", "Numbers", "Shapes", "Vehicles", "Weather",
)  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """A picture, its class, and a group whose pictures stay on one side of a split."""

    image: Image.Image
    label: str
    group: str


def on_white(image: Image.Image) -> Image.Image:
    """In RGB on white, its longer side at most SIDE pixels."""
    image = image.convert("RGBA")
    image.thumbnail((SIDE, SIDE))
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def digits() -> Iterator[Picture]:
    from sklearn.datasets import load_digits

    data = load_digits()
    rng = np.random.default_rng(0)
    for label in range(10):
        rows = rng.permutation(np.flatnonzero(data.target == label))
        for row in rows[: round(DIGITS_MOST * DIGITS_TAIL ** (-label / 9))]:
            pixels = Image.fromarray((data.images[row] * 15.9).astype(np.uint8))
            image = pixels.resize((32, 32), Image.Resampling.BICUBIC)
            yield Picture(image.convert("RGB"), str(label), str(row))


def emoji(root: Path) -> Iterator[Picture]:
    """Twitter's and Google's drawing of each emoji without skin tones; its group is the emoji."""
    source = root / "emoji-datasource-google/emoji.json"
    for entry in json.loads(source.read_text(encoding="utf-8")):
        for vendor in ("twitter", "google"):
            file = root / f"emoji-datasource-{vendor}/img/{vendor}/64" / entry["image"]
            if entry["subcategory"] in EMOJI and file.exists():
                yield Picture(on_white(Image.open(file)), entry["subcategory"], entry["unified"])


def icons(root: Path) -> Iterator[Picture]:
    """Each icon at its largest size; a group is what looks alike at eight pixels."""
    base = root / "usr/share/icons/oxygen/base"
    for label in ICONS:
        names = set()
        for size in (128, 64, 48, 32):
            for file in sorted((base / f"{size}x{size}" / label).glob("*.png")):
                if file.is_symlink() or file.stem in names:
                    continue
                names.add(file.stem)
                image = on_white(Image.open(file))
                yield Picture(image, label, looks(image))


def patches(root: Path) -> Iterator[Picture]:
    """Squares of 40 pixels that do not overlap, turned and with their grey levels spread out.

    A group is two neighbours.
    """
    side = 40
    rng = np.random.default_rng(0)
    for name in PHOTOGRAPHS:
        image = Image.open(root / "usr/lib/python3/dist-packages/skimage/data" / name).convert("L")
        for top in range(0, image.height - side + 1, side):
            for left in range(0, image.width - side + 1, side):
                piece = image.crop((left, top, left + side, top + side))
                if np.asarray(piece).std() < FAINT:
                    continue
                piece = ImageOps.autocontrast(piece).rotate(90 * int(rng.integers(4)))
                group = f"{name}/{top // side}-{left // side // 2}"
                yield Picture(piece.convert("RGB"), name.split(".")[0], group)


def letters_of(script: str, fonts: Path) -> dict[Path, list[int]]:
    """The script's letters in each font that has any."""
    found = {}
    for kind in ("Sans", "Serif"):
        for file in sorted(fonts.glob(f"Noto{kind}{script}-*.ttf")):
            found[file] = [
                code
                for code in sorted(TTFont(file, lazy=True).getBestCmap())
                if unicodedata.name(chr(code), "").startswith(script.upper())
                and unicodedata.category(chr(code)) in ("Lo", "Lu")
            ]
    return found


def scripts(root: Path) -> Iterator[Picture]:
    """As many pictures of a script as it has letters, of three letters drawn by lot."""
    rng = np.random.default_rng(0)
    for script in SCRIPTS:
        by_font = letters_of(script, root / "usr/share/fonts/truetype/noto")
        for number in range(max(map(len, by_font.values()))):
            file = sorted(by_font)[rng.integers(len(by_font))]
            font = ImageFont.truetype(file, int(rng.integers(28, 44)))
            word = "".join(chr(code) for code in rng.choice(by_font[file], 3))
            ink, paper = rng.integers(0, 110), rng.integers(140, 256)
            image = Image.new("L", (SIDE, SIDE), int(paper))
            ImageDraw.Draw(image).text((SIDE // 2, SIDE // 2), word, int(ink), font, "mm")
            image = image.rotate(int(rng.integers(-8, 9)), fillcolor=int(paper))
            yield Picture(image.convert("RGB"), script, f"{script}-{number}")


def looks(image: Image.Image) -> str:
    """The same for pictures that look alike at eight pixels and eight greys."""
    coarse = np.asarray(image.convert("L").resize((8, 8))) // 32
    return coarse.tobytes().hex()


def symbols(root: Path) -> Iterator[Picture]:
    """Drawings in outline; a group is what looks alike at eight pixels."""
    listed = json.loads((root / "tabler-icons/icons.json").read_text(encoding="utf-8"))
    for name, entry in sorted(listed.items()):
        file = root / "tabler-icons-png/icons/outline" / f"{name}.png"
        if entry["category"] in SYMBOLS and file.exists():
            image = on_white(Image.open(file))
            yield Picture(image, entry["category"], looks(image))


def shifted(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The picture blurred, noisy, faded or badly compressed, each as likely."""
    kind = rng.choice(["blurred", "noisy", "faded", "compressed"])
    if kind == "blurred":
        return image.filter(ImageFilter.GaussianBlur(max(image.size) / 50))
    if kind == "noisy":
        noise = rng.normal(0, 25, np.asarray(image).shape)
        return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))
    if kind == "faded":
        faded = 0.45 * np.asarray(image, np.float64) + 0.55 * 128
        return Image.fromarray(faded.astype(np.uint8))
    file = io.BytesIO()
    image.save(file, "jpeg", quality=10)
    return Image.open(file).convert("RGB")


def thinned(pictures: Iterable[Picture], size: int) -> list[Picture]:
    """About `size` of them, drawn by groups, each class as large a share as it has in all.

    A class counts for no more than three times the middle one, a group for a tenth of its class.
    """
    by_class: dict[str, dict[str, list[Picture]]] = defaultdict(lambda: defaultdict(list))
    for picture in pictures:
        by_class[picture.label][picture.group].append(picture)
    rng = np.random.default_rng(0)
    offered = []
    for groups in by_class.values():
        most = max(2, sum(map(len, groups.values())) // 10)
        order = rng.permutation(sorted(groups))
        offered.append([picture for name in order for picture in groups[name][:most]])
    counts = np.array([len(pictures) for pictures in offered])
    counts = np.minimum(counts, 3 * int(np.median(counts)))
    shares = np.maximum(15, np.rint(counts * min(1, size / counts.sum()))).astype(int)
    return [picture for own, share in zip(offered, shares, strict=True) for picture in own[:share]]


def write(pictures: Sequence[Picture], folder: Path, *, shift: bool = False) -> None:
    """The pictures as files, and their table."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    with (folder / "table.csv").open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(("path", "label", "group", *(["test_path"] if shift else [])))
        for number, picture in enumerate(pictures):
            paths = [f"pictures/{number:05d}.png"]
            picture.image.save(folder / paths[0])
            if shift:
                paths.append(f"pictures/{number:05d}-shifted.png")
                shifted(picture.image, rng).save(folder / paths[1])
            writer.writerow((paths[0], picture.label, picture.group, *paths[1:]))
    counts: dict[str, int] = defaultdict(int)
    for picture in pictures:
        counts[picture.label] += 1
    sizes = sorted(counts.values())
    print(f"{folder.name}: {len(pictures)} pictures, {len(counts)} classes of {sizes}")


def write_draws(pool: Sequence[Picture], folder: Path) -> None:
    """Twenty sets of 500 pictures, 350 to train on, 75 for val and 75 to test, by whole groups.

    All that is left of the pool is in the test as well: of 75 pictures, one is more than a point.
    """
    from sklearn.model_selection import train_test_split

    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    by_group: dict[str, list[int]] = defaultdict(list)
    for number, picture in enumerate(pool):
        picture.image.save(folder / f"pictures/{number:05d}.png")
        by_group[picture.group].append(number)
    groups = list(by_group.values())
    labels = [pool[numbers[0]].label for numbers in groups]
    for seed in range(DRAWS):
        rest = range(len(groups))
        rows = []
        for split, size in (("train", 350), ("val", 75)):
            share = (size + 2) / len(pool) * len(groups) / len(rest)
            strata = [labels[group] for group in rest]
            own, rest = train_test_split(rest, train_size=share, stratify=strata, random_state=seed)
            numbers = [number for group in own for number in groups[group]]
            rows += [(number, split) for number in numbers[:size]]
        rows += [(number, "test") for group in rest for number in groups[group]]
        with (folder / f"draw-{seed:02d}.csv").open("w", newline="", encoding="utf-8") as out:
            writer = csv.writer(out)
            writer.writerow(("path", "label", "group", "split"))
            for number, split in rows:
                path = f"pictures/{number:05d}.png"
                writer.writerow((path, pool[number].label, pool[number].group, split))
    print(f"{folder.name}: {DRAWS} of 350 + 75 pictures, {len(rows) - 425} to test")


def unpack(packages: Path, root: Path) -> None:
    """All packages into one folder: debs as they install, tarballs in folders of their names."""
    for name in DEBS:
        file = next(iter(sorted(packages.glob(f"{name}_*.deb"))), None)
        if file is None:
            raise SystemExit(f"{packages} holds no {name}_*.deb; apt-get download {name}")
        subprocess.run(["dpkg-deb", "-x", str(file), str(root)], check=True)  # noqa: S603, S607  the files are the user's own choice
    for name in TARBALLS:
        file = next(iter(sorted(packages.glob(f"{name}-[0-9]*.tgz"))), None)
        if file is None:
            package = name.replace("tabler-", "@tabler/")
            raise SystemExit(f"{packages} holds no {name}-*.tgz; npm pack {package}")
        with tarfile.open(file) as archive:
            archive.extractall(root, filter="data")
        (root / "package").rename(root / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--packages", type=Path, default=Path())
    parser.add_argument("--size", type=int, default=600, help="pictures of a set, about; 600")
    args = parser.parse_args()
    write(list(digits()), args.out / "digits")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        unpack(args.packages, root)
        drawn = list(emoji(root))
        write(thinned(drawn, args.size), args.out / "emoji")
        desktop = thinned(icons(root), args.size)
        write(desktop, args.out / "icons")
        write(desktop, args.out / "shifted", shift=True)
        write(thinned(patches(root), args.size), args.out / "patches")
        write(thinned(scripts(root), args.size), args.out / "scripts")
        write(thinned(symbols(root), args.size), args.out / "symbols")
        pool = [picture for picture in drawn if picture.label in DRAW_CLASSES]
        write_draws(pool, args.out / "draws")


if __name__ == "__main__":
    main()
