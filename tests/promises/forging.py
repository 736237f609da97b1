"""Damage to files: bytes, values of JSON and YAML, cells of tables, with hashes that fit."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import os
import random
from pathlib import Path

import numpy as np

from imgcls.storage import model_folder

FILES = ("checkpoint.json", "config.json", "model.safetensors", "state.safetensors")
FORGED = (
    None, True, -1, 0, 10**30, 1e308, "", "../../etc/passwd", "/etc/passwd", "hf-hub:x/y",
    "local-dir:/", [], {}, [[]], {"$tensor": "x"}, {"$dict": [[1, 2, 3]]}, "\0", "a" * 10000,
    "\ud800", "\x1b[1m", float("nan"), float("inf"), ["a", "a", "a"], [1, 2, 3], [None], [0, 0, 0],
    {"a": None},
)  # fmt: skip
CELLS = (
    "", "x", "nan", "inf", "-1", "1e400", "9" * 400, "\u0661", "\u00b2", "\x1b[1m", "a" * 200_000,
    '"', "train", "test", "../../x", "0", "1.5", "\r", "=1+1",
)  # fmt: skip


def flip(content: bytes, rng: random.Random) -> bytes:
    """The content with a few bytes changed, cut, doubled or put in."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        # headers matter most
        span = len(changed) if rng.random() < 0.3 else min(len(changed), 400)
        at = rng.randrange(max(span, 1))
        kind = rng.randrange(4)
        if kind == 0 and changed:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del changed[at : at + rng.randint(1, 50)]
        elif kind == 2:
            changed[at:at] = rng.randbytes(rng.randint(1, 9))
        else:
            changed[at : at + 8] = (rng.choice([0, 2**31, 2**63 - 1])).to_bytes(8, "little")
    return bytes(changed)


def forge(tree, rng: random.Random):
    """The JSON tree with one or two of its values replaced by something else."""
    for _ in range(rng.randint(1, 2)):
        node = tree
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = rng.choice(keys)
            inner = node[key]
            if isinstance(inner, (dict, list)) and inner and rng.random() < 0.8:
                node = inner
                continue
            if rng.random() < 0.15 and isinstance(node, dict):
                del node[key]
            else:
                node[key] = copy.deepcopy(rng.choice(FORGED))
            break
    return tree


def reseal(folder) -> None:
    """Give a damaged checkpoint hashes that fit, as whoever forges it would."""
    sidecar = json.loads((folder / "checkpoint.json").read_text())
    if not isinstance(sidecar, dict):
        return
    sidecar.pop("sha256", None)
    for name, seal in (sidecar.get("files") or {}).items() if isinstance(
        sidecar.get("files"), dict
    ) else ():  # fmt: skip
        if name in FILES and (folder / name).exists() and isinstance(seal, dict):
            seal.update(model_folder.seal(folder / name))
    sidecar["sha256"] = model_folder.own_hash(sidecar)
    (folder / "checkpoint.json").write_text(json.dumps(sidecar))


def reseal_evaluation(file: Path) -> None:
    """Give a damaged file of an evaluation the hash that test_metrics.json then names."""
    metrics = json.loads((file.parent / "test_metrics.json").read_text())
    if file.name in metrics["sha256"]:
        metrics["sha256"][file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
        (file.parent / "test_metrics.json").write_text(json.dumps(metrics))


def forge_table(text: str, rng: random.Random) -> str:
    """The CSV table with cells replaced, taken out or put in, and rows doubled or gone."""
    lines = text.split("\n")
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(lines)) if rng.random() < 0.7 else 0
        cells, kind = lines[at].split(","), rng.randrange(5)
        place = rng.randrange(len(cells))
        if kind == 0:
            cells[place] = rng.choice(CELLS)
        elif kind == 1:
            del cells[place]
        elif kind == 2:
            cells.insert(place, rng.choice(CELLS))
        lines[at] = ",".join(cells)
        if kind == 3:
            lines.insert(at, lines[at])
        elif kind == 4 and len(lines) > 1:
            del lines[at]
    return "\n".join(lines)


class _Code:
    """An object whose pickle runs a command when it is read."""

    def __reduce__(self):
        return os.system, ("touch ran",)


def forge_array(content: bytes, rng: random.Random) -> bytes:
    """The NumPy file with another type, shape or values; one holds a pickle that runs a command."""
    array = np.load(io.BytesIO(content))
    changed = [
        lambda: np.array([_Code()] * len(array), dtype=object),
        lambda: array.astype(rng.choice(["f2", "f8", "i4", "U5", "c8", "?", ">f4", "S3"])),
        lambda: array[:, :2],
        lambda: array[:-1],
        lambda: array.reshape(-1),
        lambda: array[:0],
        lambda: np.where(array == array[0, 0], rng.choice([np.nan, np.inf, 3e38]), array),
    ]
    stream = io.BytesIO()
    np.save(stream, rng.choice(changed)(), allow_pickle=True)
    return stream.getvalue()


def blunt(file: Path, rng: random.Random) -> None:
    """Something else in the file's place: nothing, a folder, a link, a pipe, other bytes."""
    content, kind = file.read_bytes(), rng.randrange(13)
    if kind >= 8:
        file.unlink()
    match kind:
        case 8:
            pass
        case 9:
            file.mkdir()
        case 10:
            file.symlink_to(file.name)
        case 11:
            file.symlink_to("/dev/zero")
        case 12:
            os.mkfifo(file)
        case _:
            file.write_bytes(
                (
                    b"",
                    b"\0" * 100,
                    b"\xef\xbb\xbf" + content,
                    content[: len(content) // 2],
                    b"[" * 100_000 + b"]" * 100_000,
                    b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
                    content.replace(b"0", b"9" * 4400, 1),
                    content[:20] + b"\xff\xfe" + content[20:],
                )[kind]
            )


def damage(file: Path, rng: random.Random) -> None:
    """Damage a file of a run in a way that suits its kind; its hashes fit, mostly."""
    content, kind = file.read_bytes(), rng.random()
    if kind < 0.2:
        blunt(file, rng)
    elif kind < 0.3 or file.suffix not in (".json", ".yaml", ".csv", ".npy"):
        file.write_bytes(flip(content, rng))
    elif file.suffix == ".csv":
        file.write_text(forge_table(content.decode(), rng))
    elif file.suffix == ".npy":
        file.write_bytes(forge_array(content, rng))
    else:
        import yaml

        tree = yaml.safe_load(content) if file.suffix == ".yaml" else json.loads(content)
        file.write_text(json.dumps(forge(tree, rng)))
    if rng.random() < 0.85 and file.is_file() and not file.is_symlink():
        if file.parent.name == "test" and file.name != "test_metrics.json":
            reseal_evaluation(file)
        elif file.name in FILES and (file.parent / "checkpoint.json").is_file():
            try:
                reseal(file.parent)
            except (ValueError, RecursionError):
                pass  # no JSON any more
