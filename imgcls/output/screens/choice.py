"""Models that are compared, and the one that is chosen of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType

from imgcls.engine.training.events import (
    CandidateDone,
    ChoiceEvent,
    ChoiceStarted,
    FeaturesDone,
    ModelChosen,
)
from imgcls.output.console import Console
from imgcls.output.numbers import MISSING
from imgcls.output.screens.screen import duration, prose, titled_table

if TYPE_CHECKING:
    from typing_extensions import Self


class ChoiceView:
    """Shows how models are compared while `train` chooses one; a context manager.

    before: called once, before anything is shown, as by a bar that another one may not overlap.
    """

    def __init__(self, console: Console, before: Callable[[], None]) -> None:
        self._console = console
        self._before = before
        self._bar = contextlib.ExitStack()
        self._on_picture: Callable[[int, int], None] = lambda _done, _total: None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._bar.close()

    def __call__(self, event: ChoiceEvent) -> None:
        """Show one event."""
        match event:
            case ChoiceStarted(models, pictures, of):
                self._before()
                drawn = f"{pictures:,}" if pictures == of else f"{pictures:,} of {of:,}"
                self._console.say(
                    f"Choosing among {len(models)} models by cross-validation on their frozen "
                    f"features of {drawn} training pictures, the cheapest first:"
                )
                bar = self._console.progress("Features", "pictures")
                self._on_picture = self._bar.enter_context(bar)
            case FeaturesDone(done, total):
                self._on_picture(done, total)
            case CandidateDone(one):
                self._console.say(f"  {one.name}: {_in_words(one.to_json())}")
            case ModelChosen(choice):
                self._before()
                self._bar.close()
                for screen in choice_screens(choice.to_json()):
                    self._console.say(screen)
                for note in choice.notes:
                    self._console.warn(note)


def choice_screens(choice: Mapping[str, Any]) -> Iterator[RenderableType]:
    """A table of the models that were compared, which was chosen, and what was left out.

    choice: what model_choice.json holds.
    """
    costs = ("Params", "Latency", "Features")
    table = titled_table("Models compared", "Model", *costs, "Balanced acc.", "Log loss", "Above")
    left_out = []
    for one in choice["candidates"]:
        if one["left_out"] is not None:
            left_out.append(one)
            continue
        chosen = one["name"] in (choice["chosen"], *choice["ensemble"])
        features_s = one["features_s"]
        table.add_row(
            one["name"],
            f"{one['parameters'] / 1e6:.1f} M",
            f"{one['latency_ms']:.1f} ms",
            MISSING if features_s is None else f"{features_s:.1f} s",
            _share(one["balanced_accuracy"]),
            _number(one["log_loss"]),
            _number(one["behind"]),
            style="bold" if chosen else "",
        )
    yield table
    names = " + ".join(choice["ensemble"]) or choice["chosen"]
    yield prose(f"Chosen: {names}, {choice['reason']}")
    if choice["pictures"]:
        yield prose(
            f"By {choice['folds']}-fold cross-validation of a logistic regression on features of "
            f"{choice['pictures']:,} training pictures, in {duration(choice['elapsed_s'])} on "
            f"{choice['device']}; ± one standard error, Above: paired with the least log loss"
        )
    for one in left_out:
        yield prose(f"Left out: {one['name']}: {one['left_out']}")


def _in_words(one: Mapping[str, Any]) -> str:
    if one["left_out"] is not None:
        return f"left out: {one['left_out']}"
    took_s = one["features_s"] + one["fitting_s"]
    return (
        f"balanced accuracy {_share(one['balanced_accuracy'])}, log loss "
        f"{_number(one['log_loss'])}, in {duration(took_s)}"
    )


def _share(estimate: Mapping[str, float] | None) -> str:
    if estimate is None:
        return MISSING
    return f"{100 * estimate['value']:.1f} ± {_error(estimate, 100, 1)}%"


def _number(estimate: Mapping[str, float] | None) -> str:
    if estimate is None:
        return MISSING
    return f"{estimate['value']:.3f} ± {_error(estimate, 1, 3)}"


def _error(estimate: Mapping[str, float | None], factor: int, places: int) -> str:
    error = estimate["error"]  # of a single group there is none
    return MISSING if error is None else f"{factor * error:.{places}f}"
