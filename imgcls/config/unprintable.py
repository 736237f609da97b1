"""Characters that a terminal, a page or a log acts upon instead of showing them."""

from __future__ import annotations

import re

# control characters but tab and newline, which lay text out; line separators; marks that turn the
# direction of what follows; halves of surrogate pairs, as Python reads file names that are no UTF-8
UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
