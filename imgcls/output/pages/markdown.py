"""Markdown of texts and tables that come from data, as GitHub and Hugging Face render it."""

from __future__ import annotations

import re

from imgcls.output.pages.page import Table, format_cell
from imgcls.output.text import visible

# what begins something of Markdown, HTML, a formula, an emoji or a link inside a line
_SPECIAL = re.compile(r"([\\`*_\[\]<>|~&$#!@{}]|:(?=//|[\w+-]+:)|(?<=www)\.)")


def markdown(text: str) -> str:
    """The text as it reads inside a line or a cell, whatever it holds."""
    # which would end the line that the text stands in
    line = text.replace("\n", r"\x0a").replace("\t", r"\x09")
    return _SPECIAL.sub(r"\\\1", visible(line))


def code(text: str) -> str:
    """The text as code inside a line, which it can neither end nor leave."""
    line = visible(text.replace("\n", r"\x0a").replace("\t", r"\x09"))
    fence = "`" * (max(map(len, re.findall("`+", line)), default=0) + 1)
    # a blank on each side keeps backticks at its ends apart from the fence
    room = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{room}{line}{room}{fence}"


def markdown_table(table: Table) -> str:
    """The table with its caption above; numbers stand on the right."""
    titles = [markdown(column.title) for column in table.columns]
    rules = ["---" if column.kind == "text" else "---:" for column in table.columns]
    rows = [
        [
            markdown(format_cell(cell, column.kind))
            for cell, column in zip(row, table.columns, strict=True)
        ]
        for row in table.rows
    ]
    lines = [f"| {' | '.join(cells)} |" for cells in (titles, rules, *rows)]
    return "\n".join([*([f"{markdown(table.caption)}:", ""] if table.caption else []), *lines])


def fenced(code: str, language: str = "") -> str:
    """A block of code, behind a fence that the code cannot close."""
    longest = max(map(len, re.findall(r"`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{code}\n{fence}"
