"""`imgcls report`."""

from __future__ import annotations

from imgcls.cli.options import Common, add_command, new_app
from imgcls.config.report import ReportConfig

app = new_app()


def report(config: ReportConfig, common: Common) -> None:
    """Draw the pictures and report.html of an evaluated split again.

    Reads what `imgcls evaluate` wrote; needs neither the model nor a second pass over the pictures.
    """
    from imgcls.jobs.early import check_folder
    from imgcls.output.console import Console

    console = Console(quiet=common.quiet, json=common.json)
    check_folder("--results-dir", config.results_dir)
    from imgcls.jobs.page.page import report as job

    console.say("Drawing ...", transient=True)
    made = job(config)
    console.result(made)
    console.path("Report", str(made.page))
    for note in made.notes:
        console.warn(note)
    if config.open:
        console.open(made.page)


add_command(app, "report", ReportConfig, report)
