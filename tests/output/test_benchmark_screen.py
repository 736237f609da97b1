"""A benchmark's screens fit 80 columns and its files hold every number."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest
from rich.console import Console as RichConsole

from imgcls.errors import OutputError
from imgcls.output.console import Console
from imgcls.output.plots.speed import draw_speed
from imgcls.output.screens.benchmark import show_benchmark, write_benchmark
from imgcls.results.benchmark import (
    Agreement,
    BenchmarkReport,
    BestSetting,
    PipelineTimes,
    SkippedSetting,
    SpeedChange,
    TimedSetting,
)

RESULT = TimedSetting(
    model_name="vit_base_patch16_224",
    mode="inference",
    backend="compile",
    precision="bf16",
    channels_last=True,
    batch_size=64,
    input_size=(3, 224, 224),
    parameters=86_567_656,
    macs=16_867_000_000,
    warmup_batches=10,
    settled=True,
    timed_batches=30,
    latency_mean_ms=1010.0,
    latency_p50_ms=1000.25,
    latency_p90_ms=1100.5,
    latency_p99_ms=1234.75,
    images_per_sec_per_core=31.7,
    drift=0.01,
    block_medians_ms=(1000.0, 1001.0),
    peak_memory_mib=12345.6,
    speed_metrics={"throughput_samples_per_sec": 63.4},
    agreement=Agreement(0.0123, 1.0),
)
STAGES = PipelineTimes(640, 2, 12.5, 3.25, 0.125, 15.75, 0.42, "decode", "more --workers")


def report_of(*results, **parts):
    return BenchmarkReport("cpu", "x86_64 CPU, 2 threads", 2, results, **parts)


def screen_of(report):
    console, shown = Console(), io.StringIO()
    console.__dict__["out"] = RichConsole(file=shown, width=80)
    show_benchmark(console, report)
    return shown.getvalue()


def test_doubts_stand_above_the_best_figure(capfd):
    """A machine that drifted is told before the speed-up that it spoils."""
    best = BestSetting("resnet18", 4874.4, 24.99, 0.01, "imgcls benchmark resnet18")
    show_benchmark(Console(), report_of(RESULT, RESULT, best=(best,), notes=("it drifted",)))
    out, err = capfd.readouterr()
    assert "24.99x" in out
    assert "it drifted" in err

    order = []
    console = Console()
    console.warn = order.append
    console.path = lambda label, _text: order.append(label)
    show_benchmark(console, report_of(RESULT, RESULT, best=(best,), notes=("it drifted",)))
    assert order.index("it drifted") < order.index("Best")


def test_several_models_fit_a_screen(capsys):
    """Every column whole, also with the longest common names; one reason for a group of skips."""
    other = replace(RESULT, model_name="resnet18", agreement=None)
    skip = SkippedSetting("resnet18", "openvino", "bf16", False, 1, "no")
    screen = screen_of(report_of(RESULT, other, skipped=(skip, skip)))
    rows = screen.splitlines()
    assert all(len(row) <= 80 for row in rows)
    row = rows[rows.index("vit_base_patch16_224".ljust(len(rows[0]))) + 1]
    for cell in ("  compile bf16 NHWC", "64", "63.4", "1000.25", "1234.75", "12,346", "1.2e-02"):
        assert cell in row
    assert capsys.readouterr().err == "note: skipped resnet18 in 2 settings: no\n"


def test_one_setting_is_a_panel_with_all_of_it():
    """Also the stages of a pipeline."""
    screen = screen_of(report_of(replace(RESULT, pipeline=STAGES)))
    for fact in (
        "86,567,656, 16.87 GMACs", "31.7 a core", "p90 1100.50 ms", "drift +1.0%", "12,346 MiB",
        "0.012 standard deviations", "decode 12.50 ms, transform 3.25 ms", "42% of the time",
        "decode: more --workers",
    ):  # fmt: skip
        assert fact in screen


def test_stages_and_changes_are_tables_of_their_own(capsys):
    """What limits, and whether the speed has changed."""
    change = SpeedChange("vit batch 64", 60.0, 63.4, 1.057, 1.041, 1.073, "faster")
    new = SpeedChange("vit batch 1", None, 63.4, None, None, None, "not in the baseline")
    timed = replace(RESULT, pipeline=STAGES)
    screen = screen_of(report_of(timed, timed, changes=(change, new)))
    assert all(len(row) <= 80 for row in screen.splitlines())
    for text in ("15.75   42%", "1.041 to 1.073", "faster", "not in the baseline"):
        assert text in screen
    assert capsys.readouterr().out.endswith("\nIf decode     more --workers\n")


def test_the_table_file_has_a_row_a_setting(tmp_path):
    """Flat, with empty cells for what was not measured."""
    file = tmp_path / "t.csv"
    written = write_benchmark(report_of(RESULT), csv=file, plot=None)
    assert written == {"Table": file}
    with file.open(encoding="utf-8", newline="") as stream:
        [row] = csv.DictReader(stream)
    assert (row["images_per_sec"], row["largest_difference"]) == ("63.4", "0.0123")
    assert row["decode_ms"] == ""


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    """One line for the user."""
    with pytest.raises(OutputError, match=r"no/t\.csv: cannot be written"):
        write_benchmark(report_of(RESULT), csv=tmp_path / "no" / "t.csv", plot=None)


def test_the_picture_has_a_line_a_setting_through_its_batch_sizes():
    """Named in the legend; plain numbers on both axes."""
    small = replace(RESULT, batch_size=1, latency_p50_ms=20.0)
    plain = replace(small, backend="torch", precision="fp32", channels_last=False)
    drawing = draw_speed(report_of(RESULT, small, plain))
    [axes] = drawing.figure.axes
    assert [line.get_xdata().tolist() for line in axes.lines] == [[20.0, 1000.25], [20.0]]
    assert [line.get_label() for line in axes.lines] == ["compile bf16 NHWC", "torch fp32"]
    assert "mathdefault" not in drawing.svg
