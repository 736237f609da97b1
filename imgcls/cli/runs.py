"""`imgcls runs`, and what it does with single ones: `show`, `diff` and `prune`."""

from __future__ import annotations

import sys

import typer

from imgcls.cli.app import SECOND_WORDS
from imgcls.cli.options import Common, add_command, new_app
from imgcls.config.runs import RunsConfig, RunsDiffConfig, RunsPruneConfig, RunsShowConfig
from imgcls.errors import ConfigError, OutputError

app, show_app, diff_app, prune_app = new_app(), new_app(), new_app(), new_app()


def runs(config: RunsConfig, common: Common) -> None:
    """List the runs of a folder: when, data, model, epochs, best metric, status, size.

    The metric is the one that a run chose its best epoch by: on test with its 95% interval where
    `imgcls evaluate` has measured it, else the best epoch's on val.
    """
    from imgcls.jobs.runs.listing import list_runs
    from imgcls.output.console import Console
    from imgcls.output.outputs import require_replaceable
    from imgcls.output.screens.runs import show_runs

    if common.json and (form := config.form) is not None:
        raise ConfigError(f"--json and --{form}: the list is printed in one form; give one")
    console = Console(quiet=common.quiet, json=common.json)
    if config.html is not None:
        require_replaceable("--html", config.html, force=config.force)
    found = list_runs(config)
    if config.html is not None:
        from imgcls.output.pages.runs import write_page

        write_page(found, config.html)
    show_runs(console, found, config)


def show(config: RunsShowConfig, common: Common) -> None:
    """Show one run: what was set, its data and splits, best epochs, evaluations, checkpoints.

    The last lines are the commands that train it again and that go on from it.
    """
    from imgcls.jobs.runs.show import show_run
    from imgcls.output.console import Console
    from imgcls.output.screens.run_details import show_details

    show_details(Console(quiet=common.quiet, json=common.json), show_run(config))


def diff(config: RunsDiffConfig, common: Common) -> None:
    """Compare two runs: settings, pictures and their splits, metrics.

    Where both were evaluated on the same pictures, differences have a paired 95% interval and
    McNemar's test.
    """
    from imgcls.jobs.runs.diff import diff_runs
    from imgcls.output.console import Console
    from imgcls.output.screens.run_diff import show_diff

    show_diff(Console(quiet=common.quiet, json=common.json), diff_runs(config))


def prune(config: RunsPruneConfig, common: Common) -> None:
    """Remove old checkpoints beside best and last, caches, and what killed commands left.

    Shows what and how much, and asks first. What `best` or `last` leads to stays, in every fold,
    and what resume would go on from; runs that are trained or evaluated just now are left alone.
    """
    from imgcls.jobs.runs.prune import Pruning
    from imgcls.output.console import Console
    from imgcls.output.screens.prune import show_prunable, show_pruned, what_goes

    console = Console(quiet=common.quiet, json=common.json)
    console.say("Looking ...", transient=True)
    found = Pruning.of(config)
    if config.dry_run or not found.items:
        show_prunable(console, found.report(removed=False), config)
        return
    if not config.yes:
        if not sys.stdin.isatty():
            raise ConfigError(
                f"would remove {what_goes(found.report(removed=False))}, and there is no terminal "
                "to ask on: give --yes, or --dry-run to see what"
            )
        show_prunable(console, found.report(removed=False), config)
        if not typer.confirm(f"Remove {what_goes(found.report(removed=False))}?", err=True):
            console.say("Nothing was removed.")
            return
    found.remove()
    show_pruned(console, found.report(removed=True))
    if found.failed:
        raise OutputError("not all could be removed")


add_command(app, "runs", RunsConfig, runs, second_words=SECOND_WORDS["runs"], quick=True)
add_command(show_app, "runs show", RunsShowConfig, show)
add_command(diff_app, "runs diff", RunsDiffConfig, diff)
add_command(prune_app, "runs prune", RunsPruneConfig, prune)
