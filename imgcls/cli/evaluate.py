"""`imgcls evaluate`."""

from __future__ import annotations

from imgcls.cli.options import Common, add_command, new_app
from imgcls.cli.processes.launch import launch_if_several
from imgcls.config.evaluate import EvaluateConfig

app = new_app()


def evaluate(config: EvaluateConfig, common: Common) -> None:
    """Score a trained model on a split.

    Model, classes, preprocessing, pictures and splits all come from the run; CHECKPOINT may be a
    checkpoint, fold or run folder.
    """
    from imgcls.jobs.early import check_checkpoint, check_data, check_file, check_folder
    from imgcls.output.console import Console

    console = Console(quiet=common.quiet, json=common.json)
    check_checkpoint(config.checkpoint)
    check_checkpoint(config.compare)
    check_data(config.data)
    check_file("--costs", config.costs)
    check_folder("--results-dir", config.results_dir)
    console.say("Loading torch ...", transient=True)
    from imgcls.engine.device.runtime import keep_freed_memory
    from imgcls.jobs.evaluate.decisions import check_thresholds
    from imgcls.jobs.evaluate.evaluate import evaluate as job
    from imgcls.output.screens.evaluation import show_evaluation

    launch_if_several(config.devices, config.device)
    keep_freed_memory()
    with console.progress("Scoring") as on_batch:
        # a program that reads the JSON has all there is to know
        report = job(config, on_batch=on_batch, files_needed=not common.json)
    show_evaluation(console, report)
    if config.open and report.page is not None:
        console.open(report.page)
    check_thresholds(report)


add_command(
    app,
    "evaluate",
    EvaluateConfig,
    evaluate,
    examples=(
        "imgcls evaluate",
        "imgcls evaluate outputs/birds --split val --open",
        "imgcls evaluate outputs/birds --data more_photos --exclude-trained",
    ),
)
