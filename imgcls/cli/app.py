"""The `imgcls` command and its table of verbs; a verb's module loads when it is called."""

from __future__ import annotations

import importlib
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
    "list-models": "List models to train; search all of timm.",
}


class LazyGroup(TyperGroup):
    """A group that imports a verb's module only when that verb is called or completed."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  typer's signature
        """The verbs, in the order of the table."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002  typer's signature
        """The verb's command, or None for a word that is no verb."""
        return command_of(_verb_app(cmd_name)) if cmd_name in VERBS else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  typer's signature
        """The verbs with a line each, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The verb that was typed; a near miss is answered with the nearest one."""
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
    if arguments and arguments[0] in VERBS:
        return _verb_app(arguments[0]), f"imgcls {arguments[0]}", list(arguments[1:])
    return app, "imgcls", list(arguments)


def _verb_app(verb: str) -> typer.Typer:
    module = importlib.import_module(f"imgcls.cli.{verb.replace('-', '_')}")
    return cast("typer.Typer", module.app)


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
