"""Text that comes from data (names of files, classes and columns), made safe to show.

The one place for it: the screen, pages and pictures all spell what they show by `visible`. A CSV
or JSON file holds the text itself, written so that it is read back as it was.
"""

from __future__ import annotations

import re

from imgcls.config.unprintable import UNPRINTABLE

_BYTES = range(0xDC80, 0xDD00)


def visible(text: str) -> str:
    r"""The text with each character that is not to be shown spelt out, such as \x1b or \u202e."""
    return UNPRINTABLE.sub(_spelt, text)


def _spelt(found: re.Match[str]) -> str:
    number = ord(found[0])
    if number in _BYTES:  # a byte of a file name
        number -= 0xDC00
    return f"\\x{number:02x}" if number <= 0xFF else f"\\u{number:04x}"  # noqa: PLR2004
