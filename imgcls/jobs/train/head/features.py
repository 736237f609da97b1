"""The features of a run's pictures: computed once, for all epochs and all folds."""

from __future__ import annotations

import hashlib
import json
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from imgcls.data.loading.bad_images import BadImage, BadImages, bad_image, nothing_left
from imgcls.data.loading.cache import reserve
from imgcls.data.loading.features import FeatureSet
from imgcls.data.loading.loader import EvalLoader
from imgcls.data.pixels.transforms import eval_transform, train_transform
from imgcls.engine.device.batches import Normalizer
from imgcls.engine.device.runtime import derive_seed, set_tf32, versions
from imgcls.engine.scoring.features_together import features_together
from imgcls.jobs.plan.plan import Plan
from imgcls.models.card import Preprocessing
from imgcls.models.head import ClassifierAlone
from imgcls.storage.caches import feature_file, feature_files, feature_folder
from imgcls.storage.durable import why_not_written, writing

_MOST_IN_MEMORY_BYTES = 2**30


class FeatureStore:
    """Computes features when they are first asked for, and keeps them.

    It covers every picture that some fold trains or validates with, in the table's order,
    whichever fold asks first: so folds share one pass, and a resumed run finds the same bits.
    Above 1 GiB they lie in a temporary file that is mapped into memory.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._held: tuple[str, FeatureSet] | None = None

    def of(
        self,
        alone: ClassifierAlone,
        preprocessing: Preprocessing,
        bad_images: BadImages,
        *,
        run: Path | None = None,
        on_batch: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> FeatureSet:
        """The features that this classifier's backbone gives. Raises ModelError, BadImageError.

        bad_images: what is done about pictures that cannot be read; told of them each time. run:
        where they are also kept until the run has ended, so that a stop or a kill loses none.
        on_batch is told (pictures done, pictures in all); what it raises ends the computing.
        """
        key = _backbone_key(alone)
        if self._held is None or self._held[0] != key:
            folder = None if run is None else self._folder(run, key, preprocessing)
            self._held = (key, self._compute(alone, preprocessing, folder, bad_images, on_batch))
        found = self._held[1]
        bad_images.meet(list(found.bad.values()))
        return found

    def _compute(
        self,
        alone: ClassifierAlone,
        preprocessing: Preprocessing,
        folder: Path | None,
        bad_images: BadImages,
        on_batch: Callable[[int, int], None],
    ) -> FeatureSet:
        plan, views = self._plan, self._plan.recipe.feature_views
        set_tf32(plan.compute.device, allowed=True)
        split = plan.data.assignment.split
        rows = np.flatnonzero((split == "train") | (split == "val"))
        trained = np.flatnonzero(split == "train")
        done, total = 0, len(rows) + (views - 1) * len(trained)
        values: np.ndarray | None = None
        missing: set[int] = set()
        for view in range(views):
            wanted = rows if view == 0 else trained
            lacking = set(wanted.tolist())
            for found_rows, found in self._view(
                alone, preprocessing, view, wanted, folder=folder, bad_images=bad_images
            ):
                lacking.difference_update(found_rows.tolist())
                if values is None:
                    values = _new_array((views, len(rows), found.shape[1]))
                values[view, np.searchsorted(rows, found_rows)] = found
                done += len(found)
                on_batch(done, total)
            missing |= lacking
        if values is None:
            raise nothing_left(bad_images.met, "the train and val splits")
        return FeatureSet(rows, values, self._bad(missing, bad_images))

    def _bad(self, rows: Iterable[int], bad_images: BadImages) -> dict[int, BadImage]:
        """The pictures of these rows, with the reason where this sitting met them."""
        table, met = self._plan.data.table, {image.key: image for image in bad_images.met}
        why = "could not be read when its features were computed"
        return {row: met.get(table.keys[row], bad_image(table, row, why)) for row in sorted(rows)}

    def _folder(self, run: Path, key: str, preprocessing: Preprocessing) -> Path | None:
        """Where in the run's folder these features are kept; None where they cannot be."""
        plan = self._plan
        made_by: dict[str, Any] = {
            "backbone": key,
            "pictures": plan.data.table.fingerprint(),
            "split": hashlib.sha256("/".join(plan.data.assignment.split).encode()).hexdigest(),
            "preprocessing": preprocessing.to_json(),
            "views": repr(plan.recipe.augment) if plan.recipe.feature_views > 1 else None,
            "seed": plan.config.runtime.seed,
            # what last bits hang on
            "batch_size": plan.pace.batch_size,
            "compute": repr(plan.compute),
            "versions": versions(),
        }
        text = json.dumps(made_by, sort_keys=True).encode()
        try:
            return feature_folder(run, hashlib.sha256(text).hexdigest())
        except OSError as error:
            _warn_not_kept(error)
            return None

    def _view(
        self,
        alone: ClassifierAlone,
        preprocessing: Preprocessing,
        view: int,
        wanted: np.ndarray,
        *,
        folder: Path | None,
        bad_images: BadImages,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(rows, features) of each batch: those kept by earlier sittings, then the others.

        The files in the folder may cover any whole batches of the view, whoever wrote them.
        """
        plan, size = self._plan, self._plan.pace.batch_size
        lacks = np.ones(len(wanted), dtype=bool)
        for begin, kept in [] if folder is None else feature_files(folder, view):
            for rows, features in kept.read():
                end = int(np.searchsorted(wanted, rows[-1])) + 1
                # whole batches, as in one sitting; pictures that are not there could not be read
                lacks[begin : -(-end // size) * size] = False
                yield rows, features
        left = wanted[lacks]
        if not len(left):
            return
        file = None if folder is None else feature_file(folder, view, int(np.argmax(lacks)))
        loader = EvalLoader(
            plan.data.table,
            left,
            eval_transform(preprocessing)
            if view == 0
            else train_transform(preprocessing, plan.recipe.augment),
            batch_size=size,
            workers=plan.loading.workers,
            device_type=plan.compute.device.type,
            seed=None if view == 0 else derive_seed(plan.config.runtime.seed, "view", view),
            bad_images=bad_images,
            # of more than a batch none to be read means that a disk or a mount has gone
            is_rest=len(left) < len(wanted) and len(left) <= size,
        )
        normalizer = Normalizer(preprocessing.mean, preprocessing.std, plan.compute)
        remaining = iter(left.tolist())
        for names, features in features_together(alone, loader, normalizer, plan.compute):
            # in order, without those that could not be read
            keys = plan.data.table.keys
            rows = np.array([next(r for r in remaining if keys[r] == key) for key in names])
            if file is not None:
                try:
                    file.append(rows, features)
                except OSError as error:
                    _warn_not_kept(error)
                    file = None
            yield rows, features


def _warn_not_kept(error: OSError) -> None:
    warnings.warn(
        f"computed features are not kept ({why_not_written(error)}): a run that is stopped before "
        "its first epoch computes them again",
        NotKeptWarning,
        stacklevel=2,
    )


class NotKeptWarning(UserWarning):
    """What was computed is lost if the run is stopped now."""


def _new_array(shape: tuple[int, int, int]) -> np.ndarray:
    size_bytes = int(np.prod(shape)) * 4
    if size_bytes <= _MOST_IN_MEMORY_BYTES:
        return np.zeros(shape, dtype=np.float32)
    place = Path(tempfile.gettempdir())
    with (
        writing(place, f"features take {size_bytes / 2**30:.1f} GiB; TMPDIR names another folder"),
        tempfile.TemporaryFile(prefix="imgcls-features-") as file,
    ):
        reserve(file, size_bytes)
        return np.memmap(file, np.float32, "r+", shape=shape)


def _backbone_key(alone: ClassifierAlone) -> str:
    own = {id(tensor) for tensor in alone.state_dict(keep_vars=True).values()}
    digest = hashlib.sha256()
    for name, tensor in alone.whole.state_dict(keep_vars=True).items():
        if id(tensor) not in own:
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
