"""The sidecar of a checkpoint, `checkpoint.json`: what belongs together. Loads no torch.

It holds the facts, the state tree, and the size and hash of every other file of its folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from imgcls.config import files
from imgcls.errors import CheckpointError

FORMAT = "imgcls-checkpoint"
FORMAT_VERSION = (1, 0)
WEIGHTS, CARD, STATE, SIDECAR = (
    "model.safetensors",
    "config.json",
    "state.safetensors",
    "checkpoint.json",
)
_LARGEST_JSON_BYTES = 512 * 2**20


def read_sidecar(folder: Path) -> dict[str, Any]:
    """The sidecar, its own hash verified. Raises CheckpointError when it is no sound one."""
    file = folder / SIDECAR
    sidecar = read_json(file)
    if sidecar.get("format") != FORMAT:
        raise CheckpointError(f"{file}: not an imgcls checkpoint")
    _check_format(file, sidecar)
    if sidecar.pop("sha256", None) != own_hash(sidecar):
        raise CheckpointError(f"{file}: damaged, its content does not match its own hash")
    seals, facts = sidecar.get("files"), sidecar.get("facts")
    known = {WEIGHTS, CARD, STATE}
    if not isinstance(seals, dict) or not {WEIGHTS, CARD} <= set(seals) <= known:
        raise CheckpointError(f"{file}: does not list the files of a checkpoint")
    facts = facts if isinstance(facts, dict) else {}
    names = facts.get("class_names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CheckpointError(f"{file}: does not hold the class names of a checkpoint")
    if not _fit(facts, len(names)):
        raise CheckpointError(f"{file}: its splits or prior are not those of a checkpoint")
    sidecar.setdefault("state", None)
    return sidecar


def _fit(facts: Mapping[str, Any], classes: int) -> bool:
    """Whether what is known of the splits and of the classes' shares, if anything, has its form."""
    splits, prior = facts.get("splits"), facts.get("prior")
    if splits is not None and not (
        isinstance(splits, dict)
        and all(isinstance(splits.get(name), str) for name in ("sha256", "assigned"))
    ):
        return False
    if prior is None:
        return True
    shares = prior.get("shares") if isinstance(prior, dict) else None
    return (
        isinstance(shares, list)
        and len(shares) == classes
        and all(isinstance(share, (int, float)) for share in shares)
        and isinstance(prior.get("imbalance"), str)
    )


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object of a checkpoint's folder. Raises CheckpointError."""
    with _reading(file):
        if file.stat().st_size > _LARGEST_JSON_BYTES:
            raise CheckpointError(f"{file}: far too large for its kind; use another checkpoint")
        try:
            content = files.read_json(file)
        except ValueError as error:
            raise CheckpointError(
                f"{file}: damaged, not readable as JSON; use another checkpoint"
            ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file}: damaged, not a JSON object; use another checkpoint")
    return content


def _check_format(file: Path, sidecar: dict[str, Any]) -> None:
    number = sidecar.get("format_version")
    if not (isinstance(number, list) and number and all(type(n) is int for n in number)):
        raise CheckpointError(f"{file}: no format version")
    if number[0] > FORMAT_VERSION[0]:
        writer = sidecar.get("imgcls_version")
        raise CheckpointError(
            f"{file}: format {'.'.join(map(str, number))} is newer than this imgcls "
            f"{version('imgcls')} reads ({FORMAT_VERSION[0]}.x); install imgcls>={writer}"
        )


def own_hash(sidecar: Mapping[str, Any]) -> str:
    """SHA-256 of a sidecar without its `sha256`."""
    text = json.dumps(sidecar, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def seal(file: Path) -> dict[str, Any]:
    """The size and SHA-256 of a file."""
    return {"bytes": file.stat().st_size, "sha256": files.sha256_of(file)}


def verify(file: Path, expected: Any) -> None:
    """Read a whole file and compare it with its seal. Raises CheckpointError."""
    with _reading(file):
        actual = seal(file)
    if actual != expected:
        size = expected.get("bytes") if isinstance(expected, dict) else None
        what = (
            f"{actual['bytes']} bytes instead of {size}"
            if actual["bytes"] != size
            else "its content is not what was written"
        )
        raise CheckpointError(
            f"{file}: damaged or from another checkpoint ({what}); use another checkpoint (weights "
            f"that you changed yourself are a timm model folder without {SIDECAR})"
        )


@contextlib.contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Tell an OSError of the block, which only reads, as a CheckpointError."""
    try:
        yield
    except FileNotFoundError:
        raise CheckpointError(
            f"{file.parent}: incomplete checkpoint, {file.name} is missing; use another checkpoint"
        ) from None
    except OSError as error:
        raise CheckpointError(
            f"{file}: cannot be read ({error.strerror}); use another checkpoint"
        ) from error
