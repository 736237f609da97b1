"""What imgcls relies on in its dependencies beyond what they promise, asked of the real ones.

Matched texts of errors, attributes without a promise, places of classes. Each test names the
version that the code was written against: an upgrade that changes one fails here, and says where.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import re
import socket
from importlib.metadata import version
from pathlib import Path

import pytest
import torch


def relies_on(dependency, written_against, place):
    """Let a failing test say which version of what `imgcls/<place>` was written against."""

    def decorate(test):
        @functools.wraps(test)
        def run(*args, **kwargs):
            try:
                return test(*args, **kwargs)
            except (Exception, pytest.fail.Exception) as error:
                raise AssertionError(
                    f"{dependency} {version(dependency)} no longer does what imgcls/{place} relies "
                    f"on, written against {dependency} {written_against}: {error}"
                ) from error

        return run

    return decorate


def test_a_change_names_the_dependency_and_the_place():
    """Which is what these tests are for."""

    @relies_on("torch", "1.2.3", "engine/x.py")
    def changed():
        pytest.fail("another text")

    with pytest.raises(
        AssertionError, match=r"torch .*engine/x.py relies on, written .* 1\.2\.3: another"
    ):
        changed()


# torch


@relies_on("torch", "2.14.1", "engine/device/memory.py, cli/boundary.py, jobs/train/fold.py")
def test_the_cpu_allocator_names_itself_and_the_bytes():
    """It raises a bare RuntimeError."""
    from imgcls.engine.device.memory import is_out_of_memory
    from imgcls.models.build import _TOO_LARGE

    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert "DefaultCPUAllocator" in str(caught.value)
    assert _TOO_LARGE.search(str(caught.value))[1] == str(2**60)
    assert re.search(r"allocate (\d+) bytes", str(caught.value))


class Dies(torch.utils.data.Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        os._exit(3)


@relies_on("torch", "2.14.1", "data/loading/loader.py")
def test_the_loader_names_the_processes_that_died():
    """In the text alone."""
    from imgcls.data.loading.pipeline import dead_workers

    with pytest.raises(RuntimeError) as caught:
        list(torch.utils.data.DataLoader(Dies(), num_workers=1))
    [number] = dead_workers(caught.value)
    assert number not in {0, os.getpid()}
    assert dead_workers(RuntimeError("another")) == []


@relies_on("torch", "2.14.1", "data/loading/handover.py")
def test_full_shared_memory_is_told_by_its_name():
    """Here it is asked for a million gigabytes."""
    from imgcls.data.loading.handover import is_shared_memory_full

    with pytest.raises(RuntimeError) as caught:
        torch.UntypedStorage._new_shared(2**50)
    for name in re.findall(r"</(torch_\w+)>", str(caught.value)):
        Path("/dev/shm", name).unlink(missing_ok=True)
    assert is_shared_memory_full(caught.value)


@relies_on("torch", "2.14.1", "engine/training/trainable.py")
def test_a_batch_norm_tells_that_one_value_is_too_few():
    """And all kinds of them are of the one private class."""
    from imgcls.engine.training.trainable import _NormBase, is_too_few

    with pytest.raises(ValueError, match="channel") as caught:
        torch.nn.BatchNorm2d(2)(torch.zeros(1, 2, 1, 1))
    assert is_too_few(caught.value)
    for kind in ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm", "InstanceNorm2d"):
        assert issubclass(getattr(torch.nn, kind), _NormBase)


@relies_on("torch", "2.14.1", "engine/scoring/backends.py")
def test_the_compiler_takes_freezing():
    """An option of the inductor."""
    from torch import _inductor

    assert "freezing" in _inductor.list_options()


@relies_on("torch", "2.14.1", "models/export/onnx.py")
def test_the_exporter_gives_its_proto():
    """The program's ONNX message."""
    from torch.onnx import ONNXProgram

    assert hasattr(ONNXProgram, "model_proto")


@relies_on("torch", "2.14.1", "models/foreign.py")
def test_the_unpickler_lists_what_a_file_names_and_takes_stand_ins(tmp_path):
    """A trainer's own class in a checkpoint is replaced and never called."""
    from imgcls.models.foreign import _stand_in

    torch.save({"w": torch.ones(2), "trainer": Dies()}, tmp_path / "x.pt")
    [name] = torch.serialization.get_unsafe_globals_in_checkpoint(tmp_path / "x.pt")
    assert name.endswith("Dies")
    with torch.serialization.safe_globals([_stand_in(name)]):
        read = torch.load(tmp_path / "x.pt", weights_only=True)
    assert type(read["trainer"]) is not Dies


