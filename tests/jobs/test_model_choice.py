"""Which model is taken, and on which pictures models are compared."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import timm
from conftest import save_crops, tiny_config
from safetensors.torch import save_file

from imgcls.data.loading.loader import EvalLoader
from imgcls.data.table import SampleTable
from imgcls.engine.training.events import CandidateDone, ChoiceStarted, ModelChosen
from imgcls.errors import DataError, ModelError
from imgcls.jobs.plan.data import new_data
from imgcls.jobs.train.choice.choose import choose_model
from imgcls.jobs.train.choice.measuring import Held, pictures_of
from imgcls.jobs.train.choice.rule import decide
from imgcls.models.catalog.read import load_catalog
from imgcls.models.catalog.short_list import SHORT_LIST, models_in, weights_in
from imgcls.models.licences import licence_advice
from imgcls.results.models import Candidate


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder with weights of three tiny models, named in three ways."""
    folder = tmp_path_factory.mktemp("weights")
    for name in ("test_resnet.r160_in1k", "test_byobnet", "test_efficientnet"):
        file = folder / f"{name}.safetensors"
        save_file(timm.create_model(name.partition(".")[0]).state_dict(), file)
    (folder / "notes.txt").write_text("not a model")
    (folder / "test_vit").mkdir()
    (folder / "test_vit" / "model.safetensors").write_bytes(b"")
    return folder


def table_of(labels, groups=None):
    """A table without pictures."""
    names = tuple(f"class {label}" for label in range(max(labels) + 1))
    return SampleTable(
        name="table",
        keys=tuple(f"{row:05d}" for row in range(len(labels))),
        labels=np.array(labels),
        class_names=names,
        images=None,
        groups=groups,
    )


def verdict_on(losses, units=None):
    """The decision between models of rising cost with these losses of the same pictures."""
    count = len(next(iter(losses.values())))
    table = table_of([row % 2 for row in range(count)], units and [f"g{unit}" for unit in units])
    pictures = pictures_of(table, np.arange(count), count, 0)
    held = {name: Held(np.array(one), np.ones(count), 4) for name, one in losses.items()}
    return decide([Candidate(name) for name in losses], held, pictures)


def test_the_cheapest_within_one_standard_error_is_taken():
    """By the paired differences: what is hard for both models has no say."""
    hard = np.random.default_rng(0).normal(2.0, 1.0, 100)
    noise = np.tile([0.1, -0.1], 50)
    close = verdict_on({"small": hard + 0.005 + noise, "large": hard})
    assert close.chosen == ("small",)
    assert close.reason == (
        "the cheapest whose log loss is within one standard error of the least, large's: "
        "0.0050 ± 0.0101 above it"
    )
    clear = verdict_on({"small": hard + 0.02 + noise, "large": hard})
    assert clear.chosen == ("large",)
    assert clear.candidates[0].behind.value == pytest.approx(0.02)
    assert clear.candidates[0].behind.error == pytest.approx(0.1 / 99**0.5)


def test_pictures_of_one_group_count_as_one():
    """A difference that is clear over 100 pictures is not, where they are of four plants."""
    differences = np.repeat([0.1, -0.05, 0.1, -0.05], 25)
    losses = {"small": 1.0 + differences, "large": np.ones(100)}
    assert verdict_on(losses).chosen == ("large",)
    assert verdict_on(losses, units=np.repeat(np.arange(4), 25).tolist()).chosen == ("small",)


def test_of_the_same_losses_the_cheaper_model_is_taken():
    """Without any difference there is no error either."""
    same = verdict_on({"small": np.ones(10), "large": np.ones(10)})
    assert same.chosen == ("small",)
    assert same.reason == "the least log loss, and none is cheaper"


def test_a_sample_keeps_rare_classes_and_as_many_groups_as_it_can():
    """No more than asked, the same in each call, twenty of a class where it has them."""
    labels = [0] * 3000 + [1] * 300 + [2] * 25 + [3] * 5
    groups = [f"plant {row // 10}" for row in range(len(labels))]
    table = table_of(labels, groups)
    found = pictures_of(table, np.arange(len(labels)), 400, seed=1)
    counts = np.bincount(found.labels)
    assert counts[2:].tolist() == [20, 5]
    assert 395 <= counts.sum() <= 400
    assert counts[0] / counts[1] == pytest.approx(10, rel=0.1)
    # one picture of each group, before a second of any
    assert len(np.unique(found.units[found.labels == 0])) == min(counts[0], 300)
    again = pictures_of(table, np.arange(len(labels)), 400, seed=1)
    assert again.rows.tolist() == found.rows.tolist()
    assert pictures_of(table, np.arange(400), 400, seed=1).rows.tolist() == list(range(400))


def test_a_folder_names_models_by_its_files(weights):
    """With the tag or without; what is no model of timm is passed over."""
    assert models_in(weights) == (
        "test_byobnet",
        "test_efficientnet",
        "test_resnet.r160_in1k",
        "test_vit",
    )
    assert weights_in(weights, "test_byobnet.r160_in1k") == weights / "test_byobnet.safetensors"
    assert weights_in(weights, "resnet18") is None


