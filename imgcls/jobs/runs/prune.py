"""Remove what nothing needs: old checkpoints, caches, and what killed commands left.

A run that is trained or evaluated just now is left alone: the run is locked while something of it
is removed, and what may go is found out again then. Each folder gets another name first, so that a
half-removed one is never taken for a whole one.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from imgcls.config.runs import RunsPruneConfig
from imgcls.errors import ImgclsError, RunError
from imgcls.jobs.runs.finding import find_run
from imgcls.jobs.runs.listing import candidates
from imgcls.jobs.runs.needed import Checks, unneeded
from imgcls.jobs.runs.reading import contents_of
from imgcls.results.run_details import PruneReport, Removable
from imgcls.storage.caches import FEATURES, PICTURES, evict
from imgcls.storage.commit import beside, lock_of, settle
from imgcls.storage.durable import TEMPORARY_PREFIX, remove_folder, why_not_written
from imgcls.storage.evaluations import is_evaluation_file
from imgcls.storage.kept_files import REMOTE, SHARDS, cache_folder
from imgcls.storage.lock import is_held, is_in_use, lock_run, take_lock
from imgcls.storage.pointers import CHECKPOINTS, restore_pointers, set_aside
from imgcls.storage.runs import fold_folders, is_finished, leftover_runs

_EVALUATED = "is being evaluated, and left alone"
_STAGED = re.compile(rf"{re.escape(TEMPORARY_PREFIX)}(.+)\.(?:new|old-removed)")


@dataclass
class Pruning:
    """What of some runs, and of the user's cache folder, can go.

    left_alone: why something was not looked at, or could not be removed.
    """

    items: list[Removable] = field(default_factory=list)
    left_alone: list[str] = field(default_factory=list)
    failed: bool = False
    _runs: dict[str, Path] = field(default_factory=dict)
    _checks: Checks = field(default_factory=Checks)

    @classmethod
    def of(cls, config: RunsPruneConfig) -> Pruning:
        """What can go of what the config names. Raises RunError for a name that is no run's."""
        found = cls()
        if config.runs:
            found._runs = {str(run): find_run(run, config.output) for run in config.runs}
        elif config.output.is_dir():
            names = candidates(str(config.output), [])
            found._runs = {name: config.output / name for name, _ in names}
            studies = {run.parent for run in found._runs.values()} | {config.output}
            leftovers = [path for study in sorted(studies) for path in leftover_runs(study)]
            found.items += [_item("leftover", path) for path in leftovers]
        for name, run in found._runs.items():
            if why := _in_use(run):
                found.left_alone.append(f"{name}: {why}")
            else:
                found.items += found._of_run(name, run)
        if not config.runs:
            found.items += _of_cache()
        return found

    def remove(self) -> None:
        """Remove the items that can still go; `items` then are those that have gone."""
        gone = []
        for item in self.items:
            if item.run is None:
                gone += self._try(item)
        for name, run in self._runs.items():
            wanted = {item.path for item in self.items if item.run == name}
            if not wanted:
                continue
            try:
                with lock_run(run):
                    if _being_evaluated(run):
                        raise RunError(f"{name}: {_EVALUATED}")
                    now = [item for item in self._of_run(name, run) if item.path in wanted]
                    for fold in fold_folders(run):
                        restore_pointers(fold / CHECKPOINTS)
                    gone += [done for item in now for done in self._try(item)]
            except (ImgclsError, OSError) as error:
                self._say(name, error)
        self.items = gone

    def report(self, *, removed: bool) -> PruneReport:
        """What can go, or has gone."""
        size = sum(item.size_bytes for item in self.items)
        return PruneReport(tuple(self.items), size, removed, tuple(self.left_alone))

    def _of_run(self, name: str, run: Path) -> Iterator[Removable]:
        for fold in fold_folders(run):
            folder = fold / CHECKPOINTS
            for path in unneeded(folder, self._checks):
                yield _item("checkpoint", path, name)
            for path in (*set_aside(folder), *sorted(folder.glob(f"{TEMPORARY_PREFIX}*"))):
                yield _item("leftover", path, name)
        for place in (run, *fold_folders(run)):
            for path in sorted(place.glob(f"{TEMPORARY_PREFIX}*")):
                yield _item("leftover", path, name)
            for path in sorted(place.glob(f"test_results/{TEMPORARY_PREFIX}*")):
                if _of_evaluation(path) is not None:
                    yield _item("leftover", path, name)
        # an unfinished run goes on with its features
        if (run / FEATURES).is_dir() and _is_finished(run):
            yield _item("cache", run / FEATURES, name)

    def _try(self, item: Removable) -> list[Removable]:
        """The item where it has gone; else why it has not is noted."""
        try:
            _remove(item)
        except (ImgclsError, OSError) as error:
            self._say(str(item.path), error)
            return []
        return [item]

    def _say(self, what: str, error: Exception) -> None:
        if isinstance(error, OSError):
            self.failed = True
            self.left_alone.append(f"{what}: cannot be removed: {why_not_written(error)}")
        else:
            self.left_alone.append(str(error))


def _in_use(run: Path) -> str | None:
    """Why nothing of a run is removed now."""
    if is_in_use(run):
        return "is being trained, and left alone"
    return _EVALUATED if _being_evaluated(run) else None


def _being_evaluated(run: Path) -> bool:
    places = (run, *fold_folders(run))
    return any(is_held(lock) for place in places for lock in place.glob("test_results/.*.lock"))


def _of_cache() -> Iterator[Removable]:
    folder = cache_folder() / PICTURES
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        yield _item("leftover" if path.name.startswith(TEMPORARY_PREFIX) else "cache", path)
    for kept in (cache_folder() / name for name in (SHARDS, REMOTE)):
        if kept.is_dir():
            yield _item("cache", kept)


def _of_evaluation(path: Path) -> Path | None:
    """The results folder that a killed evaluation staged this for; None for what it decided on."""
    match = _STAGED.fullmatch(path.name)
    if match is None:
        return None
    final = path.with_name(match[1])
    return None if beside(final, "commit").exists() else final


def _is_finished(run: Path) -> bool:
    try:
        return is_finished(run)
    except (ImgclsError, OSError):
        return False


def _item(kind: str, path: Path, run: str | None = None) -> Removable:
    if path.is_dir() and not path.is_symlink():
        size = contents_of(str(path)).size_bytes
    else:
        size = path.lstat().st_size
    return Removable(kind, path, size, run)  # type: ignore[arg-type]


def _remove(item: Removable) -> None:
    """Raises OSError, and RunError for what is in use."""
    path = item.path
    if item.run is None and item.kind == "cache":
        if not evict(path):
            raise RunError(f"{path}: is in use, and left alone")
    elif path.parent.name == "test_results" and (final := _of_evaluation(path)) is not None:
        lock = take_lock(lock_of(final), final)
        try:
            settle(final, is_evaluation_file)
            shutil.rmtree(path, ignore_errors=True)
        finally:
            lock.release()
    elif path.is_symlink() or path.is_file():
        path.unlink()
    elif path.name.startswith(TEMPORARY_PREFIX):
        shutil.rmtree(path)
    else:
        remove_folder(path)
