"""What is told on a terminal."""

from __future__ import annotations

import io

from rich.console import Console as RichConsole

from imgcls.engine.events import EpochDone, FoldStarted, StepDone, ValidationBatchDone
from imgcls.report.console import Console
from imgcls.report.files import HISTORY_COLUMNS
from imgcls.report.training import TrainingView


def test_a_bar_has_no_count_before_there_is_one_and_then_the_whole(monkeypatch):
    """Never 0/?: nothing, then 0/1,234 before the first picture is done."""
    console = Console()
    screen = io.StringIO()
    terminal = RichConsole(file=screen, force_terminal=True, width=80, color_system=None)
    monkeypatch.setattr(Console, "err", terminal)
    with console.progress("Checking") as on_picture:
        assert "Checking" in screen.getvalue()
        assert "/" not in screen.getvalue()
        on_picture(0, 1234)
    assert "0/1,234" in screen.getvalue()
    assert "?" not in screen.getvalue().replace("\x1b[?25", "")


def test_the_bar_of_an_epoch_counts_its_steps_and_validation_has_its_own(monkeypatch, tmp_path):
    """2 steps as the plan says, then 3 validation batches, then steps again."""
    console = Console()
    screen = io.StringIO()
    terminal = RichConsole(file=screen, force_terminal=True, width=100, color_system=None)
    monkeypatch.setattr(Console, "err", terminal)
    row = dict.fromkeys(HISTORY_COLUMNS, 0.5)
    with TrainingView(console) as view:

        def shown():
            screen.seek(0)
            screen.truncate()
            view._bars.refresh()
            return screen.getvalue()

        view(FoldStarted(0, (0,), tmp_path, 2, 2, 3, 0, 0, (), "val_loss", calibrates=False))
        for step in (1, 2):
            view(StepDone(1, step, 0.5, 0.1, 16))
            assert f"{step}/2 loss 0.500" in shown()
        for batch in (1, 2, 3):
            view(ValidationBatchDone(1, 16))
            lines = shown()
            assert "validating" in lines
            assert f"{batch}/3" in lines
        view(EpochDone(1, True, (row,)))
        assert "training" in shown()
