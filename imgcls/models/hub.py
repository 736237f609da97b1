"""Pretrained weights out of timm's hub: whether there are any, and whether they can be had."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from timm.models import get_pretrained_cfg

from imgcls.errors import ModelError
from imgcls.models.catalog.read import nearest_names
from imgcls.results.checkpoint import StartingWeights

_TIMEOUT_S = 3.0
_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class Hub:
    """Whether the hub can be reached: `problem` says why not, in brackets after a blank."""

    problem: str | None


def published_weights(name: str) -> StartingWeights:
    """The weights that timm fetches for a name that it knows, and their licence."""
    cfg = get_pretrained_cfg(name)
    tag = f".{cfg.tag}" if cfg is not None and cfg.tag else ""
    licence = getattr(cfg, "license", None)
    return StartingWeights("pretrained", f"{name.partition('.')[0]}{tag}", licence)


def repository_of(weights: str) -> str | None:
    """The repository on Hugging Face of weights by `architecture.tag`; None where timm has none."""
    try:
        cfg = get_pretrained_cfg(weights)
    except RuntimeError:  # a tag that this timm has not
        return None
    return (cfg.hf_hub_id or None) if cfg is not None else None


def check_has_weights(name: str) -> None:
    """Raise ModelError for an architecture that timm has no pretrained weights for."""
    cfg = get_pretrained_cfg(name)
    if cfg is None or not cfg.has_weights:
        with_weights = {full.partition(".")[0] for full in timm.list_pretrained()}
        near = nearest_names(name, 1, among=with_weights)
        like_it = f"a model that has them, such as {near[0]}" if near else "another model"
        raise ModelError(
            f"--model {name}: timm has no pretrained weights for it; add --no-pretrained or "
            f"choose {like_it} (`imgcls list-models --pretrained`)"
        )


def check_can_be_had(name: str) -> None:
    """Raise ModelError unless a model's pretrained weights are here, or the hub can be asked."""
    check_has_weights(name)
    if not _is_cached(name):
        with quick_hub() as hub:
            if hub.problem is not None:
                raise not_to_be_had(name, unreachable(hub))


def why_not_to_be_had(names: Iterable[str]) -> dict[str, str]:
    """Why pretrained weights are neither here nor to be fetched, by the names that lack them.

    The hub is asked once, and only where some are not here.
    """
    reasons: dict[str, str] = {}
    absent = []
    for name in names:
        cfg = get_pretrained_cfg(name)
        if cfg is None or not cfg.has_weights:
            reasons[name] = "timm has no pretrained weights for it"
        elif not _is_cached(name):
            absent.append(name)
    if absent:
        with quick_hub() as hub:
            if hub.problem is not None:
                reasons |= dict.fromkeys(absent, f"its weights {unreachable(hub)}")
    return reasons


def unreachable(hub: Hub) -> str:
    """The reason, in words, for weights that are neither cached nor to be fetched."""
    return f"are not on this machine and the hub cannot be reached{hub.problem or ''}"


def not_to_be_had(name: str, reason: str) -> ModelError:
    """The error for pretrained weights, with both ways out."""
    return ModelError(
        f"--model {name}: its pretrained weights {reason}; give --weights FILE, or "
        "--no-pretrained to start from scratch"
    )


@contextlib.contextmanager
def quick_hub() -> Iterator[Hub]:
    """The hub, asked once; if it is not there, what is cached is used without any retries.

    Its own client would try each file six times, three quarters of a minute in all.
    """
    from huggingface_hub import constants, get_session

    was_offline, socket_timeout_s = constants.HF_HUB_OFFLINE, socket.getdefaulttimeout()
    problem = " (HF_HUB_OFFLINE is set)" if was_offline else None
    proxies: dict[str, str] = {}
    try:
        # also where nothing will be fetched: a client is made in any case
        session = get_session()
        if not was_offline:
            session.head(constants.ENDPOINT, timeout=_TIMEOUT_S)
    except ImportError as error:
        # a SOCKS proxy without the package for it: no client can be made, not even to look offline
        problem = f" ({' '.join(str(error).split())})"
        proxies = {key: os.environ.pop(key) for key in list(os.environ) if _is_proxy(key)}
    except Exception:  # noqa: BLE001  whatever the client raises, the hub was not reached
        problem = ""
    if problem is not None:
        constants.HF_HUB_OFFLINE = True
        # a few weights lie elsewhere, and torch.hub fetches them without any time limit
        socket.setdefaulttimeout(_TIMEOUT_S)
    try:
        yield Hub(problem)
    finally:
        constants.HF_HUB_OFFLINE = was_offline
        socket.setdefaulttimeout(socket_timeout_s)
        if proxies:
            from huggingface_hub import close_session

            os.environ.update(proxies)
            close_session()  # the next one must go by the proxies again


def _is_proxy(key: str) -> bool:
    return key.lower().endswith("_proxy") and key.lower() != "no_proxy"


def _is_cached(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    cfg = get_pretrained_cfg(name)
    assert cfg is not None
    if cfg.hf_hub_id:
        files = (cfg.hf_hub_filename,) if cfg.hf_hub_filename else _FILES
        found = (try_to_load_from_cache(cfg.hf_hub_id, file) for file in files)
        if any(isinstance(path, str) for path in found):
            return True
    if not cfg.url:
        return False
    return Path(torch.hub.get_dir(), "checkpoints", str(cfg.url).rpartition("/")[2]).is_file()
