"""What can be checked before torch is loaded, which takes seconds. Loads no torch."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from pathlib import Path

from imgcls.errors import CheckpointError, ConfigError, ModelError
from imgcls.storage.durable import file_in_the_way
from imgcls.storage.pointers import is_gone


def check_data(source: str | None) -> None:
    """Raise DataError for pictures of which there is no folder, file or other source."""
    # the embedded digits cannot be missing, and the sources take long to load
    if source in (None, "digits"):
        return
    from imgcls.data.open import find_source

    find_source(source)


def check_inputs(inputs: Sequence[str]) -> None:
    """Raise ConfigError where nothing to classify is named."""
    if not inputs:
        raise ConfigError(
            "INPUTS: name what to classify: pictures, folders, a table of paths, or - for a list "
            "of paths on stdin"
        )


def check_weights(path: Path | None) -> None:
    """Raise ModelError for a file of `--weights` that is not there."""
    if path is not None and not path.expanduser().exists():
        raise ModelError(f"--weights {path}: no such file")


def check_file(option: str, path: Path | None) -> None:
    """Raise ConfigError for an option's file that is not there."""
    if path is not None and not path.exists():
        raise ConfigError(f"{option} {path}: no such file")


def check_folder(option: str, path: Path | None) -> None:
    """Raise ConfigError for an option's folder that a file stands in the way of."""
    if path is not None and (file := file_in_the_way(path)):
        raise ConfigError(f"{option} {path}: {file} is a file, not a folder; name another place")


def check_trackers(log: Sequence[str]) -> None:
    """Raise ConfigError for a tracker of `--log` whose package is missing; "none" is none."""
    for name in () if isinstance(log, str) else log:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(
                f'--log {name}: the package {name} is missing: pip install "imgcls[{name}]"'
            )


def check_checkpoint(path: Path | None) -> None:
    """Raise CheckpointError for a checkpoint, fold or run that is not there."""
    if path is not None and is_gone(path):
        raise CheckpointError(f"{path}: no such file or folder")


def check_models(names: Iterable[str]) -> None:
    """Raise CheckpointError for a path among names of models that leads nowhere."""
    for name in names:
        # no model of timm has a folder in its name
        if Path(name).name != name:
            check_checkpoint(Path(name))
