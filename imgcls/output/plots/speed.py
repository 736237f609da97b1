"""Throughput against latency: what a larger batch or another setting buys, and at what price."""

from __future__ import annotations

from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from imgcls.output.plots.drawing import LINES, Drawing, canvas
from imgcls.results.benchmark import BenchmarkReport, TimedSetting

_MARKERS = "osD^vP*X"


def draw_speed(report: BenchmarkReport) -> Drawing:
    """A line for each model and setting through its batch sizes; up and to the left is better."""
    lines: dict[tuple[str, str], list[TimedSetting]] = {}
    for result in report.results:
        layout = " NHWC" if result.channels_last else ""
        setting = f"{result.backend} {result.precision}{layout}"
        lines.setdefault((result.model_name, setting), []).append(result)
    models = list(dict.fromkeys(model for model, _ in lines))
    settings = list(dict.fromkeys(setting for _, setting in lines))
    with canvas(8.6, 4.6) as figure:
        axes = figure.subplots()
        for (model, setting), results in lines.items():
            color, dashes = LINES[models.index(model) % len(LINES)]
            if len(models) == 1:
                color, dashes = LINES[settings.index(setting) % len(LINES)]
            results.sort(key=lambda result: result.batch_size)
            label = setting if len(models) == 1 else f"{model}, {setting}"
            axes.plot(
                [result.latency_p50_ms for result in results],
                [result.images_per_sec for result in results],
                color=color, linestyle=dashes, label=label, markersize=5,
                marker=_MARKERS[settings.index(setting) % len(_MARKERS)],
            )  # fmt: skip
            for result in results:
                axes.annotate(
                    str(result.batch_size),
                    (result.latency_p50_ms, result.images_per_sec),
                    xytext=(5, 4),
                    textcoords="offset points",
                    fontsize=7,
                )
        axes.set(xscale="log", yscale="log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.set_minor_formatter(NullFormatter())
        axes.set(xlabel="Latency of a batch, median, ms", ylabel="Throughput, images/s")
        axes.grid(visible=True)
        figure.legend(loc="outside right upper")
        axes.set_title(f"{report.device_name}; numbers are batch sizes")
    return Drawing(
        "speed",
        "Throughput and latency",
        "Up and to the left is better; the numbers are batch sizes.",
        figure,
    )
