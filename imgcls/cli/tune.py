"""`imgcls tune`."""

from __future__ import annotations

from importlib.util import find_spec

from imgcls.cli.options import Common, add_command, new_app
from imgcls.cli.processes.launch import launch_if_several
from imgcls.config.tune import TuneConfig
from imgcls.errors import ConfigError

app = new_app()


def tune(config: TuneConfig, common: Common) -> None:
    """Search for better settings: many trainings, the best by the validation pictures.

    Takes all options of `imgcls train`; what you set is kept, the rest of the search space is
    searched. The same command again goes on with a search that was stopped, and several processes
    may run it at once.
    """
    from imgcls.jobs.early import check_data, check_folder, check_trackers, check_weights
    from imgcls.output.console import Console

    if find_spec("optuna") is None:
        raise ConfigError('tune needs Optuna: pip install "imgcls[tune]"')
    console = Console(quiet=common.quiet, json=common.json)
    check_data(config.data.source)
    check_weights(config.model.weights)
    check_folder("--output", config.runtime.output)
    check_trackers(config.runtime.log)
    console.say("Loading torch ...")
    launch_if_several(config.runtime.devices, config.runtime.device)
    from imgcls.jobs.train.describe import describe_plan
    from imgcls.jobs.tune.tune import open_search, run_search
    from imgcls.output.screens.screen import show_plan
    from imgcls.output.screens.tuning import TuningView, show_search, show_tuning

    with console.progress("Checking") as on_picture:
        search, plan, first = open_search(config, on_picture)
    measure = not common.quiet  # what nobody reads need not be measured
    described = describe_plan(plan, search.folder, first if measure else None, measure=measure)
    show_plan(console, described)
    del first  # each trial builds its own
    records = search.study.records()
    show_search(console, search.space, search.settings.trials, search.study.begun())
    trials = search.settings.trials
    with TuningView(console, search.metric, trials, records) as view:
        result = run_search(search, view)
    show_tuning(console, result)


add_command(
    app,
    "tune",
    TuneConfig,
    tune,
    with_file=True,
    examples=(
        "imgcls tune photos --trials 30",
        "imgcls tune photos --model convnext_tiny --max-minutes 120",
    ),
)
