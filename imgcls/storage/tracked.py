"""What a fold keeps of its tracked runs, so that they go on with it. Loads no torch.

fold_0/trackers.json   the key of its tracked runs; whether they lack anything; where each lies
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from imgcls.config.files import read_json
from imgcls.storage.tables import write_json

TRACKERS = "trackers.json"


@dataclass(frozen=True)
class Tracked:
    """The tracked runs of a fold.

    key: what every tracker finds them by. open: they may lack what the fold has. names: those that
    log it. kept: what a tracker asked to keep, by its name.
    """

    key: str
    open: bool
    names: tuple[str, ...]
    kept: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def read_tracked(folder: Path) -> Tracked | None:
    """The tracked runs of a fold; None where it has none, or they cannot be read."""
    try:
        document = read_json(folder / TRACKERS)
        return Tracked(
            str(document["key"]),
            bool(document["open"]),
            tuple(map(str, document["names"])),
            {str(name): dict(kept) for name, kept in document["kept"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def new_tracked() -> Tracked:
    """Tracked runs that no tracker has yet."""
    return Tracked(uuid.uuid4().hex, open=True, names=())


def write_tracked(folder: Path, tracked: Tracked) -> None:
    """Keep this with the fold, whole or not at all."""
    write_json(
        folder / TRACKERS,
        {
            "key": tracked.key,
            "open": tracked.open,
            "names": list(tracked.names),
            "kept": {name: dict(kept) for name, kept in tracked.kept.items()},
        },
    )


def keep(folder: Path, name: str, kept: Mapping[str, Any]) -> None:
    """Keep what a tracker of the fold asks to, where it is new. Raises OSError."""
    tracked = read_tracked(folder)
    if tracked is not None and kept != tracked.kept.get(name, {}):
        write_tracked(folder, replace(tracked, kept={**tracked.kept, name: kept}))


def is_tracked_to_the_end(folder: Path) -> bool:
    """Whether no tracked run of the fold was left before it had everything."""
    tracked = read_tracked(folder)
    return tracked is None or not tracked.open
