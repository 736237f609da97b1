"""How many processes compute a command changes nothing but its time."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import timm
import torch
from conftest import save_crops
from PIL import Image
from safetensors.torch import save_file
from worlds import history, largest_difference, recorded

# what is written down, and by models whose gradients do not jump where rounding decides
RECORD = ("worlds:soften_rectifiers", "worlds:record_steps")
# steps whose rounding is not blown up: what AdamW divides by may be next to nothing
SGD = ("--opt", "sgd", "--lr", "0.02")
TINY = (
    "--img-size", "32", "--batch-size", "6", "--patience", "0", "--workers", "0", "--device", "cpu",
    "--amp", "off", "--quiet", "--no-preflight", "--experiment", "r",
)  # fmt: skip
VIT = ("--model", "test_vit", "--no-pretrained", *SGD)
RESNET = ("--model", "test_resnet", "--no-pretrained", *SGD)
# all that is drawn at random
RANDOM = (
    "--augment", "light", "--vflip", "0.5", "--smoothing", "0.1", "--reprob", "0.5",
    "--mixup", "0.2", "--cutmix", "1.0", "--dropout", "0.2", "--drop-path-rate", "0.2",
    "--batch-size", "8",
)  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory, crops):
    """48 pictures that nothing changes."""
    return save_crops(crops, tmp_path_factory.mktemp("data") / "photos", (20, 16, 12))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of weights to start from: {model: its options}."""
    folder = tmp_path_factory.mktemp("weights")
    found = {}
    for name in ("test_vit", "test_resnet"):
        torch.manual_seed(0)
        save_file(timm.create_model(name).state_dict(), folder / f"{name}.safetensors")
        options = ("--model", name, "--weights", folder / f"{name}.safetensors", "--no-pretrained")
        found[name] = (*options, *SGD)
    return found


def trained(worlds, root, processes, *arguments):
    """(what was trained on, history by fold, run) of a training in so many processes."""
    folder = root / f"in-{processes}"
    worlds.done(folder, processes, "train", *arguments, patches=RECORD)
    run = folder / "outputs/r"
    folds = range(len(list(run.glob("fold_*"))))
    return recorded(folder), [history(run, fold) for fold in folds], run


def require_same(one, other, within=1e-5):
    """The same pictures with the same pixels at every step, and losses within rounding.

    within: of losses up to 1, and of larger ones in proportion.
    """
    for here, there in zip(one[0], other[0], strict=True):
        for a, b in zip(here, there, strict=True):
            assert a.pictures == b.pictures
            assert abs(a.loss - b.loss) < within * max(1, a.loss)
    for here, there in zip(one[1], other[1], strict=True):
        largest = max(1, *(row["val_loss"] for row in here))
        assert largest_difference(here, there, "train_loss", "val_loss") < within * largest
        assert [row["epoch"] for row in here] == [row["epoch"] for row in there]


def test_two_processes_train_on_what_one_trains_on(tmp_path, worlds, photos):
    """Pictures, their changes, masks, and the norms of the whole batch: the losses say so."""
    options = (photos, *TINY, *RESNET, *RANDOM, "--epochs", "2")
    require_same(trained(worlds, tmp_path, 1, *options), trained(worlds, tmp_path, 2, *options))


MODELS = {
    "layer norm": ("--model", "test_vit"),
    "frozen norm": ("--model", "test_resnet", "--norm-stats", "frozen"),
    # what each norm divides by makes more of every rounding
    "trained norm": ("--model", "test_resnet", "--norm-stats", "batch", "--lr", "1e-3"),
}


@pytest.mark.slow
@pytest.mark.parametrize("which", MODELS)
def test_any_number_of_processes_trains_on_the_same(tmp_path, worlds, photos, which):
    """56 steps in 1 to 4 processes: same pictures, same pixels, losses within 1e-5."""
    options = (photos, *TINY, "--no-pretrained", *SGD, *RANDOM, *MODELS[which])
    options = (*options, "--batch-size", "10", "--epochs", "14")
    alone = trained(worlds, tmp_path, 1, *options)
    assert len(alone[0]) >= 50
    for processes in (2, 3, 4):
        require_same(alone, trained(worlds, tmp_path, processes, *options))


