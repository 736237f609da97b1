"""`imgcls train`."""

from __future__ import annotations

import contextlib

from imgcls.cli.options import Common, add_command, flag_parameter, new_app
from imgcls.cli.processes.launch import launch_if_several
from imgcls.config.run import TrainConfig

app = new_app()


def train(config: TrainConfig, common: Common, *, dry_run: bool) -> None:
    """Fine-tune a model on a folder of labelled pictures.

    Without DATA it trains on the embedded digits. The run, with its checkpoints, history and
    exact config, goes to a new folder in --output.
    """
    from imgcls.jobs.early import check_data, check_folder, check_trackers, check_weights
    from imgcls.output.console import Console

    console = Console(quiet=common.quiet, json=common.json)
    check_data(config.data.source)
    check_weights(config.model.weights)
    check_folder("--output", config.runtime.output)
    check_trackers(config.runtime.log)
    console.say("Loading torch ...")
    launch_if_several(config.runtime.devices, config.runtime.device)
    from imgcls.engine.device.runtime import keep_freed_memory
    from imgcls.jobs.train.describe import describe_plan
    from imgcls.jobs.train.start import Begun, preview
    from imgcls.jobs.train.train import train as job
    from imgcls.output.screens.choice import ChoiceView
    from imgcls.output.screens.screen import show_plan, show_train_result
    from imgcls.output.screens.training import TrainingView

    keep_freed_memory()
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(contextlib.ExitStack())
        on_picture = bar.enter_context(console.progress("Checking"))
        on_choice = stack.enter_context(ChoiceView(console, before=bar.close))
        if dry_run:
            plan, first = preview(config, on_picture, on_choice)
            bar.close()
            show_plan(console, describe_plan(plan, assembly=first, measure=True), is_result=True)
            return

        def on_begun(begun: Begun) -> None:
            bar.close()
            name = config.runtime.experiment
            made = (begun.ensemble or begun.run).name
            if name is not None and made != name:
                console.warn(
                    f"{config.runtime.output / name} is there already and stays as it is; this run "
                    f"is {made}"
                )
            # what nobody reads need not be measured
            measure = not common.quiet
            first = begun.first if measure else None
            show_plan(console, describe_plan(begun.plan, begun.run, first, measure=measure))

        with TrainingView(console) as view:
            result = job(
                config,
                (view,),
                on_picture=on_picture,
                on_choice=on_choice,
                on_begun=on_begun,
                on_signal=view.on_signal,
            )
    show_train_result(console, result)


add_command(
    app,
    "train",
    TrainConfig,
    train,
    examples=(
        "imgcls train photos",
        "imgcls train photos --model convnext_tiny --epochs 20",
        "imgcls train photos --model auto --max-latency-ms 30",
        "imgcls train photos.csv --folds 5 --imbalance logit-adjust",
    ),
    with_file=True,
    extra=(
        flag_parameter(
            "dry_run", "--dry-run", text="Print the plan (pictures, model, memory) and stop."
        ),
    ),
)