@relies_on("safetensors", "0.8", "engine/checkpoint/folder.py")
def test_safetensors_tells_the_systems_error_by_its_number(tmp_path):
    """It has one error for all."""
    from imgcls.engine.checkpoint.folder import write_tensors

    with pytest.raises(OSError, match="x") as caught:
        write_tensors({"w": torch.ones(2)}, tmp_path / "none" / "x")
    assert caught.value.errno == errno.ENOENT


# timm


@relies_on("timm", "1.0.31", "models/build.py")
def test_an_option_that_an_architecture_does_not_take_is_in_the_text():
    """Of the TypeError that the constructor raises, in quotes."""
    import timm

    from imgcls.models.build import refused_option

    options = {"img_size": 32, "num_classes": 3}
    with pytest.raises(TypeError) as caught:
        timm.create_model("test_resnet", **options)
    assert refused_option(caught.value, options) == "img_size"


@relies_on("timm", "1.0.31", "models/weights.py")
def test_a_familys_converter_lies_beside_its_class():
    """From the publisher's tensors and the model to the model's tensors."""
    import timm

    from imgcls.models.weights import timms_converter

    model = timm.create_model("test_vit")
    weights = model.state_dict()
    assert timms_converter(model)(dict(weights), model).keys() == weights.keys()


@pytest.mark.parametrize(
    "name",
    ["test_vit", "vit_relpos_small_patch16_224", "eva02_tiny_patch14_224", "beit_base_patch16_224"],
)
@relies_on("timm", "1.0.31", "models/explain/rollout.py")
def test_attention_maps_are_where_rollout_reads_them(name):
    """A dropout of that name in each block, and a switch for fused attention."""
    import timm

    from imgcls.models.explain.rollout import _attention_maps, has_rollout

    with torch.device("meta"):
        model = timm.create_model(name)
    assert has_rollout(model)
    assert len(_attention_maps(model)) == len(model.blocks) > 1
    assert sum(hasattr(part, "fused_attn") for part in model.modules()) == len(model.blocks)


@relies_on("timm", "1.0.31", "models/groups.py, models/build.py")
def test_layers_are_grouped_and_facts_kept_on_the_model():
    """group_matcher, and pretrained_cfg with the classifier's name."""
    import timm

    from imgcls.models.build import classifier_names
    from imgcls.models.groups import backbone_groups

    model = timm.create_model("test_resnet", num_classes=3)
    assert len(backbone_groups(model)) > 1
    assert classifier_names(model) == ("fc",)
    with pytest.raises(AttributeError):
        _ = torch.nn.Linear(1, 1).pretrained_cfg


@relies_on("timm", "1.0.31", "engine/training, engine/device/batches.py")
def test_the_parts_of_a_training_take_what_they_are_given():
    """Updates by number for the schedule and the average; erasing by its module's path."""
    from timm.data.random_erasing import RandomErasing
    from timm.scheduler import create_scheduler_v2
    from timm.utils import ModelEmaV3

    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler, _ = create_scheduler_v2(
        optimizer, "cosine", num_epochs=2, step_on_epochs=False, updates_per_epoch=2
    )
    scheduler.step_update(4)
    assert optimizer.param_groups[0]["lr"] < optimizer.param_groups[0]["initial_lr"] == 1.0
    average = ModelEmaV3(model, decay=0.9, use_warmup=True)
    average.update(model, step=1)
    average.set(model)
    assert average.module.weight.equal(model.weight)
    images = torch.zeros(4, 3, 8, 8)
    RandomErasing(probability=1.0, mode="pixel", device="cpu")(images)
    assert images.any()


# huggingface_hub


@relies_on("huggingface_hub", "2.4.0", "models/hub.py")
def test_the_hub_is_switched_off_by_its_constant(monkeypatch):
    """While it runs: no connection is tried, and a missing file is told at once."""
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    tried = []
    monkeypatch.setattr(socket, "create_connection", lambda *a, **k: tried.append(a))
    monkeypatch.setattr(socket.socket, "connect", lambda *a: tried.append(a))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(LocalEntryNotFoundError):
        hf_hub_download("timm/none", "model.safetensors")
    assert tried == []
    assert constants.ENDPOINT.startswith("http")