@pytest.mark.parametrize("name", SHORT_LIST)
def test_the_short_list_is_free_to_use_and_small(name):
    """By timm's own tables; one classifier, at most 30 million parameters."""
    architecture, _, tag = name.partition(".")
    entry = load_catalog()[architecture]
    assert licence_advice(entry.licences[tag]) is None
    assert entry.parameters < 30e6
    assert isinstance(timm.models.get_pretrained_cfg(name).classifier, str)


def test_the_page_has_the_short_list():
    """Each with its reason."""
    page = (Path(__file__).parents[2] / "examples" / "choosing.md").read_text(encoding="utf-8")
    assert "".join(f"| {name} | {why} |\n" for name, why in SHORT_LIST.items()) in page


def chosen(photos, weights, *, told=lambda _event: None, **model):
    """What is chosen of a folder's models for the photographs, with its config."""
    groups = {name: model.pop(name) for name in ("optim", "data", "runtime") if name in model}
    model = {"name": "auto", "weights": weights, "pretrained": False, **model}
    config = tiny_config(photos, model=model, **groups)
    return choose_model(config, new_data(config, lambda _done, _total: None), told)


def test_models_are_measured_cheapest_first_on_pictures_of_train(photos, weights, monkeypatch):
    """One that cannot be loaded is left out with the reason; val and test have no part in it."""
    seen, told = [], []

    def loader(table, rows, *rest, **more):
        seen.append(rows)
        return EvalLoader(table, rows, *rest, **more)

    monkeypatch.setattr("imgcls.jobs.train.choice.measuring.EvalLoader", loader)
    config = tiny_config(photos, model={"name": "auto", "weights": weights, "pretrained": False})
    data = new_data(config, lambda _done, _total: None)
    found = choose_model(config, data, told.append)
    assert {tuple(rows) for rows in seen} == {tuple(data.rows("train", 0))}
    one_of = {one.name: one for one in found.choice.candidates}
    measured = [one for one in found.choice.candidates if one.left_out is None]
    assert [one.macs for one in measured] == sorted(one.macs for one in measured)
    assert len(measured) == 3
    assert one_of["test_vit"].left_out.endswith("model.safetensors: is empty")
    assert min(one.behind.value for one in measured) == 0
    [config_of_chosen] = found.configs
    assert config_of_chosen.model.name == found.choice.chosen
    assert config_of_chosen.model.weights == weights_in(weights, found.choice.chosen)
    assert found.choice.of == found.choice.pictures == len(data.rows("train", 0))
    kinds = [type(event) for event in told]
    assert kinds[0] is ChoiceStarted
    assert kinds[-1] is ModelChosen
    assert sum(kind is CandidateDone for kind in kinds) == 4
    again = choose_model(config, data, lambda _event: None)
    assert _without_times(again.choice) == _without_times(found.choice)


def _without_times(choice):
    names = ("latency_ms", "features_s", "fitting_s")
    return [dataclasses.replace(one, **dict.fromkeys(names)) for one in choice.candidates]


def test_what_is_over_a_limit_is_left_out_with_its_figures(photos, weights):
    """The only one left is taken as it is."""
    both = ("test_resnet.r160_in1k", "test_byobnet")
    found = chosen(photos, weights, max_params=0.3, candidates=both)
    [small, large] = found.choice.candidates
    assert found.choice.chosen == small.name == "test_byobnet"
    assert found.choice.reason == "the only one that can be taken"
    assert small.balanced_accuracy is None
    assert large.left_out == "0.4 million parameters, of --max-params 0.3"
    with pytest.raises(ModelError, match="none of its models can be taken") as refused:
        chosen(photos, weights, max_latency_ms=1e-6)
    assert all("of --max-latency-ms 1e-06" in line for line in refused.value.details[:3])


def test_models_without_weights_are_trained_from_scratch_by_name_only(photos, weights):
    """Those of the list, with --no-pretrained; a note says what their features are."""
    file = weights / "test_byobnet.safetensors"
    found = chosen(photos, weights, candidates=("test_byobnet", "test_convnext"))
    origins = {one.name: one.weights for one in found.choice.candidates}
    assert origins == {"test_convnext": "random", "test_byobnet": str(file)}
    assert "test_convnext" in found.choice.notes[0]
    assert "from scratch" in found.choice.notes[0]
    with pytest.raises(ModelError) as refused:
        chosen(photos, None)
    assert len(refused.value.details) == len(SHORT_LIST)
    assert all("--no-pretrained" in line for line in refused.value.details)


def test_what_does_not_fit_into_its_share_of_the_time_is_not_tried(photos, weights):
    """The first one is, whatever it takes; the training has what is left of the minutes."""
    found = chosen(photos, weights, optim={"max_minutes": 1e-4})
    first, *others = found.choice.candidates
    assert found.choice.chosen == first.name
    assert found.choice.reason == "the only one that was measured"
    assert others[0].left_out == "not tried: choosing takes 25% of --max-minutes 0.0001 at most"
    found = chosen(photos, weights, optim={"max_minutes": 50})
    assert 49 < found.configs[0].optim.max_minutes < 50


def test_pictures_of_which_none_can_be_held_out_choose_nothing(tmp_path, crops, weights):
    """A class of one picture is never left out of all that is fitted."""
    photos = save_crops(crops, tmp_path / "photos", (3, 3, 3))
    with pytest.raises(DataError, match="none can be held out to compare models by; name a --mod"):
        chosen(photos, weights, data={"val_size": 0.4, "test_size": 0.4})
