"""The `imgcls` command and its table of verbs; a verb's module loads when it is called."""

from __future__ import annotations

import importlib
import keyword
from collections.abc import Sequence
from typing import Annotated, Any, cast

import typer
from typer.core import TyperGroup
from typer.main import get_command as command_of

VERBS = {
    "inspect": "Find what is wrong with a data set before training on it.",
    "train": "Fine-tune a model on a folder of labelled pictures.",
    "evaluate": "Score a trained model on a split: metrics, pictures, report.",
    "predict": "Classify pictures with a trained model: a row for each.",
    "export": "Write a trained model as files that other programs run.",
    "report": "Draw an evaluated split: pictures and one HTML page.",
    "benchmark": "Time a model: latency, throughput, memory.",
    "tune": "Search for better settings by training many times.",
    "resume": "Go on with an unfinished run, exactly where it stopped.",
    "runs": "List runs; show one, compare two, remove what is not needed.",
    "import": "Make a checkpoint of what another trainer saved.",
    "list-models": "List models to train; search all of timm.",
}
# what a verb does beside its own, by a second word; imgcls.cli.runs has app, show_app ...
SECOND_WORDS = {
    "runs": {
        "show": "Show one run: settings, data, best epoch, evaluations, checkpoints.",
        "diff": "Compare two runs: settings, data, metrics on the same pictures.",
        "prune": "Remove old checkpoints, caches and what killed commands left.",
    },
}
COMMANDS = (*VERBS, *(f"{verb} {word}" for verb, words in SECOND_WORDS.items() for word in words))


class LazyGroup(TyperGroup):
    """A group that imports a verb's module only when that verb is called or completed."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  typer's signature
        """The verbs, in the order of the table."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002  typer's signature
        """The verb's command, or None for a word that is no verb."""
        return command_of(_app_of(cmd_name)) if cmd_name in COMMANDS else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  typer's signature
        """The verbs with a line each, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The verb that was typed; a near miss is answered with the nearest one."""
        if (command := _command_in(args)) is not None:
            return command, self.get_command(ctx, command), args[len(command.split()) :]
        # typer suggests from these names
        self.commands = cast("Any", dict.fromkeys(VERBS))
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=LazyGroup,
    name="imgcls",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def app_for(arguments: Sequence[str]) -> tuple[typer.Typer, str, list[str]]:
    """(the app to run, its name, its arguments): a verb's own app where a verb comes first.

    The group would first read its own options, which takes a fifth of the time of a verb's help.
    """
    if (command := _command_in(arguments)) is not None:
        rest = list(arguments[len(command.split()) :])
        return _app_of(command), f"imgcls {command}", rest
    return app, "imgcls", list(arguments)


def _command_in(arguments: Sequence[str]) -> str | None:
    """The command that they begin with, of two words where there is one; None for none."""
    typed = (" ".join(arguments[:words]) for words in (2, 1))
    return next((command for command in typed if command in COMMANDS), None)


def _app_of(command: str) -> typer.Typer:
    verb, _, word = command.partition(" ")
    # no module that is imported by name can be called `import`
    name = f"{verb}_" if keyword.iskeyword(verb) else verb.replace("-", "_")
    module = importlib.import_module(f"imgcls.cli.{name}")
    return cast("typer.Typer", getattr(module, f"{word}_app" if word else "app"))


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"imgcls {version('imgcls')}")
        raise typer.Exit


@app.callback()
def imgcls(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Turn a folder of labelled pictures into an image classifier you can trust.

    Start with `imgcls train`: without a folder it trains on 1,797 embedded pictures of digits.
    """
