"""Training and prediction as a scikit-learn classifier."""

from __future__ import annotations

import inspect
import os
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d

from imgcls.api.keywords import (
    described,
    keyword_config,
    keyword_options,
    keyword_parameters,
    meant,
)
from imgcls.api.labelled_pictures import pictures_of, require_names, write_table
from imgcls.config.files import read_bytes, read_json
from imgcls.config.run import TrainConfig
from imgcls.errors import CheckpointError, RunError
from imgcls.storage.durable import TEMPORARY_PREFIX, publish_folder, strict_json, write_text

if TYPE_CHECKING:
    from typing_extensions import Self

    from imgcls.api.model import Model
    from imgcls.results.training import TrainResult

# what `fit` is given, or decides: where the pictures are, which of them are held out, and that
# nobody goes on with a fit that was stopped
_NOT_OURS = (
    "data.source", "data.test_size", "data.folds", "data.fold", "runtime.experiment",
    "reading.layout", "reading.path_col", "reading.label_col", "reading.split_col",
    "reading.group_col", "reading.fold_col", "reading.root", "reading.group_regex",
    "checkpoint.save", "checkpoint.keep", "checkpoint.save_every_steps",
    "checkpoint.save_every_minutes",
)  # fmt: skip
_OPTIONS = keyword_options(TrainConfig)
OPTIONS = {keyword: one for keyword, one in _OPTIONS.items() if one.path not in _NOT_OURS}
_DEFAULTS = {"output": None}
_KEPT = "classifier.json"
# what only a training that goes on needs
_STATE = "state.safetensors"


def _takes_options(init: Any) -> Any:
    """Let the constructor show each option, which is where scikit-learn reads the parameters."""
    own = [p for p in inspect.signature(init).parameters.values() if p.kind is not p.VAR_KEYWORD]
    placed, keywords = own[:1], own[1:]
    options = keyword_parameters(OPTIONS, _DEFAULTS)
    output = next(i for i, p in enumerate(options) if p.name == "output")
    optional = type(options[output].annotation)(f"{options[output].annotation} | None")
    options[output] = options[output].replace(annotation=optional)
    init.__signature__ = inspect.Signature([*placed, *options, *keywords], return_annotation="None")
    init.__doc__ = f"{inspect.getdoc(init)}\n\nArgs:\n{described(OPTIONS)}"
    init.__annotations__ = {}
    return init


class ImageClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier of pictures for scikit-learn: fit trains a run, predict asks its best epoch.

    X is N paths, or N pictures as uint8, [N, height, width] or [N, height, width, 3]. Parameters
    are the options of `imgcls train`, by name and default, except those that say where pictures are
    and how they are divided: `fit` keeps `val_size` of X to choose the best epoch by, and all else
    is the caller's to divide. There is no sample_weight: see `imbalance`.

    Attributes: classes_, the labels in the order of `numpy.unique`; run_, the run that `fit`
    trained, which `imgcls.evaluate` and the commands take; checkpoint_, its best checkpoint;
    result_, what `imgcls.train` gave.
    """

    def __init__(self, *, verbose: bool = False, **options: Any) -> None:
        """A classifier that is not fitted yet; what the options hold is looked at by `fit`.

        output: where runs are kept; by default in a temporary folder, which goes with the
        classifier. verbose: show the progress of training.
        """
        self.verbose = verbose
        for name, parameter in inspect.signature(type(self)).parameters.items():
            if name != "verbose":
                setattr(self, name, options.pop(name, parameter.default))
        if options:
            unknown = ", ".join(f"{name}{meant(name, OPTIONS)}" for name in options)
            raise TypeError(f"{type(self).__name__} has no parameter {unknown}")

    __init__ = _takes_options(__init__)

    def __sklearn_tags__(self) -> Any:
        """Of pictures, not of tables."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        return tags

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803  scikit-learn's names
        """Train a new run on pictures and their labels, texts or whole numbers.

        Raises ValueError for an X or y that is none, and what `imgcls.train` raises.
        """
        from imgcls.api.calls import train

        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        pictures, labels = pictures_of(X), column_or_1d(y, warn=True)
        check_classification_targets(labels)
        check_consistent_length(pictures, labels)
        classes = np.unique(labels)
        if len(classes) < 2:  # noqa: PLR2004
            raise ValueError(f"y holds one class, {classes[0]}; a classifier needs two or more")
        place = self._new_folder()
        try:
            config = self._config(place, *write_table(place, pictures, labels))
            _require_one_model(config)
            result: TrainResult = train(config, progress=bool(self.verbose))
            require_names(result.class_names, classes)
        except BaseException:
            if self.output is None:
                shutil.rmtree(place, ignore_errors=True)
            raise
        self.classes_ = classes
        self.result_ = result
        self.run_ = result.run
        self.checkpoint_ = result.folds[0].best_checkpoint.resolve()
        self._models: list[tuple[dict[str, Any], Model]] = []
        return self

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """The probabilities, float32 [N, C], by `classes_`."""
        check_is_fitted(self)
        model = self._loaded()
        columns = [model.class_names.index(str(name)) for name in self.classes_]
        found: np.ndarray = model.predict_proba(pictures_of(X))[:, columns]
        return found

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """The likeliest class of each picture, [N]."""
        likeliest = self.predict_proba(X).argmax(1)
        found: np.ndarray = self.classes_[likeliest]
        return found

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the fitted classifier into a new folder, without pickle, whole or not at all.

        It is a checkpoint that `imgcls` evaluates and `timm` loads, and `ImageClassifier.load`
        reads. Raises RunError where there is something of that name, OSError where it fails.
        """
        check_is_fitted(self)
        self._require_checkpoint()
        final = Path(folder).expanduser().absolute()
        if os.path.lexists(final):
            raise RunError(f"{final}: is there already; name a new folder")
        forming = final.with_name(f"{TEMPORARY_PREFIX}{final.name}-{os.getpid()}")
        document = {
            "classes": self.classes_.tolist(),
            "dtype": self.classes_.dtype.str,
            "params": {name: _plain(value) for name, value in self.get_params().items()},
        }
        try:
            shutil.copytree(self.checkpoint_, forming, ignore=shutil.ignore_patterns(_STATE, _KEPT))
            write_text(forming / _KEPT, strict_json(document, indent=2) + "\n")
            publish_folder(forming, final)
        except BaseException:
            shutil.rmtree(forming, ignore_errors=True)
            raise

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """The fitted classifier that `save` wrote. Raises CheckpointError."""
        place = Path(folder).expanduser().absolute()
        try:
            document = read_json(place / _KEPT)
            loaded = cls(**document["params"])
            loaded.classes_ = np.array(document["classes"], dtype=np.dtype(document["dtype"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{place}: no classifier that ImageClassifier.save wrote: {error}"
            ) from error
        loaded.checkpoint_ = place
        loaded._models = []
        return loaded

    def __sklearn_is_fitted__(self) -> bool:
        """Whether there is a model to predict with."""
        return hasattr(self, "checkpoint_")

    def __getstate__(self) -> dict[str, Any]:
        """What goes to another process: parameters, classes and the checkpoint's files."""
        state = dict(super().__getstate__())
        for name in ("_models", "_own", "run_", "result_"):
            state.pop(name, None)
        checkpoint = state.pop("checkpoint_", None)
        if checkpoint is not None:
            self._require_checkpoint()
            files = [
                file for file in checkpoint.iterdir() if file.name != _STATE and file.is_file()
            ]
            state["_files"] = {file.name: read_bytes(file) for file in files}
        return state

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Put the checkpoint's files into a temporary folder of this process."""
        state = dict(state)
        files = state.pop("_files", None)
        super().__setstate__(state)
        if files is not None:
            self.checkpoint_ = self._temporary() / "checkpoint"
            self.checkpoint_.mkdir()
            for name, content in files.items():
                (self.checkpoint_ / name).write_bytes(content)
            self._models = []

    def _loaded(self) -> Model:
        options = {"device": str(self.device), "workers": self.workers}
        # a list: prediction changes no attribute
        if not self._models or self._models[0][0] != options:
            from imgcls.api.model import load

            self._require_checkpoint()
            self._models[:] = [(options, load(self.checkpoint_, progress=False, **options))]
        return self._models[0][1]

    def _require_checkpoint(self) -> None:
        if not self.checkpoint_.is_dir():
            raise CheckpointError(
                f"{self.checkpoint_}: is gone, as temporary files are cleaned up; fit again, with "
                "`output` for a folder that stays"
            )

    def _new_folder(self) -> Path:
        """Where the run of a fit goes, an empty folder."""
        place = "a temporary folder" if self.output is None else f"output {self.output}"
        try:
            if self.output is None:
                within = self._temporary()
            else:
                within = Path(self.output).expanduser().absolute()
                within.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(prefix="fit-", dir=within))
        except OSError as error:
            raise RunError(f"{place}: cannot be made: {error.strerror}") from error

    def _temporary(self) -> Path:
        """A folder that goes when this classifier does."""
        own: Path | None = getattr(self, "_own", None)
        if own is None or not own.is_dir():
            own = self._own = Path(tempfile.mkdtemp(prefix="imgcls-"))
            weakref.finalize(self, shutil.rmtree, self._own, ignore_errors=True)
        return self._own

    def _config(self, place: Path, table: Path, root: Path) -> TrainConfig:
        said = {
            name: getattr(self, name)
            for name, parameter in inspect.signature(type(self)).parameters.items()
            if name in OPTIONS and getattr(self, name) is not parameter.default
        }
        said |= {
            "data": table,
            "root": root,
            "test_size": 0.0,
            "output": place,
            "experiment": "run",
        }
        return keyword_config(TrainConfig, _OPTIONS, said)


def _plain(value: Any) -> Any:
    """A parameter as JSON has it: a path or a device as text, numpy's numbers as Python's."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, (tuple, list)):
        return [_plain(part) for part in value]
    return str(value) if type(value).__module__ == "torch" else value


def _require_one_model(config: TrainConfig) -> None:
    if config.is_ensemble:
        raise ValueError(
            "an ImageClassifier is one model: leave out preset='best' and ensemble_models, or "
            "train with imgcls.train and open what it returns with imgcls.load"
        )
