"""The one place where errors become a line on stderr and an exit code."""

from __future__ import annotations

import contextlib
import re
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import typer

from imgcls.cli.hints import instead_of, too_many, verb_instead_of
from imgcls.cli.processes.launch import CommandEnded
from imgcls.engine.device.launch import are_several
from imgcls.engine.training.interrupt import SignalledError, end_on_signals
from imgcls.errors import ImgclsError
from imgcls.output.text import visible

# what typer makes of Ctrl-C in a command, without a word
_STOPPED = 128 + signal.SIGINT


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code. `--debug` shows tracebacks.

    Of several processes that were started together one runs it, and the others serve that one.
    """
    if not are_several():
        try:
            return _run_alone(arguments)
        except CommandEnded as ended:
            return ended.exit_code
    from imgcls.cli.processes.serve import run_together

    return run_together(arguments, _run_alone)


def _run_alone(arguments: Sequence[str]) -> int:
    from imgcls.cli.app import app_for

    debug = "--debug" in arguments
    try:
        Path.cwd()
    except FileNotFoundError:
        return _report("the current folder is gone, so no path can be told; `cd` to another one", 2)
    try:
        with end_on_signals(), _own_warnings_as_notes():
            app, name, rest = app_for(arguments)
            code = app(args=rest, prog_name=name, standalone_mode=False)
            sys.stdout.flush()
    except ImgclsError as error:
        if debug:
            _print_traceback()
        for line in error.details:
            sys.stderr.write(visible(" ".join(line.splitlines())) + "\n")
        return _report(str(error), error.exit_code)
    except (SignalledError, typer.Abort) as error:
        number = getattr(error, "signal_number", signal.SIGINT)
        return _report(f"stopped by {signal.Signals(number).name}", 128 + number)
    except typer.TyperException as error:
        return _report_usage(error, list(arguments[1:]))
    except Exception as error:  # noqa: BLE001  a defect of ours still ends in one line
        if debug:
            _print_traceback()
        return _report_unexpected(error)
    if code == _STOPPED:
        _report("stopped by SIGINT", code)
    return code if isinstance(code, int) else 0


@contextlib.contextmanager
def _own_warnings_as_notes() -> Iterator[None]:
    """Print imgcls's own warnings as one line for a person, without a place in the code."""
    shown = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any) -> None:
        if category.__module__.startswith("imgcls."):
            sys.stderr.write(visible(f"note: {' '.join(str(message).splitlines())}") + "\n")
        else:
            shown(message, category, *place)

    warnings.showwarning = cast("Any", show)
    try:
        yield
    finally:
        warnings.showwarning = shown


def _report_unexpected(error: Exception) -> int:
    what = " ".join(f"{type(error).__name__}: {error}".split())
    # by name, because torch is not loaded for it
    if isinstance(error, MemoryError) or any(
        name in what for name in ("OutOfMemoryError", "DefaultCPUAllocator")
    ):
        said = what.removesuffix(":")
        return _report(f"out of memory; take a smaller model, batch or data set ({said})", 1)
    return _report(f"unexpected error, please report it; --debug shows more: {what}", 1)


def _print_traceback() -> None:
    import traceback

    traceback.print_exc()


def _report_usage(error: typer.TyperException, arguments: Sequence[str]) -> int:
    message = getattr(error, "format_message", lambda: str(error))()
    context = getattr(error, "ctx", None)
    kind = type(error).__name__
    if kind == "NoArgsIsHelpError":
        typer.echo(message)
        return 0
    if context is not None:
        message = _in_words(error, kind, message, arguments, context.command)
    hint = f" (see `{context.command_path} --help`)" if context is not None else ""
    return _report(f"{message}{hint}", 2)


def _in_words(error: Any, kind: str, message: str, arguments: Sequence[str], command: Any) -> str:
    """What was wrong with the command line, and what to type instead."""
    extra = re.fullmatch(r"Got unexpected extra argument(?:s|\(s\))? \((.*)\)", message, re.DOTALL)
    if extra:
        return too_many(extra[1], arguments, command)
    verb = re.match(r"No such command '(.*?)'", message)
    if verb and (better := verb_instead_of(verb[1])):
        return f"no command {verb[1]!r}; {better}"
    option = getattr(error, "option_name", None)
    if kind == "NoSuchOption" and option:
        better = instead_of(option, command)
        return f"{error.message}; {better}" if better else str(error.message)
    # ours alone: no option of ours has a type that typer checks
    return str(error.message) if kind == "BadParameter" else message


def _report(message: str, exit_code: int) -> int:
    sys.stderr.write("imgcls: " + visible(" ".join(message.splitlines())) + "\n")
    return exit_code
