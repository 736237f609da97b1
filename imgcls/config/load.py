"""One validated config from options, `--set`, a file and the defaults; or one clear error.

Precedence: option > `--set a.b=c` > config file > default.
"""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from annotated_types import Le, Lt
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from imgcls.config.base import (
    Config,
    OptionField,
    allowed_values,
    alternatives,
    choices,
    option_fields,
    takes_whole_numbers_only,
)
from imgcls.config.files import read_text
from imgcls.errors import ConfigError

ConfigT = TypeVar("ConfigT", bound=Config)

_LIKENESS = 0.7
_PERCENT, _FEWEST_PERCENT = 100, 5
_LONG_ENOUGH = 3
_LONGEST_MEANT = 100
_LONGEST_SHOWN = 120


def load_config(
    config_class: type[ConfigT],
    file: Path | None = None,
    settings: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
) -> ConfigT:
    """The validated config.

    file: YAML (JSON is a subset). settings: "a.b=value" texts. Values are read by the type of
    the option that they are for (config/text.py).
    options: dotted path -> value, as typed on the command line.
    Raises ConfigError with one line that names the field, the value and what is allowed.
    """
    tree = _read_file(file, config_class) if file is not None else {}
    for setting in settings:
        path, separator, text = setting.partition("=")
        if not separator or not path.strip():
            raise ConfigError(f"--set {setting}: write it as group.name=value")
        _put(tree, path.strip(), _parse_value(path.strip(), text, config_class))
    where = str(file) if file is not None else None
    for path, value in (options or {}).items():
        _put(tree, path, value, where)
    return validate(config_class, tree, where)


def validate(config_class: type[ConfigT], tree: Any, where: str | None = None) -> ConfigT:
    """The tree as a config. `where` names the file it came from. Raises ConfigError."""
    try:
        return config_class.model_validate(tree)
    except ValidationError as error:
        prefix = f"{where}: " if where else ""
        raise ConfigError(prefix + _first_problem(config_class, error)) from error


def with_values(config: ConfigT, values: Mapping[str, Any]) -> ConfigT:
    """The config with other values, by dotted path. Raises ConfigError for one not allowed."""
    tree = config.model_dump(mode="json")
    for path, value in values.items():
        _put(tree, path, value)
    return validate(type(config), tree)


