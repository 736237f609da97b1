"""The canvas of all plots: one style, PNG and SVG files, and SVG inside a page.

Two colours of Okabe and Ito's palette ("Color Universal Design", 2008) carry the meaning, blue for
right and vermilion for wrong; lines differ by their dashes too. Ink is the only dark colour, so
that a page can turn it into the reader's own text colour.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from imgcls.output.outputs import MARK
from imgcls.output.text import visible
from imgcls.storage.durable import write_bytes

INK, PAPER = "#1b1f24", "#fffffe"
RIGHT, WRONG = "#2a7fc0", "#d55e00"
_DPI = 200  # names of 200 classes can just be read
# told apart with any kind of colour vision, on white and on black
LINES = (
    (RIGHT, "-"),
    (WRONG, (0, (6, 2))),
    ("#159f78", (0, (6, 2, 1.5, 2))),
    ("#b7699a", (0, (2, 1.5))),
    ("#b08300", (0, (8, 2, 1.5, 2, 1.5, 2))),
)
_LOOK = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), INK),
    **dict.fromkeys(("xtick.color", "ytick.color"), INK),
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "savefig.facecolor": PAPER,
    "text.parse_math": False,  # a class may be called $x$
    "svg.fonttype": "none",
    "svg.hashsalt": "imgcls",  # the same picture gives the same file
}
# scripts that matplotlib's own font lacks; the first installed one of each row is used
_WIDER_FONTS = (
    ("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Zen Hei",
     "Microsoft YaHei", "PingFang SC", "Hiragino Sans", "Yu Gothic", "Arial Unicode MS"),
    ("Noto Sans CJK KR", "Malgun Gothic", "Apple SD Gothic Neo", "NanumGothic"),
    ("Noto Sans Devanagari", "Nirmala UI", "Kohinoor Devanagari"),
    ("Noto Sans Thai", "Leelawadee UI", "Thonburi"),
    ("Noto Emoji", "Segoe UI Symbol", "Symbola"),
)  # fmt: skip


Box = tuple[float, float, float, float, str]


@dataclass(frozen=True)
class Tooltip:
    """A place of a picture that tells its value under the pointer; shares of 1 from top left."""

    left: float
    top: float
    width: float
    height: float
    text: str


@dataclass(frozen=True, eq=False)
class Drawing:
    """A finished picture: the file name without ending, what it shows, and its tooltips."""

    name: str
    title: str
    meaning: str
    figure: Figure
    tooltips: Sequence[Tooltip] = ()

    @property
    def width(self) -> int:
        """The width to show it at, in CSS pixels."""
        return round(self.figure.get_figwidth() * 96)

    @cached_property
    def svg(self) -> str:
        """The picture as an SVG document; its texts can be searched and edited."""
        return self._bytes("svg").decode("utf-8")

    @property
    def inline_svg(self) -> str:
        """The picture as an SVG element for a page: in the page's own ink, see-through."""
        text = self.svg[self.svg.index("<svg") :].replace(INK, "currentColor")
        text = text.replace(PAPER, "none")
        # ids are unique in one file, not yet in a page of several; text holds no raw < or >
        text = re.sub(
            r"<[^<>]+>",
            lambda tag: re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{self.name}-", tag[0]),
            text,
        )
        head, rest = text.split(">", 1)
        return re.sub(r' (width|height)="[^"]*"', "", head) + f' role="img">{rest}'

    def files(self) -> list[tuple[str, bytes]]:
        """Names and contents: `<name>.png` (for slides) and `<name>.svg` (for print)."""
        return [
            (f"{self.name}.png", self._bytes("png")),
            (f"{self.name}.svg", self.svg.encode("utf-8")),
        ]

    def write_file(self, file: Path) -> None:
        """Write this one file, a .png or an .svg. Raises OSError."""
        write_bytes(file, self._bytes(file.suffix.lower().removeprefix(".")))

    def _bytes(self, kind: str) -> bytes:
        stream = io.BytesIO()
        # by which a later command knows the file as one that it may replace
        metadata = {"Date": None, "Creator": MARK} if kind == "svg" else {"Software": MARK}
        with _look():
            self.figure.savefig(stream, format=kind, dpi=_DPI, metadata=metadata)
        return stream.getvalue()


@contextlib.contextmanager
def canvas(width: float, height: float) -> Iterator[Figure]:
    """A figure of so many inches to draw on; all text is drawn as it is spelt."""
    with _look():
        yield Figure(figsize=(width, height), layout="constrained")


def place_tooltips(figure: Figure, axes: Any, boxes: Sequence[Box]) -> list[Tooltip]:
    """Tooltips from (x0, y0, x1, y1, text) in the data's own units, once the figure is complete."""
    if (layout := figure.get_layout_engine()) is not None:
        with _look():
            layout.execute(figure)
        for each in figure.axes:
            each.apply_aspect()
        figure.set_layout_engine("none")  # laid out for good; it takes longer than drawing
    tooltips = []
    for x0, y0, x1, y1, text in boxes:
        corners = axes.transData.transform([(x0, y0), (x1, y1)])
        (left, low), (right, high) = figure.transFigure.inverted().transform(corners)
        tooltips.append(
            Tooltip(min(left, right), 1 - max(low, high), abs(right - left), abs(high - low), text)
        )
    return tooltips


def shortened(name: str, most: int = 24) -> str:
    """A class name that fits beside a picture."""
    name = visible(name)
    return name if len(name) <= most else name[: most - 1] + "…"


@contextlib.contextmanager
def _look() -> Iterator[None]:
    with mpl.rc_context({**_LOOK, "font.sans-serif": _fonts()}), warnings.catch_warnings():
        # a script without any installed font shows as boxes; the page still spells it
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


@cache
def _fonts() -> list[str]:
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    wider = (next((name for name in row if name in installed), None) for row in _WIDER_FONTS)
    return ["DejaVu Sans", *filter(None, wider)]
