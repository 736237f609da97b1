"""Progress bars of a terminal, and of a notebook's cell."""

from __future__ import annotations

import io
import sys
import time
from typing import Any

from rich.console import Console as RichConsole
from rich.progress import Progress, TaskID

_WIDTH = 100
_DRAWN_EVERY_S = 0.2
_HTML = '<pre style="white-space:pre;overflow-x:auto;line-height:normal">{code}</pre>'


def in_notebook() -> bool:
    """True in a cell of Jupyter, Colab and the like, which show HTML."""
    return "IPython" in sys.modules and RichConsole().is_jupyter


class NotebookBars(Progress):
    """Bars in one output of a cell, drawn again in its place, and gone at their end.

    rich's own need the package ipywidgets, and without it leave a copy of themselves at each step.
    """

    _handle: Any = None
    _drawn_at_s = 0.0

    def start(self) -> None:
        """Draw them."""
        from IPython.display import display

        self._handle = display(self._html(), raw=True, display_id=True)

    def stop(self) -> None:
        """Take them away."""
        if self._handle is not None:
            self._handle.update({"text/html": "", "text/plain": ""}, raw=True)
            self._handle = None

    def refresh(self) -> None:
        """Draw them again, but for those that were drawn just now."""
        now_s = time.monotonic()
        if self._handle is not None and now_s - self._drawn_at_s > _DRAWN_EVERY_S:
            self._drawn_at_s = now_s
            self._handle.update(self._html(), raw=True)

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """Change a bar."""
        super().update(task_id, **changes)
        self.refresh()

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Move a bar on."""
        super().advance(task_id, advance)
        self.refresh()

    def _html(self) -> dict[str, str]:
        console = RichConsole(
            file=io.StringIO(), record=True, width=_WIDTH, force_terminal=True, force_jupyter=False
        )
        console.print(self.get_renderable())
        page = console.export_html(inline_styles=True, code_format=_HTML, clear=False)
        return {"text/html": page, "text/plain": console.export_text()}
