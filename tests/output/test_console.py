"""What is told on a terminal."""

from __future__ import annotations

import io

from conftest import OFFLINE
from rich.console import Console as RichConsole

from imgcls.engine.training.events import EpochDone, FoldStarted, StepDone, ValidationBatchDone
from imgcls.output.console import Console
from imgcls.output.screens.training import TrainingView
from imgcls.storage.tables import HISTORY_COLUMNS


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


def test_what_is_copied_starts_at_the_left_edge_where_a_label_would_break_it(monkeypatch):
    """A command of 70 characters stays whole at 80 columns; a pipe has one line for each."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    command = "imgcls evaluate " + "x" * 54
    for stream, shown in (
        (Terminal(), f"Next\n{command}\nNext          short\n"),
        (io.StringIO(), f"Next          {command}\nNext          short\n"),
    ):
        monkeypatch.setattr("sys.stdout", stream)
        monkeypatch.setenv("COLUMNS", "80")
        Console().path("Next", command)
        Console().path("Next", "short")
        assert stream.getvalue() == shown


def test_folds_say_once_how_the_best_epoch_is_chosen(capsys, tmp_path):
    """Each has its titles, the rule is the same for all."""
    with TrainingView(Console()) as view:
        for fold in (0, 1):
            view(FoldStarted(fold, (0, 1), tmp_path, 2, 2, 3, 0, 0, (), "val_loss",
                             calibrates=False))  # fmt: skip
    told = capsys.readouterr().err
    assert told.count("Best: lowest val loss.") == 1
    assert told.count("train loss") == 2
    assert "Fold 1 (2 of 2)" in told


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


def test_the_output_of_a_plan_is_copied_whole(command, tmp_path, monkeypatch):
    """On a terminal of 80 columns, too, its path is one line."""
    monkeypatch.setattr("imgcls.output.console._PIPE_WIDTH", 80)
    output = tmp_path / "-".join(["a-folder-with-a-long-name"] * 5)
    done = command("train", *OFFLINE, "--epochs", "1", "--dry-run", "--output", output)
    assert done.code == 0, done.err
    [line] = [line for line in done.out.splitlines() if line.startswith("Output")]
    assert line.split()[1].startswith(str(output))
