"""What can be checked before torch is loaded, which takes seconds. Loads no torch."""

from __future__ import annotations

from pathlib import Path

from imgcls.data.open import find_source
from imgcls.errors import CheckpointError, ConfigError, ModelError


def check_data(source: str | None) -> None:
    """Raise DataError for pictures of which there is no folder, file or other source."""
    if source is not None:
        find_source(source)


def check_weights(path: Path | None) -> None:
    """Raise ModelError for a file of `--weights` that is not there."""
    if path is not None and not path.expanduser().exists():
        raise ModelError(f"--weights {path}: no such file")


def check_file(option: str, path: Path | None) -> None:
    """Raise ConfigError for an option's file that is not there."""
    if path is not None and not path.exists():
        raise ConfigError(f"{option} {path}: no such file")


def check_checkpoint(path: Path | None) -> None:
    """Raise CheckpointError for a checkpoint, fold or run that is not there."""
    # a link of a copied run may lead nowhere and still be known
    if path is not None and not path.exists() and not path.parent.is_dir():
        raise CheckpointError(f"{path}: no such file or folder")
