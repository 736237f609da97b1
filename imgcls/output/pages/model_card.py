"""The README.md of a Hugging Face model folder: what a model is, and how far it can be trusted.

Each sentence rests on what the run recorded. What was not recorded is said to be so, or left out.
"""

from __future__ import annotations

from collections.abc import Iterator

from imgcls.config.imbalance import IMBALANCE_METHODS
from imgcls.models.licences import licence_advice, licence_text
from imgcls.output.metric_names import metric_title, metric_writer
from imgcls.output.numbers import MISSING, few_pictures, pictures_and_classes, reach
from imgcls.output.pages.markdown import code, fenced, markdown, markdown_table
from imgcls.output.pages.model_description import RGB, ModelDescription, Scores, TrainingData
from imgcls.output.pages.model_limits import limits_of
from imgcls.output.pages.page import Column, Table
from imgcls.output.pages.tables import (
    class_table,
    confusion_table,
    corruption_table,
    row_table,
    slice_tables,
)

CONFIG_FILE = "imgcls.yaml"
# whose repository it becomes is the user's to say
REPOSITORY = "user/name"
_MOST_NAMED, _MOST_CLASSES, _WEAKEST, _MOST_PAIRS = 20, 12, 10, 5
_CALIBRATION = ("ece", "nll", "brier")


def model_card_text(model: ModelDescription) -> str:
    """The card as Markdown, without its metadata."""
    sections = [
        ("", _head(model)),
        ("Scores", _scores(model)),
        ("Calibration", _calibration(model)),
        ("Slices", _slices(model)),
        ("Worse pictures", _corruptions(model)),
        ("Limits", _limits(model)),
        ("Data", _data(model.data)),
        ("Training", _training(model)),
        ("How to use it", _use(model)),
        ("Licence", _licence(model)),
    ]
    parts = []
    for title, paragraphs in sections:
        written = [part for part in paragraphs if part]
        parts += [f"## {title}", *written] if title and written else written
    return "\n\n".join(parts) + "\n"


def _head(model: ModelDescription) -> Iterator[str]:
    of = f"{markdown(model.data.name)}: " if model.data.name else ""
    yield f"# {of}{markdown(model.model_name)} for {len(model.class_names):,} classes"
    named = ", ".join(map(markdown, model.class_names[:_MOST_NAMED]))
    more = len(model.class_names) - _MOST_NAMED
    rest = f" and {more:,} more, all in `config.json`" if more > 0 else ""
    channels, height, width = model.input_size
    of = {1: "grey", RGB: "RGB"}.get(channels, f"{channels}-channel")
    yield (
        f"An image classifier. It takes {of} pictures, which its preprocessing brings to {width} x "
        f"{height} pixels, and says which of these classes each is of: {named}{rest}."
    )


def _scores(model: ModelDescription) -> Iterator[str]:
    scores = model.scores
    if scores is None:
        yield "Nothing is recorded of how well it does. Evaluate it before you rely on it."
        return
    yield _how_scored(model, scores)
    rows = []
    for name, value, interval in scores.rows:
        written = metric_writer(name, scores.pictures)
        rows.append((metric_title(name), written(value), reach(interval, written) or MISSING))
    # written already, with the digits that the pictures carry
    columns = (Column("Metric"), Column("Value", "percent"), Column("95% interval", "percent"))
    yield markdown_table(Table(columns, rows))
    if scores.method:
        lacking = scores.report is not None and any(row[2] is None for row in scores.rows)
        none = "; none (-) where all resamples agree, miss the value or are undefined" * lacking
        yield f"Intervals: {markdown(scores.method)}{none}."
    elif scores.report is None:
        yield (
            "There are no intervals: the pictures come in groups, or may do so, and an interval by "
            "their number would be too narrow."
        )
    if scores.per_class:
        scored = [row for row in scores.per_class if row["f1"] is not None]
        weakest = sorted(scored, key=lambda row: row["f1"])
        everything = len(weakest) <= _MOST_CLASSES
        shown = weakest if everything else weakest[:_WEAKEST]
        yield "### Classes, weakest first" if everything else f"### The {_WEAKEST} weakest classes"
        names = ("class", "support", "precision", "recall", "f1")
        yield markdown_table(class_table([{name: row[name] for name in names} for row in shown]))
        yield few_pictures([(markdown(r["class"]), r["support"]) for r in scores.per_class])
    if scores.confusions:
        support = [row["support"] for row in scores.per_class]
        pairs = scores.confusions[:_MOST_PAIRS]
        yield markdown_table(confusion_table(pairs, model.class_names, support))


