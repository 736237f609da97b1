"""Where output goes: results to stdout, everything else to stderr."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console as RichConsole
from rich.console import RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from imgcls.results import to_plain


class Console:
    """Two streams with one taste. `quiet` leaves results, warnings and errors.

    `json` makes stdout one JSON document. Colours and bars appear on a terminal only; rich honours
    NO_COLOR itself.
    """

    def __init__(self, *, quiet: bool = False, json: bool = False) -> None:
        self.quiet = quiet
        self.json = json
        self.out = RichConsole(file=sys.stdout, highlight=False, soft_wrap=not sys.stdout.isatty())
        self.err = RichConsole(file=sys.stderr, highlight=False, soft_wrap=not sys.stderr.isatty())

    @property
    def live(self) -> bool:
        """True when bars can be drawn and redrawn."""
        return self.err.is_terminal and not self.quiet

    def say(self, text: RenderableType, *, transient: bool = False) -> None:
        """Tell how things go. Transient text is for people who wait at a terminal."""
        if self.quiet or (transient and not self.err.is_terminal):
            return
        self.err.print(text)

    def warn(self, text: str) -> None:
        """Tell what the user should know, also when quiet."""
        self.err.print(f"note: {text}", markup=False, style="yellow")

    def result(self, document: Any, *texts: RenderableType) -> None:
        """Give the result: the document with --json, otherwise the texts."""
        if self.json:
            sys.stdout.write(json.dumps(to_plain(document), ensure_ascii=False) + "\n")
            return
        for text in texts:
            self.out.print(text)

    @contextlib.contextmanager
    def progress(self, title: str) -> Iterator[Callable[[int, int], None]]:
        """A bar while the block runs; call the function with (done, total)."""
        if not self.live:
            yield lambda _done, _total: None
            return
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.err,
            transient=True,
        )
        with bar:
            task = bar.add_task(title, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
