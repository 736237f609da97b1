"""`imgcls benchmark`."""

from __future__ import annotations

from imgcls.cli.options import Common, add_command, new_app
from imgcls.config.benchmark import BenchmarkConfig

app = new_app()


def benchmark(config: BenchmarkConfig, common: Common) -> None:
    """Time models: latency, throughput, memory, and which setting is fastest.

    MODEL may be a timm name or a checkpoint, fold or run folder; name several to compare them.
    """
    from imgcls.jobs.early import check_data, check_file, check_models
    from imgcls.output.console import Console

    console = Console(quiet=common.quiet, json=common.json)
    check_models(config.models)
    check_data(config.data)
    check_file("--baseline", config.baseline)
    console.say("Loading torch ...", transient=True)
    from imgcls.output.screens.benchmark import require_files, show_benchmark, write_benchmark

    require_files(config)
    from imgcls.jobs.benchmark.run import benchmark as job

    with console.progress("Timing") as on_setting:
        report = job(config, on_setting)
    # before any file, so that one that cannot be written costs no measurement
    show_benchmark(console, report)
    for label, file in write_benchmark(report, csv=config.csv, plot=config.plot).items():
        console.path(label, str(file))


add_command(
    app,
    "benchmark",
    BenchmarkConfig,
    benchmark,
    examples=(
        "imgcls benchmark resnet18 convnext_tiny --batch-size 1,8,64",
        "imgcls benchmark outputs/birds --find-best",
        "imgcls benchmark outputs/birds --data photos",
    ),
)
