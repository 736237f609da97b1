"""`imgcls import`."""

from __future__ import annotations

from imgcls.cli.options import Common, add_command, new_app
from imgcls.config.import_ import ImportConfig

app = new_app()


def import_(config: ImportConfig, common: Common) -> None:
    """Make a checkpoint of what another trainer saved.

    It is evaluated, used and exported like any other. With --data it becomes a run, which goes on
    where the training stopped. Nothing in the file is run.
    """
    from imgcls.errors import ConfigError
    from imgcls.jobs.early import check_data, check_file, check_folder
    from imgcls.output.console import Console

    console = Console(quiet=common.quiet, json=common.json)
    if config.file is None:
        raise ConfigError("FILE: name what to import: the file that another trainer saved")
    check_file("FILE", config.file.expanduser())
    check_file("--classes", config.classes)
    check_data(config.data)
    check_folder("--output", config.output)
    console.say("Loading torch ...", transient=True)
    from imgcls.engine.device.runtime import keep_freed_memory
    from imgcls.jobs.import_.import_ import import_checkpoint
    from imgcls.output.screens.import_ import show_import

    keep_freed_memory()
    with console.progress("Checking") as on_picture:
        report = import_checkpoint(config, on_picture)
    show_import(console, report)


add_command(
    app,
    "import",
    ImportConfig,
    import_,
    examples=(
        "imgcls import best.pt --model resnet18 --classes classes.txt",
        "imgcls import best.pt --model resnet18 --classes classes.txt --data photos",
        "imgcls import model_best.pth.tar --classes classes.json",
    ),
)
