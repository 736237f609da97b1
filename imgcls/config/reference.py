"""The page of all options, from their declarations: `python -m imgcls.config.reference`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from imgcls.config.base import Config, OptionField, allowed_values, default_text, option_fields
from imgcls.config.benchmark import BenchmarkConfig
from imgcls.config.evaluate import EvaluateConfig
from imgcls.config.export import ExportConfig
from imgcls.config.import_ import ImportConfig
from imgcls.config.inspect import InspectConfig
from imgcls.config.list_models import ListModelsConfig
from imgcls.config.predict import PredictConfig
from imgcls.config.report import ReportConfig
from imgcls.config.run import ResumeConfig, TrainConfig
from imgcls.config.runs import RunsConfig, RunsDiffConfig, RunsPruneConfig, RunsShowConfig
from imgcls.config.tune import TuneConfig

COMMANDS: dict[str, type[Config]] = {
    "inspect": InspectConfig,
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "predict": PredictConfig,
    "export": ExportConfig,
    "report": ReportConfig,
    "benchmark": BenchmarkConfig,
    "tune": TuneConfig,
    "resume": ResumeConfig,
    "runs": RunsConfig,
    "runs show": RunsShowConfig,
    "runs diff": RunsDiffConfig,
    "runs prune": RunsPruneConfig,
    "import": ImportConfig,
    "list-models": ListModelsConfig,
}


def option_reference() -> str:
    """Markdown: one table a command, one row an option."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# All options"
    yield ""
    yield "Made by `python -m imgcls.config.reference > examples/options.md`; a test keeps it true."
    yield "`train` also takes `--config FILE` (YAML, by the names in the second column), `--set"
    yield "NAME=VALUE` and `--dry-run`; every command takes `--quiet`, `--json` and `--debug`."
    for command, config_class in COMMANDS.items():
        yield ""
        yield f"## imgcls {command}"
        yield ""
        yield "| option | name | value | default | |"
        yield "|---|---|---|---|---|"
        for option in option_fields(config_class):
            if option.flag.exposed:
                yield _row(option)


def _row(option: OptionField) -> str:
    if option.flag.positional:
        shown = option.flag_names[0].removeprefix("--").upper()
    else:
        short = [option.flag.short] if option.flag.short else []
        shown = ", ".join([*option.flag_names, *short])
    cells = (
        f"`{shown}`",
        f"`{option.path}`",
        allowed_values(option.field),
        default_text(option.field) or "",
        option.field.description or "",
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    sys.stdout.write(option_reference())
