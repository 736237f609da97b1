"""What a message advises exists in the command that says it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import OFFLINE, tiny_config
from PIL import Image

from imgcls.config.reference import COMMANDS
from imgcls.errors import DeviceMemoryError
from imgcls.jobs.train import fold as folds
from imgcls.jobs.train.train import train

HERE = ("--device", "cpu", "--workers", "0")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "--model_name", "resnet18"), "did you mean --model?"),
        (("train", "--image_size", "64"), "did you mean --img-size?"),
        (("train", "--data_dir", "x"), "give it without an option: train DATA"),
        (("benchmark", "--model_name", "x"), "give it without an option: benchmark MODEL"),
        (("benchmark", "--num_inference_samples", "9"), "did you mean --num-samples?"),
        (("train", "--learning-rate", "1"), "did you mean --lr?"),
        (("train", "--gpus", "1"), "did you mean --device?"),
        (("train", "--loss", "focal"), "did you mean --imbalance?"),
        (("train", "--freeze", "10"), "write --tune head"),
        (("train", "--val-split", "0.2"), "did you mean --val-size?"),
        (("train", "--early-stopping", "3"), "did you mean --patience?"),
        (("train", "--initial-checkpoint", "x"), "did you mean --weights?"),
        (("train", "--resume", "x"), "`imgcls resume RUN`"),
        (("train", "--num-classes", "3"), "the classes are those of the data"),
        (("evaluate", "--model", "x"), "give it without an option: evaluate CHECKPOINT"),
        (("benchmark", "--checkpoint", "x"), "give it without an option: benchmark MODEL"),
        (("evaluate", "--freeze"), "No such option: --freeze (see"),
        (("train", "-e", "3"), "No such option: -e (see"),
        (("evaluate", "--device", "gpu"), "did you mean cuda?"),
        (("train", "--device", "1"), "did you mean cuda:1?"),
        (("train", "--group-regex", "("), "not a regular expression"),
        (("list-models", "resnet81"), "did you mean"),
        (("list-models", "resnet18", "--img-size", "9"), "no model fits resnet18 --img-size 9"),
        (("eval", "run"), "did you mean `imgcls evaluate`?"),
        (("fit", "photos"), "did you mean `imgcls train`?"),
        (("tune", "--sampler", "tpe"), "No such option: --sampler (see"),
    ],
)
def test_names_of_elsewhere_are_answered_with_ours(command, arguments, words):
    """Those of the predecessor, of timm and of other trainers."""
    done = command(*arguments)
    assert (done.code, len(done.error_lines)) == (2, 1), done.err
    assert words in done.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "x", "--pretrained", "True"), "write --pretrained or --no-pretrained"),
        (("train", "--pretrained", "false"), "write --pretrained or --no-pretrained"),
        (("train", "x", "--amp"), "--amp needs a value: auto|off|bf16|fp16"),
        (("train", "--output", "--epochs", "3"), "--output needs a value: PATH"),
        (("train", "x", "--img-size", "224", "224"), "--img-size takes one value"),
        (("train", "x/a", "x/b", "x/c"), "DATA is one name, and 'x/b x/c' is too many"),
        (("evaluate", "run", "test"), "CHECKPOINT is one name, and 'test' is too many"),
    ],
)
def test_values_in_the_wrong_place_are_named(command, arguments, words):
    """A switch with a value, an option without one, two values, a pattern the shell took apart."""
    done = command(*arguments)
    assert (done.code, len(done.error_lines)) == (2, 1), done.err
    assert words in done.err


def test_runs_and_pictures_are_not_taken_for_each_other(command, photos):
    """`cd photos; imgcls train .` would put outputs/ there, whose pictures become a class."""
    train = ("train", photos, *OFFLINE, "--device", "cpu", "--epochs", "1")
    assert command(*train, "--name", "r").code == 0
    for arguments in (
        (*train, "--output", photos / "outputs"),
        ("evaluate", "outputs/r", "--results-dir", photos / "results", *HERE),
    ):
        done = command(*arguments)
        assert (done.code, len(done.error_lines)) == (2, 1), done.err
        assert "lies in the folder of the data" in done.err
    assert sorted(path.name for path in photos.iterdir()) == ["china", "flower", "violet"]
    assert (
        "its folders are runs: name one of them, such as outputs/r"
        in command("evaluate", "outputs", *HERE).err
    )
    done = command("train", photos, *OFFLINE, "--model", "outputs/r")
    assert (done.code, "trained weights are for --weights" in done.err) == (2, True), done.err
    weights = ("--model", "test_resnet", "--weights", "outputs/r", "--workers", "0")
    done = command("train", photos, *weights)
    assert (done.code, "such as " in done.err, "/step-" in done.err) == (2, True, True), done.err
    (photos.parent / "file").write_text("x")
    done = command("evaluate", "outputs/r", "--results-dir", photos.parent / "file", *HERE)
    assert (done.code, "file is a file, not a folder" in done.err) == (2, True)
    done = command("evaluate", "outputs/r", "--fail-under", "accuracy=90", *HERE)
    assert (done.code, "90% is 0.9" in done.err) == (2, True), done.err


def test_fewer_epochs_than_are_trained_change_nothing(command, photos):
    """The run's config would say that it is finished after fewer than it has."""
    train = ("train", photos, *OFFLINE, "--device", "cpu")
    assert command(*train, "--epochs", "2", "--name", "r").code == 0
    config = Path("outputs/r/config.yaml")
    before = config.read_bytes()
    done = command("resume", "outputs/r", "--epochs", "1")
    assert (done.code, "r has more epochs trained than --epochs 1" in done.out) == (
        0,
        True,
    ), done
    assert config.read_bytes() == before
    # of a run of folds, one may have more and one fewer: there is no way to do both
    assert command(*train, "--epochs", "1", "--folds", "2", "--fold", "0", "--name", "k").code == 0
    config = Path("outputs/k/config.yaml")
    assert command("resume", "outputs/k", "--epochs", "3").code == 0
    config.write_text(config.read_text().replace("fold: 0\n", "fold: all\n"))
    done = command("resume", "outputs/k", "--epochs", "2")
    assert (done.code, "3 are trained already" in done.err) == (2, True), done.err


