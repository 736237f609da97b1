"""What a model's numbers do not say: the limits that its card names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from imgcls.output.numbers import counted
from imgcls.output.pages.markdown import markdown
from imgcls.output.pages.model_description import Scores, TrainingData

# with fewer, a class's own numbers say little, or it has hardly been shown
_FEW_SCORED, _FEW_TRAINED = 20, 20
_UNBALANCED = 10
_MOST_NAMED = 10
_CHECKS = {
    "copies": "whether pictures have copies in another split",
    "slices": "whether it does as well for each group of pictures (`--by`)",
    "corruptions": "how it does on noisy, blurred or compressed pictures",
    "unlike": "whether pictures unlike those of training can be told",
}


def limits_of(data: TrainingData, scores: Scores | None) -> Iterator[str]:
    """The limits that follow from what was measured, and what was not, a line of Markdown each.

    scores: None where nothing was scored.
    """
    report: Mapping[str, Any] = (scores and scores.report) or {}
    if scores is not None:
        of = counted(scores.pictures, "picture", "pictures")
        intervals = any(interval for _, _, interval in scores.rows)
        yield (
            f"One training, scored on one {scores.split} split of {of}: another split or seed "
            f"gives other numbers{', which the intervals do not count in' * intervals}."
        )
        if scores.split == "val" and not data.folds:
            yield "There are no numbers on pictures that nothing was chosen by."
        yield from _few_scored(scores.per_class or _support(data.counts, scores.split))
    yield from _few_trained(data.counts)
    if data.groups == 0:
        yield (
            "No groups were given: where pictures of one object, person or video are in two "
            "splits, the numbers are too good."
        )
    if seen := (report.get("trained_on") or {}).get("train"):
        yield f"{counted(seen, 'scored picture was', 'scored pictures were')} also trained on."
    if data.copies:
        yield (
            f"{counted(data.copies, 'picture has', 'pictures have')} an identical copy in another "
            "split or fold, which makes the numbers too good."
        )
    yield (
        "It always answers with one of its classes, also for a picture of something else. Pictures "
        "of other cameras, places or times than those of training were not tried"
        + (", unless they are among the scored ones." if report else ".")
    )
    looked_for = {**report, "copies": data.copies is not None}
    unchecked = [words for key, words in _CHECKS.items() if not looked_for.get(key)]
    if unchecked:
        yield f"Not checked: {'; '.join(unchecked)}."


def _support(counts: Sequence[Mapping[str, Any]], split: str) -> list[Mapping[str, Any]]:
    """Rows as per_class has them, of a split that training alone has scored."""
    return [{"class": row["class"], "support": row[split]} for row in counts if split in row]


def _few_scored(per_class: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    without = [row["class"] for row in per_class if not row["support"]]
    if without:
        yield f"Never scored, without a picture in the split: {_named(without)}."
    few = [row["class"] for row in per_class if 0 < row["support"] < _FEW_SCORED]
    if few:
        yield f"Scored on fewer than {_FEW_SCORED} pictures each: {_named(few)}."


def _few_trained(counts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    trained = {row["class"]: row["train"] for row in counts if "train" in row}
    few = [name for name, count in trained.items() if count < _FEW_TRAINED]
    if few:
        yield f"Trained on fewer than {_FEW_TRAINED} pictures each: {_named(few)}."
    held = [count for count in trained.values() if count]
    if held and max(held) >= _UNBALANCED * min(held):
        yield (
            f"The classes are unbalanced: {max(held):,} training pictures of the largest, "
            f"{min(held):,} of the smallest."
        )


def _named(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    rest = f" and {more:,} more" if more > 0 else ""
    return ", ".join(map(markdown, names[:_MOST_NAMED])) + rest
