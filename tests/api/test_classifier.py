"""Trainings as a scikit-learn classifier: parameters, what it equals, scikit-learn's checks."""

from __future__ import annotations

import csv
import gc
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import save_crops
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.utils.estimator_checks import estimator_checks_generator
from sklearn.utils.validation import check_is_fitted, validate_data

import imgcls
from imgcls.api.classifier import OPTIONS, ImageClassifier
from imgcls.config.base import option_fields
from imgcls.config.run import TrainConfig
from imgcls.errors import CheckpointError, ConfigError, RunError

TINY = {
    "model": "test_resnet", "pretrained": False, "img_size": 32, "epochs": 2, "batch_size": 16,
    "lr": 3e-3, "workers": 0, "device": "cpu", "preflight": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, crops):
    """(paths of 36 pictures of three classes, their labels), mixed."""
    root = save_crops(crops, tmp_path_factory.mktemp("pictures") / "photos", (12, 12, 12))
    paths = np.array(sorted(map(str, root.rglob("*.jpg"))), dtype=object)
    paths = paths[np.random.default_rng(0).permutation(len(paths))]
    return paths, np.array([Path(path).parent.name for path in paths])


@pytest.fixture(scope="module")
def arrays(crops):
    """(24 colour pictures in memory, labels 9 and 10, whose order as texts is the other one)."""
    some = np.concatenate([crops["china"][:12], crops["violet"][:12]])
    return some, np.array([10] * 12 + [9] * 12)


@pytest.fixture(scope="module")
def fitted(arrays):
    return ImageClassifier(**TINY).fit(*arrays)


def test_parameters_are_the_options_of_train():
    """All but those that `fit` decides; with their defaults, as a signature shows them."""
    params = ImageClassifier().get_params()
    paths = {one.path for one in option_fields(TrainConfig)}
    left_out = paths - {one.path for one in OPTIONS.values()}
    assert params.keys() == {*OPTIONS, "verbose"}
    for path in left_out:
        assert path.startswith(("data.", "reading.", "checkpoint.")) or path == "runtime.experiment"
    for name, option in OPTIONS.items():
        assert params[name] == (None if name == "output" else option.field.default), name
        assert not callable(getattr(ImageClassifier, name, None)), f"{name} hides a method"


def test_a_wrong_parameter_is_told_where_scikit_learn_tells_it(arrays):
    """A name at once, a value by `fit`, in the words of the option."""
    with pytest.raises(TypeError, match="has no parameter epoch; did you mean epochs"):
        ImageClassifier(epoch=1)
    with pytest.raises(TypeError, match="random_state; did you mean seed"):
        ImageClassifier(random_state=1)
    with pytest.raises(ConfigError, match="epochs"):
        ImageClassifier(epochs=0).fit(*arrays)


def test_cross_val_score_is_what_three_runs_score(pictures, tmp_path, monkeypatch):
    """`imgcls train` on a table of each training part, `evaluate` on the other: bit for bit."""
    paths, labels = pictures
    folds = StratifiedKFold(3)
    scores = cross_val_score(ImageClassifier(**TINY), paths, labels, cv=folds)
    monkeypatch.chdir(tmp_path)
    expected = []
    for train, test in folds.split(paths, labels):
        for name, rows in (("train", train), ("test", test)):
            with Path(f"{name}.csv").open("w", newline="") as stream:
                table = csv.writer(stream)
                table.writerows([("path", "label"), *zip(paths[rows], labels[rows], strict=True)])
        run = imgcls.train("train.csv", root=".", test_size=0.0, progress=False, **TINY).run
        report = imgcls.evaluate(
            run, data="test.csv", ci="none", report=False, device="cpu", workers=0
        )
        expected.append(report.metrics["accuracy"])
    assert scores.tolist() == expected
    assert len(set(expected)) > 1


def test_it_works_in_a_pipeline_and_a_grid_search_over_paths(pictures):
    """Parameters by their names; the best is fitted again and predicts."""
    paths, labels = pictures
    pipeline = Pipeline([("classify", ImageClassifier(**{**TINY, "epochs": 1}))])
    search = GridSearchCV(pipeline, {"classify__lr": [1e-6, 3e-3]}, cv=2)
    search.fit(list(map(Path, paths)), labels)
    assert search.cv_results_["mean_test_score"].shape == (2,)
    assert set(search.predict(paths)) <= set(labels)


