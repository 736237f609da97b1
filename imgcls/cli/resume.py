"""`imgcls resume`."""

from __future__ import annotations

from pathlib import Path

from imgcls.cli.options import Common, add_command, new_app
from imgcls.cli.processes.launch import launch_if_several
from imgcls.config.run import ResumeConfig

app = new_app()


def resume(config: ResumeConfig, common: Common) -> None:
    """Go on with an unfinished run, exactly where it stopped.

    Without RUN it takes the newest unfinished one in --output.
    """
    from imgcls.output.console import Console

    console = Console(quiet=common.quiet, json=common.json)
    from imgcls.jobs.train.epochs import find_trainable

    found = find_trainable(config.run, config.output, config.epochs)
    run = found.run
    for why in found.unreadable:
        console.warn(f"passed over a run that cannot be read: {why}")
    if run is None:
        reason = (
            f"{found.beyond} has more epochs trained than --epochs {config.epochs}"
            if found.beyond is not None
            else f"{config.run} is finished; --epochs N trains it longer"
            if config.run is not None
            else f"being trained by another process: {', '.join(map(str, found.busy))}"
            if found.busy
            else "no run is unfinished"
        )
        console.result({"resumed": None}, f"Nothing to resume: {reason}.")
        return
    console.say("Loading torch ...", transient=True)
    from imgcls.engine.device.runtime import keep_freed_memory
    from imgcls.jobs.plan.plan import Plan
    from imgcls.jobs.train.describe import describe_plan
    from imgcls.jobs.train.train import go_on
    from imgcls.output.screens.screen import show_plan, show_train_result
    from imgcls.output.screens.training import TrainingView
    from imgcls.storage.ensembles import is_ensemble, read_ensemble_config
    from imgcls.storage.runs import read_run_config

    began = read_ensemble_config(run) if is_ensemble(run) else read_run_config(run)
    launch_if_several(
        config.devices or began.runtime.devices, config.device or began.runtime.device
    )
    keep_freed_memory()

    def on_reopened(plan: Plan, run: Path) -> None:
        show_plan(console, describe_plan(plan, run))

    with TrainingView(console) as view:
        result = go_on(run, config, (view,), on_reopened=on_reopened, on_signal=view.on_signal)
    show_train_result(console, result)


add_command(app, "resume", ResumeConfig, resume)
