"""The base of all config groups, and how an option's one declaration reads on a command line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

_NOES = ("off", "no", "false")


class Config(BaseModel):
    """A frozen group of options that refuses unknown keys."""

    # what `--help` shows of a command with many options, by dotted path; () shows all
    COMMON: ClassVar[tuple[str, ...]] = ()

    # deferred: `--help` reads the declarations and validates nothing
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        # no number of an option may be infinite, which 1e400 and 5,000 digits are
        allow_inf_nan=False,
        protected_namespaces=(),
        defer_build=True,
    )

    @field_validator("*")
    @classmethod
    def _without_nul(cls, value: Any) -> Any:
        """No path, name or address holds a NUL; the system's calls would raise far from here."""
        if isinstance(value, (str, PurePath)) and "\0" in str(value):
            raise ValueError("it holds a NUL character")
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _no_empty_path(cls, value: Any, info: ValidationInfo) -> Any:
        """An empty path would be the current folder, as of a variable that is not set."""
        kinds = {part for part, _ in alternatives(cls.model_fields[str(info.field_name)])}
        if isinstance(value, str) and not value and Path in kinds:
            raise ValueError("it is empty; . is the current folder")
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _no_number_of_a_yes(cls, value: Any, info: ValidationInfo) -> Any:
        """Python's True would be the number 1: a learning rate of 1, mixup of strength 1."""
        if value is True:
            kinds = {part for part, _ in alternatives(cls.model_fields[str(info.field_name)])}
            if bool not in kinds and kinds & {int, float}:
                raise ValueError("a number, not yes")
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _no_by_its_own_word(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML's `off`, `no` and `null`, and python's False, as the word that the option has."""
        if value is None or value is False or (isinstance(value, str) and value.lower() in _NOES):
            field = cls.model_fields[str(info.field_name)]
            words, kinds = choices(field), {part for part, _ in alternatives(field)}
            if value not in words and not kinds & {bool, NoneType, str}:
                return next((word for word in ("off", "none") if word in words), value)
        return value


@dataclass(frozen=True)
class Flag:
    """How a field is typed on a command line, beyond its own name in hyphen-case.

    names: replace the hyphen-cased field name when given; the first is the one shown in errors.
    short: a one-letter form such as "-b".
    aliases: names from other tools that work but are not shown in the help.
    positional: the field is a positional argument.
    metavar: stands for the value in the help, where the type says too little.
    exposed: False keeps the field out of the command line (Python and YAML only).
    """

    names: tuple[str, ...] = ()
    short: str | None = None
    aliases: tuple[str, ...] = ()
    positional: bool = False
    metavar: str | None = None
    exposed: bool = True


@dataclass(frozen=True)
class OptionField:
    """One option: its dotted path in the config, the pydantic field and its command-line form."""

    path: str
    group: str
    name: str
    field: FieldInfo
    flag: Flag

    @property
    def flag_names(self) -> tuple[str, ...]:
        """Long names shown to the user, e.g. ("--batch-size",)."""
        return self.flag.names or ("--" + self.name.replace("_", "-"),)

    @cached_property
    def kinds(self) -> tuple[Any, ...]:
        """The types that the field accepts."""
        # asked for several times of each option, which is a large part of a command's own start
        return tuple(part for part, _ in alternatives(self.field))

    @property
    def words(self) -> tuple[str, ...]:
        """The fixed words that the field accepts; see `choices`."""
        return _words(self.kinds)

    @property
    def is_list(self) -> bool:
        """True for fields that take any number of values: positional, or typed with commas."""
        return takes_several(self.field)

    @property
    def is_mapping(self) -> bool:
        """True for fields that take a mapping, which no single text can say."""
        return any(get_origin(part) is dict for part in self.kinds)

    @property
    def is_switch(self) -> bool:
        """True for yes/no fields, which take `--x/--no-x` instead of a value."""
        return bool in self.kinds


def option_fields(config_class: type[Config], prefix: str = "") -> Iterator[OptionField]:
    """All options of a config class, depth first, in the order of declaration."""
    for name, info in config_class.model_fields.items():
        path = f"{prefix}{name}"
        if isinstance(info.annotation, type) and issubclass(info.annotation, Config):
            yield from option_fields(info.annotation, f"{path}.")
            continue
        flag = next((item for item in info.metadata if isinstance(item, Flag)), Flag())
        yield OptionField(path, prefix.rstrip("."), name, info, flag)


def alternatives(info: FieldInfo) -> Iterator[tuple[Any, list[Any]]]:
    """The types a field accepts, each with its own bounds and patterns."""
    yield from _expand(info.annotation, info.metadata)


def _expand(annotation: Any, metadata: list[Any]) -> Iterator[tuple[Any, list[Any]]]:
    if get_origin(annotation) is Annotated:
        inner, *extras = get_args(annotation)
        bounds = [b for extra in extras for b in getattr(extra, "metadata", [extra])]
        yield from _expand(inner, [*metadata, *bounds])
    elif get_origin(annotation) in (Union, UnionType):
        for item in get_args(annotation):
            yield from _expand(item, metadata)
    elif get_origin(annotation) is tuple:
        yield from _expand(get_args(annotation)[0], metadata)
    else:
        yield annotation, metadata


def choices(info: FieldInfo) -> tuple[str, ...]:
    """The fixed words a field accepts, e.g. ("auto", "off", "bf16"); () when it has none."""
    return _words(part for part, _ in alternatives(info))


def _words(kinds: Iterable[Any]) -> tuple[str, ...]:
    return tuple(str(w) for part in kinds if get_origin(part) is Literal for w in get_args(part))


def takes_several(info: FieldInfo) -> bool:
    """True for a field whose value is a list, or may be one."""
    return any(get_origin(part) is tuple for part in _members(info.annotation))


def words_instead_of_a_list(info: FieldInfo) -> tuple[str, ...]:
    """The words that stand for a whole list, such as auto; () when there are none."""
    return _words(_members(info.annotation))


def _members(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of a type as they are declared, lists among them."""
    is_union = get_origin(annotation) in (Union, UnionType)
    return get_args(annotation) if is_union else (annotation,)


def takes_whole_numbers_only(info: FieldInfo) -> bool:
    """True for a field whose numbers are counts."""
    kinds = {part for part, _ in alternatives(info)}
    return int in kinds and float not in kinds


def allowed_values(info: FieldInfo) -> str:
    """What a field accepts, in words: "a whole number >= 1", "auto, off, bf16 or fp16"."""
    names = {int: "a whole number", float: "a number", bool: "yes or no", str: "a text"}
    if info.examples and any(get_origin(part) is dict for part, _ in alternatives(info)):
        return f"something like {info.examples[0]}"
    words: list[str] = []
    for part, metadata in alternatives(info):
        if part is NoneType or get_origin(part) is Literal:
            continue
        word = names.get(part, "a path")
        if part in (int, float):
            word = " and ".join(filter(None, [word, *_bound_words(metadata)]))
            word = word.replace("number and", "number", 1)
        elif part is str and info.examples:
            word = f"something like {info.examples[0]}"
        words.append(word)
    words.extend(choices(info))
    said = words[0] if len(words) == 1 else ", ".join(words[:-1]) + " or " + words[-1]
    return f"{said}; several with commas" if takes_several(info) else said


def _bound_words(metadata: list[Any]) -> Iterator[str]:
    for item in metadata:
        if isinstance(item, Gt):
            yield f"> {item.gt}"
        elif isinstance(item, Ge):
            yield f">= {item.ge}"
        elif isinstance(item, Lt):
            yield f"< {item.lt}"
        elif isinstance(item, Le):
            yield f"<= {item.le}"


def default_text(info: FieldInfo) -> str | None:
    """The default as a user would type it, or None when there is nothing to show."""
    if info.is_required() or info.default is None:
        return None
    if isinstance(info.default, bool):
        return "on" if info.default else "off"
    if info.default == {}:
        return None
    if isinstance(info.default, tuple):
        return ",".join(map(str, info.default)) or None
    return str(info.default)
