"""Where output goes: results to stdout, everything else to stderr."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from imgcls.output.text import visible
from imgcls.results.record import to_plain
from imgcls.storage.durable import strict_json

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.console import RenderableType
    from rich.progress import Progress, ProgressColumn
    from rich.text import Text

_PIPE_WIDTH = 1000


class Console:
    """The two output streams, with one style. `quiet` leaves results, warnings and errors.

    `json` makes stdout one JSON document. Colours and bars appear on a terminal only; rich honours
    NO_COLOR itself. Plain texts are written as they are, without rich, which takes longer to load
    than some commands take to answer.
    """

    def __init__(self, *, quiet: bool = False, json: bool = False) -> None:
        self.quiet = quiet
        self.json = json

    @cached_property
    def out(self) -> RichConsole:
        """Standard output, for tables and panels."""
        return _rich_console(sys.stdout)

    @cached_property
    def err(self) -> RichConsole:
        """Standard error, for bars and notes; in a notebook, where that is red, standard output."""
        return _rich_console(self._aside)

    @property
    def live(self) -> bool:
        """True when bars can be drawn and redrawn."""
        return not self.quiet and (self._in_notebook or self.err.is_terminal)

    @cached_property
    def _in_notebook(self) -> bool:
        if "IPython" not in sys.modules:
            return False
        from imgcls.output.bars import in_notebook

        return in_notebook()

    @property
    def _aside(self) -> TextIO:
        return sys.stdout if self._in_notebook else sys.stderr

    def bars(self, *columns: ProgressColumn) -> Progress:
        """Bars with these columns, where they are `live`; they are gone when they are stopped."""
        from rich.progress import Progress

        from imgcls.output.bars import NotebookBars

        kind = NotebookBars if self._in_notebook else Progress
        return kind(*columns, console=self.err, transient=True)

    def say(self, text: RenderableType, *, transient: bool = False) -> None:
        """Tell how things go. Transient text is for people who wait at a terminal."""
        if self.quiet or (transient and not sys.stderr.isatty()):
            return
        if isinstance(text, str):
            # bars that are being drawn put themselves below it: rich stands in for sys.stderr
            _line(self._aside, text)
        else:
            self.err.print(text)

    def warn(self, text: str) -> None:
        """Tell what the user should know, also when quiet."""
        # one line as the terminal folds it: paths in it are copied whole
        self.err.print(f"note: {text}", style="yellow", soft_wrap=True)

    def path(self, label: str, text: str) -> None:
        """Give a path or command as a line of its own that can be copied whole."""
        if self.json:
            return
        line = f"{label:<13} {text}"
        # what would be broken at the edge of a terminal starts at its left edge instead
        if sys.stdout.isatty() and len(line) > shutil.get_terminal_size().columns:
            line = f"{label}\n{text}"
        _line(sys.stdout, line)

    def open(self, page: Path) -> None:
        """Show a page in the reader's browser, or say that there is none."""
        import webbrowser

        if not webbrowser.open(page.absolute().as_uri()):
            self.warn(f"no browser was found; open {page} in one")

    def result(self, document: Any, *texts: RenderableType) -> None:
        """Give the result: the document with --json, otherwise the texts."""
        if self.json:
            sys.stdout.write(_encodable(strict_json(to_plain(document))) + "\n")
            return
        for text in texts:
            if isinstance(text, str):
                _line(sys.stdout, text)
            else:
                self.out.print(text)

    def rows(self, content: bytes) -> bool:
        """Give a part of the result as it is; False where it is not taken any more."""
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        # see GuardedStreams
        raw = getattr(sys.stdout.buffer, "raw", None)
        return getattr(raw, "failure", None) is None

    @contextlib.contextmanager
    def progress(
        self, title: str, unit: str | None = None
    ) -> Iterator[Callable[[int, int | None], None]]:
        """A bar while the block runs; call the function with (done, total or None).

        unit: what is done, to tell how many there are in a second.
        """
        if not self.live:
            yield lambda _done, _total: None
            return
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

        bar = self.bars(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[count]}"),
            TimeRemainingColumn(),
        )
        with bar:
            # how many there will be is not known before the first call
            task = bar.add_task(title, total=None, count="")
            first: tuple[int, float] | None = None
            last = 0

            def update(done: int, total: int | None) -> None:
                nonlocal first, last
                count = f"{done:,}" + ("" if total is None else f"/{total:,}")
                if first is None or done < last:  # of something else from here on
                    first = done, time.monotonic()
                    bar.reset(task)
                last = done
                passed_s = time.monotonic() - first[1]
                if unit is not None and passed_s > 0:
                    count += f" {(done - first[0]) / passed_s:,.0f} {unit}/s"
                bar.update(task, completed=done, total=total, count=count)

            yield update


def shown_console(progress: bool | None) -> Console:
    """A console for a call from Python, quiet without progress; None: shown where bars can be."""
    console = Console()
    return Console(quiet=not (console.live if progress is None else progress))


def _encodable(document: str) -> str:
    r"""The JSON text, with \u escapes for what standard output cannot encode."""
    try:
        document.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(json.loads(document))
    return document


def _line(stream: TextIO, text: str) -> None:
    stream.write(visible(text) + "\n")
    stream.flush()


def _rich_console(stream: TextIO) -> RichConsole:
    from rich.console import Console as RichConsole

    class SafeConsole(RichConsole):
        """Takes every text as it is spelt: a class may be called [/b] or :smile:, or hold ESC."""

        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(visible(text), **options)

    # in a pipe nothing is folded or cut: another program may read it
    return SafeConsole(
        file=stream,
        markup=False,
        emoji=False,
        highlight=False,
        # a notebook's cell gets text, too: rich would show it as HTML, whatever the file is
        force_jupyter=False,
        width=None if stream.isatty() else _PIPE_WIDTH,
    )
