"""Run folders: naming, finding, telling whether they are finished. Loads no torch.

outputs/<run>/
  run.json                                 when it began, and why its last sitting failed
  config.yaml  splits.csv  preflight.json  bad_images.csv  summary.json
  model_choice.json                        what `--model auto` chose from, and by what
  imported.json                            the file of another trainer that it came from
  fold_0/  history.csv  checkpoints/  test_results/
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from imgcls.config.files import read_json
from imgcls.config.load import load_config
from imgcls.config.run import TrainConfig
from imgcls.errors import CheckpointError, ImgclsError, RunError
from imgcls.results.checkpoint import Sidecar
from imgcls.storage.durable import (
    TEMPORARY_PREFIX,
    publish_folder,
    strict_json,
    why_not_written,
    write_text,
)
from imgcls.storage.pointers import (
    CHECKPOINTS,
    find_checkpoint,
    last_of,
    newest_first,
    sidecar_of_last,
)
from imgcls.storage.tracked import is_tracked_to_the_end

CONFIG, SPLITS, SUMMARY = "config.yaml", "splits.csv", "summary.json"
PREFLIGHT, RUN, IMPORTED = "preflight.json", "run.json", "imported.json"
MODEL_CHOICE, ENSEMBLE = "model_choice.json", "ensemble.yaml"
_FORMING = f"{TEMPORARY_PREFIX}run-"
_LEFTOVER_S = 24 * 3600
# run/fold_0/checkpoints/step-1; further up may lie a config.yaml that is no run's
_DEEPEST = 3
# bytes; a name may have 255, with a model, a time and a prefix in it
_LONGEST_PART = 100


def create_run_folder(
    output: Path, experiment: str | None, data: str, model: str, fill: Callable[[Path], None]
) -> Path:
    """A new run folder with what `fill` writes into the folder that it is given.

    It appears whole or not at all; a name that is taken gets a number behind it. Raises RunError
    when it cannot be made.
    """
    try:
        str(output.absolute()).encode()
    except UnicodeEncodeError:
        raise RunError(
            f"--output {output}: its name is not UTF-8, which safetensors cannot read from; name "
            "another folder"
        ) from None
    name = experiment or f"{plain_name(data)}-{plain_name(model)}-{time.strftime('%Y%m%d-%H%M%S')}"
    forming = output / f"{_FORMING}{time.time_ns()}-{os.getpid()}"
    try:
        try:
            forming.mkdir(parents=True)
            _remove_leftovers(output)
            fill(forming)
            began = datetime.now(timezone.utc).isoformat()
            write_text(forming / RUN, strict_json({"began": began}, indent=2) + "\n")
            return _named(forming, output, name)
        except BaseException:
            shutil.rmtree(forming, ignore_errors=True)
            raise
    except OSError as error:
        raise RunError(
            f"--output {output}: cannot make a folder for the run: {why_not_written(error)}"
        ) from error


def _named(forming: Path, output: Path, name: str) -> Path:
    number = 1
    while True:
        run = output / (name if number == 1 else f"{name}-{number}")
        run.parent.mkdir(parents=True, exist_ok=True)
        try:
            # moving onto an empty folder would succeed
            if not os.path.lexists(run):
                publish_folder(forming, run)
                return run
        except OSError:
            if not os.path.lexists(run):
                raise
        number += 1


def _remove_leftovers(output: Path) -> None:
    for path in leftover_runs(output):
        with contextlib.suppress(OSError):
            shutil.rmtree(path)


def leftover_runs(output: Path) -> list[Path]:
    """What commands left in an output folder that were killed long ago while they began a run."""
    found = []
    for path in output.glob(f"{_FORMING}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _LEFTOVER_S:
                found.append(path)
    return found


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
    if (run / ENSEMBLE).is_file():
        raise RunError(f"{run}: is an ensemble of several runs; name one of the folders in it")
    if not (run / CONFIG).is_file():
        begun = "; it was stopped before it began, train again" if (run / SPLITS).is_file() else ""
        raise RunError(f"{run}: not a run, it has no {CONFIG}{begun or _if_checkpoint(run)}")
    return load_config(TrainConfig, run / CONFIG)


def _if_checkpoint(path: Path) -> str:
    """A hint for a checkpoint or fold that lies in no run; "" for others."""
    try:
        weights = shlex.quote(str(find_checkpoint(path)))
    except CheckpointError:
        return ""
    return (
        "; a checkpoint outside its run can be evaluated, and another training starts from it with "
        f"`imgcls train DATA --weights {weights}`"
    )


def runs_newest_first(output: Path) -> list[Path]:
    """The runs in an output folder by the time they began, newest first."""
    runs = [
        path.parent
        for path in output.glob(f"*/{CONFIG}")
        if path.is_file() and not path.parent.name.startswith(TEMPORARY_PREFIX)
    ]
    return sorted(runs, key=lambda run: (began_s(run), str(run)), reverse=True)


def began_s(run: Path) -> float:
    """When the run began, in seconds since 1970."""
    try:
        began = read_json(run / RUN)["began"]
        return datetime.fromisoformat(began).timestamp()
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        # a run of an earlier version: its splits are written once, its config by every resume
        file = run / SPLITS
        return (file if file.is_file() else run / CONFIG).stat().st_mtime


def note_failure(run: Path, reason: str | None) -> None:
    """Keep with the run why its training failed; None: it has begun again. Never raises for that.

    What is no note of ours is left alone.
    """
    with contextlib.suppress(OSError, ValueError, TypeError):
        note = dict(read_json(run / RUN)) if (run / RUN).exists() else {}
        if note.get("failed") != reason:
            kept = {name: value for name, value in note.items() if name != "failed"}
            more = {} if reason is None else {"failed": reason}
            write_text(run / RUN, strict_json({**kept, **more}, indent=2) + "\n")


def is_finished(run: Path) -> bool:
    """True when all planned folds are at their end, summed up and logged; see `read_run_config`."""
    folds = planned_folds(read_run_config(run))
    if len(folds) > 1 and not (run / SUMMARY).is_file():
        return False
    folders = [fold_folder(run, fold) for fold in folds]
    return all(fold_is_finished(folder) and is_tracked_to_the_end(folder) for folder in folders)


def how_far(path: Path, fold: int | None = None) -> str | None:
    """How far an unfinished run, or one fold of it, has come; None when finished, or for no run.

    "run outputs/r is unfinished: epoch 3 of 10", or with folds that are still to come.
    """
    run = next((p for p in (path, path.parent) if (p / CONFIG).is_file()), None)
    try:
        config = None if run is None else read_run_config(run)
    except ImgclsError:  # one that cannot be read is told by whoever needs it
        config = None
    if config is None:
        return None
    numbers = planned_folds(config) if fold is None else (fold,)
    folders = [path] if path != run else [fold_folder(run, number) for number in numbers]
    places = []
    for folder in folders:
        if not fold_is_finished(folder):
            last = last_of(folder / CHECKPOINTS)
            sidecar = sidecar_of_last(folder / CHECKPOINTS)
            epoch = (sidecar and sidecar.epoch) or 0
            which = f"{folder.name.replace('_', ' ')} at " if len(folders) > 1 else ""
            cut = next(iter(newest_first(folder / CHECKPOINTS)), last)
            lost = (
                f" (a newer checkpoint, {cut.name}, is incomplete)" if cut and cut != last else ""
            )
            places.append(f"{which}epoch {epoch} of {config.optim.epochs}{lost}")
    return f"run {run} is unfinished: {', '.join(places)}" if places else None


def fold_is_finished(folder: Path) -> bool:
    """True when the fold's last checkpoint says that it was the end."""
    sidecar = sidecar_of_last(folder / CHECKPOINTS)
    return sidecar is not None and sidecar.finished is True


