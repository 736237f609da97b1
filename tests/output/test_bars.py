"""Progress in a notebook's cell: one output that is drawn again, and text below it."""

from __future__ import annotations

import builtins

import pytest

from imgcls.engine.training.events import FoldStarted, StepDone, ValidationBatchDone
from imgcls.output.console import Console, shown_console
from imgcls.output.screens.training import TrainingView

display = pytest.importorskip("IPython.display")


@pytest.fixture
def shown(monkeypatch):
    """What a notebook's front end holds: {output: its last content}."""
    shell = type("ZMQInteractiveShell", (), {})()
    outputs = {}

    class Handle:
        def __init__(self, content):
            outputs[id(self)] = [content]

        def update(self, content, *, raw):
            assert raw
            outputs[id(self)].append(content)

    monkeypatch.setattr(builtins, "get_ipython", lambda: shell, raising=False)
    handles = []

    def show(content, *, raw, display_id):
        assert raw
        assert display_id
        handles.append(Handle(content))
        return handles[-1]

    monkeypatch.setattr(display, "display", show)
    return outputs


def test_bars_are_one_output_that_ends_empty(shown, capsys, monkeypatch):
    """Without ipywidgets, which rich needs; nothing goes to stderr, which a notebook has in red."""
    monkeypatch.setattr("imgcls.output.bars._DRAWN_EVERY_S", 0)
    console = shown_console(None)
    assert console.live
    with console.progress("Scoring") as on_batch:
        on_batch(1, 3)
        on_batch(2, 3)
        console.say("half-way")
    [drawn] = shown.values()
    assert "Scoring" in drawn[-2]["text/html"]
    assert "2/3" in drawn[-2]["text/html"]
    assert drawn[-1] == {"text/html": "", "text/plain": ""}
    assert capsys.readouterr() == ("half-way\n", "")


def test_epochs_are_listed_below_the_bars_of_a_training(shown, capsys, tmp_path):
    """The bars come first, since what is printed behind an output stands below it."""
    outputs_at_header = []
    console = Console()
    say = console.say
    console.say = lambda text, **more: (outputs_at_header.append(len(shown)), say(text, **more))
    with TrainingView(console) as view:
        view(FoldStarted(0, (0,), tmp_path, 2, 5, 1, 0, 0, (), "val_loss", calibrates=False))
        view(StepDone(1, 1, 0.5, 0.1, 8))
    assert set(outputs_at_header) == {1}
    assert len(shown) == 1
    out, err = capsys.readouterr()
    assert "epoch" in out
    assert err == ""


def test_each_pass_over_val_begins_anew(shown, tmp_path):
    """Weights part of the way are validated one after the other: no bar counts past its end."""
    with TrainingView(Console()) as view:
        view(FoldStarted(0, (0,), tmp_path, 2, 5, 2, 0, 0, (), "val_loss", calibrates=False))
        for _ in range(3):
            view(ValidationBatchDone(2, 8))
        bar = view._bars.tasks[1]
        assert (bar.completed, bar.total) == (1, 2)


def test_calls_are_quiet_where_nothing_can_be_drawn():
    """In a script whose stderr is a file, unless progress is asked for."""
    assert shown_console(None).quiet
    assert not shown_console(progress=True).quiet


def test_progress_false_is_quiet_in_a_notebook_too(shown):
    """For a loop of many calls."""
    assert not shown_console(None).quiet
    assert shown_console(progress=False).quiet
