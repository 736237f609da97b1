"""Renders templates into one HTML file that opens from disk without a network.

pages/
  base.html   the frame every page extends: head, title, body, footer
  parts.html  macros: table, facts, cards, gallery, figure
  style.css  page.js   written into the page by base.html

Whatever is put into a template is escaped; only text of our own may be marked as safe. A content
security policy forbids every request and every script but page.js.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from imgcls.output.numbers import MISSING, Quantity, Share, score
from imgcls.output.plots.drawing import Drawing
from imgcls.output.text import visible

# a word is a text that is never folded
Kind = Literal["text", "word", "count", "percent", "score"]


@dataclass(frozen=True)
class Column:
    """One column of a table: its title, how its cells read, and what the title means."""

    title: str
    kind: Kind = "text"
    meaning: str = ""


@dataclass(frozen=True)
class Table:
    """A table that sorts by a click on a title; a cell may be None.

    rows: cells by column; shares of pictures are `Share`s, other numbers with words `Quantity`s.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    caption: str = ""


@dataclass(frozen=True)
class Link:
    """A cell that leads to another page. href: a relative address, percent-encoded."""

    text: str
    href: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Thumbnail:
    """A picture in a gallery: a data URI, a headline, further lines, and its whole name."""

    uri: str | None
    title: str
    lines: Sequence[str] = ()
    name: str = ""
    overlay_uri: str | None = None


@dataclass(frozen=True)
class Section:
    """One part of the page; whatever it has is shown in the order of the fields."""

    title: str
    text: str = ""
    facts: Sequence[tuple[str, str]] = ()
    tables: Sequence[Table] = ()
    drawings: Sequence[Drawing] = ()
    galleries: Sequence[tuple[str, str, Sequence[Thumbnail]]] = ()
    document: str = ""

    @property
    def anchor(self) -> str:
        """The section's name in a link."""
        return self.title.lower().replace(" ", "-")

    @property
    def is_empty(self) -> bool:
        """True when there is nothing to show but the title."""
        return not any((self.drawings, self.facts, self.tables, self.galleries, self.document))


def render_page(template: str, **values: Any) -> str:
    """The page that the template makes of the values, as one HTML document."""
    return page_environment().get_template(template).render(**values)


def picture_uri(image: Image.Image, side: int = 160) -> str:
    """The picture as a JPEG data URI, made smaller so that its longer side is at most `side`.

    Tiny pictures are enlarged by whole factors without smoothing, so that their pixels show.
    """
    longest = max(image.size)
    if longest <= side // 2:
        factor = side // longest
        shown = image.resize(
            (image.width * factor, image.height * factor), Image.Resampling.NEAREST
        )
    else:
        shown = image.copy()
        shown.thumbnail((side, side), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    shown.convert("RGB").save(stream, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def format_cell(value: Any, kind: Kind) -> str:
    """A cell as it reads: 1,234 for a count, 98.76% for a share, 0.9876 for a score."""
    if value is None:
        return MISSING
    if kind not in ("text", "word") and isinstance(value, (int, float)):
        return f"{value:,}" if kind == "count" else score(value)
    return str(value)


def cell_classes(kind: Kind) -> str:
    """The names that the style and the script know a column's cells by."""
    return "text word" if kind == "word" else kind


def cell_number(value: Any) -> float | None:
    """The number that a cell sorts by, with all its digits; None for a text or nothing."""
    if isinstance(value, (Share, Quantity)):
        return value.value
    return value if isinstance(value, (int, float)) else None


def _shown(value: Any) -> Any:
    """The text of a template's expression, made safe to show; our own, marked as safe, stays."""
    return visible(value) if type(value) is str else value


@cache
def page_environment() -> Environment:
    """The templates of all pages, with escaping on; made once."""
    environment = Environment(
        loader=PackageLoader("imgcls.output.pages", package_path="."),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(cell=format_cell, number=cell_number, classes=cell_classes)
    script = environment.get_template("page.js").render()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    environment.globals.update(script_hash=digest, imgcls_version=version("imgcls"))
    return environment
