"""Command-line options made from config fields: one declaration feeds both."""

from __future__ import annotations

import gc
import inspect
import itertools
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from imgcls.cli.help import ONE_OF, OTHER, GroupedCommand, help_all
from imgcls.config.base import (
    Config,
    OptionField,
    default_text,
    option_fields,
    words_instead_of_a_list,
)
from imgcls.config.load import load_config

ConfigT = TypeVar("ConfigT", bound=Config)

_LONGEST_METAVAR = 40


@dataclass(frozen=True)
class Common:
    """What every command may be told about its own output."""

    quiet: bool
    json: bool


def add_command(
    app: typer.Typer,
    name: str,
    config_class: type[ConfigT],
    body: Callable[..., None],
    *,
    with_file: bool = False,
    with_json: bool = True,
    extra: tuple[inspect.Parameter, ...] = (),
    examples: tuple[str, ...] = (),
    second_words: Mapping[str, str] | None = None,
    quick: bool = False,
) -> None:
    """Register `body(config, common, **extra)` as a command with the config's options.

    examples: command lines that the help shows. second_words: see GroupedCommand. quick: what it
    makes lives to its end, which comes soon. Options that were not typed are left to `--set`, the
    config file and the defaults.
    """
    options = list(option_fields(config_class))
    # typer inspects each function that completes, which takes a twentieth of a help's time
    completing = any(name.endswith("_COMPLETE") for name in os.environ)
    parameters = [
        parameter
        for option in options
        for parameter in _parameters(option, completing=completing, instead=second_words or {})
    ]
    parameters += [*extra, *_common_parameters(with_file=with_file, with_json=with_json)]
    shown = tuple(map(_python_name, config_class.COMMON))
    if shown:
        parameters.append(help_all())

    def command(**values: Any) -> None:
        common = Common(values.pop("quiet"), values.pop("json", False))
        values.pop("debug")
        values.pop("help_all", None)
        file, settings = values.pop("config", None), values.pop("set", None) or []
        own = {parameter.name: values.pop(parameter.name) for parameter in extra}
        if not quick:
            gc.enable()
        body(load_config(config_class, file, settings, _typed(options, values)), common, **own)

    # typer reads the options off the signature
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    # after \b a paragraph keeps its lines
    shown_examples = ["\b\nExamples:", *(f"  {line}" for line in examples)] if examples else []
    command.__doc__ = "\n\n".join([inspect.getdoc(body) or "", "\n".join(shown_examples)]).rstrip()
    more = {"common": shown, "second_words": second_words or {}}
    kind = type("Command", (GroupedCommand,), more)
    app.command(name, cls=kind)(command)


def new_app() -> typer.Typer:
    """An app for one verb's module, with the settings all verbs share."""
    return typer.Typer(
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )


def _python_name(path: str) -> str:
    return path.replace(".", "__")


