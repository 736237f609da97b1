"""Which words of a name mean a split: those of the `datasets` library, and their compounds."""

from __future__ import annotations

import re
from collections.abc import Sequence

# datasets.data_files.SPLIT_KEYWORDS
_WORDS = {
    "train": "train",
    "training": "train",
    "validation": "val",
    "valid": "val",
    "dev": "val",
    "val": "val",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
_GLUED = re.compile(r"(.+?)(?:sets?|data|images|imgs|split)")
_SMALL_THEN_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")


def split_of(name: str) -> str | None:
    """train, val or test, by a word of the name: `Training`, `seg_test`, `val2017`, `TrainSet`.

    None where no word means a split, or where words mean two.
    """
    words = re.findall(r"[^\W\d_]+", _SMALL_THEN_CAPITAL.sub(" ", name).lower())
    glued = [match[1] for word in words if (match := _GLUED.fullmatch(word))]
    told = {_WORDS[word] for word in (*words, *glued) if word in _WORDS}
    return told.pop() if len(told) == 1 else None


def is_plain(text: str) -> bool:
    """True for a split's word and nothing else."""
    return text.strip().lower() in _WORDS


def splits_of_names(names: Sequence[str]) -> list[str] | None:
    """The splits that shards' names tell, such as imagenet-val-0003.tar.

    None unless all do and they differ: one split alone divides nothing.
    """
    splits = [split for name in names if (split := split_of(name)) is not None]
    return splits if len(splits) == len(names) and len(set(splits)) > 1 else None