def test_classes_are_in_the_order_of_numpy(fitted, arrays):
    """Whole numbers stay numbers, and each column of probabilities is of its class."""
    images, labels = arrays
    assert fitted.classes_.tolist() == [9, 10]
    assert fitted.classes_.dtype == labels.dtype
    probabilities = fitted.predict_proba(images)
    assert (probabilities.dtype, probabilities.shape) == (np.float32, (24, 2))
    assert np.allclose(probabilities.sum(1), 1, atol=1e-6)
    predicted = fitted.predict(images)
    assert (predicted == fitted.classes_[probabilities.argmax(1)]).all()
    assert fitted.score(images, labels) == (predicted == labels).mean() > 0.7
    by_name = imgcls.load(fitted.checkpoint_, device="cpu")
    assert set(by_name.class_names) == {"9", "10"}


def test_pictures_in_files_and_in_memory_are_the_same(fitted, arrays):
    """Arrays, a list of them, and the files that they were written to for training."""
    images, _ = arrays
    files = sorted((fitted.run_.parent / "pictures").iterdir())
    expected = fitted.predict_proba(images)
    assert (fitted.predict_proba(files) == expected).all()
    assert (fitted.predict_proba(list(images)) == expected).all()
    assert (fitted.predict_proba(np.array(files, dtype=object)[:, None]) == expected).all()


def test_it_is_saved_without_pickle_and_loaded(fitted, arrays, tmp_path):
    """Whole or not at all, never over anything; a checkpoint to imgcls too."""
    images, _ = arrays
    fitted.save(tmp_path / "saved")
    loaded = ImageClassifier.load(tmp_path / "saved")
    assert loaded.get_params() == fitted.get_params()
    assert loaded.classes_.dtype == fitted.classes_.dtype
    assert (loaded.predict_proba(images) == fitted.predict_proba(images)).all()
    assert imgcls.load(tmp_path / "saved", device="cpu").predict(images[0]).label in {"9", "10"}
    with pytest.raises(RunError, match="is there already"):
        fitted.save(tmp_path / "saved")
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]
    with pytest.raises(CheckpointError, match="no classifier"):
        ImageClassifier.load(tmp_path)


def test_parameters_of_numpy_and_torch_are_saved(fitted, tmp_path):
    """As a search draws them."""
    given = {"epochs": np.int64(1), "lr": np.float64(0.5), "device": torch.device("cpu")}
    other = pickle.loads(pickle.dumps(fitted)).set_params(**given)
    other.save(tmp_path / "saved")
    found = ImageClassifier.load(tmp_path / "saved").get_params()
    assert {name: found[name] for name in given} == {"epochs": 1, "lr": 0.5, "device": "cpu"}


def test_a_temporary_folder_that_was_cleaned_up_is_told(fitted, arrays, tmp_path):
    """By whatever needs it; another fit makes a new one."""
    images, labels = arrays
    lost = pickle.loads(pickle.dumps(fitted))
    shutil.rmtree(lost.checkpoint_)
    for use in (lambda: lost.predict(images), lambda: lost.save(tmp_path / "saved"),
                lambda: pickle.dumps(lost)):  # fmt: skip
        with pytest.raises(CheckpointError, match="is gone, as temporary files are cleaned up"):
            use()
    shutil.rmtree(lost.checkpoint_.parent)
    assert lost.set_params(epochs=1).fit(images, labels).predict(images[:1])[0] in (9, 10)


def test_a_folder_that_cannot_be_made_is_named(arrays, tmp_path, monkeypatch):
    """That of `output`, and that of temporary files."""
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"^output .*file.runs: cannot be made: Not a directory"):
        ImageClassifier(**TINY, output=tmp_path / "file" / "runs").fit(*arrays)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(RunError, match=r"^a temporary folder: cannot be made: No such file"):
        ImageClassifier(**TINY).fit(*arrays)


def test_another_device_is_asked_for_behind_a_prediction(fitted, arrays):
    """And not what was loaded before."""
    images, _ = arrays
    other = pickle.loads(pickle.dumps(fitted))
    other.predict(images[:1])
    with pytest.raises(ConfigError, match="device: 'gpu'"):
        other.set_params(device="gpu").predict(images[:1])


def test_a_copy_has_its_own_files(arrays):
    """As joblib sends it to another process; each folder goes with its classifier."""
    images, labels = arrays
    first = ImageClassifier(**{**TINY, "epochs": 1}).fit(images, labels)
    expected, place = first.predict_proba(images), first.run_
    second = pickle.loads(pickle.dumps(first))
    assert second.checkpoint_ != first.checkpoint_
    assert place.is_dir()
    del first
    gc.collect()
    assert not place.exists()
    assert (second.predict_proba(images) == expected).all()
    assert not hasattr(clone(second), "classes_")


