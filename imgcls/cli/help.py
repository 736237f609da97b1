"""The help of a command: the common options on one screen, all of them by `--help-all`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from imgcls.cli.hints import misplaced

OTHER = "Other options"
ONE_OF = " One of: "
_WHOLE_HELP = "imgcls.whole_help"
_WIDEST_NAMES = 26


class GroupedCommand(TyperCommand):
    """A command whose help shows its common options; --help-all all of them, by their groups."""

    common: tuple[str, ...] = ()
    """The parameters that `--help` shows, in its order; empty where it shows all."""
    second_words: Mapping[str, str] = MappingProxyType({})
    """What else the command does, by a second word, with a line on each."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments; refuse a value that is missing, or stands where none goes."""
        # a shell that completes a word asks with the value still missing
        wrong = None if ctx.resilient_parsing else misplaced(args, self)
        if wrong is not None:
            raise typer.BadParameter(wrong, ctx)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write one section for each group, in the order of declaration; or the common ones."""
        short = bool(self.common) and not ctx.meta.get(_WHOLE_HELP, False)
        shown = self._common(ctx) if short else self.get_params(ctx)
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in shown:
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            names, text = record
            panel = getattr(parameter, "rich_help_panel", None) or OTHER
            if parameter.param_type_name == "argument":
                names = str(parameter.metavar)
            elif short and panel != OTHER:
                panel = "Common options"
                names, text = names.partition(" / ")[0], _first(text)
            sections.setdefault(panel, []).append((names, text))
        for panel, records in sections.items():
            with formatter.section(panel):
                formatter.write_dl(records, col_max=_WIDEST_NAMES)
        if self.second_words:
            with formatter.section("Commands"):
                named = [(f"{self.name} {word}", text) for word, text in self.second_words.items()]
                formatter.write_dl(named, col_max=_WIDEST_NAMES)
        if short:
            visible = [p for p in self.get_params(ctx) if not getattr(p, "hidden", False)]
            left = len(visible) - len(shown)
            formatter.write_paragraph()
            formatter.write_text(f"{left} more options, and more about these: --help-all")

    def _common(self, ctx: Any) -> list[Any]:
        """The common parameters in their order, then what every command takes."""
        by_name = {parameter.name: parameter for parameter in self.get_params(ctx)}
        others = [
            parameter
            for name, parameter in by_name.items()
            if name not in self.common
            and not getattr(parameter, "hidden", False)
            and (getattr(parameter, "rich_help_panel", None) or OTHER) == OTHER
        ]
        return [*(by_name[name] for name in self.common), *others]


def _first(text: str) -> str:
    """The first sentence of an option's help, with its choices and its default."""
    said, bracket, default = text.partition(" [default: ")
    said, one_of, words = said.partition(ONE_OF)
    ends = [at for mark in (". ", "; ") if (at := said.find(mark)) >= 0]
    said = said[: min(ends)] if ends else said
    end = "" if said.endswith(("?", ".")) else "."
    default = f"{bracket}{default}" if default not in ("off]", "") else ""
    return f"{said}{end}{one_of}{words}{default}"


def help_all() -> inspect.Parameter:
    """The option `--help-all`."""

    def show(context: typer.Context, wanted: bool) -> None:
        if wanted:
            context.meta[_WHOLE_HELP] = True
            typer.echo(context.get_help(), color=context.color)
            raise typer.Exit

    info = typer.Option(
        "--help-all",
        callback=show,
        is_eager=True,
        help="Show all options, in full.",
        show_default=False,
        rich_help_panel=OTHER,
    )
    return inspect.Parameter(
        "help_all", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, info]
    )
