"""A benchmark on the screen (a panel for one setting, a table for several) and in files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from imgcls.config.benchmark import BenchmarkConfig
from imgcls.output.console import Console
from imgcls.output.outputs import require_replaceable
from imgcls.output.screens.screen import facts_table, panel
from imgcls.results.benchmark import (
    BenchmarkReport,
    PipelineTimes,
    SpeedChange,
    TimedSetting,
)
from imgcls.storage.durable import writing
from imgcls.storage.tables import write_csv

_FLAT = (
    "model_name", "mode", "backend", "precision", "channels_last", "batch_size", "parameters",
    "macs", "timed_batches", "latency_mean_ms", "latency_p50_ms", "latency_p90_ms",
    "latency_p99_ms", "images_per_sec", "images_per_sec_per_core", "drift", "peak_memory_mib",
)  # fmt: skip
_AGREEMENT = ("largest_difference", "same_top_1")
_PIPELINE = (
    "workers", "decode_ms", "transform_ms", "copy_ms", "compute_ms", "idle_share", "bottleneck",
)  # fmt: skip
_COLUMNS = (*_FLAT, *_AGREEMENT, *_PIPELINE)


def show_benchmark(console: Console, report: BenchmarkReport) -> None:
    """One setting as a panel, several as a table; then verdicts, and what to doubt."""
    several = len(report.results) > 1 or bool(report.skipped)
    screens: list[RenderableType] = (
        [_title(report), _table(report)] if several else [_panel(report, report.results[0])]
    )
    if several and (stages := [r for r in report.results if r.pipeline is not None]):
        screens += ["", _stage_table(stages)]
    if report.changes:
        screens += ["", _change_table(report.changes)]
    console.result(report, *screens)
    limits = {r.pipeline.bottleneck: r.pipeline.advice for r in report.results if r.pipeline}
    for stage, advice in limits.items() if several else ():
        console.path(f"If {stage}", advice)
    # what makes a figure doubtful comes before the figure
    for note in report.notes:
        console.warn(note)
    for best in report.best:
        console.path(
            "Best",
            f"{best.model_name}, {best.images_per_sec:.1f} images/s, {best.speedup:.2f}x torch in "
            f"fp32, logits within {best.tolerance:g}",
        )
        console.path("Paste", best.command)
    reasons = Counter((skipped.model_name, skipped.reason) for skipped in report.skipped)
    for (model, reason), settings in reasons.items():
        console.warn(
            f"skipped {model} in {settings} setting{'s' if settings > 1 else ''}: {reason}"
        )


def require_files(config: BenchmarkConfig) -> None:
    """Raise ConfigError unless the files that were asked for can be written without loss."""
    read = [name for name in (config.baseline, config.data) if name is not None]
    if config.csv is not None:
        require_replaceable("--csv", config.csv, force=config.force, inputs=read, columns=_COLUMNS)
    if config.plot is not None:
        require_replaceable("--plot", config.plot, force=config.force, inputs=read)


def write_benchmark(
    report: BenchmarkReport, *, csv: Path | None, plot: Path | None
) -> dict[str, Path]:
    """Write the files that were asked for; the label of each with its path. Raises OutputError."""
    written: dict[str, Path] = {}
    if csv is not None:
        with writing(csv):
            write_csv(csv, _COLUMNS, map(_row, report.results))
        written["Table"] = csv
    if plot is not None:
        from imgcls.output.plots.speed import draw_speed

        with writing(plot):
            draw_speed(report).write_file(plot)
        written["Picture"] = plot
    return written


def setting_name(result: TimedSetting) -> str:
    """Backend, precision and layout in a few letters, e.g. "torch bf16 NHWC"."""
    return f"{result.backend} {result.precision}{' NHWC' if result.channels_last else ''}"


def _panel(report: BenchmarkReport, result: TimedSetting) -> RenderableType:
    facts = facts_table()
    channels, height, width = result.input_size
    what = "synthetic" if result.pipeline is None else "pictures from files"
    facts.add_row("Device", f"{report.device} ({report.device_name})")
    layout = ", channels-last" if result.channels_last else ""
    how = "" if result.backend == "torch" else f" by {result.backend}"
    facts.add_row("Precision", f"{result.precision}{layout}{how}, {result.mode}")
    facts.add_row("Input", f"{result.batch_size} x {channels} x {height} x {width} ({what})")
    macs = f", {result.macs / 1e9:.2f} GMACs a picture" if result.macs is not None else ""
    facts.add_row("Parameters", f"{result.parameters:,}{macs}")
    per_core = result.images_per_sec_per_core
    cores = f", {per_core:.1f} a core" if per_core is not None and report.threads > 1 else ""
    facts.add_row("Throughput", f"{result.images_per_sec:.1f} images/s{cores}")
    facts.add_row(
        "Latency a batch",
        f"p50 {result.latency_p50_ms:.2f} ms, p90 {result.latency_p90_ms:.2f} ms, "
        f"p99 {result.latency_p99_ms:.2f} ms",
    )
    facts.add_row(
        "Timed",
        f"{result.timed_batches} batch{'es' if result.timed_batches > 1 else ''} after "
        f"{result.warmup_batches} to warm up; "
        f"drift {result.drift:+.1%}",
    )
    if result.peak_memory_mib is not None:
        whose = "of the process" if report.device == "cpu" else "on the device"
        facts.add_row("Peak memory", f"{result.peak_memory_mib:,.0f} MiB {whose}")
    if result.agreement is not None:
        facts.add_row(
            "Agreement",
            f"logits within {result.agreement.largest_difference:.2g} standard deviations of "
            f"torch in fp32, same class for {result.agreement.same_top_1:.0%}",
        )
    if result.pipeline is not None:
        for label, text in _pipeline_facts(result.pipeline):
            facts.add_row(label, text)
    return panel(result.model_name, facts)


def _pipeline_facts(times: PipelineTimes) -> Iterator[tuple[str, str]]:
    processes = "process" if times.workers == 1 else "processes"
    yield "Pictures", f"{times.pictures:,}, loaded by {times.workers} {processes}"
    loading = f"decode {times.decode_ms:.2f} ms, transform {times.transform_ms:.2f} ms"
    yield "Loading", f"{loading} a picture on one core"
    yield "In the loop", f"copy {times.copy_ms:.2f} ms, compute {times.compute_ms:.2f} ms a picture"
    yield "Idle", f"{times.idle_share:.0%} of the time the model waits for pictures"
    yield "Limited by", f"{times.bottleneck}: {times.advice}"


def _title(report: BenchmarkReport) -> str:
    models = {result.model_name for result in report.results}
    what = f"{models.pop()} on " if len(models) == 1 else ""
    return f"{what}{report.device} ({report.device_name}), {report.results[0].mode}"


def _table(report: BenchmarkReport) -> RenderableType:
    results = report.results
    several = len({result.model_name for result in results}) > 1
    compared = any(result.agreement is not None for result in results)
    table = Table(box=None, pad_edge=False)
    table.add_column("Setting", overflow="fold")
    titles = ("Batch", "images/s", "p50 ms", "p99 ms", "MiB", "Differs")
    for name in titles if compared else titles[:-1]:
        table.add_column(name, justify="right", no_wrap=True)
    fastest = max(result.images_per_sec for result in results)
    for model, own in groupby(results, key=lambda result: result.model_name):
        if several:
            table.add_row(model)
        for result in own:
            memory = "-" if result.peak_memory_mib is None else f"{result.peak_memory_mib:,.0f}"
            apart = result.agreement
            table.add_row(
                ("  " if several else "") + setting_name(result),
                str(result.batch_size),
                f"{result.images_per_sec:.1f}",
                f"{result.latency_p50_ms:.2f}",
                f"{result.latency_p99_ms:.2f}",
                memory,
                *(
                    ["-" if apart is None else f"{apart.largest_difference:.1e}"]
                    if compared
                    else []
                ),
                style="bold" if result.images_per_sec == fastest else None,
            )
    return table


def _stage_table(results: Sequence[TimedSetting]) -> RenderableType:
    table = Table(title="ms a picture", title_justify="left", box=None, pad_edge=False)
    table.add_column("Setting", no_wrap=True)
    for name in ("Batch", "Workers", "decode", "transform", "copy", "compute", "idle", "limit"):
        table.add_column(name, justify="right", no_wrap=True)
    for result in results:
        times = result.pipeline
        assert times is not None
        stages = (times.decode_ms, times.transform_ms, times.copy_ms, times.compute_ms)
        table.add_row(
            setting_name(result),
            str(result.batch_size),
            str(times.workers),
            *(f"{stage:.2f}" for stage in stages),
            f"{times.idle_share:.0%}",
            times.bottleneck,
        )
    return table


def _change_table(changes: Sequence[SpeedChange]) -> RenderableType:
    table = Table(title="Beside the baseline", title_justify="left", box=None, pad_edge=False)
    table.add_column("Setting", overflow="fold")
    for name in ("before", "now", "ratio", "95%"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("Verdict")
    for change in changes:
        before = change.before_images_per_sec
        known = change.ratio is not None and change.low is not None and change.high is not None
        table.add_row(
            change.setting,
            "-" if before is None else f"{before:.1f}",
            f"{change.now_images_per_sec:.1f}",
            f"{change.ratio:.3f}" if known else "-",
            f"{change.low:.3f} to {change.high:.3f}" if known else "-",
            change.verdict,
        )
    return table


def _row(result: TimedSetting) -> dict[str, Any]:
    row = {name: getattr(result, name) for name in _FLAT}
    for names, part in ((_AGREEMENT, result.agreement), (_PIPELINE, result.pipeline)):
        row |= {name: None if part is None else getattr(part, name) for name in names}
    return row
