"""Run folders: naming, finding, telling whether they are finished. Loads no torch.

outputs/<run>/
  config.yaml  splits.csv  preflight.json  summary.json
  fold_0/  history.csv  checkpoints/  test_results/
"""

from __future__ import annotations

import re
import time
from pathlib import Path

from imgcls.config.load import load_config
from imgcls.config.run import TrainConfig
from imgcls.engine.pointers import best_of, facts_of, last_of
from imgcls.errors import RunError

CONFIG, SPLITS, SUMMARY = "config.yaml", "splits.csv", "summary.json"
PREFLIGHT = "preflight.json"


def create_run_folder(output: Path, experiment: str | None, data: str, model: str) -> Path:
    """A new, empty folder for a run; a name that is taken gets a number behind it.

    Raises RunError when the folder cannot be made.
    """
    name = experiment or f"{plain_name(data)}-{plain_name(model)}-{time.strftime('%Y%m%d-%H%M%S')}"
    number = 1
    while True:
        run = output / (name if number == 1 else f"{name}-{number}")
        try:
            run.mkdir(parents=True)
        except FileExistsError:
            number += 1
        except OSError as error:
            raise RunError(
                f"--output {output}: cannot make a folder for the run ({error.strerror})"
            ) from error
        else:
            return run


def fold_folder(run: Path, fold: int) -> Path:
    """Where one fold's files lie."""
    return run / f"fold_{fold}"


def planned_folds(config: TrainConfig) -> tuple[int, ...]:
    """The folds that a run trains: one without k-fold, else the one chosen or all."""
    if config.data.fold == "all":
        return tuple(range(max(config.data.folds, 1)))
    return (config.data.fold,)


def read_run_config(run: Path) -> TrainConfig:
    """The run's resolved config. Raises RunError when the folder is no run."""
    if not (run / CONFIG).is_file():
        raise RunError(f"{run}: not a run, it has no {CONFIG}")
    return load_config(TrainConfig, run / CONFIG)


def runs_newest_first(output: Path) -> list[Path]:
    """The runs in an output folder by the time they began, newest first."""
    configs = [path for path in output.glob(f"*/{CONFIG}") if path.is_file()]
    return [c.parent for c in sorted(configs, key=lambda c: (c.stat().st_mtime_ns, str(c)))[::-1]]


def newest_run_with_checkpoint(output: Path) -> Path:
    """The newest run that has a best checkpoint. Raises RunError when there is none."""
    for run in runs_newest_first(output):
        if any(best_of(fold / "checkpoints") for fold in run.glob("fold_*")):
            return run
    raise RunError(f"{output}: no trained run in it; train one with `imgcls train`")


def find_resumable(run: Path | None, output: Path, *, extend: bool) -> Path | None:
    """The run to go on with: the one named, or the newest unfinished one.

    extend: a finished run is one to go on with too. None when nothing is left to do. Raises
    RunError when the named folder is no run.
    """
    if run is None:
        runs = runs_newest_first(output)
        return next((r for r in runs if extend or not is_finished(r)), None)
    if not run.is_dir():
        raise RunError(f"{run}: no such folder")
    # a fold or checkpoint folder stands for the run it lies in
    run = next((p for p in (run, *run.absolute().parents) if (p / CONFIG).is_file()), run)
    read_run_config(run)
    return run if extend or not is_finished(run) else None


def is_finished(run: Path) -> bool:
    """True when every planned fold's last checkpoint says that it was the end."""
    try:
        folds = planned_folds(read_run_config(run))
    except Exception:  # noqa: BLE001  a config that cannot be read is not one to resume
        return True
    return all(fold_is_finished(fold_folder(run, fold)) for fold in folds)


def fold_is_finished(folder: Path) -> bool:
    """True when the fold's last checkpoint says that it was the end."""
    last = last_of(folder / "checkpoints")
    return last is not None and (facts_of(last) or {}).get("finished") is True


def run_of(checkpoint: Path) -> Path | None:
    """The run that a checkpoint folder lies in, or None for one that was copied elsewhere."""
    candidates = checkpoint.absolute().parents[:4]
    return next((path for path in candidates if (path / SPLITS).is_file()), None)


def plain_name(text: str) -> str:
    """The text as part of a folder's name."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-.") or "data"
