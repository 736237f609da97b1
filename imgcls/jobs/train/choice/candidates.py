"""The models to choose from, and what each would start from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from imgcls.config.model import ModelConfig
from imgcls.errors import ModelError
from imgcls.models.build import has_one_classifier, native_img_size
from imgcls.models.catalog.short_list import SHORT_LIST, models_in, weights_in
from imgcls.models.hub import why_not_to_be_had


@dataclass(frozen=True)
class Start:
    """A model by its name in timm, and what its training would start from.

    weights: the file, None for the hub's (`pretrained`) or for random ones. left_out: why it cannot
    be chosen, None where it can.
    """

    name: str
    weights: Path | None = None
    pretrained: bool = False
    left_out: str | None = None

    @property
    def is_random(self) -> bool:
        """True for a training from scratch."""
        return self.weights is None and not self.pretrained

    @property
    def origin(self) -> str | None:
        """As a Candidate says it."""
        if self.left_out is not None:
            return None
        if self.weights is not None:
            return str(self.weights)
        return "hub" if self.pretrained else "random"

    def config(self, model: ModelConfig) -> ModelConfig:
        """The config that trains this one, where `model` chooses."""
        return model.model_copy(
            update={
                "name": self.name,
                "weights": self.weights,
                "pretrained": self.pretrained,
                "candidates": None,
                "max_params": None,
                "max_latency_ms": None,
                "ensemble_models": None,
            }
        )


def find_starts(model: ModelConfig) -> list[Start]:
    """The models to choose from, in the order of their list.

    From scratch only what the user named is trained, and with `--no-pretrained`. Raises as
    `candidate_names`.
    """
    names = candidate_names(model)
    folder = model.weights
    files = {name: None if folder is None else weights_in(folder, name) for name in names}
    wanted = [name for name in names if files[name] is None]
    absent = {} if model.pretrained is False else why_not_to_be_had(wanted)
    starts = []
    for name in names:
        if not has_one_classifier(name):
            starts.append(Start(name, left_out="it has two classifiers, which see other features"))
        elif files[name] is not None:
            starts.append(Start(name, weights=files[name]))
        elif model.pretrained is not False:
            starts.append(Start(name, pretrained=True, left_out=absent.get(name)))
        elif model.candidates is None:
            starts.append(Start(name, left_out="no weights at hand, and --no-pretrained"))
        else:
            starts.append(Start(name))
    return starts


def candidate_names(model: ModelConfig) -> Sequence[str]:
    """The names of the models to choose from, all of them timm's.

    Raises ModelError for a name that timm has not, and for a `--weights` that is no folder of
    several models'.
    """
    folder = None if model.weights is None else model.weights.expanduser()
    if folder is not None:
        _require_folder(folder)
    if model.candidates is not None:
        for name in model.candidates:
            native_img_size(name)
        return model.candidates
    if folder is None:
        return tuple(SHORT_LIST)
    found = models_in(folder)
    if not found:
        raise ModelError(
            f"--weights {folder}: has no weights that are named as a model of timm; call them "
            "NAME.safetensors, or name the models with --models"
        )
    return found


def is_one_model(weights: Path | None) -> bool:
    """Whether a `--weights` is of one model, and no folder of several models'."""
    if weights is None:
        return False
    path = weights.expanduser()
    return path.is_file() or (path / "model.safetensors").is_file()


def _require_folder(path: Path) -> None:
    if is_one_model(path):
        raise ModelError(
            f"--weights {path}: is of one model, and --model auto chooses from several; give the "
            "folder that it lies in, or the --model that it is of"
        )


def too_few_left(models: Iterable[tuple[str, str | None]], left: int, wanted: int) -> ModelError:
    """The error for a list of which fewer models can be taken than are wanted.

    models: the names of all, each with why it is left out, None where it is not.
    """
    how_many = f"{left} of its models" if left else "none of its models"
    instead = f", where --ensemble-models wants {wanted}" if wanted > 1 else ""
    return ModelError(
        f"--model auto: {how_many} can be taken{instead}; give --weights FOLDER with files that "
        "are named as they are, or name others with --models",
        details=list(dict.fromkeys(f"{name}: {why}" for name, why in models if why is not None)),
    )
