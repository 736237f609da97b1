"""`imgcls benchmark`."""

from __future__ import annotations

from imgcls.cli.options import Common, add_command, new_app
from imgcls.config.benchmark import BenchmarkConfig

app = new_app()


def benchmark(config: BenchmarkConfig, common: Common) -> None:
    """Time a model on synthetic batches: latency, throughput, memory.

    MODEL may be a timm name or a checkpoint, fold or run folder.
    """
    from imgcls.report.console import Console

    console = Console(quiet=common.quiet, json=common.json)
    console.say("Loading torch ...", transient=True)
    from imgcls.jobs.benchmark import benchmark as job
    from imgcls.report.screen import show_benchmark

    with console.progress("Timing") as on_batch:
        report = job(config, on_batch=on_batch)
    show_benchmark(console, report)


add_command(app, "benchmark", BenchmarkConfig, benchmark)