def _typed(options: list[OptionField], values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted path -> value for what was typed, under its own name or an alias."""
    typed: dict[str, Any] = {}
    for option in options:
        name = _python_name(option.path)
        names = [name, *(f"{name}__alias{i}" for i in range(len(option.flag.aliases)))]
        given = [values[n] for n in names if values.get(n) not in (None, [])]
        if given:
            value = ",".join(itertools.chain(*given)) if _may_repeat(option) else given[0]
            typed[option.path] = split_at_commas(option, value)
    return typed


def _may_repeat(option: OptionField) -> bool:
    """Whether an option that is typed twice has both values, as with a comma between them."""
    return (option.is_list or option.is_mapping) and not option.flag.positional


def split_at_commas(option: OptionField, value: Any) -> Any:
    """The value, commas in it taken for a list or a mapping where the option wants one."""
    if option.flag.positional or not isinstance(value, str):
        return value
    if option.is_list and value not in words_instead_of_a_list(option.field):
        return tuple(part.strip() for part in value.split(","))
    if option.is_mapping:
        pairs = [part.partition("=") for part in value.split(",")]
        names = [name.strip() for name, _, _ in pairs]
        # what is no list of different names is refused as it was typed
        if all(sign for _, sign, _ in pairs) and len(set(names)) == len(names):
            return dict(zip(names, (number for _, _, number in pairs), strict=True))
    return value


def _parameters(
    option: OptionField, *, completing: bool, instead: Iterable[str]
) -> list[inspect.Parameter]:
    """instead: the words that a shell offers where a positional argument stands."""
    if not option.flag.exposed:
        return []
    name, words, metavar = _python_name(option.path), option.words, _metavar(option)
    completion = (lambda: list(words)) if completing and words else None
    if option.flag.positional:
        argument = typer.Argument(
            metavar=option.flag_names[0].removeprefix("--").upper(),
            help=_help(option, metavar),
            show_default=False,
            autocompletion=(lambda: list(instead)) if completing and instead else None,
            rich_help_panel="Arguments",
        )
        return [_parameter(name, list[str] if option.is_list else str, argument)]
    short = (option.flag.short,) if option.flag.short else ()
    main = typer.Option(
        *_declarations(option, option.flag_names),
        *short,
        help=_help(option, metavar),
        metavar=None if option.is_switch else metavar,
        show_default=False,
        autocompletion=completion,
        rich_help_panel=_panel(option),
    )
    value_type: Any = bool if option.is_switch else str
    if _may_repeat(option):
        value_type = list[str]
    aliases = [
        _parameter(
            f"{name}__alias{i}",
            value_type,
            typer.Option(*_declarations(option, (alias,)), hidden=True),
        )
        for i, alias in enumerate(option.flag.aliases)
    ]
    return [_parameter(name, value_type, main), *aliases]


def _parameter(name: str, value_type: type, info: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[value_type | None, info],
    )


def _declarations(option: OptionField, names: tuple[str, ...]) -> tuple[str, ...]:
    if not option.is_switch:
        return names
    return tuple(f"{name}/--no-{name.removeprefix('--')}" for name in names)


def _help(option: OptionField, metavar: str) -> str:
    default = default_text(option.field)
    text = option.field.description or ""
    if metavar == "NAME" and not option.flag.positional:
        text = f"{text}{ONE_OF}{', '.join(option.words)}."
    return f"{text} [default: {default}]" if default is not None else text


def _metavar(option: OptionField) -> str:
    if option.flag.metavar is not None:
        return option.flag.metavar
    if option.is_mapping:
        return "NAME=NUMBER,..."
    words = "|".join(option.words)
    plain = next(
        (word for kind, word in _METAVARS.items() if kind in option.kinds), "" if words else "TEXT"
    )
    metavar = "|".join(filter(None, (plain, words)))
    if len(metavar) > _LONGEST_METAVAR:
        return "NAME"
    return f"{metavar},..." if option.is_list else metavar


_METAVARS = {Path: "PATH", int: "INT", float: "FLOAT"}


def _panel(option: OptionField) -> str:
    group = option.group.replace("_", " ").capitalize()
    return f"{group} options" if group else "Options"


def _common_parameters(*, with_file: bool, with_json: bool) -> list[inspect.Parameter]:
    panel = OTHER
    file = [
        _parameter(
            "config",
            Path,
            typer.Option(
                "--config",
                "-c",
                metavar="FILE",
                help="Read options from a YAML file; typed ones win.",
                rich_help_panel=panel,
            ),
        ),
        _parameter(
            "set",
            list[str],
            typer.Option(
                "--set",
                metavar="GROUP.NAME=VALUE",
                help="Set any option by its name; may be repeated.",
                rich_help_panel=panel,
            ),
        ),
    ]
    json = [_switch("json", "Print one JSON document on stdout and nothing else there.")]
    return [
        *(file if with_file else []),
        *(json if with_json else []),
        _switch("quiet", "Print results, warnings and errors only.", "-q"),
        _switch("debug", "Show the traceback of an error."),
    ]


def _switch(name: str, text: str, *short: str) -> inspect.Parameter:
    return flag_parameter(name, f"--{name}", *short, text=text)


def flag_parameter(name: str, *declarations: str, text: str) -> inspect.Parameter:
    """A plain on/off option that is not part of any config."""
    info = typer.Option(*declarations, help=text, show_default=False, rich_help_panel=OTHER)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, info]
    )
