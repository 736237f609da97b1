"""What is told on a terminal."""

from __future__ import annotations

import io

from rich.console import Console as RichConsole

from imgcls.report.console import Console


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
