"""How many of the scored pictures the model has seen, as one line."""

from __future__ import annotations

from imgcls.results.comparison import TrainedOn


def trained_on_in_words(found: TrainedOn) -> str:
    """The line for the `trained_on` of an evaluation."""
    if found.reason:
        return f"not known: {found.reason}"
    left_out = f"; {found.excluded:,} were left out" if found.excluded else ""
    if found.not_compared:
        left_out += f"; copies of {found.not_compared:,} not looked for"
    pictures = f"the {found.pictures:,} pictures"
    seen = f"{found.train:,} of {pictures}" if found.train else f"none of {pictures}"
    chose = f"; {found.val:,} chose the best epoch" if found.val else ""
    return f"{seen}{chose}{left_out}"
