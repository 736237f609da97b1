"""Formats with a graph in them, which a runtime of their own runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imgcls.jobs.export.proof import prove
from imgcls.jobs.export.subject import as_texts
from imgcls.jobs.export.work import Target, Work, failing_as
from imgcls.models.card import Preprocessing
from imgcls.models.export.formats import FORMATS
from imgcls.models.export.onnx import OPSET
from imgcls.results.export import RuntimeProof

# as ONNX calls pictures of so many channels, in its "Metadata Props" for images
_PIXEL_FORMATS = {1: "Gray8", 3: "Rgb8", 4: "Rgba8"}


def runtime_target(name: str) -> Target:
    """A format of FORMATS, written for the profile that was asked for."""
    form = FORMATS[name]

    def write(work: Work, file: Path, metadata: Mapping[str, Any]) -> None:
        form.write(work.module, work.example, file, as_texts(metadata))

    def proven(work: Work, file: Path) -> RuntimeProof:
        return prove_file(name, work, file)

    return Target(
        file=f"model{form.suffix}",
        write=write,
        prove=proven,
        about=lambda work: about_graph(work, onnx=name == "onnx"),
        extra=form.extra,
        modules=form.modules,
    )


def prove_file(name: str, work: Work, file: Path) -> RuntimeProof:
    """The file in its own runtime beside the checkpoint. Raises ExportError for a mismatch."""
    with failing_as(f"--format {name}: its runtime cannot open the file"):
        run = FORMATS[name].open(file)
    return prove(f"--format {name}", run, work.pictures, work.on_progress)


def about_graph(work: Work, *, onnx: bool) -> dict[str, Any]:
    """What the graph takes and gives, by the names of examples/exporting.md."""
    subject, module, example = work.subject, work.module, work.example
    shape = [module.free.get(axis, size) for axis, size in enumerate(example.shape)]
    outputs = [module.free[0], len(subject.class_names)]
    found: dict[str, Any] = {
        "input": {
            "name": module.input_name,
            "dtype": str(example.dtype).removeprefix("torch."),
            "shape": shape,
        },
        "output": {"name": module.output_name, "dtype": "float32", "shape": outputs},
    }
    if onnx:
        found |= {"opset": OPSET, **_image_props(subject.preprocessing, subject.profile)}
    return found


def _image_props(preprocessing: Preprocessing, profile: str) -> dict[str, str]:
    """ONNX's own metadata of pictures; its ranges know no mean and std but 0.5 and 0.5."""
    channels = 3 if profile == "picture" else preprocessing.input_size[0]
    props = {"Image.ColorSpaceGamma": "SRGB"}
    if channels in _PIXEL_FORMATS:
        props["Image.BitmapPixelFormat"] = _PIXEL_FORMATS[channels]
    numbers = {*preprocessing.mean, *preprocessing.std}
    if profile == "picture":
        props["Image.NominalPixelRange"] = "NominalRange_0_255"
    elif numbers == {0.5}:
        props["Image.NominalPixelRange"] = "Normalized_1_1"
    elif {*preprocessing.mean} == {0.0} and {*preprocessing.std} == {1.0}:
        props["Image.NominalPixelRange"] = "Normalized_0_1"
    return props
