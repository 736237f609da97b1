"""All of timm's architectures without importing timm or torch.

`catalog.json` ships with the package and holds one line for each model of one timm version. With
another timm installed it is made again once, in the user's cache folder.
"""

from __future__ import annotations

import fnmatch
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from imgcls.config.files import read_json
from imgcls.errors import ModelError
from imgcls.models.licences import licence_text
from imgcls.results.models import ModelEntry
from imgcls.storage.kept_files import cache_folder

SHIPPED = Path(__file__).with_name("catalog.json")

CURATED = (
    *(f"resnet{n}" for n in (18, 34, 50, 101, 152)),
    "resnext50_32x4d",
    "wide_resnet50_2",
    "tf_efficientnet_lite0",
    *(f"efficientnet_b{n}" for n in range(8)),
    *(f"tf_efficientnetv2_{size}" for size in "sml"),
    *(f"vit_{size}_patch16_224" for size in ("tiny", "small", "base", "large")),
    *(f"convnext_{size}" for size in ("tiny", "small", "base", "large")),
    *(f"mobilenetv3_{size}_100" for size in ("small", "large")),
    *(f"densenet{n}" for n in (121, 169, 201)),
    *(f"regnetx_{size}" for size in ("002", "008", "032", "080", "160")),
    *(f"regnety_{size}" for size in ("002", "008", "032", "080", "160")),
    *(f"swin_{size}_patch4_window7_224" for size in ("tiny", "small", "base")),
)


def list_models(
    pattern: str | None = None,
    *,
    family: str | None = None,
    max_params: float | None = None,
    img_size: int | None = None,
    pretrained: bool = False,
    licences: Iterable[str] = (),
    limit: int | None = None,
    on_rebuild: Callable[[str], None] = lambda _message: None,
) -> list[ModelEntry]:
    """Models by name: the curated families, or, with a pattern or filter, all of timm.

    pattern: a glob or a part of `name` or `name.tag`, in any case. max_params: in millions.
    img_size: the side the model was made for. licences: the weights' own, or globs of them; entries
    hold the weights under these alone. An empty list when none fits.
    """
    entries = load_catalog(on_rebuild)
    wanted_licences = tuple(licences)
    if (pattern, family, max_params, img_size) == (None,) * 4 and not wanted_licences:
        chosen = [entries[name] for name in CURATED if name in entries]
    else:
        chosen = list(entries.values())
    if pattern is not None:
        wanted = pattern.lower()
        glob = wanted if any(c in wanted for c in "*?[") else f"*{wanted}*"
        chosen = [entry for entry in chosen if _matches(entry, glob)]
    if family is not None:
        chosen = [entry for entry in chosen if entry.family == family.lower()]
    if max_params is not None:
        chosen = [entry for entry in chosen if entry.parameters <= max_params * 1e6]
    if img_size is not None:
        chosen = [entry for entry in chosen if entry.input_size[-1] == img_size]
    if wanted_licences:
        chosen = [_only_under(entry, wanted_licences) for entry in chosen]
    if pretrained or wanted_licences:
        chosen = [entry for entry in chosen if entry.pretrained_tags]
    return chosen[:limit]


def get_available_models() -> list[str]:
    """The names of all architectures of the installed timm."""
    return list(load_catalog())


def known_licences() -> list[str]:
    """The licences of all pretrained weights, as `list_models` takes them, the commonest first."""
    found = Counter(
        licence_text(licence)
        for entry in load_catalog().values()
        for licence in entry.licences.values()
    )
    return [licence for licence, _ in found.most_common()]


def nearest_names(name: str, n: int = 3, *, among: Iterable[str] | None = None) -> list[str]:
    """The n names most like this one; among: where to look, the catalogue when not given."""
    import difflib

    known = load_catalog() if among is None else among
    return difflib.get_close_matches(name.strip().lower().partition(".")[0], sorted(known), n)


def load_catalog(
    on_rebuild: Callable[[str], None] = lambda _message: None,
) -> dict[str, ModelEntry]:
    """All entries by name, for the installed timm.

    Raises ModelError when the catalogue has to be made again and cannot.
    """
    installed = version("timm")
    cached = cache_folder() / f"catalog-timm-{installed}.json"
    for file in (SHIPPED, cached):
        if (entries := _usable_entries(file, installed)) is not None:
            return entries
    on_rebuild(f"timm {installed} is new here: listing its models once, about a minute ...")
    _rebuild(cached)
    return _entries(cached, installed)


def _matches(entry: ModelEntry, glob: str) -> bool:
    names = (entry.name, *(f"{entry.name}.{tag}" for tag in entry.pretrained_tags))
    return any(fnmatch.fnmatchcase(name, glob) for name in names)


def _only_under(entry: ModelEntry, licences: Iterable[str]) -> ModelEntry:
    """The entry with the weights alone whose licence is one of these."""
    globs = [licence.lower() for licence in licences]
    kept = {
        tag: licence
        for tag, licence in entry.licences.items()
        if any(fnmatch.fnmatchcase(licence_text(licence).lower(), glob) for glob in globs)
    }
    return replace(entry, pretrained_tags=tuple(kept), licences=kept)


def _usable_entries(file: Path, timm_version: str) -> dict[str, ModelEntry] | None:
    try:
        return _entries(file, timm_version)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None  # not made yet, of another timm, or damaged


@cache
def _entries(file: Path, timm_version: str) -> dict[str, ModelEntry]:
    content: dict[str, Any] = read_json(file)
    if content["timm"] != timm_version:
        raise ValueError(f"made for timm {content['timm']}")
    return {
        # the pairs, which an earlier version's list of tags does not have
        name: ModelEntry(
            name,
            family,
            parameters,
            tuple(size),
            tuple(tags),
            dict(tags.items()),
            next(iter(tags), None),
        )
        for name, (family, parameters, size, tags) in content["models"].items()
    }


def _rebuild(target: Path) -> None:
    import subprocess

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "imgcls.models.catalog.build", str(target)]
        subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603  our own
    except (OSError, subprocess.CalledProcessError) as error:
        detail = getattr(error, "stderr", "") or str(error)
        raise ModelError(
            f"the list of timm's models could not be made in {target.parent}: "
            f"{(detail.strip() or str(error)).splitlines()[-1]}; "
            "set IMGCLS_CACHE to a folder that can be written"
        ) from error
