"""A trained model as an object: it classifies pictures in files and in memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

from imgcls.api.keywords import keyword_call
from imgcls.config.predict import PredictConfig
from imgcls.errors import BadImageError, DataError, ModelError, NonFiniteError
from imgcls.output.console import Console, shown_console

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image
    from torch import nn

    from imgcls.api.prediction import Prediction
    from imgcls.data.inputs import Input
    from imgcls.data.loading.stream import InputBatch
    from imgcls.jobs.predict.predictor import Predictor
    from imgcls.models.card import Preprocessing

    Picture: TypeAlias = str | os.PathLike[str] | Image.Image | np.ndarray

_OPTIONS = (
    "checkpoint", "top_k", "ensemble", "tta", "calibrate", "sets", "max_error", "unlike",
    "batch_size", "device", "amp", "channels_last", "workers", "max_image_pixels", "bit_depth",
)  # fmt: skip


@keyword_call(PredictConfig, only=_OPTIONS, workers=0)
def load(config: PredictConfig, *, progress: bool | None = None) -> Model:
    """A trained model, on the device and ready to classify: see Model.

    checkpoint: a run, fold or checkpoint folder, or a timm model folder. Where what `sets`,
    `max_error` or `unlike` rest on was not fitted yet, it is fitted now, and kept. Raises
    CheckpointError, RunError, ConfigError or DeviceError.
    """
    from imgcls.jobs.predict.predictor import find_predictor

    console: Console = shown_console(progress)
    with console.progress("Fitting", "pictures") as on_progress:
        return Model(find_predictor(config, console.say, on_progress if console.live else None))


class Model:
    """A model that was trained, as `imgcls.load` gives it.

    A picture is a path, a PIL picture or an array, uint8 [height, width] or [height, width,
    channels]; uint16 [height, width] where the model knows of how many bits. All go the way that
    files go in training and evaluation: upright, in the model's colours, resized and cropped as the
    model wants them, so that a file has the same probabilities as by `imgcls predict`. What cannot
    be read raises BadImageError with its path, or its place in the list, counted from 0.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._alone = predictor.load()
        self._scorer = predictor.joined(self._alone)

    def __repr__(self) -> str:
        one = self._predictor
        return (
            f"<imgcls model {one.model_name}, "
            f"{len(self.class_names)} classes, on {one.compute.device}: {one.path}>"
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes, in the order of `predict_proba`'s columns."""
        return self._predictor.class_names

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """What the model wants of its pictures, in timm's words: input_size, mean, std, ...

        Raises ModelError for an ensemble of models that want different ones.
        """
        from imgcls.jobs.scorer import are_prepared_alike
        from imgcls.models.card import preprocessing_from_card

        if not are_prepared_alike(self._predictor.checkpoints):
            raise ModelError("preprocessing: the models of this ensemble have different ones")
        return preprocessing_from_card(self._predictor.checkpoints[0].card)

    @property
    def module(self) -> nn.Module:
        """The torch module, in evaluation mode on its device.

        It takes float32 [B, C, H, W], prepared as `preprocessing` says, and gives logits; of an
        ensemble or with `tta`, those of the average and of each view.
        """
        return self._scorer.model.eval()

    @overload
    def predict(self, pictures: Picture) -> Prediction: ...

    @overload
    def predict(self, pictures: Iterable[Picture]) -> list[Prediction]: ...

    def predict(self, pictures: Picture | Iterable[Picture]) -> Prediction | list[Prediction]:
        """The Prediction of a picture, or a list of those of several, in their order."""
        from imgcls.api.prediction import Prediction

        inputs, single = _inputs(pictures)
        found: list[Prediction] = []
        with self._exact():
            for batch in self._predictor.scored(self._scorer, self._batches(inputs)):
                for (picture, _), row in zip(batch.read, batch.rows, strict=True):
                    if row.error is not None:
                        raise NonFiniteError(f"{row.path}: {row.error}")
                    found.append(Prediction.of(row, picture))
        return found[0] if single else found

    def predict_proba(self, pictures: Picture | Iterable[Picture]) -> np.ndarray:
        """The probabilities, float32 [N, C], of N pictures by `class_names`; one gives [1, C].

        Calibrated where the checkpoint is. Raises NonFiniteError.
        """
        import numpy as np

        from imgcls.jobs.scorer import first_answers
        from imgcls.metrics.predictions import Softmax

        inputs, _ = _inputs(pictures)
        parts = [np.empty((0, len(self.class_names)), np.float32)]
        with self._exact():
            for _, scores in self._scorer.scores(self._batches(inputs)):
                scores.require_finite()
                parts.append(Softmax(first_answers(scores.logits), self._scorer.temperature)[:])
        return np.concatenate(parts)

    def embed(self, pictures: Picture | Iterable[Picture]) -> np.ndarray:
        """What the classifier is given, pooled: float32 [N, D] of N pictures as they are.

        Raises ModelError for an ensemble, and for a model without such features.
        """
        import numpy as np

        from imgcls.jobs.scorer import with_features

        if len(self._alone) > 1:
            raise ModelError("embed: an ensemble has no features in common; load one fold")
        inputs, _ = _inputs(pictures)
        given = with_features(self._alone[0], self._batches(inputs), "none", "embed")
        with self._exact():
            parts = [features for _, _, features in given]
        return np.concatenate(parts) if parts else np.empty((0, 0), np.float32)

    def _exact(self) -> AbstractContextManager[None]:
        """A block without TF32, as evaluation computes, whatever the process allows."""
        from imgcls.engine.device.runtime import exact_float32

        return exact_float32(self._predictor.compute.device)

    def _batches(self, inputs: Sequence[Input]) -> Iterator[InputBatch]:
        """The pictures in batches. Raises BadImageError for the first that cannot be read."""
        from imgcls.jobs.scorer import open_inputs

        one = self._predictor
        loader = open_inputs(
            one.checkpoints,
            inputs,
            one.decoding,
            batch_size=one.config.batch_size,
            workers=one.config.workers,
            device_type=one.compute.device.type,
        )
        for batch in loader:
            _require_read(batch.read)
            yield batch
        _require_read(loader.rest)


def _require_read(read: Sequence[Any]) -> None:
    for (path, _), reason in read:
        if reason is not None:
            raise BadImageError(f"{path}: {reason}")


def _inputs(pictures: Any) -> tuple[list[Input], bool]:
    """(the pictures as inputs, whether it is one and not a list). Raises DataError."""
    single = _input(pictures, "picture")
    if single is not None:
        return [single], True
    found = []
    try:
        several = iter(pictures)
    except TypeError:
        raise _no_picture("", pictures) from None
    for number, picture in enumerate(several):
        one = _input(picture, f"picture {number}")
        if one is None:
            raise _no_picture(f"picture {number}: ", picture)
        found.append(one)
    return found, False


def _input(picture: Any, name: str) -> Input | None:
    """The picture as an input; None for what is none, such as a list of them."""
    import numpy as np
    from PIL import Image

    from imgcls.data.inputs import Input
    from imgcls.data.places import InFile, InMemory

    if isinstance(picture, (str, os.PathLike)):
        path = os.fspath(picture)
        if not path or "\0" in path:
            raise DataError(f"{name}: {path!r} is no path")
        if os.path.isdir(Path(path).expanduser()):  # noqa: PTH112  False for a path too long
            raise DataError(
                f"{path}: is a folder; imgcls.predict({path!r}, ...) classifies what is in it"
            )
        return Input(path, InFile(str(Path(path).expanduser())))
    # several pictures, or their paths
    is_batch = isinstance(picture, np.ndarray) and (picture.ndim > 3 or picture.dtype.kind in "OU")  # noqa: PLR2004
    if isinstance(picture, (Image.Image, np.ndarray)) and not is_batch:
        return Input(name, InMemory(picture))
    return None


def _no_picture(where: str, picture: Any) -> DataError:
    return DataError(
        f"{where}{type(picture).__name__} is no picture; give a path, a PIL picture, an array, "
        "or a list of these"
    )
