"""What a file of another trainer becomes here: model, classes in order, input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from imgcls.config.files import sha256_of
from imgcls.config.import_ import ImportConfig
from imgcls.data.names import shortened
from imgcls.engine.device.memory import available_memory_mib
from imgcls.errors import CheckpointError, ConfigError, ModelError
from imgcls.jobs.import_.classes import read_class_names
from imgcls.models.build import pretrained_cfg_of
from imgcls.models.card import Preprocessing, model_card, preprocessing_from_card, preprocessing_of
from imgcls.models.fitting import Fitted, fit
from imgcls.models.layouts import Trained, read_trained
from imgcls.models.weights import check_size
from imgcls.results.checkpoint import StartingWeights, are_names
from imgcls.results.training import ImportReport

# no trainer's file says it
BEGAN_WITH = StartingWeights("unknown")
_INPUT = ("mean", "std", "interpolation", "crop_pct")


@dataclass(frozen=True)
class Source:
    """A file that was read, and all that was found out about it.

    names_from: where the class names are from. own_input: False where the input differs from the
    model's own, which is what `train` takes. input_from: where it is from. order: for each output
    the one that it was in the file, int64 [C]; None where they are as they were.
    """

    file: Path
    sha256: str
    trained: Trained
    fitted: Fitted
    class_names: tuple[str, ...]
    names_from: str
    preprocessing: Preprocessing
    own_input: bool
    input_from: str
    order: torch.Tensor | None = None

    @property
    def name(self) -> str:
        """The model's name."""
        return self.fitted.config.name

    @property
    def names_are_proven(self) -> bool:
        """Whether the file itself says which output is which class."""
        return self.trained.class_names is not None

    def card(self) -> dict[str, Any]:
        """The content of config.json."""
        return model_card(
            self.fitted.model, self.class_names, self.preprocessing, starting_weights=BEGAN_WITH
        )

    def facts(self) -> dict[str, str]:
        """What was found, for the screen."""
        trained, shown = self.trained, self.preprocessing
        mean, std = (" ".join(f"{n:.3g}" for n in each) for each in (shown.mean, shown.std))
        tensors = f"{len(self.fitted.weights):,} tensors"
        where = f"in the order of {self.names_from}"
        if self.order is not None:
            where = f"named by {self.names_from}, now in the order of the data"
        around = " around a timm model" if self.fitted.from_wrapper else ""
        return {
            "File": str(self.file),
            "Holds": f"{trained.layout}{around}: {tensors}",
            "Model": self.name,
            "Classes": f"{len(self.class_names)}, {where}: {shortened(self.class_names)}",
            "Input": f"{shown.input_size[-1]} pixels, {shown.crop_mode} {shown.crop_pct:g}, "
            f"{shown.interpolation}, mean {mean}, std {std}: {self.input_from}",
            "Licence": "not told by the file; its training may have begun with published weights",
            "Epoch": "not told by the file" if trained.epochs is None else str(trained.epochs),
            **(
                {"Metrics": ", ".join(f"{n} {v:.4g}" for n, v in list(trained.metrics.items())[:4])}
                if trained.metrics
                else {}
            ),
        }

    def report(
        self,
        checkpoint: Path,
        *,
        facts: dict[str, str],
        notes: tuple[str, ...],
        run: Path | None = None,
        epochs: int | None = None,
        validation: dict[str, float | None] | None = None,
        val_pictures: int = 0,
    ) -> ImportReport:
        """What became of the file."""
        return ImportReport(
            file=self.file,
            sha256=self.sha256,
            layout=self.trained.layout,
            checkpoint=checkpoint,
            run=run,
            model_name=self.name,
            class_names=self.class_names,
            epoch=self.trained.epochs,
            epochs=epochs,
            metrics=self.trained.metrics,
            validation=validation,
            val_pictures=val_pictures,
            preprocessing=self.preprocessing.to_json(),
            facts=facts,
            notes=notes,
        )


def read_source(config: ImportConfig) -> Source:
    """The file that the options name. Raises ModelError and ConfigError."""
    if config.file is None:
        raise ConfigError("FILE: name what to import: the file that another trainer saved")
    file = config.file.expanduser()
    check_size(file, config.model, available_memory_mib() * 2**20)
    trained = read_trained(file)
    name = _model_name(file, trained, config.model)
    fitted = fit(file, trained, name, _img_size(config, trained))
    class_names, names_from = _class_names(file, trained, config.classes, _outputs(fitted))
    preprocessing, input_from = _preprocessing(config, trained, fitted)
    return Source(
        file=file,
        sha256=sha256_of(file),
        trained=trained,
        fitted=fitted,
        class_names=tuple(class_names),
        names_from=names_from,
        preprocessing=preprocessing,
        own_input=preprocessing == preprocessing_of(fitted.model, config.resize_mode),
        input_from=input_from,
    )


