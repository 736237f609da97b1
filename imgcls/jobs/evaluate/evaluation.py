"""One evaluation with what its options ask for: a checkpoint, all folds of a run, their average."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from imgcls.config.evaluate import EvaluateConfig
from imgcls.engine.checkpoint.folder import Checkpoint
from imgcls.engine.checkpoint.temperature import Temperature, read_temperature
from imgcls.engine.device.batches import ComputeSettings
from imgcls.errors import ConfigError
from imgcls.jobs.evaluate.bad_images import without_unreadable
from imgcls.jobs.evaluate.compare import compare
from imgcls.jobs.evaluate.corruptions import corruption_scores
from imgcls.jobs.evaluate.ensemble import score_together
from imgcls.jobs.evaluate.explain import explain_mistakes
from imgcls.jobs.evaluate.folds import cross_validate, keep_summary
from imgcls.jobs.evaluate.pictures import (
    Pictures,
    chosen_pictures,
    has_split,
    require_columns,
    run_pictures,
)
from imgcls.jobs.evaluate.report import Scoring
from imgcls.jobs.evaluate.result_folders import ResultFolders
from imgcls.jobs.evaluate.score import OnBatch, prepare, score
from imgcls.jobs.evaluate.thresholds import passed_gates
from imgcls.jobs.evaluate.trained_on import other_has_seen, trained_on, with_trained_on
from imgcls.jobs.page.page import make_page
from imgcls.metrics.predictions import Predictions
from imgcls.metrics.temperature import FittedTemperature, fit_temperature
from imgcls.results.evaluation import EvalReport
from imgcls.storage.evaluations import write_evaluation, write_metrics
from imgcls.storage.scores import temporary_scores


@dataclass(frozen=True)
class Evaluation:
    """Everything that the ways to evaluate share; `run` does what the options ask for."""

    config: EvaluateConfig
    compute: ComputeSettings
    scoring: Scoring
    on_batch: OnBatch
    other: Checkpoint | None
    notes: tuple[str, ...]
    explained: nn.Module | None
    results: ResultFolders

    def run(self, path: Path, checkpoints: Sequence[Checkpoint]) -> EvalReport:
        """The report of what the options ask for, its files in their places."""
        if self.config.fold == "all":
            report = self.all_folds(path, checkpoints)
        elif self.config.ensemble:
            report = self.ensemble(path, checkpoints)
        else:
            report = self.one(checkpoints[0])
        if self.config.fold == "all" and self.results.kept:
            report = keep_summary(self.config, path, report, self.results)
        self.results.commit()
        return self.results.shown(report)

    def one(self, checkpoint: Checkpoint) -> EvalReport:
        """One checkpoint on the pictures that were asked for."""
        pictures = self._ready(chosen_pictures(self.config, checkpoint), [checkpoint])
        views = "" if self.config.tta == "none" else f"-{self.config.tta}"
        folder = self.results.of_fold(checkpoint, f"{pictures.split}{views}")
        temperature = self._temperature(checkpoint, folder)
        if self.config.tta == "none":
            report, result = score(
                checkpoint,
                pictures,
                self.compute,
                scoring=self.scoring,
                folder=folder,
                temperature=temperature,
                on_batch=self.on_batch,
            )
            predictions = result.predictions
        else:
            report, predictions = self._together([checkpoint], [temperature], pictures, folder)
        if self.config.corruptions:
            worse = corruption_scores(
                checkpoint,
                pictures,
                predictions,
                self.compute,
                scoring=self.scoring,
                on_batch=self.on_batch,
            )
            report = replace(report, corruptions=worse)
        if self.explained is not None:
            explain_mistakes(
                self.explained,
                checkpoint,
                pictures,
                predictions,
                compute=self.compute,
                scoring=self.scoring,
                folder=folder,
            )
        return self._finished(report, predictions, pictures, [temperature])

    def ensemble(self, run: Path, checkpoints: Sequence[Checkpoint]) -> EvalReport:
        """The folds of a run, averaged, on pictures that none of them was trained on."""
        if self.config.data is None and self.config.split != "test":
            raise ConfigError(
                f"--split {self.config.split}: was trained on by some of the folds, so the "
                "ensemble cannot be scored on it; take --split test or --data"
            )
        pictures = self._ready(chosen_pictures(self.config, checkpoints[0]), checkpoints)
        views = "" if self.config.tta == "none" else f"-{self.config.tta}"
        folder = self.results.of_run(run, f"{pictures.split}{views}")
        temperatures = [self._temperature(checkpoint, folder) for checkpoint in checkpoints]
        report, predictions = self._together(checkpoints, temperatures, pictures, folder)
        report = replace(report, checkpoint=run)
        return self._finished(report, predictions, pictures, temperatures)

    def all_folds(self, run: Path, checkpoints: Sequence[Checkpoint]) -> EvalReport:
        """Each fold on its own val pictures, pooled; and the folds' average on the test split."""
        config = self.config
        if config.calibrate == "temperature" or config.tta != "none" or config.data or self.other:
            raise ConfigError(
                "--fold all scores each fold on its own val pictures, as they are; leave --data, "
                "--tta, --compare and --calibrate temperature to --ensemble"
            )
        temperatures = [read_temperature(checkpoint) for checkpoint in checkpoints]
        if config.calibrate == "none":
            temperatures = [None] * len(checkpoints)
        held_out = [
            self._ready(self._own(checkpoint, "val"), [checkpoint]) for checkpoint in checkpoints
        ]
        require_columns(held_out[0], config)
        averages = has_split(checkpoints[0], "test")
        if averages:
            self._own(checkpoints[0], "test")  # what is wrong with it comes before any scoring
        report = cross_validate(
            run,
            checkpoints,
            held_out,
            self.compute,
            scoring=self.scoring,
            temperatures=temperatures,
            results=self.results,
            on_batch=self.on_batch,
        )
        if not averages:
            note = "the run has no test split, so the folds' average is not scored"
            report = replace(report, notes=(*report.notes, note))
        else:
            job = replace(self, config=config.model_copy(update={"split": "test"}))
            average = job.ensemble(run, checkpoints)
            found = {name: getattr(average, name) for name in ("split", "metrics", "intervals")}
            report = replace(report, ensemble={**(average.ensemble or {}), **found})
        report = self._judged(report, temperatures)
        assert report.folder is not None
        write_metrics(report.folder, report)
        return self._with_page(report)

    def _together(
        self,
        checkpoints: Sequence[Checkpoint],
        temperatures: Sequence[Temperature | None],
        pictures: Pictures,
        folder: Path,
    ) -> tuple[EvalReport, Predictions]:
        return score_together(
            checkpoints,
            temperatures,
            pictures,
            self.compute,
            scoring=self.scoring,
            tta=self.config.tta,
            folder=folder,
            on_batch=self.on_batch,
        )

    def _finished(
        self,
        report: EvalReport,
        predictions: Predictions,
        pictures: Pictures,
        temperatures: Sequence[Temperature | None],
    ) -> EvalReport:
        """The report with what else was asked for, written to its folder."""
        if self.other is not None:
            report = replace(report, comparison=self._comparison(predictions, pictures, report))
            found = trained_on([self.other], pictures, self.config.workers)
            comparison = {**(report.comparison or {}), "trained_on": found.to_json()}
            report = replace(report, comparison=comparison)
            if note := other_has_seen(self.other, found):
                report = replace(report, notes=(*report.notes, note))
        report = self._judged(report, temperatures)
        assert report.folder is not None
        write_evaluation(report.folder, report, predictions, self.scoring.cost_matrix)
        return self._with_page(report)

    def _with_page(self, report: EvalReport) -> EvalReport:
        if not self.config.report:
            return report
        assert report.folder is not None
        made = make_page(report.folder)
        return replace(report, page=made.page, notes=(*report.notes, *made.notes))

    def _comparison(
        self, predictions: Predictions, pictures: Pictures, report: EvalReport
    ) -> dict[str, Any]:
        assert self.other is not None
        assert report.folder is not None
        return compare(
            predictions,
            self.other,
            pictures,
            report.class_names,
            self.compute,
            folder=report.folder,
            scoring=self.scoring,
            reading=self.config.reading,
            calibrated=self.config.calibrate != "none",
            on_batch=self.on_batch,
        )

    def _judged(self, report: EvalReport, temperatures: Sequence[Temperature | None]) -> EvalReport:
        """The report with its gates, and a word where its calibration is no proof."""
        notes = (*self.notes, *(n for n in report.notes if n not in self.notes))
        if any(t is not None and t.fitted_on == report.split for t in temperatures):
            note = f"the temperature was fitted on {report.split}: its calibration looks too good"
            notes = (*notes, note)
        return replace(
            report, notes=notes, gates=passed_gates(report.metrics, self.config.fail_under)
        )

    def _own(self, checkpoint: Checkpoint, split: str) -> Pictures:
        """A split of the checkpoint's run."""
        skip = self.config.on_bad_image == "skip"
        return run_pictures(checkpoint, split, self.config.reading, skip=skip)

    def _ready(self, pictures: Pictures, checkpoints: Sequence[Checkpoint]) -> Pictures:
        """Those to score, with what the checkpoints have seen of them."""
        return with_trained_on(
            checkpoints,
            self._readable(pictures),
            exclude=self.config.exclude_trained,
            workers=self.config.workers,
        )

    def _readable(self, pictures: Pictures) -> Pictures:
        """Without the pictures that cannot be read, where these are to be left out."""
        if self.config.on_bad_image == "error":
            return pictures
        return without_unreadable(pictures, self.config.workers)

    def _temperature(self, checkpoint: Checkpoint, folder: Path) -> Temperature | None:
        """What `--calibrate` asks for: fitted now on val, kept earlier, or none."""
        if self.config.calibrate == "none":
            return None
        if self.config.calibrate == "auto":
            return read_temperature(checkpoint)
        fitting = self._readable(self._own(checkpoint, "val"))
        prepared = prepare(checkpoint, fitting, self.compute, self.scoring)
        with temporary_scores(folder, len(fitting.indices)) as file:
            fitted = _fitted(prepared.predict(file, self.on_batch), fitting)
        found = Temperature(fitted.temperature, "val", len(fitting.indices), fitted.reason)
        self.results.keep(checkpoint, found)
        return found


def _fitted(seen: Predictions, pictures: Pictures) -> FittedTemperature:
    return fit_temperature(seen.logits, seen.labels, groups=pictures.groups)
