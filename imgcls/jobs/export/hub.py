"""A Hugging Face model folder: weights, timm's config.json and a card, ready to be uploaded.

hf/
  model.safetensors    under timm's own key names
  config.json          what timm, transformers and imgcls build the model from
  calibration.json     where a temperature is kept; imgcls scores with it
  imgcls.yaml          the config of its training, without places
  README.md            the card, with its metadata on top
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import timm
import torch
from PIL import Image

from imgcls.config.files import sha256_of
from imgcls.config.load import dump_yaml
from imgcls.engine.checkpoint.folder import write_tensors
from imgcls.engine.checkpoint.temperature import temperature_file
from imgcls.jobs.checkpoint_config import checkpoint_config
from imgcls.jobs.export.description import describe_model, without_places
from imgcls.jobs.export.proof import prove
from imgcls.jobs.export.subject import Subject
from imgcls.jobs.export.weights import weights_of_model
from imgcls.jobs.export.work import Work
from imgcls.output.metric_names import metric_title
from imgcls.output.pages.model_card import CONFIG_FILE, model_card_text
from imgcls.output.pages.model_description import ModelDescription, Scores
from imgcls.results.export import RuntimeProof
from imgcls.storage.durable import strict_json, write_text
from imgcls.storage.model_folder import CARD

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

README = "README.md"
_TASK = "image-classification"
# as https://huggingface.co/metrics names them
_METRICS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced_accuracy",
    "f1_macro": "f1",
    "roc_auc_macro": "roc_auc",
}
_SPLITS = {"test": "test", "val": "validation"}
# the channels of a picture that other programs open -> Pillow's mode
_MODES = {1: "L", 3: "RGB"}


def write_folder(subject: Subject, file: Path) -> None:
    """Write the model's folder around its weights, `file`. Raises OSError."""
    checkpoint, folder = subject.checkpoint, file.parent
    write_tensors(weights_of_model(subject), file, {"format": "pt"})
    write_text(folder / CARD, strict_json(checkpoint.card, indent=2) + "\n")
    if subject.temperature is not None:
        here = replace(checkpoint, folder=folder, weights_sha256=sha256_of(file))
        write_text(*temperature_file(here, subject.temperature))
    if checkpoint.sidecar.config is not None:
        config = without_places(checkpoint_config(checkpoint))
        write_text(folder / CONFIG_FILE, dump_yaml(config))
    write_text(folder / README, readme(describe_model(subject)))


def readme(model: ModelDescription) -> str:
    """The card with its metadata, which huggingface_hub has read back as it was written.

    Raises ValueError for metadata that it does not take.
    """
    from huggingface_hub import ModelCard

    data: Any = card_data(model)
    text = f"---\n{data.to_yaml()}\n---\n\n{model_card_text(model)}"
    read_back: Any = ModelCard(text).data
    if read_back.to_dict() != data.to_dict():
        raise ValueError("the card's metadata were not read back as they were written")
    return text


def card_data(model: ModelDescription) -> ModelCardData:
    """The metadata by which the Hub finds and shows a model."""
    from huggingface_hub import ModelCardData

    results = list(_results(model))
    # what transformers opens by itself
    tags = ["transformers"] if model.takes_rgb else []
    return ModelCardData(
        base_model=model.base_model,
        library_name="timm",
        pipeline_tag=_TASK,
        tags=[_TASK, "timm", *tags, "imgcls"],
        metrics=list(dict.fromkeys(one.metric_type for one in results)) or None,
        model_name=model.model_name if results else None,
        eval_results=results or None,
    )


def _results(model: ModelDescription) -> Iterator[EvalResult]:
    from huggingface_hub import EvalResult

    scores = model.scores
    for name, value, interval in () if scores is None else scores.rows:
        if name in _METRICS and value is not None and math.isfinite(value):
            assert scores is not None
            yield EvalResult(
                task_type=_TASK,
                task_name="Image classification",
                dataset_type="custom",
                dataset_name=model.data.name or "custom",
                dataset_split=_SPLITS[scores.split],
                metric_type=_METRICS[name],
                metric_name=metric_title(name),
                metric_value=value,
                metric_args=_args(scores, interval),
            )


def _args(scores: Scores, interval: Any) -> dict[str, Any] | None:
    """The interval, for which metadata have no place of their own."""
    if interval is None:
        return None
    return {
        "pictures": scores.pictures,
        "interval_95": [float(end) for end in interval],
        "interval_method": scores.method,
    }


def prove_folder(work: Work, file: Path) -> RuntimeProof:
    """That timm alone builds the model and answers as the checkpoint does. Raises ExportError."""
    channels = work.subject.preprocessing.input_size[0]
    subject = replace(work.subject, profile="picture" if channels in _MODES else "tensor")
    model = timm.create_model(f"local-dir:{file.parent}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    heat = subject.scorer.temperature

    def run(given: np.ndarray) -> np.ndarray:
        if subject.profile == "picture":
            images = [Image.fromarray(one).convert(_MODES[channels]) for one in given]
            inputs = torch.stack([transform(image) for image in images])
        else:
            inputs = torch.from_numpy(given)
        with torch.inference_mode():
            logits = model(inputs)
            answers = logits if subject.profile == "tensor" else (logits / heat).softmax(-1)
        found: np.ndarray = answers.numpy()
        return found

    pictures = replace(work.pictures, subject=subject)
    return prove("--format hf", run, pictures, work.on_progress)
