"""Which words of a name mean a split: those of the `datasets` library, and their compounds."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from imgcls.data.names import shortened

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
    words = _words(name)
    glued = [match[1] for word in words if (match := _GLUED.fullmatch(word))]
    told = {_WORDS[word] for word in (*words, *glued) if word in _WORDS}
    return told.pop() if len(told) == 1 else None


def splits_of(names: Collection[str]) -> dict[str, str | None]:
    """The split that each name means, told together: beside a private test a public one is val.

    As in FER2013 (Training, PublicTest, PrivateTest) and Kaggle's contests, where the public part
    is what models are chosen by.
    """
    splits = {name: split_of(name) for name in names}
    tests = {name: _words(name) for name, split in splits.items() if split == "test"}
    if any("private" in words for words in tests.values()):
        splits |= {name: "val" for name, words in tests.items() if "public" in words}
    return splits


def _words(name: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", _SMALL_THEN_CAPITAL.sub(" ", name).lower())


def is_plain(text: str) -> bool:
    """True for a split's word and nothing else."""
    return text.strip().lower() in _WORDS


def read_as_splits(splits: Mapping[str, str]) -> list[str]:
    """A note of the names that are read as splits and are not just a split's word."""
    meant = [f"{name} is {split}" for name, split in splits.items() if not is_plain(name)]
    return [f"read as splits: {shortened(meant)}"] if meant else []


def splits_of_names(names: Sequence[str]) -> list[str] | None:
    """The splits that shards' names tell, such as imagenet-val-0003.tar.

    None unless all do and they differ: one split alone divides nothing.
    """
    split_by = splits_of(names)
    splits = [split for name in names if (split := split_by[name]) is not None]
    return splits if len(splits) == len(names) and len(set(splits)) > 1 else None