def test_runs_are_kept_where_output_says(arrays, tmp_path):
    """As runs like any other, one a fit."""
    classifier = ImageClassifier(**{**TINY, "epochs": 1}, output=tmp_path / "kept")
    runs = [classifier.fit(*arrays).run_ for _ in range(2)]
    assert len(set(runs)) == 2
    for run in runs:
        assert run.is_relative_to(tmp_path / "kept")
        assert (run / "config.yaml").is_file()
    assert imgcls.evaluate(run, split="val", device="cpu", workers=0, report=False).metrics


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (np.zeros((4, 8, 8)), "X[0] is float64 of shape (8, 8)"),
        (np.zeros((4, 8, 8, 2), np.uint8), "X[0] is uint8 of shape (8, 8, 2)"),
        (np.zeros((4, 8)), "X[0] is float64 of shape (8,)"),
        (np.zeros((4, 8, 3), np.uint8), "looks like one picture; give a list of pictures"),
        ([1, 2, 3, 4], "X is list of object, shape (4,)"),
        ([], "Found array with 0 sample(s)"),
    ],
)
def test_what_is_no_picture_is_refused(wrong, said):
    """With the place, the type and the shape, before anything is trained."""
    with pytest.raises(ValueError) as error:
        ImageClassifier(**TINY).fit(wrong, ["a", "b", "a", "b"])
    assert said in str(error.value)


def test_labels_that_cannot_be_learned_are_refused(arrays):
    """None, one class, another number of them, numbers with fractions."""
    images, labels = arrays
    for wrong, said in (
        (None, "requires y"),
        (np.zeros(24), "one class"),
        (labels[:3], "inconsistent numbers of samples"),
        (np.linspace(0, 1, 24), "Unknown label type"),
    ):
        with pytest.raises(ValueError, match=said):
            ImageClassifier(**TINY).fit(images, wrong)
    with pytest.raises(TypeError, match="sample_weight"):
        ImageClassifier(**TINY).fit(images, labels, sample_weight=np.ones(24))


def test_the_package_itself_loads_no_scikit_learn():
    """Its names do when they are used."""
    code = "import imgcls, sys; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class OfColumns(ImageClassifier):
    """Tables of numbers as grey pictures one pixel high: what scikit-learn's checks give."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags

    def fit(self, X, y):  # noqa: N803
        X, y = validate_data(self, X, y)
        return super().fit(drawn(X), y)

    def predict_proba(self, X):  # noqa: N803
        check_is_fitted(self)
        return super().predict_proba(drawn(validate_data(self, X, reset=False)))


def drawn(numbers):
    return (128 + 40 * np.clip(numbers, -3, 3)).astype(np.uint8)[:, None, :]


LEFT_OUT = {
    "check_array_api_input": "pictures are files and numpy arrays",
    "check_classifiers_train": "wants 83% of a table, more than one epoch of a tiny model",
}
# those that train several times
SLOW = {
    "check_classifiers_classes", "check_estimators_dtypes", "check_classifier_data_not_an_array",
    "check_fit_idempotent", "check_dtype_object", "check_pipeline_consistency",
    "check_methods_subset_invariance", "check_positive_only_tag_during_fit",
    "check_methods_sample_order_invariance", "check_estimators_pickle", "check_supervised_y_2d",
    "check_estimators_nan_inf", "check_n_features_in", "check_fit_check_is_fitted",
    "check_estimators_fit_returns_self", "check_f_contiguous_array_estimator",
    "check_readonly_memmap_input", "check_fit2d_1feature", "check_fit2d_predict1d",
    "check_n_features_in_after_fitting", "check_dont_overwrite_parameters",
}  # fmt: skip


def checks():
    options = {**TINY, "epochs": 1, "amp": "off", "channels_last": False}
    for estimator, check in estimator_checks_generator(OfColumns(**options)):
        name = getattr(check, "func", check).__name__
        more = "-".join(f"{key}={value}" for key, value in getattr(check, "keywords", {}).items())
        marks = [pytest.mark.slow] if name in SLOW else []
        if name not in LEFT_OUT:
            yield pytest.param(estimator, check, id=f"{name}-{more}".strip("-"), marks=marks)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")
@pytest.mark.parametrize(("estimator", "check"), [*checks()])
def test_it_passes_the_checks_of_scikit_learn(estimator, check):
    """All that ask for no more than a table drawn as pictures can give; see LEFT_OUT."""
    check(estimator)