def flattened(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested groups by their dotted paths."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            found |= flattened(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def dump_yaml(config: Config) -> str:
    """The config as YAML that `load_config` reads back to an equal config."""
    import yaml

    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read_file(file: Path, config_class: type[Config]) -> dict[str, Any]:
    import yaml

    from imgcls.config.text import parse_document

    try:
        tree = parse_document(read_text(file), config_class)
    except FileNotFoundError:
        raise ConfigError(f"--config {file}: no such file") from None
    except OSError as error:
        raise ConfigError(f"--config {file}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"--config {file}: is not UTF-8 (byte {error.start})") from error
    except RecursionError:
        raise ConfigError(f"--config {file}: not valid YAML: nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"--config {file}: not valid YAML: {reason}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"--config {file}: expected groups such as `optim:`, found {shown(tree)}")
    whole: dict[str, Any] = {key: value for key, value in tree.items() if "." not in key}
    for path in tree.keys() - whole.keys():
        _put(whole, path, tree[path], str(file))
    return whole


def _parse_value(path: str, text: str, config_class: type[Config]) -> Any:
    import yaml

    from imgcls.config.text import parse_setting

    try:
        return parse_setting(path, text, config_class)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"--set {path}: cannot read {shown(text)} as a value") from error


def _put(tree: dict[str, Any], path: str, value: Any, where: str | None = None) -> None:
    *groups, name = path.split(".")
    for group in groups:
        child = tree.setdefault(group, {})
        if not isinstance(child, dict):
            raise ConfigError(
                f"{where}: "
                * (where is not None)
                + f"`{group}` is a group of options and cannot be {shown(child)}; one of them is "
                f"{path}"
            )
        tree = child
    tree[name] = value


def shown(value: Any) -> str:
    """The value as a short text for a message, whatever it holds."""
    # repr of nine lists of nine of nine ... takes minutes and gigabytes
    short = reprlib.Repr()
    short.maxlevel, short.maxstring, short.maxother = 2, _LONGEST_SHOWN, _LONGEST_SHOWN
    text = " ".join(short.repr(value).splitlines())
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _first_problem(config_class: type[Config], error: ValidationError) -> str:
    known = {option.path: option for option in option_fields(config_class)}
    problem = error.errors(include_url=False)[0]
    # a union's errors carry the tried alternative behind the field's own path
    parts = [str(part) for part in problem["loc"]]
    field_path = next(
        (p for n in range(len(parts), 0, -1) if (p := ".".join(parts[:n])) in known), None
    )
    if problem["type"] == "extra_forbidden":
        return _unknown_key(".".join(parts), known)
    if field_path is None:
        if problem["type"] == "value_error":
            return str(problem["ctx"]["error"])
        group = ".".join(parts)
        return f"{group}: expected a group of options, found {shown(problem['input'])}"
    option = known[field_path]
    given, expected = problem["input"], allowed_values(option.field)
    if given is None:
        return (
            f"{_spoken(option)}: has no value; expected {expected} (in YAML # begins a comment: "
            "put quotes around a value with one)"
        )
    why = f" ({problem['ctx']['error']})" if problem["type"] == "value_error" else ""
    meant = None if why else meant_by(given, option.field)
    why = f" (did you mean {meant}?)" if meant and meant != given else why
    return f"{_spoken(option)}: {shown(given)} is not allowed{why}; expected {expected}"


def _spoken(option: OptionField) -> str:
    if not option.flag.exposed:
        return option.path
    if option.flag.positional:
        return option.flag_names[0].removeprefix("--").upper()
    return f"{option.path} ({option.flag_names[0]})"


def _unknown_key(path: str, known: Mapping[str, OptionField]) -> str:
    import difflib

    candidates = {**{p: p for p in known}, **{o.name: p for p, o in known.items()}}
    group = path.rpartition(".")[0]
    in_group = [p for p in known if p.rpartition(".")[0] == group]
    near = difflib.get_close_matches(path, in_group, n=1, cutoff=0.5)
    near = near or difflib.get_close_matches(path.rpartition(".")[2], candidates, n=1, cutoff=0.6)
    near = near or difflib.get_close_matches(path, candidates, n=1, cutoff=0.6)
    hint = f"; did you mean {candidates[near[0]]}?" if near else ""
    return f"{path}: no such option{hint}"


def meant_by(given: Any, field: FieldInfo) -> str | None:
    """A value that the field takes, or None where nobody knows what was meant.

    One of the field's words for a part of it (`f1`, `accuracy`) or other capitals; 0.2 for the
    shares `20` and `20%`; 224 for `224x224`; 0.001 for `0,001`.
    """
    # a file may hold lists of lists whose text takes gigabytes, or numbers of a million digits
    if not isinstance(given, str) or len(given) > _LONGEST_MEANT:
        return None
    text = given.strip()
    return _word(text, choices(field)) or _number(text, field)


def _word(text: str, words: tuple[str, ...]) -> str | None:
    low = text.lower().replace("-", "_")
    alike = {word.replace("-", "_"): word for word in words}
    if not low or low in alike:
        return alike.get(low)
    # the shortest word with this part says the least that was not said
    having = sorted((w for w in alike if f"_{low}_" in f"_{w}_"), key=len)
    begun = [w for w in alike if len(w) >= _LONG_ENOUGH and low.startswith(w)]
    near = difflib.get_close_matches(low, alike, n=1, cutoff=_LIKENESS)
    return next((alike[word] for word in (*having, *begun, *near)), None)


def _number(text: str, field: FieldInfo) -> str | None:
    kinds = {part for part, _ in alternatives(field)}
    if takes_whole_numbers_only(field):
        twice = re.fullmatch(r"(\d+)[x,*](\d+)", text)
        return twice[1] if twice and twice[1] == twice[2] else None
    if float not in kinds:
        return None
    if re.fullmatch(r"\d+,\d+", text):
        return text.replace(",", ".")
    percent = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%?", text)
    bounds = [item for _, metadata in alternatives(field) for item in metadata]
    is_share = any(
        getattr(b, "lt", getattr(b, "le", None)) == 1 for b in bounds if isinstance(b, (Lt, Le))
    )
    if percent and is_share and _FEWEST_PERCENT <= float(percent[1]) < _PERCENT:
        return f"{float(percent[1]) / _PERCENT:g}"
    return None