VARIANTS = {
    "folds": (*VIT, "--folds", "3", "--model-ema", "--grad-accum-steps", "2", "--epochs", "2"),
    "folds of a norm": (
        *RESNET, "--folds", "3", "--model-ema", "--grad-accum-steps", "2", "--epochs", "2",
        "--lr", "1e-3",
    ),
    "early stopping": (
        *VIT, "--patience", "2", "--epochs", "30", "--eval-metric", "val_macro_f1",
    ),
    "cache": (*VIT, "--cache", "ram", "--epochs", "2"),
    "checkpointing": (*RESNET, *RANDOM, "--grad-checkpointing", "--epochs", "2"),
    "checkpointing of attention": (*VIT, *RANDOM, "--grad-checkpointing", "--epochs", "2"),
    "loader processes": (*VIT, "--workers", "2", "--epochs", "2"),
    "balanced": (*VIT, "--imbalance", "balanced-sampler", "--smoothing", "0.1", "--epochs", "2"),
    "weighted": (*VIT, "--imbalance", "weighted-loss", "--epochs", "2"),
    "clipped": (*VIT, "--clip-grad", "0.5", "--epochs", "2"),
}  # fmt: skip
FROM_WEIGHTS = {
    "tuned": ("test_vit", "--epochs", "2", "--layer-decay", "0.7"),
    "unfreezing": ("test_resnet", "--unfreeze-epochs", "1", "--epochs", "4", "--lr", "1e-4"),
    "unfreezing with norms": (
        "test_resnet", "--unfreeze-epochs", "1", "--norm-stats", "batch", "--epochs", "4",
        "--lr", "1e-4",
    ),
    "unfreezing attention": ("test_vit", "--unfreeze-epochs", "1", "--epochs", "3", *RANDOM),
}  # fmt: skip


@pytest.mark.record
@pytest.mark.slow
@pytest.mark.parametrize("which", VARIANTS)
def test_a_training_in_two_processes_is_that_in_one(tmp_path, worlds, photos, which):
    """Whatever the training does beside its steps."""
    options = (photos, *TINY, *VARIANTS[which])
    one, two = (trained(worlds, tmp_path, n, *options) for n in (1, 2))
    require_same(one, two)
    if which == "early stopping":
        assert len(one[1][0]) < 30


@pytest.mark.record
@pytest.mark.slow
@pytest.mark.parametrize("which", FROM_WEIGHTS)
def test_a_fine_tuning_in_two_processes_is_that_in_one(tmp_path, worlds, photos, weights, which):
    """From a fitted classifier on, with what is frozen, and what is trained from which epoch."""
    name, *more = FROM_WEIGHTS[which]
    options = (photos, *TINY, *weights[name], *more)
    require_same(*(trained(worlds, tmp_path, n, *options) for n in (1, 2)))


def bad_images(run):
    return (run / "bad_images.csv").read_text().splitlines()


BROKEN = {"some": {"china": (1, 5), "flower": (0, 3, 11)}, "many": {"china": range(4, 20)}}


