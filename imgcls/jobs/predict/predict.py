"""`imgcls predict`: classify pictures, a row for each, in their order."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from imgcls.config.predict import PredictConfig
from imgcls.data.inputs import Input, Inputs
from imgcls.engine.device.world import world
from imgcls.engine.scoring.scorer import Scorer
from imgcls.engine.training.interrupt import SignalledError, StopRequest, stop_on_signals
from imgcls.errors import BadImageError, DataError, InterruptedRunError
from imgcls.jobs.early import check_inputs
from imgcls.jobs.predict.backend import (
    CHECKED_BATCHES,
    WORTH_PICTURES,
    BackendChoice,
    Chosen,
)
from imgcls.jobs.predict.counts import Counts
from imgcls.jobs.predict.drift import drift
from imgcls.jobs.predict.files import RowFiles
from imgcls.jobs.predict.predictor import Predictor, ScoredBatch, find_predictor, unread
from imgcls.jobs.predict.reading import Reading
from imgcls.jobs.predict.sorting import SortedFolder
from imgcls.jobs.predict.together import scored_together
from imgcls.results.prediction import PredictedRow, PredictReport
from imgcls.storage.prediction_rows import PathSet, paths_in

# gets the rows of a batch and their columns; False where no more are wanted
OnRows = Callable[[Sequence[PredictedRow], Sequence[str]], bool]
# gets (pictures done, pictures in all or None)
OnProgress = Callable[[int, "int | None"], None]
# gets a line for whoever waits
Say = Callable[[str], None]


def predict(
    config: PredictConfig,
    on_rows: OnRows = lambda _rows, _columns: True,
    on_progress: OnProgress | None = None,
    say: Say = lambda _line: None,
) -> PredictReport:
    """Classify the pictures that the inputs name; each has a row, in their order.

    on_rows gets the rows where no file does, on_progress the count of pictures, say what is done
    before the first and what to expect. Nothing is kept that grows with their number. Raises
    ConfigError, DataError, CheckpointError, RunError or DeviceError before anything is scored;
    OutputError, BadImageError where none could be classified or `on_bad_image` is error, and
    InterruptedRunError, behind which the same command goes on.
    """
    check_inputs(config.inputs)
    pictures = Pictures(config)
    predictor = find_predictor(config, say, on_progress)
    folder = None
    if config.sort_into is not None:
        folder = SortedFolder(
            config.sort_into, predictor.class_names, config.inputs, copy=config.copy_files
        )
    with contextlib.ExitStack() as stack:
        files = None
        if config.output is not None or config.features is not None:
            files = stack.enter_context(RowFiles(config, predictor))
        run = _Run(config, predictor, pictures, files, folder, on_rows, on_progress, say)
        return run.run()


class Pictures:
    """The inputs without those that an earlier prediction has; `left_out` counts these.

    Raises DataError.
    """

    def __init__(self, config: PredictConfig) -> None:
        self._inputs = Inputs(config.inputs, config.path_col, config.root)
        self._had = None if config.new_only is None else PathSet(paths_in(config.new_only))
        self.left_out = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of them, once they were gone through."""
        return tuple(self._inputs.notes)

    def count(self) -> int | None:
        """How many there are; None where only going through them tells."""
        if self._inputs.read_once:
            return None
        found = sum(1 for _ in self)
        self.left_out = 0
        return found

    def __iter__(self) -> Iterator[Input]:
        for one in self._inputs:
            if self._had is not None and one.path in self._had:
                self.left_out += 1
            else:
                yield one


