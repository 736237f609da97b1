"""The database that a study lives in, opened beside other processes that open it too."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Literal

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial
from sqlalchemy.exc import SQLAlchemyError

from imgcls.config.tune import without_password
from imgcls.errors import RunError

# what a database raises once it is open
DATABASE_ERRORS = (SQLAlchemyError, StorageInternalError)
_HEARTBEAT_S, _GRACE_S = 60, 300
# how long sqlite waits for another writer
_LOCKED_S = 20
# two processes that make the tables at the same time get into each other's way: try again
_PAUSES_S = (0.1, 0.3, 0.6, 1.0)

Direction = Literal["minimize", "maximize"]
OnDead = Callable[[optuna.Study, FrozenTrial], None]


def open_study(
    url: str,
    name: str,
    direction: Direction,
    sampler: BaseSampler,
    pruner: optuna.pruners.BasePruner,
    *,
    on_dead: OnDead,
) -> optuna.Study:
    """The study of that name, made where it is not there yet.

    on_dead: what to do with a trial whose process has not been heard of for too long. Raises
    RunError when the database cannot be used, is locked, or its driver is missing.
    """
    pauses_s, shown = list(_PAUSES_S), without_password(url)
    while True:
        try:
            return optuna.create_study(
                storage=_storage(url, on_dead),
                study_name=name,
                direction=direction,
                sampler=sampler,
                pruner=pruner,
                load_if_exists=True,
            )
        except (*DATABASE_ERRORS, RuntimeError) as error:
            reason = " ".join(str(error.__cause__ or error).split())[:200]
            reason = reason.replace(url, shown)
            if "database is locked" in reason:  # for as long as was waited already
                raise RunError(
                    f"--storage {shown}: another process has held it locked for {_LOCKED_S} s; end "
                    "that one, or give another --storage"
                ) from error
            if not pauses_s:
                raise RunError(f"--storage {shown}: cannot be used: {reason}") from error
        time.sleep(pauses_s.pop(0))


def _storage(url: str, on_dead: OnDead) -> optuna.storages.RDBStorage:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return optuna.storages.RDBStorage(
                url,
                # sqlite waits for the other writers instead of giving up
                {"connect_args": {"timeout": _LOCKED_S}} if url.startswith("sqlite") else None,
                heartbeat_interval=_HEARTBEAT_S,
                grace_period=_GRACE_S,
                heartbeat_stale_trial_callback=on_dead,
            )
    except ImportError as error:
        raise RunError(
            f"--storage {without_password(url)}: its driver is missing ({error.__cause__})"
        ) from error
