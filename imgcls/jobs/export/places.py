"""Where exports go, known before torch is loaded, which takes seconds.

exports/                  --output DIR, or in the fold's folder, beside test_results/
  onnx/                   a folder for each format; with --profile tensor, onnx-tensor/
    model.onnx
    export.json           written last: what the model takes and gives, and what vouches for it
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from imgcls.config.export import ExportConfig, ExportFormat, Profile
from imgcls.config.files import read_json
from imgcls.errors import CheckpointError, ConfigError
from imgcls.jobs.early import check_checkpoint, check_folder
from imgcls.storage.commit import beside, clear_leftovers
from imgcls.storage.durable import TEMPORARY_PREFIX
from imgcls.storage.ensembles import is_ensemble, member_runs, newest_with_checkpoint
from imgcls.storage.pointers import find_checkpoint
from imgcls.storage.runs import results_folder

DOCUMENT = "export.json"
FORMAT = "imgcls-export"
# those that are the same whatever the profile
WITHOUT_PROFILE = frozenset({"safetensors", "hf"})
# README.md and config.json, which hf writes each time, are elsewhere the user's
_OURS = re.compile(
    rf"model\.[\w.]+|{re.escape(DOCUMENT)}|calibration\.json|imgcls\.yaml|"
    rf"{re.escape(TEMPORARY_PREFIX)}.*"
)


@dataclass(frozen=True)
class Places:
    """The checkpoint to export, as it was named and as it is, and a folder for each format."""

    path: Path
    checkpoint: Path
    output: Path
    folders: Mapping[str, Path]


def find_places(config: ExportConfig) -> Places:
    """Where everything is and will be. Clears away what killed exports have left there.

    Raises CheckpointError, RunError, and ConfigError for a folder that is there already.
    """
    check_checkpoint(config.checkpoint)
    path = config.checkpoint or newest_with_checkpoint(Path("outputs"))
    if is_ensemble(path):
        raise CheckpointError(
            f"{path}: is an ensemble of several models, and a file holds one; name one of them, "
            f"such as {member_runs(path)[0]}"
        )
    folds = sorted(path.glob("fold_*"))
    if len(folds) > 1:
        raise CheckpointError(
            f"{path}: has {len(folds)} folds, and a file holds one model; name one of them, such "
            f"as {folds[0]}"
        )
    checkpoint = find_checkpoint(path)
    output = config.output or results_folder(checkpoint).with_name("exports")
    check_folder("--output", output)
    folders: dict[str, Path] = {
        name: output / _folder_name(name, config.profile) for name in config.format
    }
    for name, profile in itertools.product(get_args(ExportFormat), get_args(Profile)):
        folder = output / _folder_name(name, profile)
        if any(beside(folder, kind).exists() for kind in ("new", "old", "commit")):
            with contextlib.suppress(OSError):  # told when something is written there
                clear_leftovers(folder, is_ours)
    for folder in folders.values():
        require_free(folder, force=config.force)
    return Places(path, checkpoint, output, folders)


def require_free(folder: Path, *, force: bool) -> None:
    """Raise ConfigError for a folder that is there and not to be replaced."""
    try:
        is_taken = folder.is_symlink() or (
            folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
        )
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be read ({error.strerror})") from error
    if not is_taken:
        return
    if not is_export(folder):
        raise ConfigError(f"{folder}: imgcls did not write it; name another folder with --output")
    if not force:
        raise ConfigError(
            f"{folder}: is there already; replace it with --force, or name another folder with "
            "--output"
        )


def is_export(folder: Path) -> bool:
    """Whether the folder is what `imgcls export` wrote, by the mark in its JSON file."""
    try:
        return bool(read_json(folder / DOCUMENT)["format"] == FORMAT)
    except (OSError, ValueError, LookupError, TypeError):
        return False


def is_ours(name: str) -> bool:
    """Whether an export writes a file of this name; others are the user's, and stay."""
    return _OURS.fullmatch(name) is not None


def _folder_name(name: str, profile: str) -> str:
    return name if profile == "picture" or name in WITHOUT_PROFILE else f"{name}-{profile}"
