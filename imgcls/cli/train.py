"""`imgcls train`."""

from __future__ import annotations

from imgcls.cli.options import Common, add_command, flag_parameter, new_app
from imgcls.config.run import TrainConfig

app = new_app()


def train(config: TrainConfig, common: Common, *, dry_run: bool) -> None:
    """Fine-tune a model on a folder of labelled pictures.

    Without DATA it trains on the embedded digits. The run, with its checkpoints, history and
    exact config, goes to a new folder in --output.
    """
    from imgcls.report.console import Console

    console = Console(quiet=common.quiet, json=common.json)
    console.say("Loading torch ...")
    from imgcls.engine.runtime import keep_freed_memory
    from imgcls.jobs.assemble import assemble
    from imgcls.jobs.describe import describe_plan
    from imgcls.jobs.plan import make_plan
    from imgcls.jobs.time_budget import fit_to_time
    from imgcls.jobs.train import start_run, train_run
    from imgcls.models.hub import check_can_be_had
    from imgcls.report.screen import show_plan, show_train_result
    from imgcls.report.training import TrainingView

    keep_freed_memory()
    with console.progress("Checking") as on_picture:
        plan = make_plan(config, on_picture=on_picture)
    plan = fit_to_time(plan)
    # before anything is written: what cannot be built or fetched leaves no run behind
    if dry_run and plan.pretrained:
        check_can_be_had(plan.config.model.name)  # without fetching what may be large
    first = assemble(plan, plan.folds[0], load_weights=not (dry_run and plan.pretrained))
    if dry_run:
        show_plan(console, describe_plan(plan, assembly=first), is_result=True)
        return
    run = start_run(plan)
    show_plan(console, describe_plan(plan, run, first))
    with TrainingView(console, run) as view:
        result = train_run(plan, run, observers=(view,), on_signal=view.on_signal, first=first)
    show_train_result(console, result)


add_command(
    app,
    "train",
    TrainConfig,
    train,
    with_file=True,
    extra=(
        flag_parameter(
            "dry_run", "--dry-run", text="Print the plan (pictures, model, memory) and stop."
        ),
    ),
)