# typer


@contextlib.contextmanager
def refused(*arguments):
    import typer

    from imgcls.cli.app import app_for

    app, name, rest = app_for(arguments)
    with pytest.raises(typer.TyperException) as caught:
        app(args=rest, prog_name=name, standalone_mode=False)
    yield caught.value


@relies_on("typer", "0.29.2", "cli/boundary.py")
def test_errors_of_the_command_line_have_their_names_and_texts():
    """What is said better in our words is told apart by these."""
    with refused() as error:
        assert type(error).__name__ == "NoArgsIsHelpError"
        assert "Commands:" in error.format_message()
    with refused("trian") as error:
        assert re.match(r"No such command '(.*?)'", error.format_message())[1] == "trian"
        assert "train" in error.format_message()
    with refused("train", "a", "b") as error:
        assert "unexpected extra argument" in error.format_message()
        assert error.ctx.command_path == "imgcls train"
    with refused("train", "--learning") as error:
        assert type(error).__name__ == "NoSuchOption"
        assert error.option_name == "--learning"
        assert error.message


@relies_on("typer", "0.29.2", "cli/help.py, cli/hints.py, cli/options.py")
def test_a_commands_parameters_say_what_help_and_hints_ask():
    """Names, kinds, groups; and a context that carries a note."""
    from typer.main import get_command

    from imgcls.cli.app import app_for
    from imgcls.cli.help import GroupedCommand

    command = get_command(app_for(["train"])[0])
    assert isinstance(command, GroupedCommand)
    by_flag = {flag: parameter for parameter in command.params for flag in parameter.opts}
    lr, quiet = by_flag["--lr"], by_flag["--quiet"]
    assert lr.opts == ["--lr"]
    assert lr.param_type_name == "option"
    assert lr.metavar
    assert lr.rich_help_panel
    assert not lr.is_flag
    assert quiet.is_flag
    assert any(parameter.secondary_opts for parameter in command.params)
    assert any(parameter.param_type_name == "argument" for parameter in command.params)
    context = command.make_context("train", [], resilient_parsing=True)
    context.meta["x"] = 1
    assert context.get_help()


# optuna


@relies_on("optuna", "5.0.0", "jobs/tune/study.py")
def test_a_queued_trial_keeps_its_values_where_they_are_read():
    """In the attributes of the system, until it is drawn."""
    import optuna

    study = optuna.create_study()
    study.enqueue_trial({"lr": 0.5})
    [waiting] = study.get_trials(deepcopy=False)
    assert waiting.params == {}
    assert waiting.system_attrs["fixed_params"] == {"lr": 0.5}
    assert optuna.study.study.ObjectiveFuncType


@relies_on("optuna", "5.0.0", "jobs/tune/study.py")
def test_a_trial_whose_end_cannot_be_noted_hides_the_reason_in_the_context():
    """An AssertionError of Optuna's own stands in front of it."""
    import optuna

    class Full(optuna.storages.InMemoryStorage):
        def set_trial_state_values(self, *args, **kwargs):
            raise OSError("disk full")

    study = optuna.create_study(storage=Full())
    with pytest.raises((AssertionError, OSError)) as caught:
        study.optimize(lambda trial: 1.0, n_trials=1)
    if isinstance(caught.value, AssertionError):
        assert str(caught.value.__context__) == "disk full"


# pydantic


@relies_on("pydantic", "2.14.4", "config/base.py, config/load.py")
def test_a_fields_bounds_and_marks_are_in_its_metadata():
    """The bounds of annotated_types, and whatever else an annotation has."""
    from typing import Annotated

    from annotated_types import Ge, Le
    from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

    class Model(BaseModel):
        model_config = ConfigDict(extra="forbid")
        share: Annotated[float, "mark", Field(ge=0, le=1)] = 0.5
        several: tuple[Annotated[int, Field(ge=1)], ...] = ()

        @field_validator("share")
        @classmethod
        def refuse(cls, value):
            raise ValueError("said so")

    metadata = Model.model_fields["share"].metadata
    assert {"mark", Ge(0), Le(1)} <= set(metadata)
    with pytest.raises(ValidationError) as caught:
        Model(share=0.5, more=1)
    said, extra = caught.value.errors()
    assert said["type"] == "value_error"
    assert str(said["ctx"]["error"]) == "said so"
    assert extra["type"] == "extra_forbidden"


# pictures


