"""Exports as a screen: what was written, and what vouches for it."""

from __future__ import annotations

import shlex

from rich.console import RenderableType
from rich.table import Table

from imgcls.output.console import Console
from imgcls.output.numbers import counted, percent
from imgcls.output.pages.model_card import REPOSITORY
from imgcls.output.screens.screen import panel
from imgcls.results.export import (
    ExportedModel,
    ExportReport,
    QuantizationProof,
    RuntimeProof,
    WeightsProof,
)

_MIB = 2**20


def show_export(console: Console, report: ExportReport) -> None:
    """A row a format, then where each file is."""
    console.result(report.to_json(), panel(_title(report), _table(report)))
    for one in report.exports:
        console.path(one.format, str(one.file))
        if one.format == "hf":
            folder = shlex.quote(str(one.folder))
            console.path("Upload", f"hf upload {REPOSITORY} {folder} . --exclude export.json")
    for note in report.notes:
        console.warn(note)


def _title(report: ExportReport) -> str:
    return f"{report.model_name}: {counted(len(report.class_names), 'class', 'classes')}"


def _table(report: ExportReport) -> RenderableType:
    table = Table(box=None, pad_edge=False)
    table.add_column("Format", no_wrap=True)
    table.add_column("Size", justify="right", no_wrap=True)
    table.add_column("Compared with the checkpoint", overflow="fold")
    for one in report.exports:
        size = sum(file["bytes"] for file in one.files.values())
        name = one.format if one.profile in (None, "picture") else f"{one.format}, {one.profile}"
        table.add_row(name, f"{size / _MIB:,.1f} MiB", _proof(one))
    return table


def _proof(one: ExportedModel) -> str:
    proof = one.proof
    if isinstance(proof, WeightsProof):
        return f"{counted(proof.tensors, 'tensor', 'tensors')} read back, equal to the byte"
    if isinstance(proof, QuantizationProof):
        return _quantization(proof)
    assert isinstance(proof, RuntimeProof)
    sizes = ", ".join(str(batch.batch_size) for batch in proof.batches)
    same = percent(proof.top_1_agreement, proof.pictures)
    ties = " (the others are ties)" if proof.ties else ""
    return (
        f"{proof.pictures:,} {proof.split} pictures in batches of {sizes}: top-1 the same for "
        f"{same}{ties}, probabilities differ by {proof.largest_difference:.1g} at most (allowed "
        f"{proof.limit:g})"
    )


def _quantization(proof: QuantizationProof) -> str:
    """What int8 costs and brings, in three sentences."""
    low, high = proof.interval
    same = percent(proof.top_1_agreement, proof.pictures)
    before, after = (
        percent(value, proof.pictures) for value in (proof.accuracy.other, proof.accuracy.this)
    )
    speed = ", ".join(
        f"{one.ratio:.2f} times as fast in batches of {one.batch_size} ({one.fp32_ms:.1f} to "
        f"{one.int8_ms:.1f} ms)"
        for one in proof.speed
    )
    few = (
        f" So few pictures cannot rule out more than the {proof.allowed:g} points of --max-drop."
        if proof.can_be_more
        else ""
    )
    return (
        f"beside float32 on {proof.pictures:,} val pictures: accuracy {before} to {after}, a drop "
        f"of {proof.drop:.2f} points (95% interval {low:.2f} to {high:.2f}), top-1 the same for "
        f"{same}; {speed}.{few}"
    )
