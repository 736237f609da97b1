"""`imgcls export`."""

from __future__ import annotations

from imgcls.cli.options import Common, add_command, new_app
from imgcls.config.export import ExportConfig

app = new_app()


def export(config: ExportConfig, common: Common) -> None:
    """Write a trained model as files that other programs run.

    Each file is loaded again by its own runtime and compared with the checkpoint on real pictures
    before it appears. Labels, preprocessing, calibration and metrics go with it.
    """
    from imgcls.jobs.export.places import find_places
    from imgcls.output.console import Console

    console = Console(quiet=common.quiet, json=common.json)
    find_places(config)
    console.say("Loading torch ...", transient=True)
    from imgcls.jobs.export.export import export as job
    from imgcls.output.screens.export import show_export

    with console.progress("Comparing", "pictures") as on_progress:
        report = job(config, on_progress, console.say)
    show_export(console, report)


add_command(
    app,
    "export",
    ExportConfig,
    export,
    examples=(
        "imgcls export",
        "imgcls export --profile tensor",
        "imgcls export outputs/birds --format onnx,openvino --output deploy",
    ),
)
