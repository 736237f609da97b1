"""The run that a path or a name in the list means."""

from __future__ import annotations

from pathlib import Path

from imgcls.errors import RunError
from imgcls.storage.ensembles import is_ensemble, member_runs
from imgcls.storage.runs import CONFIG, run_around, runs_newest_first


def find_run(run: Path | None, output: Path) -> Path:
    """The run's folder: the one named, by its path or its name below `output`, or the newest.

    A fold or checkpoint stands for the run it lies in. Raises RunError when there is none.
    """
    if run is None:
        newest = next(iter(runs_newest_first(output)), None)
        if newest is None:
            raise RunError(f"{output}: no run in it; `imgcls train` makes one")
        return newest
    for place in (run, output / run):
        if is_ensemble(place):
            runs = ", ".join(str(one) for one in member_runs(place))
            raise RunError(f"{place}: is an ensemble of several runs; name one: {runs}")
        if place.exists() and (found := run_around(place)) is not None:
            return found
    if run.exists() or (output / run).exists():
        raise RunError(f"{run}: is no run, it has no {CONFIG}")
    raise RunError(f"{run}: no such run, neither here nor in {output}; see `imgcls runs`")