@dataclass(eq=False)
class _Run:
    """One prediction, with the places that its rows go to."""

    config: PredictConfig
    predictor: Predictor
    pictures: Pictures
    files: RowFiles | None
    folder: SortedFolder | None
    on_rows: OnRows
    on_progress: OnProgress | None
    say: Say
    backend: str = "torch"
    start_s: float = field(default_factory=time.monotonic)
    scored: int = 0
    counts: Counts = field(default_factory=Counts)
    total: int | None = None
    bad: PredictedRow | None = None

    def run(self) -> PredictReport:
        """The report, the files in their places."""
        if self.files is not None and self.files.finished(iter(self.pictures)):
            return self._checked(replace(self._report(0.0), was_finished=True))
        if self.on_progress is not None:
            self.total = self.pictures.count()
        inputs = iter(self.pictures)
        if self.files is not None:
            self.files.resume(inputs)
            self.counts = Counts.of(self.files.tally)
        first = list(itertools.islice(inputs, self._looked_at))
        if not first and not self.counts.pictures and not self.pictures.left_out:
            raise DataError("INPUTS: no pictures in them")
        if first:
            self._score(itertools.chain(first, inputs), many=len(first) >= WORTH_PICTURES)
        elif self.files is not None:
            self.files.decide("torch")
        report = self._report(time.monotonic() - self.start_s)
        if self.files is not None:
            self.files.publish(report)
        return self._checked(report)

    def _checked(self, report: PredictReport) -> PredictReport:
        pictures = report.tally.pictures
        if pictures and report.tally.unreadable == pictures:
            first = f", such as {self.bad.path} ({self.bad.error})" if self.bad else ""
            raise BadImageError(f"none of the {pictures:,} pictures can be classified{first}")
        return report

    @property
    def _looked_at(self) -> int:
        """How many inputs are asked for before any is read."""
        size = self.config.batch_size
        return max(size, WORTH_PICTURES) if self.config.backend == "auto" else size

    def _score(self, inputs: Iterator[Input], *, many: bool) -> None:
        self._progressed()
        try:
            with stop_on_signals() as request:
                with request.at_once():
                    reading = Reading(self.predictor, inputs, CHECKED_BATCHES)
                    chosen = self._choose(reading, many=many)
                self.backend = chosen.backend
                if self.files is not None:
                    self.files.decide(chosen.backend)
                self.start_s = time.monotonic()
                batches = self._batches(reading, chosen.scorer)
                while True:
                    # nothing is half written in here
                    with self._stopping(request):
                        batch = next(batches, None)
                    if batch is None or not self._take(batch):
                        break
        except (SignalledError, KeyboardInterrupt) as error:
            number = getattr(error, "signal_number", 2)
            if self.files is None:
                raise InterruptedRunError(
                    f"stopped after {self.counts.pictures:,} pictures; with --output FILE the same "
                    "command would go on",
                    number,
                ) from None
            self.files.commit()
            raise InterruptedRunError(
                f"stopped; {self.files.rows:,} rows are kept, the same command goes on", number
            ) from None

    def _choose(self, reading: Reading, *, many: bool) -> Chosen:
        """What runs the model: for files that were begun, what they were begun by."""
        begun = None if self.files is None else self.files.backend
        choice = BackendChoice(self.predictor)
        many = many and world().size == 1
        chosen = choice.choose(begun or self.config.backend, reading.first, many=many)
        if chosen.reason is not None:
            self.say(chosen.reason)
        return chosen

    def _batches(self, reading: Reading, scorer: Scorer) -> Iterator[ScoredBatch]:
        model_s = 0.0
        while reading.first:
            batch = reading.first.popleft()
            start_s = time.perf_counter()
            [scored] = self.predictor.scored(scorer, [batch])
            model_s = (time.perf_counter() - start_s) / len(batch.keys)
            yield scored
        if self._together:
            yield from scored_together(self.predictor, scorer, reading.inputs)
        else:
            yield from self.predictor.scored(scorer, reading.others(model_s))
        yield from unread(reading.rest)

    @property
    def _together(self) -> bool:
        """Whether all processes of this command score; other runtimes than torch run in one."""
        return world().size > 1 and self.backend == "torch"

    @contextlib.contextmanager
    def _stopping(self, request: StopRequest) -> Iterator[None]:
        """A block that a signal ends: at once, or, where others take part in it, behind it."""
        if not self._together:
            with request.at_once():
                yield
            return
        yield
        if request.signal_number is not None:
            raise SignalledError(request.signal_number)

    def _take(self, batch: ScoredBatch) -> bool:
        """Hand the rows of a batch on; False where no more are wanted."""
        bad = next((row for row in batch.rows if row.error is not None), None)
        self.bad = self.bad or bad
        if bad is not None and self.config.on_bad_image == "error":
            if self.files is not None:
                self.files.commit()
            raise BadImageError(
                f"{bad.path}: cannot be classified ({bad.error}); mend that and give the same "
                "command again, or let its row say so with --on-bad-image skip"
            )
        if self.folder is not None:
            self.folder.add(batch.read, batch.rows)
        if self.files is not None:
            self.files.add(batch)
        self.scored += len(batch.rows)
        self.counts.add(batch.rows)
        self._progressed()
        return self.files is not None or self.on_rows(batch.rows, self.predictor.columns)

    def _progressed(self) -> None:
        if self.on_progress is not None:
            self.on_progress(self.counts.pictures, self.total)

    def _report(self, elapsed_s: float) -> PredictReport:
        one, config = self.predictor, self.config
        tally = self.counts.tally if self.files is None else self.files.tally
        return PredictReport(
            checkpoint=one.path,
            model_name=one.model_name,
            class_names=one.class_names,
            folds=tuple(checkpoint.fold for checkpoint in one.checkpoints),
            tta=config.tta,
            temperatures=one.temperatures,
            tally=tally,
            top_k=one.shown,
            backend=(self.files and self.files.backend) or self.backend,
            output=config.output,
            features=config.features,
            sorted_into=config.sort_into,
            left_out=self.pictures.left_out,
            elapsed_s=elapsed_s,
            scored=self.scored,
            notes=(*one.notes, *one.doubts.notes, *self.pictures.notes),
            sets=config.sets,
            max_error=config.max_error,
            unlike=config.unlike,
            drift=drift(tally, one.doubts, one.class_names),
        )