def whole_help(command, verb):
    return command(verb, "--help-all" if COMMANDS[verb].COMMON else "--help").out


def options_of(command, verb):
    return set(re.findall(r"--[a-z][a-z-]+", whole_help(command, verb)))


def test_advice_can_be_followed(command, photos, tmp_path):
    """Every option that a message names is one of its command, or of the command it spells."""
    train = ("train", photos, *OFFLINE, "--device", "cpu", "--epochs", "1")
    assert command(*train, "--folds", "2", "--experiment", "k").code == 0
    few = tmp_path / "few"
    for name, count in (("a", 2), ("b", 1)):
        (few / name).mkdir(parents=True)
        for index in range(count):
            Image.new("RGB", (32, 32), (90 * index, 9, 9)).save(few / name / f"{index}.jpg")
    bad = tmp_path / "bad"
    for name in ("a", "b"):
        (bad / name).mkdir(parents=True)
        (bad / name / "1.jpg").write_bytes(b"no picture")
    wrong = (
        ("benchmark", "outputs/k", *HERE),
        ("benchmark", photos, *HERE),
        ("benchmark", "test_resnet", "--data", bad, *HERE),
        ("evaluate", "outputs/k"),
        ("evaluate", photos),
        ("evaluate", "outputs/k/fold_0", "--data", bad, *HERE),
        ("report", photos),
        ("resume", photos),
        ("train", few, *OFFLINE),
        ("train", bad, *OFFLINE),
    )
    for arguments in wrong:
        done = command(*arguments)
        assert done.code in (1, 2), arguments
        [line] = done.error_lines
        assert "unexpected" not in line
        # another command's are spelt behind its name
        own = re.sub(r"imgcls [a-z-]+[^`;)]*", "", line.removeprefix("imgcls: "))
        assert set(re.findall(r"--[a-z][a-z-]+", own)) <= options_of(command, arguments[0]), line
    assert "evaluate --data" in command("evaluate", photos).err
    assert "no class has more than 2 pictures" in command("train", few, *OFFLINE).err


@pytest.mark.parametrize(
    ("size_bytes", "words"), [(110 * 2**30, "110 GiB"), (2**30, "--batch-size")]
)
def test_memory_that_the_system_refuses_is_no_defect(
    tmp_path, monkeypatch, photos, size_bytes, words
):
    """The CPU's allocator has no error of its own, and an optimizer may ask for 110 GiB."""
    monkeypatch.chdir(tmp_path)

    def refused(*_arguments, **_options):
        raise RuntimeError(
            f"DefaultCPUAllocator: can't allocate memory: you tried to allocate {size_bytes} bytes."
        )

    monkeypatch.setattr(folds, "fit", refused)
    with pytest.raises(DeviceMemoryError, match=words):
        train(tiny_config(photos))
