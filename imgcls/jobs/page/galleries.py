"""The pictures worth a look: the most confident mistakes, the most uncertain answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from imgcls.config.files import open_file
from imgcls.config.reading import ReadingConfig
from imgcls.config.run import TrainConfig
from imgcls.data.open import checkpoint_decoding, open_source
from imgcls.data.pixels.decode import UnreadableImageError
from imgcls.data.splits.recorded import find_recorded
from imgcls.data.table import SampleTable
from imgcls.errors import DataError, RunError
from imgcls.metrics.predictions import Predictions
from imgcls.output.pages.page import Thumbnail, picture_uri
from imgcls.results.checkpoint import Sidecar
from imgcls.storage.evaluations import GRAD_CAM, ROLLOUT, Explanation, read_explanations
from imgcls.storage.splits import read_splits

_MOST_MISTAKES, _MOST_UNCERTAIN = 24, 12

_HEAT = {
    GRAD_CAM: " On the right, the brighter a place, the more it spoke for the answer (Grad-CAM).",
    ROLLOUT: (
        " On the right, the brighter a place, the more the model looked at it, for whatever class "
        "(attention rollout)."
    ),
}

Gallery = tuple[str, str, list[Thumbnail]]


def galleries_of(
    folder: Path,
    report: Mapping[str, Any],
    predictions: Predictions,
    sidecar: Sidecar | None,
    run: Path | None,
) -> tuple[list[Gallery], list[str]]:
    """Galleries (title, sentence, thumbnails) of an evaluated split, and notes on what lacks.

    report: test_metrics.json of the results folder. sidecar: the checkpoint's; pictures are
    shown in the channels and on the background that its model sees. run: whose names the pictures
    may have. They are read from the data that was scored; where it has gone, their names and scores
    are shown alone.
    """
    mistakes = worst_mistakes(predictions)
    uncertain = np.argsort(predictions.confidences, kind="stable")[:_MOST_UNCERTAIN]
    notes: list[str] = []
    shown = {predictions.keys[row] for row in (*mistakes, *uncertain)}
    table = _table(report["data"], sidecar, notes)
    if table is not None and run is not None:
        table = _under_the_runs_names(table, run, shown)
    names = report["class_names"]
    explanations = _explanations(folder, notes)
    galleries = [
        (
            "The most confident mistakes",
            "Wrong labels, two classes in one picture, or what the model takes for another."
            + "".join(_HEAT[method] for method in {e.method for e in explanations.values()}),
            _thumbnails(
                table, predictions, names, mistakes, notes=notes, explanations=explanations
            ),
        ),
        (
            "The most uncertain pictures",
            "Where the highest probability is lowest: worth a second look at their labels.",
            _thumbnails(table, predictions, names, uncertain, notes=notes, explanations={}),
        ),
    ]
    return [gallery for gallery in galleries if gallery[2]], notes


def worst_mistakes(predictions: Predictions) -> np.ndarray:
    """Rows of the mistakes that the model was surest of, surest first: int64, 24 at most."""
    wrong = np.flatnonzero(~predictions.correct)
    order = np.argsort(-predictions.confidences[wrong], kind="stable")
    return wrong[order[:_MOST_MISTAKES]]


def _table(
    data: Mapping[str, Any], sidecar: Sidecar | None, notes: list[str]
) -> SampleTable | None:
    options = {name: value for name, value in data.items() if name != "source"}
    try:
        # those that have gone since are told one by one
        trained = None if sidecar is None else sidecar.config
        decoding = (
            None if trained is None else checkpoint_decoding(TrainConfig.model_validate(trained))
        )
        return open_source(data["source"], ReadingConfig(**options), decoding, keep_missing=True)
    except (DataError, ValueError, LookupError, TypeError) as error:
        notes.append(f"the pictures are not shown: {' '.join(str(error).split())}")
        return None


def _under_the_runs_names(table: SampleTable, run: Path, shown: set[str]) -> SampleTable:
    """The table, with pictures that have other names there found by their content."""
    # a few that are missing have gone, and are not worth reading all there is
    if 2 * len(shown - set(table.keys)) <= len(shown):
        return table
    try:
        rows = [row for row in read_splits(run) if row["path"] in shown]
    except RunError:  # told by whoever needs them
        return table
    return find_recorded(table, rows, keep_gone=True).table if rows else table


def _explanations(folder: Path, notes: list[str]) -> dict[str, Explanation]:
    try:
        return read_explanations(folder)
    except (OSError, ValueError, LookupError) as error:
        notes.append(f"what the model looked at is not shown: {error}")
        return {}


def _thumbnails(
    table: SampleTable | None,
    predictions: Predictions,
    names: Sequence[str],
    rows: np.ndarray,
    *,
    notes: list[str],
    explanations: Mapping[str, Explanation],
) -> list[Thumbnail]:
    position = {} if table is None else {key: index for index, key in enumerate(table.keys)}
    shown = []
    for row in rows:
        key = predictions.keys[row]
        true, said = predictions.labels[row], predictions.predicted[row]
        own = predictions.label_probabilities[row]
        sure = f"{predictions.confidences[row]:.1%} sure"
        uri = None
        if table is not None and key in position:
            try:
                uri = picture_uri(table.images.open(position[key]))
            except UnreadableImageError as error:
                notes.append(f"{key} is not shown: {error}")
        right = true == said
        shown.append(
            Thumbnail(
                uri,
                f"{names[true]}, right" if right else f"{names[true]} taken for {names[said]}",
                [sure if right else f"{sure}; {own:.1%} for {names[true]}"],
                key,
                _overlay_uri(explanations[key], notes) if key in explanations else None,
            )
        )
    return shown


def _overlay_uri(explanation: Explanation, notes: list[str]) -> str | None:
    try:
        with (
            open_file(explanation.file) as stream,
            Image.open(stream, formats=["JPEG"]) as overlay,
        ):
            return picture_uri(overlay)
    except (OSError, ValueError) as error:
        notes.append(f"{explanation.file.name} is not shown: {error}")
        return None