def run_around(path: Path) -> Path | None:
    """The run that a path means, which may be a fold or a checkpoint in it; None for no run."""
    places = (path, *path.absolute().parents[:_DEEPEST])
    return next((place for place in places if (place / CONFIG).is_file()), None)


def sidecar_of_run(run: Path) -> Sidecar | None:
    """What the newest checkpoint of the run's first fold that has one says of itself."""
    folders = (fold / CHECKPOINTS for fold in fold_folders(run))
    return next(filter(None, map(sidecar_of_last, folders)), None)


def fold_folders(run: Path) -> list[Path]:
    """The folders of the folds that a run has begun, in their order."""
    return sorted(run.glob("fold_*"), key=lambda path: (len(path.name), path.name))


def run_of(checkpoint: Path) -> Path | None:
    """The run that a checkpoint folder lies in, or None for one that was copied elsewhere."""
    candidates = checkpoint.absolute().parents[:4]
    return next((path for path in candidates if (path / SPLITS).is_file()), None)


def results_folder(checkpoint: Path) -> Path:
    """Where the evaluations of a checkpoint lie, unless `--results-dir` says otherwise."""
    parent = checkpoint.parent
    return (parent.parent if parent.name == CHECKPOINTS else parent) / "test_results"


def read_model_choice(run: Path) -> dict[str, Any] | None:
    """What `--model auto` found for the run; None where its model was named, or not to be read."""
    try:
        return dict(read_json(run / MODEL_CHOICE))
    except (OSError, ValueError, TypeError):
        return None


def splits_were_given(run: Path) -> bool:
    """False for an imported run whose data had no splits, so that nobody knows those of before."""
    try:
        return bool(read_json(run / IMPORTED)["splits"] == "given")
    except FileNotFoundError:
        return True
    except (OSError, ValueError, KeyError, TypeError):
        return False


def plain_name(text: str) -> str:
    """The text as part of a folder's name, no longer than file systems allow beside others."""
    plain = re.sub(r"[^\w.-]+", "-", text).encode()[:_LONGEST_PART].decode(errors="ignore")
    return plain.strip("-.") or "data"
