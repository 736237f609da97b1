"""YAML values parsed by the type of the option that they are for, not by YAML 1.1's guesses.

YAML 1.1 takes `off` for a boolean, `2024-01-05` for a date and `001` for the number 1. Here a value
for one option stays the text that was written, and pydantic reads it as it reads a typed option.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from imgcls.config.base import Config, OptionField, option_fields

_NULLS = ("", "~", "null", "Null", "NULL")
_QUOTES = "'\""


def parse_document(text: str, config_class: type[Config]) -> Any:
    """A YAML (or JSON) document as nested mappings, with each option's value as it was written.

    A key may also be an option's whole name, such as `optim.lr`. Raises yaml.YAMLError.
    """
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        options = {option.path: option for option in option_fields(config_class)}
        return None if node is None else _value(loader, node, "", options)
    finally:
        loader.dispose()


def parse_setting(path: str, text: str, config_class: type[Config]) -> Any:
    """The value of `--set PATH=TEXT`; quotes around it are taken off. Raises yaml.YAMLError."""
    option = next((o for o in option_fields(config_class) if o.path == path), None)
    bare = text.strip()
    quoted = len(bare) > 1 and bare[0] in _QUOTES and bare[-1] == bare[0]
    if option is not None and not option.is_list and not option.is_mapping and not quoted:
        return _plain(bare)
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        return None if node is None else _value(loader, node, path, {path: option})
    finally:
        loader.dispose()


def _value(
    loader: yaml.SafeLoader, node: yaml.Node, path: str, options: Mapping[str, OptionField | None]
) -> Any:
    option = options.get(path)
    if option is not None and isinstance(node, yaml.ScalarNode) and not option.is_mapping:
        return node.value if node.style else _plain(node.value)
    if option is not None and isinstance(node, yaml.SequenceNode) and option.is_list:
        return [loader.construct_object(child, deep=True) for child in node.value]
    is_group = not path or any(known.startswith(f"{path}.") for known in options)
    if option is None and is_group and isinstance(node, yaml.MappingNode):
        _check_keys(node)
        loader.flatten_mapping(node)
        return {
            key.value: _value(loader, child, f"{path}.{key.value}".lstrip("."), options)
            for key, child in node.value
        }
    return loader.construct_object(node, deep=True)


def _check_keys(node: yaml.MappingNode) -> None:
    """Raise yaml.YAMLError for a key that is no text, and for one that comes twice.

    YAML forbids the second; PyYAML takes the last, and the first would be gone without a word.
    """
    seen = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(None, None, "a key is no text", key.start_mark)
        if key.value in seen and key.value != "<<":
            where, what = key.start_mark, f"{key.value!r} comes twice"
            raise yaml.constructor.ConstructorError(None, None, what, where)
        seen.add(key.value)


def _plain(text: str) -> str | None:
    """The text without quotes around it, which alone can mean that there is no value."""
    return None if text in _NULLS else text
