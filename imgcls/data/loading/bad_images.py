"""Pictures that cannot be read: stop at the first, or leave them out and remember which."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from imgcls.data.table import SampleTable
from imgcls.errors import BadImageError


@dataclass(frozen=True)
class BadImage:
    """A picture that could not be read, on its way to the process that can say so.

    key: its name in the table; location: where it lies.
    """

    key: str
    label: str
    location: str
    reason: str


def bad_image(table: SampleTable, row: int, reason: str) -> BadImage:
    """Row `row` of the table as a picture that cannot be read."""
    label = table.class_names[table.labels[row]]
    return BadImage(table.keys[row], label, table.images.location(row), reason)


class BadImages:
    """The policy on pictures that cannot be read (`error` or `skip`), and those met so far.

    skip: leave them out, instead of stopping. may_skip: whether the command could be told to.
    """

    def __init__(self, *, skip: bool = False, may_skip: bool = True) -> None:
        self._skip = skip
        self._advice = ", or leave such pictures out with --on-bad-image skip" if may_skip else ""
        self._met: dict[str, BadImage] = {}
        self._on_new: Callable[[BadImage], None] = lambda _image: None

    def __reduce__(self) -> tuple[Callable[..., BadImages], tuple[bool, bool]]:
        """For another process: the same policy, which has met none yet."""
        return _policy, (self._skip, bool(self._advice))

    def tell(self, on_new: Callable[[BadImage], None]) -> None:
        """Tell `on_new` of each one that is left out, once: those so far, and those to come."""
        for image in self.met:
            on_new(image)
        self._on_new = on_new

    @property
    def met(self) -> tuple[BadImage, ...]:
        """Those left out so far, each once."""
        return tuple(self._met.values())

    def meet(self, images: Sequence[BadImage]) -> None:
        """Take note of some. Raises BadImageError for the first unless they are to be left out."""
        for image in images:
            if not self._skip:
                raise BadImageError(
                    f"{image.location}: cannot be read ({image.reason}); repair it, or take it "
                    f"out of the data{self._advice}"
                )
            if image.key not in self._met:
                self._met[image.key] = image
                self._on_new(image)


def nothing_left(images: Sequence[BadImage], what: str) -> BadImageError:
    """The error for `what`, such as a batch, of which no picture can be read.

    That is more than a bad picture: a disk or a mount has gone.
    """
    return BadImageError(
        f"{images[0].location}: cannot be read ({images[0].reason}), nor can any other picture of "
        f"{what}; is the disk or the mount still there?"
    )


def _policy(skip: bool, may_skip: bool) -> BadImages:
    return BadImages(skip=skip, may_skip=may_skip)
