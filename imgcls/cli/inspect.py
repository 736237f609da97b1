"""`imgcls inspect`."""

from __future__ import annotations

from imgcls.cli.options import Common, add_command, new_app
from imgcls.config.inspect import InspectConfig

app = new_app()


def inspect(config: InspectConfig, common: Common) -> None:
    """Find what is wrong with a data set before training on it.

    Unreadable pictures, duplicates and near duplicates (above all between splits and under two
    labels), class counts and names, odd sizes. Nothing is trained.
    """
    from imgcls.jobs.inspect import inspect as job
    from imgcls.output.console import Console
    from imgcls.output.screens.audit import show_audit

    console = Console(quiet=common.quiet, json=common.json)
    with console.progress("Reading") as on_picture:
        report = job(config, on_picture=on_picture)
    show_audit(console, report)


add_command(app, "inspect", InspectConfig, inspect)