def _how_scored(model: ModelDescription, scores: Scores) -> str:
    size = pictures_and_classes(scores.pictures, len(model.class_names))
    if scores.split == "test":
        return f"On the test split, {size}, that training neither saw nor chose anything by."
    of = f"fold {model.data.fold}" if model.data.folds else "the validation split"
    return (
        f"On {of}, {size}. **The best epoch was chosen by these very pictures, so the numbers are "
        "optimistic**; no test split was evaluated."
    )


def _calibration(model: ModelDescription) -> Iterator[str]:
    report = (model.scores and model.scores.report) or {}
    method = IMBALANCE_METHODS.get(model.imbalance)
    if method and method.probabilities_for:
        yield f"Its probabilities are meant for {method.probabilities_for} (`{method.name}`)."
    if model.temperature != 1.0:
        yield (
            f"Its probabilities are calibrated by a temperature of **{model.temperature:.4f}**, "
            f"fitted on {markdown(model.fitted_on)}. It is not part of the weights: divide the "
            "logits by it before the softmax, as in the lines below. The class on top stays the "
            "same."
        )
    if model.temperature_note:
        yield f"On that temperature: {markdown(model.temperature_note)}."
    if found := report.get("calibration"):
        heat = f"At temperature {found['temperature']:.4f}"
        sides = {"Before": found["before"], heat: found["after"]}
    else:
        sides = {"Value": report["metrics"]} if "metrics" in report else {}
    if sides:
        columns = [Column("On the same pictures"), *(Column(title, "score") for title in sides)]
        rows = [
            (metric_title(name), *(side[name] for side in sides.values())) for name in _CALIBRATION
        ]
        yield markdown_table(Table(columns, rows))
    if model.temperature == 1.0:
        why = f"Fitted on {markdown(model.fitted_on)}, the temperature is 1"
        none = why if model.fitted_on else "No temperature is kept"
        yield f"{none}: its probabilities are the softmax of its logits."


def _slices(model: ModelDescription) -> Iterator[str]:
    report = (model.scores and model.scores.report) or {}
    for table in slice_tables(report.get("slices") or {}):
        yield markdown_table(table)


def _corruptions(model: ModelDescription) -> Iterator[str]:
    report = (model.scores and model.scores.report) or {}
    if corruptions := report.get("corruptions"):
        yield markdown_table(corruption_table(corruptions, report["metrics"]["samples"]))


def _limits(model: ModelDescription) -> Iterator[str]:
    found = limits_of(model.data, model.scores)
    yield "\n".join(f"* {line}" for line in [*found, *map(markdown, model.decoding)])


def _data(data: TrainingData) -> Iterator[str]:
    if data.counts:
        if len(data.counts) <= _MOST_CLASSES * 10:
            yield markdown_table(row_table(data.counts))
        else:
            totals = {
                name: sum(row[name] for row in data.counts)
                for name in data.counts[0]
                if name != "class"
            }
            yield "Pictures: " + ", ".join(f"{n:,} {name}" for name, n in totals.items()) + "."
    lines = []
    if data.splitter:
        fold = f"; this model is of fold {data.fold} of {data.folds}" if data.folds else ""
        lines.append(f"How they were split: {markdown(data.splitter)}{fold}.")
    if data.groups:
        lines.append(f"{data.groups:,} groups, none of which is divided between splits.")
    lines += [f"{title}: {found}." for title, found in data.findings]
    if data.fingerprint:
        lines.append(f"Fingerprint of the paths and their classes: {code(data.fingerprint)}.")
    if not lines:
        lines.append("Nothing is recorded of the pictures that it was trained on.")
    yield "\n".join(f"* {line}" for line in lines)