@relies_on("pillow", "13.0.0", "data/pixels/decode.py, data/pixels/depth.py")
def test_pillow_has_one_limit_for_all_and_tiles_that_name_their_raw_mode():
    """The limit is a global and raises at twice its value."""
    from PIL import Image

    from imgcls.data.pixels.depth import _raw_mode, _tiles, _with_raw_mode

    stream = io.BytesIO()
    Image.new("I;16", (4, 4), 300).save(stream, "PNG")
    image = Image.open(stream)
    [tile] = _tiles(image)
    assert _raw_mode(tile) == "I;16B"
    assert _raw_mode(_with_raw_mode(tile, "RGBA")) == "RGBA"
    assert tile.codec_name == "zip"
    limit = Image.MAX_IMAGE_PIXELS
    try:
        Image.MAX_IMAGE_PIXELS = 7
        with pytest.raises(Image.DecompressionBombError):
            Image.open(stream)
        Image.MAX_IMAGE_PIXELS = 16
        Image.open(stream)
    finally:
        Image.MAX_IMAGE_PIXELS = limit


@relies_on("matplotlib", "3.11.2", "output/plots/drawing.py")
def test_an_svgs_ids_are_written_as_they_are_renamed():
    """All of them, and what refers to them; and a layout can be asked for by itself."""
    from imgcls.output.plots.drawing import Drawing, canvas, place_tooltips

    with canvas(2, 2) as figure:
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], marker="o")
        [tooltip] = place_tooltips(figure, axes, [(0.0, 0.0, 1.0, 1.0, "x")])
        inline = Drawing("plot", "title", "words", figure).inline_svg
    assert 0 < tooltip.width < 1
    tags = re.findall(r"<[^<>]+>", inline)
    ids = {found for tag in tags for found in re.findall(r'\bid="([^"]*)"', tag)}
    used = {found for tag in tags for found in re.findall(r'(?:url\(#|href="#)([^)"]*)', tag)}
    assert used
    assert used <= ids
    assert all(name.startswith("plot-") for name in ids)


@relies_on("pydicom", "3.0.1", "data/pixels/dicom.py")
def test_pydicom_says_that_a_plugin_is_missing(monkeypatch):
    """In the text of its RuntimeError."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.pixels import decoders

    for decoder in (decoders.JPEG2000LosslessDecoder,):
        monkeypatch.setattr(decoder, "_available", {})
        with pytest.raises(RuntimeError, match="missing"):
            decoder._validate_plugins()
    assert pydicom.__version__


@relies_on("filelock", "4.3.1", "storage/lock.py")
def test_a_file_system_without_locks_is_met_by_a_lock_all_the_same(tmp_path, monkeypatch):
    """The file itself is one then, without a word."""
    import fcntl

    from filelock import Timeout

    from imgcls.storage.lock import _acquired

    def no_locks(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    lock = _acquired(tmp_path / ".lock", 0)
    with pytest.raises(Timeout):
        _acquired(tmp_path / ".lock", 0)
    lock.release()
    _acquired(tmp_path / ".lock", 0).release()


# fsspec


@relies_on("fsspec", "2026.9.0", "data/remote/fetching.py")
def test_a_failed_look_at_a_url_has_its_reason_behind_it(tmp_path):
    """The error itself says that there is no such file, whatever went wrong."""
    import fsspec
    from serving import served

    (tmp_path / "x").write_bytes(b"content")
    with served(tmp_path) as (url, faults):
        system = fsspec.filesystem("http", skip_instance_cache=True)
        assert {"size", "ETag", "Last-Modified"} <= system.info(f"{url}/x").keys()
        faults.status = 500
        with pytest.raises(FileNotFoundError) as caught:
            system.info(f"{url}/x")
        assert caught.value.__cause__.status == 500


@relies_on("aiohttp", "3.14.5", "data/remote/fetching.py")
def test_an_answer_that_was_cut_off_is_told_by_its_class(tmp_path):
    """Which comes before the 400 that is behind it."""
    import fsspec
    from serving import served

    (tmp_path / "x").write_bytes(b"content")
    with served(tmp_path) as (url, faults):
        faults.every, faults.kinds = 1, ("cut",)
        with pytest.raises(Exception, match="not completed") as caught:
            fsspec.filesystem("http", skip_instance_cache=True).cat_file(f"{url}/x")
        assert type(caught.value).__name__ == "ClientPayloadError"
