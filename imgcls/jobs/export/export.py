"""`imgcls export`: one model as files for other programs, each proven before it appears."""

from __future__ import annotations

import contextlib
import importlib.util
import shlex
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from imgcls.config.export import ExportConfig
from imgcls.config.files import sha256_of
from imgcls.engine.checkpoint.folder import Checkpoint, read_checkpoint
from imgcls.engine.scoring.backends import quiet
from imgcls.errors import (
    ConfigError,
    DataError,
    ExportError,
    ImgclsError,
    OutputError,
    RunError,
    reason_of,
)
from imgcls.jobs.checkpoint_config import decoding_of
from imgcls.jobs.evaluate.pictures import run_pictures
from imgcls.jobs.export.description import deep_pictures
from imgcls.jobs.export.places import (
    DOCUMENT,
    FORMAT,
    WITHOUT_PROFILE,
    find_places,
    is_ours,
    require_free,
)
from imgcls.jobs.export.subject import open_subject
from imgcls.jobs.export.targets import TARGETS
from imgcls.jobs.export.work import OnProgress, Work
from imgcls.jobs.plan.tables import require_outside
from imgcls.results.export import ExportedModel, ExportReport
from imgcls.storage.commit import files_in
from imgcls.storage.durable import READ_ONLY, TEMPORARY_PREFIX, sync_file, why_not_written, writing
from imgcls.storage.runs import how_far
from imgcls.storage.staging import StagedFolders
from imgcls.storage.tables import write_json

# what a disk that is not full takes
_PROBE_BYTES = 2**20


def export(
    config: ExportConfig,
    on_progress: OnProgress = lambda _done, _total: None,
    say: Callable[[str], None] = lambda _line: None,
) -> ExportReport:
    """Write the model in each format, and prove each.

    All folders take their names together at the end. say: gets what is done. on_progress: gets the
    pictures done, and in all, of each proof. Raises ConfigError, CheckpointError or RunError before
    anything is made; ExportError for a format that cannot be made or does not answer as the
    checkpoint does, and OutputError, and then nothing has changed.
    """
    require_installed(config.format)
    places = find_places(config)
    unfinished = how_far(places.path)
    checkpoint = read_checkpoint(places.checkpoint)
    data = (checkpoint.sidecar.config or {}).get("data", {}).get("source", "")
    require_outside(data, places.output, "--output")
    work = Work(open_subject(checkpoint, config.profile), on_progress, config.max_drop)
    notes = [f"{unfinished}; its best so far is exported"] if unfinished else []
    exports = []
    with StagedFolders(is_ours) as staged:
        for name, final in places.folders.items():
            folder = _staged(staged, final, force=config.force)
            say(f"{name}: {final / TARGETS[name].file}")
            exports.append(_exported(name, work, folder, final))
        with writing(places.output):
            left = staged.commit()
    if left is not None:
        notes.append(
            f"the exports are whole, but earlier files could not be cleared away ({left.strerror}: "
            f"{left.filename}); the next export does that"
        )
    if deep := deep_pictures(decoding_of(checkpoint)):
        notes.append(f"{deep[0].lower()}{deep[1:]}")
    if "hf" in config.format and checkpoint.sidecar.config and work.subject.test_scores is None:
        notes.append(_without_test_scores(checkpoint, places.path))
    stand_ins = {getattr(one.proof, "stand_in", None) for one in exports} - {None}
    return ExportReport(
        checkpoint=checkpoint.folder,
        model_name=checkpoint.model_name,
        class_names=checkpoint.class_names,
        output=places.output,
        exports=tuple(exports),
        notes=(*notes, *(f"compared on the embedded digits: {why}" for why in stand_ins)),
    )


def _without_test_scores(checkpoint: Checkpoint, path: Path) -> str:
    """Why the card of hf has no test scores, and what to do where anything can be done."""
    lacking = "the card of hf has no numbers of a test split"
    try:
        run_pictures(checkpoint, "test", skip=True)
    except (DataError, RunError) as error:
        return f"{lacking}, and none can be had: {str(error).partition('; ')[0]}"
    return (
        f"{lacking}; for these, with intervals, first run: imgcls evaluate "
        f"{shlex.quote(str(path))}, then export again with --force"
    )


def require_installed(formats: Iterable[str]) -> None:
    """Raise ConfigError for a format whose packages are missing, naming the extra."""
    for name in formats:
        target = TARGETS[name]
        if missing := [one for one in target.modules if importlib.util.find_spec(one) is None]:
            raise ConfigError(
                f'--format {name}: {missing[0]} is not installed; pip install "imgcls['
                f'{target.extra}]"'
            )


def _staged(staged: StagedFolders, final: Path, *, force: bool) -> Path:
    """A new folder that becomes `final`. Raises ConfigError where it may not."""
    try:
        folder = staged.stage(final)
    except OSError as error:
        why = why_not_written(error)
        if error.errno not in READ_ONLY:
            raise OutputError(f"{final}: cannot be made: {why}") from error
        raise ConfigError(
            f"{final}: cannot be written: {why}; name another folder with --output"
        ) from error
    # another process may have put one there since this one looked
    require_free(final, force=force)
    return folder


def _exported(name: str, work: Work, folder: Path, final: Path) -> ExportedModel:
    """The files of one format in a new folder, proven, for their place."""
    target = TARGETS[name]
    profile = None if name in WITHOUT_PROFILE else work.subject.profile
    head = {"format": FORMAT, "format_version": 1, "exported_as": name, "profile": profile}
    metadata = {**head, **target.about(work), **work.subject.metadata(profile, target.modules)}
    with _making(name, folder, final):
        target.write(work, folder / target.file, metadata)
    proof = target.prove(work, folder / target.file)
    with writing(final):
        files = {
            file.relative_to(folder).as_posix(): {
                "bytes": file.stat().st_size,
                "sha256": sha256_of(file),
            }
            for file in files_in(folder)
        }
        # last: without it the folder is no export
        write_json(folder / DOCUMENT, {**metadata, "files": files, "proof": proof})
        mode = (folder / DOCUMENT).stat().st_mode
        for file in files_in(folder):
            # safetensors lets nobody else read what it writes
            file.chmod(mode)
            sync_file(file)
    return ExportedModel(name, profile, final / target.file, final, files, proof, metadata)


@contextlib.contextmanager
def _making(name: str, folder: Path, final: Path) -> Iterator[None]:
    """Raise what an exporter raises in the block as OutputError or ExportError."""
    try:
        with quiet():
            yield
    except (ImgclsError, MemoryError):
        raise
    except Exception as error:
        # every exporter raises errors of its own, whatever the system said
        _require_room(error, folder, final)
        reason = reason_of(error)
        raise ExportError(f"--format {name}: cannot take this model ({reason})") from error


def _require_room(error: Exception, folder: Path, final: Path) -> None:
    """Raise OutputError where the disk takes no more, or the error says so."""
    with writing(final):
        if isinstance(error, OSError):
            raise error
        (folder / f"{TEMPORARY_PREFIX}probe").write_bytes(bytes(_PROBE_BYTES))
