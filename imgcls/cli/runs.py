"""`imgcls runs`, and what it does with single ones: `show`, `diff` and `prune`."""

from __future__ import annotations

from imgcls.cli.app import SECOND_WORDS
from imgcls.cli.options import Common, add_command, new_app
from imgcls.config.runs import RunsConfig, RunsShowConfig
from imgcls.errors import ConfigError

app, show_app = new_app(), new_app()


def runs(config: RunsConfig, common: Common) -> None:
    """List the runs of a folder: when, data, model, epochs, best metric, status, size.

    The metric is the one that a run chose its best epoch by: on test with its 95% interval where
    `imgcls evaluate` has measured it, else the best epoch's on val.
    """
    from imgcls.jobs.runs.listing import list_runs
    from imgcls.output.console import Console
    from imgcls.output.screens.runs import show_runs

    if common.json and (form := config.form) is not None:
        raise ConfigError(f"--json and --{form}: the list is printed in one form; give one")
    console = Console(quiet=common.quiet, json=common.json)
    show_runs(console, list_runs(config), config)


def show(config: RunsShowConfig, common: Common) -> None:
    """Show one run: what was set, its data and splits, best epochs, evaluations, checkpoints.

    The last lines are the commands that train it again and that go on from it.
    """
    from imgcls.jobs.runs.show import show_run
    from imgcls.output.console import Console
    from imgcls.output.screens.run_details import show_details

    show_details(Console(quiet=common.quiet, json=common.json), show_run(config))


add_command(app, "runs", RunsConfig, runs, second_words=SECOND_WORDS["runs"])
add_command(show_app, "runs show", RunsShowConfig, show)
