"""Folders of runs that are trained to be averaged: of several models, or folds of one.

Loads no torch.

outputs/<ensemble>/
  run.json              when it began
  ensemble.yaml         the config that trains the same models again
  model_choice.json     what `--model auto` chose them from, and by what
  <model>/ ...          a run for each model, as any other
  test_results/         of their average
  summary.json          written when all are trained and their average is evaluated
"""

from __future__ import annotations

from pathlib import Path

from imgcls.config.load import load_config
from imgcls.config.model import AUTO
from imgcls.config.run import TrainConfig
from imgcls.errors import RunError
from imgcls.storage.pointers import CHECKPOINTS, best_of
from imgcls.storage.runs import (
    CONFIG,
    ENSEMBLE,
    SUMMARY,
    began_s,
    fold_folders,
    how_far,
    is_finished,
    plain_name,
    runs_newest_first,
)


def is_ensemble(path: Path) -> bool:
    """True for a folder of several models' runs."""
    return (path / ENSEMBLE).is_file()


def read_ensemble_config(ensemble: Path) -> TrainConfig:
    """The config that trains the ensemble again. Raises ConfigError."""
    return load_config(TrainConfig, ensemble / ENSEMBLE)


def member_runs(ensemble: Path) -> list[Path]:
    """The runs of an ensemble, in their order. Raises ConfigError, RunError for a damaged one."""
    model = read_ensemble_config(ensemble).model
    names = (model.candidates or ()) if model.name == AUTO else (model.name,)
    runs = [ensemble / plain_name(name) for name in names]
    lost = next((run for run in runs if not (run / CONFIG).is_file()), None)
    if lost is not None:
        raise RunError(f"{ensemble}: is damaged, {lost.name} is no run in it any more")
    return runs


def ensemble_of(run: Path) -> Path | None:
    """The ensemble that a run is a part of."""
    place = run.absolute().parent
    if not is_ensemble(place):
        return None
    return place if run.name in {one.name for one in member_runs(place)} else None


def trained_members(ensemble: Path, option: str) -> list[Path]:
    """The best checkpoints of all its runs' folds. Raises RunError where some have none yet."""
    found = []
    for run in member_runs(ensemble):
        best = [path for fold in fold_folders(run) if (path := best_of(fold / CHECKPOINTS))]
        if not best:
            raise RunError(
                f"{option}: {run.name} in {ensemble} is not trained yet; go on with: imgcls "
                f"resume {ensemble}"
            )
        found += best
    return found


def is_whole(ensemble: Path) -> bool:
    """True when all its runs are at their end, and their average was summed up."""
    return (ensemble / SUMMARY).is_file() and all(map(is_finished, member_runs(ensemble)))


def how_far_it_is(path: Path, fold: int | None = None) -> str | None:
    """How far an unfinished run or ensemble has come, as `how_far`."""
    if not is_ensemble(path):
        return how_far(path, fold)
    return next(filter(None, map(how_far, member_runs(path))), None)


def newest_first(output: Path) -> list[Path]:
    """The runs and ensembles in an output folder by the time they began, newest first."""
    ensembles = [path.parent for path in output.glob(f"[!.]*/{ENSEMBLE}") if path.is_file()]
    found = [*runs_newest_first(output), *ensembles]
    return sorted(found, key=lambda run: (began_s(run), str(run)), reverse=True)


def newest_with_checkpoint(output: Path) -> Path:
    """The newest run or ensemble that can be scored with. Raises RunError when there is none."""
    for path in newest_first(output):
        runs = member_runs(path) if is_ensemble(path) else [path]
        if all(any(best_of(fold / CHECKPOINTS) for fold in fold_folders(run)) for run in runs):
            return path
    raise RunError(f"{output}: no trained run in it; train one with `imgcls train`")
