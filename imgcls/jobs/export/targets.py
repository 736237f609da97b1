"""The formats of `--format`: how each is written, and what vouches for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from imgcls.jobs.export.pictures import ProofPictures, proof_pictures
from imgcls.jobs.export.proof import OnProgress
from imgcls.jobs.export.subject import Subject
from imgcls.jobs.export.weights import prove_weights, write_weights
from imgcls.results.record import Record


@dataclass(eq=False)
class Work:
    """What all formats of one export share, and who is told of it."""

    subject: Subject
    on_progress: OnProgress

    @cached_property
    def pictures(self) -> ProofPictures:
        """The pictures to compare on, looked for when the first format wants them."""
        return proof_pictures(self.subject)


@dataclass(frozen=True)
class Target:
    """A format of exports.

    file: the name of its main file. write: makes the file at this path, and others beside it, with
    the metadata in it where the format has room for it; what it raises is told as the format's.
    prove: what vouches for the file; raises ExportError where nothing does. extra: of imgcls, which
    brings `modules`. has_profile: whether `--profile` changes it.
    """

    file: str
    write: Callable[[Work, Path, Mapping[str, Any]], None]
    prove: Callable[[Work, Path], Record]
    extra: str | None = None
    modules: tuple[str, ...] = ()
    has_profile: bool = True


TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        "safetensors": Target(
            "model.safetensors",
            lambda work, file, metadata: write_weights(work.subject, file, metadata),
            lambda work, file: prove_weights(work.subject, file),
            has_profile=False,
        ),
    }
)
