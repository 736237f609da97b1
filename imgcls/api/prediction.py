"""What a model says of one picture."""

from __future__ import annotations

import html
from dataclasses import dataclass, field

from imgcls.data.inputs import Input
from imgcls.data.pixels.decode import UnreadableImageError, decode
from imgcls.data.places import PlaceReader
from imgcls.errors import ImgclsError
from imgcls.output.pages.page import picture_uri
from imgcls.results.prediction import PredictedRow

_THUMBNAIL = 96  # pixels


@dataclass(frozen=True)
class Prediction:
    """The likeliest class of a picture and its probability; in a notebook with the picture.

    top: the likeliest classes with their probabilities, the first of them the label's. set: the
    classes that hold the right one with the probability of `sets`; None where none was asked for.
    flag: "unsure" or "unlike" by `max_error` and `unlike`, else None. path: of the picture, or
    "picture 3" for the fourth of a list in memory.
    """

    label: str
    probability: float
    top: tuple[tuple[str, float], ...]
    set: tuple[str, ...] | None
    flag: str | None
    path: str
    _input: Input | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, row: PredictedRow, picture: Input) -> Prediction:
        """The row of a picture that was classified."""
        top = tuple(zip(row.labels, row.probabilities, strict=True))
        return cls(*top[0], top, row.members, row.flag, row.path, picture)

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><td style="text-align:left">{html.escape(label)}</td><td>{probability:.1%}</td>'
            f'<td style="text-align:left"><progress value="{probability:.4f}"></progress></td></tr>'
            for label, probability in self.top
        )
        said = [html.escape(self.path)]
        if self.flag is not None:
            said.append(f"<b>{html.escape(self.flag)}</b>")
        if self.set is not None:
            said.append(f"set: {html.escape(', '.join(self.set))}")
        uri = self._thumbnail()
        picture = "" if uri is None else f'<img src="{uri}" style="max-height:{_THUMBNAIL}px">'
        return (
            f'<div style="display:flex;gap:1em;align-items:center">{picture}<div>'
            f"<table>{rows}</table><small>{' · '.join(said)}</small></div></div>"
        )

    def _thumbnail(self) -> str | None:
        """A data URI; None where the picture is gone."""
        if self._input is None:
            return None
        try:
            content = PlaceReader().picture(self._input.place)
            return picture_uri(decode(content, enough_pixels=_THUMBNAIL), _THUMBNAIL)
        except (UnreadableImageError, ImgclsError):
            return None