def _training(model: ModelDescription) -> Iterator[str]:
    if not model.recipe:
        yield "How it was trained is not recorded."
        return
    columns = (Column("Option"), Column("Value"))
    yield markdown_table(Table(columns, model.recipe))
    if model.command:
        yield (
            f"The whole config is `{CONFIG_FILE}`, without the folders that the pictures lay in. "
            "With the same pictures, this repeats the training:"
        )
        yield fenced(model.command, "sh")
    if model.versions:
        yield (
            "Trained with "
            + ", ".join(
                f"{markdown(name)} {markdown(version)}"
                for name, version in model.versions.items()
                if version
            )
            + "."
        )


def _use(model: ModelDescription) -> Iterator[str]:
    scaled = "logits" if model.temperature == 1.0 else f"(logits / {model.temperature:.6g})"
    mode = "RGB" if model.takes_rgb else "L" if model.input_size[0] == 1 else ""
    yield "With timm, which needs no imgcls:"
    opened = (
        f'image = ImageOps.exif_transpose(Image.open("picture.jpg")).convert("{mode}")'
        if mode
        else f"image = ...  # a picture of {model.input_size[0]} channels"
    )
    yield fenced(
        "import timm\n"
        "import torch\n"
        "from PIL import Image, ImageOps\n\n"
        f'# or "local-dir:FOLDER"\n'
        f'model = timm.create_model("hf-hub:{REPOSITORY}", pretrained=True).eval()\n'
        "config = timm.data.resolve_model_data_config(model)\n"
        "transform = timm.data.create_transform(**config)\n"
        f"{opened}\n"
        "with torch.inference_mode():\n"
        "    logits = model(transform(image)[None])\n"
        f"probabilities = {scaled}.softmax(-1)[0]\n"
        'print(model.pretrained_cfg["label_names"][probabilities.argmax()], probabilities.max())',
        "python",
    )
    if model.takes_rgb and len(model.class_names) > 1:
        calibrated = "" if model.temperature == 1.0 else ", whose scores are without temperature"
        yield f"With transformers{calibrated}:"
        yield fenced(
            "from transformers import pipeline\n\n"
            f'classify = pipeline("image-classification", model="{REPOSITORY}")\n'
            'print(classify("picture.jpg"))',
            "python",
        )
    yield "With imgcls, on a folder with these files:"
    yield fenced(
        "imgcls predict pictures --checkpoint FOLDER\nimgcls evaluate FOLDER --data labelled", "sh"
    )


def _licence(model: ModelDescription) -> Iterator[str]:
    weights = model.weights
    if weights.kind == "random":
        yield "It was trained from scratch: no one else's weights are in it."
    elif weights.kind == "unknown":
        yield (
            "It was fine-tuned from weights out of a file that does not say whose they are, nor "
            "under which licence."
        )
    else:
        name = f"{code(weights.name)} of timm" if weights.name else "published weights"
        where = (
            f" ([{model.base_model}](https://huggingface.co/{model.base_model}))"
            if model.base_model
            else ""
        )
        advice = licence_advice(weights.licence)
        yield (
            f"It was fine-tuned from {name}{where}, licence: "
            f"**{markdown(licence_text(weights.licence))}**"
            f"{f'; {markdown(advice)}' if advice else ''}."
        )
    yield (
        "The licence of this model is for its publisher to choose, with regard to the weights and "
        "the pictures that it was trained from: put `license:` into the metadata on top."
    )