def _model_name(file: Path, trained: Trained, given: str | None) -> str:
    """The model's name, by the option or by the file. Raises ModelError where they differ."""
    said = trained.architecture
    if given is None:
        if said is None:
            raise ModelError(
                f"{file}: does not say which timm model it is of; give --model NAME (`imgcls "
                "list-models`)"
            )
        return said
    if said is not None and said.partition(".")[0] != given.partition(".")[0]:
        raise ModelError(
            f"--model {given}: {file} says that it is of {said}; leave --model out, or give that"
        )
    return given


def _img_size(config: ImportConfig, trained: Trained) -> int | None:
    if config.img_size is not None:
        return config.img_size
    for name in ("img_size", "image_size", "input_size"):
        size = trained.settings.get(name)
        if isinstance(size, (list, tuple)) and size:
            size = size[-1]
        if type(size) is int and size >= 8:  # noqa: PLR2004  as --img-size
            return size
    return None


def _outputs(fitted: Fitted) -> int:
    assert fitted.config.num_classes is not None
    return fitted.config.num_classes


def _class_names(
    file: Path, trained: Trained, classes: Path | None, outputs: int
) -> tuple[list[str], str]:
    """(the class names in the order of the outputs, where they are from)."""
    said = trained.class_names
    if classes is None:
        if said is None:
            raise ConfigError(
                f"--classes FILE: {file} does not say what its {outputs} outputs are called; give "
                "a text file with a name a line, in the order of the outputs (torchvision's "
                "ImageFolder sorts them: `ls train > classes.txt` with LC_ALL=C)"
            )
        names, source = said, f"the file {file.name} itself"
    else:
        names, source = read_class_names(classes), str(classes)
        if said is not None and said != names:
            first = next(
                (i for i, (a, b) in enumerate(zip(said, names, strict=False)) if a != b),
                min(len(said), len(names)),
            )
            shown = [repr(each[first]) if first < len(each) else "none" for each in (names, said)]
            raise ConfigError(
                f"--classes {classes}: output {first} is {shown[0]} there and {shown[1]} in "
                f"{file}; leave --classes out, or mend it"
            )
    if len(names) != outputs:
        raise ConfigError(
            f"--classes: {source} names {len(names)} classes, {file} has {outputs} outputs"
        )
    if not are_names(names) or not all(map(str.strip, names)):
        raise ConfigError(
            f"--classes: the names in {source} are not all different, or one is empty or cannot be "
            "written"
        )
    return names, source


def _preprocessing(
    config: ImportConfig, trained: Trained, fitted: Fitted
) -> tuple[Preprocessing, str]:
    """(the input, where it is from): by options, else the file's settings, else the model's own."""
    said = config.own_preprocessing
    told = {k: v for k in _INPUT if k not in said and (v := _told(trained.settings, k)) is not None}
    changes = {**told, **said}
    own = preprocessing_of(fitted.model, config.resize_mode)
    channels = own.input_size[0]
    for name in ("mean", "std"):
        numbers = changes.get(name)
        if isinstance(numbers, tuple) and len(numbers) != channels:
            raise ConfigError(
                f"--{name}: has {len(numbers)} numbers, the model's input {channels} channels"
            )
    changed = replace(own, **changes)
    try:
        card = {"pretrained_cfg": {**pretrained_cfg_of(fitted.model), **changed.to_json()}}
        found = preprocessing_from_card(card)
    except CheckpointError as error:
        whose = f", of which the file says {_listed(told)}" if told else ""
        raise ConfigError(
            f"--mean, --std, --interpolation, --crop-pct{whose}: not what an input can be ({error})"
        ) from error
    where = [
        *([f"{_listed(said)} as given"] if said else []),
        *([f"{_listed(told)} by the file's settings"] if told else []),
        f"{'all else' if changes else 'all'} {fitted.config.name}'s own",
    ]
    return found, ", ".join(where)


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(names)


def _told(settings: Mapping[str, Any], name: str) -> Any:
    """A setting of timm's train.py, where it is usable."""
    value = settings.get(name)
    if name in ("mean", "std"):
        numbers = value if isinstance(value, (list, tuple)) else ()
        usable = numbers and all(isinstance(number, (int, float)) for number in numbers)
        return tuple(map(float, numbers)) if usable else None
    if name == "interpolation":
        return value if value in ("nearest", "bilinear", "bicubic", "lanczos") else None
    return float(value) if isinstance(value, (int, float)) and 0 < value <= 1 else None
