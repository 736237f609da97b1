"""The documents of a model's folder, a checkpoint's or one of timm's or Hugging Face's own.

folder/
  checkpoint.json      a checkpoint's sidecar: what it says of itself (`facts`), the state tree, and
                       the size and hash of every other file of the folder
  config.json          architecture, num_classes, label_names or id2label, pretrained_cfg
  model.safetensors    or, in a folder that imgcls did not write, pytorch_model.bin
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from imgcls.config import files
from imgcls.errors import CheckpointError
from imgcls.results.checkpoint import Sidecar, StartingWeights, are_names
from imgcls.storage.durable import strict_json

FORMAT = "imgcls-checkpoint"
FORMAT_VERSION = (1, 0)
WEIGHTS, CARD, STATE, SIDECAR = (
    "model.safetensors",
    "config.json",
    "state.safetensors",
    "checkpoint.json",
)
_LARGEST_JSON_BYTES = 512 * 2**20
_PICKLED = "pytorch_model.bin"
# arguments that change training alone
_OF_TRAINING = {"drop_rate", "drop_path_rate", "proj_drop_rate", "attn_drop_rate", "pretrained"}


@dataclass(frozen=True)
class Manifest:
    """The whole of `checkpoint.json`.

    seals: size and SHA-256 of each other file, by its name. state: the encoded tree of the training
    state; None in a checkpoint that cannot be resumed.
    """

    sidecar: Sidecar
    seals: Mapping[str, Any]
    state: Any


def read_sidecar(folder: Path) -> Sidecar:
    """What a checkpoint says of itself. Raises as `read_manifest`."""
    return read_manifest(folder).sidecar


def read_manifest(folder: Path) -> Manifest:
    """A checkpoint's manifest, its own hash verified. Raises CheckpointError for no sound one."""
    file = folder / SIDECAR
    content = read_json(file)
    if content.get("format") != FORMAT:
        raise CheckpointError(f"{file}: not an imgcls checkpoint")
    _check_format(file, content)
    if content.pop("sha256", None) != own_hash(content):
        raise CheckpointError(f"{file}: damaged, its content does not match its own hash")
    seals, known = content.get("files"), {WEIGHTS, CARD, STATE}
    if not isinstance(seals, dict) or not {WEIGHTS, CARD} <= set(seals) <= known:
        raise CheckpointError(f"{file}: does not list the files of a checkpoint")
    try:
        return Manifest(Sidecar.read(content.get("facts")), seals, content.get("state"))
    except ValueError as error:
        raise CheckpointError(f"{file}: {error}") from error


def write_manifest(folder: Path, sidecar: Sidecar, state: Any, names: Sequence[str]) -> None:
    """Write `checkpoint.json` over the files of these names, which are in the folder."""
    content: dict[str, Any] = {
        "format": FORMAT,
        "format_version": list(FORMAT_VERSION),
        "imgcls_version": version("imgcls"),
        "files": {name: seal(folder / name) for name in names},
        "facts": sidecar.to_json(),
        "state": state,
    }
    content["sha256"] = own_hash(content)
    (folder / SIDECAR).write_text(strict_json(content), encoding="utf-8")


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
    """Raise an OSError of the block, which only reads, as a CheckpointError."""
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


def is_model_folder(path: Path) -> bool:
    """True for a folder with a config.json and weights that is no checkpoint, nor a part of one."""
    if (path / SIDECAR).exists() or (path / STATE).exists():
        return False
    return (path / CARD).is_file() and weights_of(path).is_file()


def weights_of(folder: Path) -> Path:
    """The file with the weights of a checkpoint or model folder."""
    plain = folder / WEIGHTS
    return folder / _PICKLED if not plain.exists() and (folder / _PICKLED).exists() else plain


def began_with(weights: Path) -> StartingWeights:
    """What the training of these weights began with. weights: a file, or a model's folder."""
    folder = weights.parent if weights.name in {WEIGHTS, _PICKLED} else weights
    try:
        if (folder / SIDECAR).is_file():
            return read_sidecar(folder).began_with(read_json(folder / CARD))
        return StartingWeights.of_card(read_card(folder))
    except CheckpointError:
        return StartingWeights("unknown")


def read_card(folder: Path) -> dict[str, Any]:
    """The folder's config.json as a checkpoint has it, with label_names for each output.

    Classes without names are called by their numbers. Raises CheckpointError where it is no timm
    model's.
    """
    card = read_json(folder / CARD)
    if "architecture" not in card:
        kind = card.get("model_type") or ", ".join(map(str, card.get("architectures") or ()))
        of = f" of a {kind}" if kind else ""
        raise CheckpointError(
            f"{folder / CARD}: not a timm model's{of}: it names no timm `architecture`"
        )
    # timm kept these settings at the top before 0.9
    cfg = card.get("pretrained_cfg", card)
    if not isinstance(cfg, dict):
        raise CheckpointError(f"{folder / CARD}: its pretrained_cfg is not usable")
    outputs = card.get("num_classes", cfg.get("num_classes"))
    names = _names(card, cfg)
    if names is None and type(outputs) is int and outputs > 0:
        # each output has weights, so that a number alone cannot ask for terabytes of names
        if outputs > weights_of(folder).stat().st_size:
            raise CheckpointError(
                f"{folder / CARD}: num_classes is {outputs}, more than its weights have outputs"
            )
        names = [str(number) for number in range(outputs)]
    if names is not None:
        names = _told_apart(names)
        if not are_names(names):
            raise CheckpointError(f"{folder / CARD}: its classes are not all different texts")
    arguments = card.get("model_args") or {}
    if isinstance(arguments, dict):
        arguments = {
            name: value
            for name, value in arguments.items()
            # timm's save_for_hf writes the number of classes once more
            if name not in _OF_TRAINING and (name, value) != ("num_classes", outputs)
        }
    return {
        "architecture": card["architecture"],
        "num_classes": len(names) if names is not None and outputs is None else outputs,
        "label_names": names,
        "pretrained_cfg": cfg,
        "model_args": arguments,
    }


def _told_apart(names: list[str]) -> list[str]:
    """The names made unique: a number behind each that comes twice, such as ImageNet's crane."""
    counts = Counter(names)
    return [n if counts[n] == 1 else f"{n} ({number})" for number, n in enumerate(names)]


def _names(card: dict[str, Any], cfg: dict[str, Any]) -> list[str] | None:
    names = card.get("label_names") or cfg.get("label_names")
    if isinstance(names, list):
        return [str(name) for name in names]
    by_number = card.get("id2label") or card.get("label_names")
    if isinstance(by_number, dict):
        try:
            return [str(by_number[key]) for key in sorted(by_number, key=int)]
        except ValueError:
            return None
    return None
