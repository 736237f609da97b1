"""What the commands do, as calls: options as keywords, or a config; results as objects."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imgcls.api.keywords import keyword_call
from imgcls.config.benchmark import BenchmarkConfig
from imgcls.config.evaluate import EvaluateConfig
from imgcls.config.export import ExportConfig
from imgcls.config.import_ import ImportConfig
from imgcls.config.inspect import InspectConfig
from imgcls.config.list_models import ListModelsConfig
from imgcls.config.predict import PredictConfig
from imgcls.config.report import ReportConfig
from imgcls.config.run import ResumeConfig, TrainConfig
from imgcls.config.runs import RunsConfig
from imgcls.config.tune import TuneConfig
from imgcls.errors import ImgclsError
from imgcls.output.console import Console, shown_console

if TYPE_CHECKING:
    from imgcls.engine.training.events import Event
    from imgcls.jobs.train.start import Begun
    from imgcls.results.audit import AuditReport
    from imgcls.results.benchmark import BenchmarkReport
    from imgcls.results.evaluation import EvalReport, PageReport
    from imgcls.results.export import ExportReport
    from imgcls.results.models import ModelEntry
    from imgcls.results.prediction import PredictedRow, PredictReport
    from imgcls.results.runs import RunList
    from imgcls.results.search import TuneResult
    from imgcls.results.training import ImportReport, TrainResult


@keyword_call(TrainConfig, trains=True)
def train(
    config: TrainConfig,
    observers: Sequence[Callable[[Event], None]] = (),
    *,
    progress: bool | None = None,
    split_rows: Sequence[Mapping[str, str]] | None = None,
    on_begun: Callable[[Begun], None] | None = None,
) -> TrainResult:
    """Fine-tune a model on a folder of labelled pictures: where the run lies, how each fold scored.

    Takes a TrainConfig, or its options as keywords; without data it trains on the embedded digits.
    observers: are told each event of the loop. progress: shown in a terminal and in a notebook,
    where it is not said. split_rows: the rows of a splits.csv to train on. on_begun: is told once
    the run's folder is there.

    Raises RequestErrors (a wrong option, data or model) before anything is written, and
    InterruptedRunError after Ctrl-C or a signal, with everything saved: `imgcls.resume` goes on.
    """
    from imgcls.jobs.train.train import train as job
    from imgcls.output.screens.choice import ChoiceView
    from imgcls.output.screens.training import TrainingView

    console = shown_console(progress)
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(contextlib.ExitStack())
        on_picture = bar.enter_context(console.progress("Checking"))
        begun = stack.enter_context(_python_goes_on())

        def start(one: Begun) -> None:
            bar.close()
            begun.append(one.run)
            if on_begun is not None:
                on_begun(one)

        on_choice = stack.enter_context(ChoiceView(console, before=bar.close))
        view = stack.enter_context(TrainingView(console))
        return job(
            config,
            [view, *observers] if not console.quiet else observers,
            split_rows=split_rows,
            on_picture=on_picture,
            on_choice=on_choice,
            on_begun=start,
            on_signal=view.on_signal,
        )


@keyword_call(ResumeConfig, trains=True)
def resume(
    config: ResumeConfig,
    observers: Sequence[Callable[[Event], None]] = (),
    *,
    progress: bool | None = None,
) -> TrainResult | None:
    """Go on with an unfinished run, exactly where it stopped: how each fold scored.

    Takes a ResumeConfig, or its options as keywords. None where there is nothing to go on with.
    observers, progress, and what is raised: see `imgcls.train`.
    """
    from imgcls.jobs.train.train import resume as job
    from imgcls.output.screens.training import TrainingView

    console = shown_console(progress)
    with TrainingView(console) as view, _python_goes_on() as begun:
        return job(
            config,
            [view, *observers] if not console.quiet else observers,
            on_reopened=lambda _plan, run: begun.append(run),
            on_signal=view.on_signal,
        )


@keyword_call(TuneConfig, trains=True)
def tune(config: TuneConfig, *, progress: bool | None = None) -> TuneResult:
    """Search for better settings by many trainings: the trials, the best of them, what mattered.

    Takes a TuneConfig, or its options as keywords: what is given is kept, the rest of the search
    space is searched. The same call goes on with a search that was stopped. Needs the extra tune.
    """
    from imgcls.jobs.tune.tune import open_search, run_search
    from imgcls.output.screens.tuning import TuningView

    console = shown_console(progress)
    with console.progress("Checking") as on_picture:
        search, _, first = open_search(config, on_picture)
    del first  # each trial builds its own
    trials = search.settings.trials
    with TuningView(console, search.metric, trials, search.study.records()) as view:
        return run_search(search, view)


@keyword_call(EvaluateConfig)
def evaluate(config: EvaluateConfig, *, progress: bool | None = None) -> EvalReport:
    """Score a trained model on a split: its metrics, and where the tables and the page lie.

    Takes an EvaluateConfig, or its options as keywords. Raises ThresholdError where a metric is
    below its threshold of fail_under; the evaluation is written then.
    """
    from imgcls.jobs.evaluate.decisions import check_thresholds
    from imgcls.jobs.evaluate.evaluate import evaluate as job

    console = shown_console(progress)
    with console.progress("Scoring") as on_batch:
        report = job(config, on_batch=on_batch)
    if config.open and report.page is not None:
        console.open(report.page)
    check_thresholds(report)
    return report


@keyword_call(PredictConfig)
def predict(config: PredictConfig, *, progress: bool | None = None) -> PredictReport:
    """Classify pictures with a trained model: `rows`, one a picture, and what they come to.

    Takes a PredictConfig, or its options as keywords. With `output` or `features` the rows are in
    the file, and `rows` is None. For pictures in memory see `imgcls.load`.
    """
    from dataclasses import replace

    from imgcls.jobs.predict.predict import predict as job

    console = shown_console(progress)
    kept: list[PredictedRow] = []

    def on_rows(rows: Sequence[PredictedRow], _columns: Sequence[str]) -> bool:
        kept.extend(rows)
        return True

    with console.progress("Predicting", "pictures") as on_progress:
        report = job(config, on_rows, on_progress if console.live else None, console.say)
    is_file = config.output is not None or config.features is not None
    return report if is_file else replace(report, rows=tuple(kept))


@keyword_call(BenchmarkConfig)
def benchmark(config: BenchmarkConfig, *, progress: bool | None = None) -> BenchmarkReport:
    """Time models: latency, throughput, memory, and which setting is fastest.

    Takes a BenchmarkConfig, or its options as keywords. model: one, or a list of them.
    """
    from imgcls.jobs.benchmark.run import benchmark as job
    from imgcls.output.screens.benchmark import require_files, write_benchmark

    require_files(config)
    with shown_console(progress).progress("Timing") as on_setting:
        report = job(config, on_setting)
    write_benchmark(report, csv=config.csv, plot=config.plot)
    return report


@keyword_call(ExportConfig)
def export(config: ExportConfig, *, progress: bool | None = None) -> ExportReport:
    """Write a trained model as files that other programs run, proven on real pictures: their paths.

    Takes an ExportConfig, or its options as keywords. Raises ExportError for a format that does not
    answer as the checkpoint does; nothing is written then.
    """
    from imgcls.jobs.export.export import export as job

    console = shown_console(progress)
    with console.progress("Comparing", "pictures") as on_progress:
        return job(config, on_progress, console.say)


@keyword_call(ImportConfig)
def import_checkpoint(config: ImportConfig, *, progress: bool | None = None) -> ImportReport:
    """Make a checkpoint of what another trainer saved, with data a run that goes on: where it lies.

    `imgcls import`. Takes an ImportConfig, or its options as keywords. Nothing in the file is run.
    """
    from imgcls.jobs.import_.import_ import import_checkpoint as job

    with shown_console(progress).progress("Checking") as on_picture:
        return job(config, on_picture)


@keyword_call(InspectConfig, without_torch=True)
def inspect(config: InspectConfig, *, progress: bool | None = None) -> AuditReport:
    """Find what is wrong with a data set before training on it: the findings, worst first.

    Takes an InspectConfig, or its options as keywords.
    """
    from imgcls.jobs.inspect import inspect as job

    with shown_console(progress).progress("Reading") as on_picture:
        return job(config, on_picture=on_picture)


@keyword_call(ReportConfig, without_torch=True)
def report(config: ReportConfig) -> PageReport:
    """Draw the pictures and report.html of an evaluated split again: where they lie.

    Takes a ReportConfig, or its options as keywords.
    """
    from imgcls.jobs.page.page import report as job

    made = job(config)
    if config.open:
        Console().open(made.page)
    return made


@keyword_call(RunsConfig, only=("folder", "sort", "limit"), without_torch=True)
def list_runs(config: RunsConfig) -> RunList:
    """List the runs of a folder: when, data, model, epochs, best metric, status, size.

    `imgcls runs`. Loads no torch. Raises RunError where there is no such folder.
    """
    from imgcls.jobs.runs.listing import list_runs as job

    return job(config)


@keyword_call(ListModelsConfig, without_torch=True)
def list_models(config: ListModelsConfig) -> list[ModelEntry]:
    """List models to train: the curated families, or with a pattern or a filter all of timm's.

    Takes a ListModelsConfig, or its options as keywords. An empty list where none fits.
    """
    from imgcls.models.catalog.read import list_models as job

    return job(
        config.pattern,
        family=config.family,
        max_params=config.max_params,
        img_size=config.img_size,
        pretrained=config.pretrained,
        licences=config.licence or (),
        limit=config.limit,
    )


@contextlib.contextmanager
def _python_goes_on() -> Iterator[list[Path]]:
    """A block whose errors name the call that goes on with the run, which is put into the list."""
    begun: list[Path] = []
    try:
        yield begun
    except ImgclsError as error:
        for run in begun:
            command = f"imgcls resume {shlex.quote(str(run))}"
            # a literal of Python too, whatever quotes and backslashes are in the path
            call = f"imgcls.resume({json.dumps(str(run), ensure_ascii=False)})"
            error.args = (str(error).replace(command, call),)
        raise