@pytest.mark.parametrize(
    "how",
    [
        ("some", *VIT),
        pytest.param(("some", *VIT, *RANDOM), marks=pytest.mark.slow),
        # parts without any picture
        pytest.param(("many", *VIT), marks=pytest.mark.slow),
        pytest.param(
            ("many", *VIT, *RANDOM, "--grad-accum-steps", "2", "--batch-size", "10"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("some", *RESNET, "--drop-path-rate", "0.2", "--lr", "1e-3"), marks=pytest.mark.slow
        ),
    ],
    ids=lambda how: " ".join(how[::9]),
)
def test_bad_pictures_are_left_out_as_one_process_does(tmp_path, worlds, crops, how):
    """The batches are smaller by them, and all of them are told, whoever met them."""
    which, *options = how
    photos = save_crops(crops, tmp_path / "photos", (20, 16, 12))
    for name, numbers in BROKEN[which].items():
        for number in numbers:
            (photos / name / f"{number:03d}.jpg").write_bytes(b"")
    options = (photos, *TINY, *options, "--on-bad-image", "skip", "--epochs", "2")
    one, three = (trained(worlds, tmp_path, n, *options) for n in (1, 3))
    require_same(one, three)
    assert sorted(bad_images(one[2])) == sorted(bad_images(three[2]))
    assert len(bad_images(one[2])) > 1


def measured(folder):
    """test_metrics.json without times, as text."""
    [file] = folder.rglob("test_metrics.json")
    found = json.loads(file.read_text())
    found.pop("speed_metrics")
    return json.dumps(found)


@pytest.fixture(scope="module")
def to_score(tmp_path_factory, worlds, photos):
    """A folder with one trained run."""
    folder = tmp_path_factory.mktemp("scored")
    worlds.done(folder, 1, "train", photos, *TINY, *RESNET, "--epochs", "1")
    return folder


def pictures(root, crops, count):
    """A folder of that many pictures, of all classes where there are enough."""
    rng = np.random.default_rng(count)
    for number in range(count):
        name = ("china", "flower", "violet")[number % 3]
        (root / name).mkdir(parents=True, exist_ok=True)
        picture = crops[name][number % 40] ^ rng.integers(0, 32, (48, 48, 3), dtype=np.uint8)
        Image.fromarray(picture).save(root / name / f"{number:04d}.png")
    return root


@pytest.mark.parametrize(
    ("count", "sizes"),
    [
        (65, (1, 2, 3)),
        *(
            pytest.param(count, (1, 2, 3, 4), marks=pytest.mark.slow)
            for count in (1, 7, 64, 65, 1000)
        ),
    ],
)
def test_an_evaluation_says_the_same_to_the_byte(tmp_path, worlds, to_score, crops, count, sizes):
    """Each picture counts once, whatever the number of processes and of pictures."""
    data = pictures(tmp_path / "data", crops, count)
    found = {}
    for processes in sizes:
        folder = tmp_path / f"in-{processes}"
        shutil.copytree(to_score / "outputs", folder / "outputs")
        options = ("--data", data, "--workers", "0", "--device", "cpu", "--batch-size", "16")
        worlds.done(folder, processes, "evaluate", "outputs/r", *options, "--quiet")
        found[processes] = measured(folder)
    assert len(set(found.values())) == 1
    assert json.loads(found[1])["metrics"]


@pytest.mark.slow
def test_an_evaluation_in_several_processes_leaves_bad_pictures_out(
    tmp_path, worlds, to_score, crops
):
    """As one process does; and without being told to, it ends with one line."""
    data = pictures(tmp_path / "data", crops, 40)
    for file in sorted(data.rglob("*.png"))[::7]:
        file.write_bytes(b"")
    found = []
    for processes in (1, 3):
        folder = tmp_path / f"in-{processes}"
        shutil.copytree(to_score / "outputs", folder / "outputs")
        options = ("--data", data, "--workers", "0", "--device", "cpu", "--batch-size", "16")
        asked = ("evaluate", "outputs/r", *options, "--tta", "flips", "--quiet")
        refused = worlds.run(folder, processes, *asked)
        assert refused.codes[0] == 1
        assert len(refused.error_lines) == 1
        worlds.done(folder, processes, *asked, "--on-bad-image", "skip")
        found.append(measured(folder))
    assert found[0] == found[1]


@pytest.mark.slow
def test_a_classifier_alone_is_trained_by_the_main_process(tmp_path, worlds, photos, weights):
    """`--tune head`: the same results, and the others only wait."""
    options = (photos, *TINY, *weights["test_resnet"], "--tune", "head", "--epochs", "2")
    runs = []
    for processes in (1, 2):
        folder = tmp_path / f"in-{processes}"
        worlds.done(folder, processes, "train", *options)
        runs.append(history(folder / "outputs/r"))
    assert largest_difference(*runs, "train_loss", "val_loss") == 0


@pytest.mark.slow
def test_a_search_in_two_processes_tries_what_one_tries(tmp_path, worlds, photos):
    """`imgcls tune`: one study, of the main process; each trial is trained by both."""
    tried = []
    for processes in (1, 2):
        folder = tmp_path / f"in-{processes}"
        options = (*TINY, *VIT, "--epochs", "2", "--trials", "3")
        worlds.done(folder, processes, "tune", photos, *options)
        [table] = folder.rglob("trials.csv")
        lines = table.read_text().splitlines()
        assert len(lines) == 4
        tried.append(lines)
    assert [line.split(",")[:2] for line in tried[0]] == [line.split(",")[:2] for line in tried[1]]


@pytest.mark.record
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_compiled_models_train_in_two_processes(tmp_path, worlds, photos):
    """`--compile`: what is drawn and what is averaged is of the whole batch there too."""
    options = (photos, *TINY, *RESNET, "--compile", "--drop-path-rate", "0.2", "--epochs", "1")
    require_same(*(trained(worlds, tmp_path, n, *options) for n in (1, 2)), within=1e-4)


@pytest.mark.record
@pytest.mark.slow
def test_an_ensemble_in_two_processes_is_that_of_one(tmp_path, worlds, photos, weights):
    """`--preset best`: folds, and the average of all of them on the test split."""
    found = []
    for processes in (1, 2):
        folder = tmp_path / f"in-{processes}"
        options = (photos, *TINY, *weights["test_vit"], "--preset", "best", "--epochs", "1")
        options = (*options, "--lr", "1e-4")
        worlds.done(folder, processes, "train", *options)
        folds = sorted((folder / "outputs/r").rglob("fold_*/history.csv"))
        assert len(folds) == 5
        found.append([history(file.parents[1], int(file.parent.name[-1])) for file in folds])
    for here, there in zip(*found, strict=True):
        assert largest_difference(here, there, "train_loss", "val_loss") < 1e-5


FAILURES = {
    "loss_is_nan_in_process_1": "the loss became nan at step 3",
    "cannot_be_built_in_process_1": "loader processes cannot be started (it is full)",
    "weights_come_apart_in_process_1": "the processes' weights have come apart",
}


@pytest.mark.parametrize("which", FAILURES)
def test_an_error_of_one_process_ends_all_and_is_told_once(tmp_path, worlds, photos, which):
    """By the main process, whose exit code is the command's; the last checkpoint stays."""
    options = (photos, *TINY, *VIT, "--epochs", "4")
    ended = worlds.run(tmp_path, 2, "train", *options, patches=(f"world_patches:{which}",))
    assert ended.codes == [1, 0]
    assert len(ended.error_lines) == 1
    assert FAILURES[which] in ended.error_lines[0]
    assert "Traceback" not in ended.said
    assert "Error" not in ended.said


def test_a_process_that_fails_inside_a_step_says_why(tmp_path, worlds, photos):
    """The others cannot wait for it there: they end too, and point to what it said."""
    patches = ("world_patches:memory_ends_in_process_1",)
    ended = worlds.run(tmp_path, 2, "train", photos, *TINY, *VIT, "--epochs", "2", patches=patches)
    assert ended.codes == [1, 1]
    assert len(ended.error_lines) == 2
    assert "process 1: " in "".join(ended.error_lines)
    assert "can't allocate memory" in "".join(ended.error_lines)
    assert "another process of this command has ended" in "".join(ended.error_lines)


def test_a_bad_picture_of_one_process_is_told_once(tmp_path, worlds, crops):
    """And what was trained so far is saved."""
    photos = save_crops(crops, tmp_path / "photos", (20, 16, 12))
    for number in range(10):
        (photos / "china" / f"{number:03d}.jpg").write_bytes(b"")
    ended = worlds.run(tmp_path, 3, "train", photos, *TINY, *VIT, "--epochs", "2")
    assert ended.codes == [1, 0, 0]
    [line] = ended.error_lines
    assert re.search(r"china/00\d\.jpg: cannot be read", line)
    assert "Traceback" not in ended.said


REFUSED = {
    "adahessian": (("--opt", "adahessian"), "--opt"),
    "batch": (("--batch-size", "2"), "--batch-size"),
    "pairs": (("--batch-size", "4", "--mixup", "0.2"), "--batch-size"),
}


@pytest.mark.parametrize("which", REFUSED)
def test_what_processes_cannot_share_is_refused(tmp_path, worlds, photos, which):
    """In one line, before anything is written."""
    options, name = REFUSED[which]
    ended = worlds.run(tmp_path, 3, "train", photos, *TINY, *VIT, *options, "--epochs", "2")
    assert ended.codes == [2, 0, 0]
    [line] = ended.error_lines
    assert name in line
    assert not list(tmp_path.glob("outputs/*"))


def test_other_commands_run_once(tmp_path, worlds, photos):
    """What nothing divides is done by the main process alone."""
    once, twice = (
        json.loads(worlds.done(tmp_path, n, "inspect", photos, "--json").said) for n in (1, 2)
    )
    assert {**once, "elapsed_s": 0} == {**twice, "elapsed_s": 0}
