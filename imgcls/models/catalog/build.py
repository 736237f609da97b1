"""Makes the catalogue: `python -m imgcls.models.catalog.build [FILE]`.

Each architecture is built on the meta device, which allocates nothing. Names that the shipped
catalogue has, with an unchanged input size, keep their count, so a new timm costs only its news.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import get_pretrained_cfg
from torch import nn

from imgcls.models.catalog.read import SHIPPED


def build_catalog(known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The catalogue's content: {"timm": version, "models": {name: [family, count, size, tags]}}.

    tags: {tag: licence of its weights, None where timm states none}, that of the plain name first.
    known: the models of an earlier catalogue, whose counts are kept.
    """
    tags: dict[str, dict[str, str | None]] = {}
    for full_name in timm.list_pretrained():
        name, _, tag = full_name.partition(".")
        tags.setdefault(name, {})[tag] = getattr(get_pretrained_cfg(full_name), "license", None)
    models = {}
    for name in timm.list_models():
        cfg = get_pretrained_cfg(name)
        licences = tags.get(name, {})
        if cfg is not None and cfg.tag in licences:
            licences = {cfg.tag: licences[cfg.tag], **licences}
        size = list(cfg.input_size) if cfg is not None else [3, 224, 224]
        earlier = (known or {}).get(name)
        count = earlier[1] if earlier is not None and earlier[2] == size else count_parameters(name)
        family = timm.models.model_entrypoint(name).__module__.rpartition(".")[2]
        models[name] = [family, count, size, licences]
    return {"timm": version("timm"), "models": models}


def count_parameters(name: str) -> int:
    """The number of parameters with timm's own classifier."""
    return sum(parameter.numel() for parameter in skeleton(name).parameters())


def skeleton(name: str) -> nn.Module:
    """The architecture without any memory for its weights, where it can be built so."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with torch.device("meta"):
                model: nn.Module = timm.create_model(name, pretrained=False)
        except (NotImplementedError, RuntimeError):  # its constructor reads a tensor's values
            model = timm.create_model(name, pretrained=False)
    return model


def write_catalog(file: Path, content: Mapping[str, Any]) -> None:
    """Write the catalogue, one model a line, replacing the file at once."""
    lines = ",\n".join(
        f"{json.dumps(name)}:{json.dumps(entry, separators=(',', ':'))}"
        for name, entry in content["models"].items()
    )
    temporary = file.with_name(f"{file.name}.{os.getpid()}")
    temporary.write_text(
        f'{{"timm":{json.dumps(content["timm"])},"models":{{\n{lines}\n}}}}\n', encoding="utf-8"
    )
    os.replace(temporary, file)  # noqa: PTH105  replaces on Windows too


if __name__ == "__main__":
    shipped = json.loads(SHIPPED.read_text(encoding="utf-8")) if SHIPPED.exists() else {}
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else SHIPPED
    write_catalog(target, build_catalog(shipped.get("models")))
