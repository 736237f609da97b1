"""Options as keywords of a call: one declaration feeds the command line and Python."""

from __future__ import annotations

import contextlib
import difflib
import functools
import inspect
import os
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin

from imgcls.api.one_process import require_one_process
from imgcls.config.base import Config, OptionField, option_fields, words_instead_of_a_list
from imgcls.config.load import load_config
from imgcls.config.other_names import OTHER_NAMES
from imgcls.data.loading.workers import end_where_main_is_run_again
from imgcls.errors import ConfigError, ImgclsError

ResultT = TypeVar("ResultT")
ConfigT = TypeVar("ConfigT", bound=Config)

_LIKENESS = 0.6
_NOT_GIVEN: Any = object()
_NAMES = {NoneType: "None", Any: "Any"}


class _Text(str):
    """An annotation that is shown as it is written, as in the stub."""

    __slots__ = ()

    __repr__ = str.__str__


def keyword_options(config_class: type[Config], *, only: Sequence[str] = ()) -> dict[str, Any]:
    """Each keyword of a call with its OptionField, the common ones first.

    A keyword is the option's name on the command line, with underscores. only: paths of options.
    """
    options = [one for one in option_fields(config_class) if not only or one.path in only]
    common = config_class.COMMON or [one.path for one in options]
    options.sort(key=lambda one: (not one.flag.positional, one.path not in common))
    found: dict[str, OptionField] = {}
    for option in options:
        found.setdefault(_keyword(option.flag_names[0]), option)
    return found


def keyword_config(
    config_class: type[ConfigT], options: Mapping[str, OptionField], values: Mapping[str, Any]
) -> ConfigT:
    """The config of these keywords. Raises ConfigError that names the keyword and what it takes."""
    aliases = {_keyword(alias): n for n, one in options.items() for alias in one.flag.aliases}
    paths: dict[str, Any] = {}
    for keyword, value in values.items():
        name = aliases.get(keyword, keyword)
        if name not in options:
            raise ConfigError(f"{keyword}: no such keyword{meant(keyword, options)}")
        paths[options[name].path] = _as_typed(options[name], value)
    try:
        return load_config(config_class, options=paths)
    except ConfigError as error:
        raise ConfigError(_in_keywords(str(error), options)) from None


def keyword_call(
    config_class: type[ConfigT],
    *,
    only: Sequence[str] = (),
    trains: bool = False,
    without_torch: bool = False,
    **defaults: Any,
) -> Callable[[Callable[..., ResultT]], Callable[..., ResultT]]:
    """Let `body(config, ...)` be called by keywords, or by a config in the first place.

    Its signature and its docstring show the options with their types, defaults and descriptions.
    only: paths of the options that it takes. defaults: those that differ from the options' own.
    trains: see `training_apart`. without_torch: of a body that loads none; behind any other TF32 is
    as it was. Errors of the body name options by their keywords.
    """

    def decorate(body: Callable[..., ResultT]) -> Callable[..., ResultT]:
        options = keyword_options(config_class, only=only)
        first = next(iter(options))
        _, *own = inspect.signature(body).parameters.values()
        placed = [p.name for p in own if p.kind is p.POSITIONAL_OR_KEYWORD]

        @functools.wraps(body)
        def call(*given: Any, **keywords: Any) -> ResultT:
            end_where_main_is_run_again()
            if len(given) > 1 + len(placed):
                raise TypeError(
                    f"{body.__name__}() takes at most {1 + len(placed)} in their places"
                )
            mine = dict(zip(placed, given[1:], strict=False))
            mine.update({p.name: keywords.pop(p.name) for p in own if p.name in keywords})
            said = keywords.pop("config", _NOT_GIVEN) if "config" in keywords else _NOT_GIVEN
            said = given[0] if given else said
            if isinstance(said, Config):
                config = _given_config(body.__name__, config_class, said, keywords)
            else:
                if said is not _NOT_GIVEN:
                    keywords = {first: said, **keywords}
                config = keyword_config(config_class, options, {**defaults, **keywords})
            require_one_process(config)
            kept = contextlib.nullcontext() if without_torch else _kept(trains=trains)
            with kept, _said_in_keywords(options):
                return body(config, **mine)

        call.__signature__ = _signature(  # type: ignore[attr-defined]
            config_class if not only else None, options, defaults, own, inspect.signature(body)
        )
        call.__doc__ = f"{inspect.getdoc(body)}\n\nArgs:\n{described(options)}"
        # those of the body are not the call's
        call.__annotations__ = {}
        del call.__wrapped__
        return call

    return decorate


def is_keyword_call(found: object) -> bool:
    """True for what `keyword_call` made."""
    return hasattr(found, "__signature__") and inspect.isfunction(found)


def _given_config(
    name: str, config_class: type[ConfigT], config: Config, keywords: Mapping[str, Any]
) -> ConfigT:
    if not isinstance(config, config_class):
        raise ConfigError(
            f"{name}: takes {config_class.__name__} or keywords, not {type(config).__name__}"
        )
    if keywords:
        raise ConfigError(
            f"{', '.join(keywords)}: a {config_class.__name__} was given, which says all; put it "
            "in there, or give keywords alone"
        )
    return config


