"""What the formats of one export share, and what a format is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from imgcls.engine.scoring.backends import quiet
from imgcls.errors import ExportError, ImgclsError, reason_of
from imgcls.jobs.export.pictures import ProofPictures, proof_pictures
from imgcls.jobs.export.subject import Subject
from imgcls.models.export.profiles import Exportable, example_of, exportable
from imgcls.results.record import Record

# gets (pictures done, pictures in all)
OnProgress = Callable[[int, int], None]


@dataclass(eq=False)
class Work:
    """What all formats of one export share, and who is told of it.

    max_drop: how many points of accuracy int8 may cost.
    """

    subject: Subject
    on_progress: OnProgress
    max_drop: float

    @cached_property
    def pictures(self) -> ProofPictures:
        """The pictures to compare on, looked for when the first format wants them."""
        return proof_pictures(self.subject)

    @cached_property
    def module(self) -> Exportable:
        """The model behind its profile, for exporters to read."""
        one = self.subject
        return exportable(one.scorer.model, one.preprocessing, one.profile, one.scorer.temperature)

    @cached_property
    def example(self) -> torch.Tensor:
        """A batch of what the module takes."""
        return example_of(self.subject.profile, self.subject.preprocessing)


@contextlib.contextmanager
def failing_as(what: str) -> Iterator[None]:
    """Raise what a runtime raises in the block as an ExportError that begins with `what`.

    Every runtime raises errors of its own. A MemoryError is the machine's, and stays what it is.
    """
    try:
        with quiet():
            yield
    except (ImgclsError, MemoryError):
        raise
    except Exception as error:
        raise ExportError(f"{what} ({reason_of(error)})") from error


def _nothing(_work: Work) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class Target:
    """A format of exports.

    file: the name of its main file. write: makes the file at this path, and others beside it, with
    the metadata in it where the format has room for it; what it raises is told as the format's.
    prove: what vouches for the file; raises ExportError where nothing does. about: what the
    metadata has beside what it has for all formats. extra: of imgcls, which brings `modules`.
    """

    file: str
    write: Callable[[Work, Path, Mapping[str, Any]], None]
    prove: Callable[[Work, Path], Record]
    about: Callable[[Work], Mapping[str, Any]] = _nothing
    extra: str = ""
    modules: tuple[str, ...] = ()