def _keyword(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")


def meant(keyword: str, options: Mapping[str, OptionField]) -> str:
    """The keyword that was meant, as far as anybody can tell."""
    name = keyword.rpartition(".")[2]
    other = _keyword(OTHER_NAMES.get(name.replace("_", "-").lower(), ""))
    by_field = {one.name: known for known, one in options.items()}
    near = [other] if other in options else difflib.get_close_matches(name, options, 1, _LIKENESS)
    near = near or difflib.get_close_matches(name, by_field, 1, _LIKENESS)
    return f"; did you mean {by_field.get(near[0], near[0])}?" if near else ""


def _as_typed(option: OptionField, value: Any) -> Any:
    """The value as the field knows it: a path as text, one for a list of one, a plain number."""
    kind = type(value)
    if (kind.__module__, kind.__name__) == ("torch", "device"):
        return str(value)
    if kind.__module__ == "numpy" and hasattr(value, "tolist"):
        value = value.tolist()
    if not option.is_list or (isinstance(value, str) and value in _words(option)):
        return _as_part(option, value)
    several = isinstance(value, Sequence) and not isinstance(value, str)
    return tuple(_as_part(option, part) for part in (value if several else [value]))


def _as_part(option: OptionField, value: Any) -> Any:
    path = isinstance(value, os.PathLike) and Path not in option.kinds
    return os.fspath(value) if path else value


def _words(option: OptionField) -> tuple[str, ...]:
    return words_instead_of_a_list(option.field)


def _in_keywords(message: str, options: Mapping[str, OptionField]) -> str:
    """The message with keywords where it has names of the command line."""
    for keyword, option in options.items():
        flag = option.flag_names[0]
        for said in (f"{option.path} ({flag})", flag.removeprefix("--").upper() + ":", flag):
            text = keyword + ":" * said.endswith(":")
            message = re.sub(rf"(?<![\w-]){re.escape(said)}(?![\w-])", text, message)
        message = re.sub(rf"--no-{flag[2:]}(?![\w-])", f"{keyword}=False", message)
    message = re.sub(r" \(in YAML # .*\)$", "", message)
    return message.replace("; several with commas", ", or a list of them")


@contextlib.contextmanager
def _said_in_keywords(options: Mapping[str, OptionField]) -> Iterator[None]:
    """A block whose errors name options as a call does; commands are left as they are typed."""
    try:
        yield
    except ImgclsError as error:
        parts = re.split(r"(`[^`]*`|\bimgcls [a-z-]+ [^;]*)", str(error))
        parts[::2] = [_in_keywords(part, options) for part in parts[::2]]
        error.args = ("".join(parts),)
        raise


def _kept(*, trains: bool) -> contextlib.AbstractContextManager[Any]:
    from imgcls.engine.device.runtime import tf32_kept, training_apart

    return training_apart() if trains else tf32_kept()


def _signature(
    config_class: type[Config] | None,
    options: Mapping[str, OptionField],
    defaults: Mapping[str, Any],
    own: Sequence[inspect.Parameter],
    body: inspect.Signature,
) -> inspect.Signature:
    first, *parameters = keyword_parameters(options, defaults)
    text = first.annotation
    if config_class is not None:
        text = _Text(f"{config_class.__name__} | {text}")
    parameters.append(first.replace(kind=first.POSITIONAL_OR_KEYWORD, annotation=text))
    parameters += [p.replace(annotation=_Text(p.annotation)) for p in own]
    parameters.sort(key=lambda p: p.kind)
    return inspect.Signature(parameters, return_annotation=_Text(body.return_annotation))


def keyword_parameters(
    options: Mapping[str, OptionField], defaults: Mapping[str, Any]
) -> list[inspect.Parameter]:
    """The options as parameters that take keywords only. defaults: where they are not their own."""
    return [
        inspect.Parameter(
            keyword,
            inspect.Parameter.KEYWORD_ONLY,
            default=str(default) if isinstance(default, Path) else default,
            annotation=_Text(_type_of(keyword, option)),
        )
        for keyword, option in options.items()
        for default in [defaults.get(keyword, option.field.default)]
    ]


def _type_of(keyword: str, option: OptionField) -> str:
    """The option's type as a stub writes it, with what is taken for it."""
    kinds = list(dict.fromkeys(_types(option.field.annotation)))
    if "str" in kinds and (option.flag.positional or keyword == "data"):
        kinds.insert(kinds.index("str") + 1, "PathLike[str]")
        several = "Sequence[str]", "Sequence[str | PathLike[str]]"
        kinds = [kind.replace(*several) for kind in kinds]
    if keyword == "device":
        kinds.insert(1, "torch.device")
    return " | ".join(dict.fromkeys(kinds))


def _types(annotation: Any) -> Iterator[str]:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _types(parts[0])
    elif origin in (Union, UnionType):
        for part in parts:
            yield from _types(part)
    elif origin is Literal:
        yield f"Literal[{', '.join(map(repr, parts))}]"
    elif origin is tuple:
        yield from _types(parts[0])
        yield f"Sequence[{' | '.join(_types(parts[0]))}]"
    elif origin is dict:
        key, value = (" | ".join(_types(part)) for part in parts)
        yield f"Mapping[{key}, {value}]"
    elif annotation is Path:
        yield from ("str", "PathLike[str]")
    else:
        yield _NAMES.get(annotation) or cast("str", annotation.__name__)


def described(options: Mapping[str, OptionField]) -> str:
    """The options' descriptions, as a docstring lists arguments."""
    lines = (f"{keyword}: {option.field.description}" for keyword, option in options.items())
    return "\n".join(
        textwrap.fill(line, 96, initial_indent="    ", subsequent_indent="        ",
                      break_long_words=False, break_on_hyphens=False)
        for line in lines
    )  # fmt: skip
