"""What a search may be told, and how it answers what it may not."""

from __future__ import annotations

import pytest

from imgcls.config.load import dump_yaml, load_config
from imgcls.config.tune import Range, TuneConfig, read_space
from imgcls.errors import ConfigError
from imgcls.jobs.tune.space import combinations, search_space, starting_point


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("{data.val_size: [0.1]}", "data.val_size is not an option to search over"),
        ("{optim.l: [1]}", "optim.l is not an option to search over; did you mean optim.lr?"),
        ("{runtime.seed: [1, 2]}", "runtime.seed is not an option to search over"),
        ("{optim.lr: 3}", "optim.lr: 3 is neither a list of values nor a range such as {low:"),
        ("{optim.lr: []}", "optim.lr: [] is neither a list of values nor a range"),
        ("{optim.lr: {low: 2, high: 1}}", "optim.lr: low 2 is not below high 1"),
        ("{optim.lr: {low: 0, high: 1, log: yes}}", "optim.lr: with log, low must be above 0"),
        ("{optim.lr: {low: a, high: 1}}", "optim.lr.low: Input should be a valid number"),
        ("{optim.lr: {low: 1, hi: 2}}", "optim.lr.high: Field required"),
        ("{model.dropout: {low: 0, high: 1, step: 0.3}}", "steps of 0.3 from 0 miss high 1"),
        ("{}", "search.space: empty; name at least one option"),
    ],
)
def test_a_space_that_is_none_is_refused_in_one_line(space, message):
    """The option, the value, what is expected."""
    with pytest.raises(ConfigError) as caught:
        load_config(TuneConfig, None, [f"search.space={space}"])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_yaml_numbers_without_a_point_are_numbers():
    """YAML 1.1 reads 1e-5 as a text."""
    config = load_config(
        TuneConfig, None, ["search.space={optim.lr: {low: 1e-5, high: 1e-2, log: true}}"]
    )
    assert read_space(config.search.space) == {"optim.lr": Range(low=1e-5, high=1e-2, log=True)}


def test_what_the_user_set_is_not_searched():
    """By option, --set or file; the search itself is kept in full in its own file."""
    config = load_config(TuneConfig, None, ["augment.mixup=0.2"], {"optim.weight_decay": "0.1"})
    space = search_space(config, lr=1e-3)
    assert {"optim.lr", "model.dropout"} <= set(space)
    assert not {"augment.mixup", "optim.weight_decay"} & set(space)
    assert space["optim.lr"] == {"low": pytest.approx(1e-4), "high": 1e-2, "log": True}


def test_a_search_file_is_read_back_as_it_was(tmp_path):
    """All options of the file count as set, so the space stands in it."""
    config = load_config(TuneConfig, None, ["search.space={augment.mixup: [0, 0.2]}"])
    file = tmp_path / "tune.yaml"
    file.write_text(dump_yaml(config))
    again = load_config(TuneConfig, file)
    assert again == config
    assert search_space(again, lr=1e-3) == {"augment.mixup": [0, 0.2]}


def test_nothing_left_to_search_is_an_error():
    """With the names of what was set."""
    space = search_space(TuneConfig(), lr=1e-3)
    named = load_config(TuneConfig, None, [f"{path}={_some(path)}" for path in space])
    with pytest.raises(ConfigError, match=r"nothing to search over: optim.lr, .* are all set"):
        search_space(named, lr=1e-3)


def _some(path):
    option = getattr(TuneConfig(), path.split(".")[0])
    value = getattr(option, path.split(".")[1])
    return "null" if value is None else value


@pytest.mark.parametrize(
    ("space", "count"),
    [
        ({"augment.mixup": [0, 0.2], "optim.opt": ["adamw", "sgd", "adamw"]}, 4),
        ({"model.dropout": {"low": 0, "high": 0.5, "step": 0.1}}, 6),
        ({"data.batch_size": {"low": 8, "high": 11}}, 4),
        ({"augment.mixup": [0, 0.2], "optim.lr": {"low": 0, "high": 1}}, float("inf")),
    ],
)
def test_the_combinations_of_a_space_are_counted(space, count):
    """Whole-number options step by one; anything continuous has no end."""
    assert combinations(space) == count


def test_the_settings_as_they_are_are_a_point_of_the_space_or_not():
    """The default space always holds them."""
    plain = ["augment.smoothing=0.0", "augment.mixup=0.0", "model.dropout=0"]
    config = load_config(TuneConfig, None, ["optim.lr=0.003", *plain])
    base = config.base()
    assert starting_point({"optim.lr": {"low": 1e-3, "high": 1e-2}}, base) == {"optim.lr": 0.003}
    assert starting_point({"optim.lr": [1e-3]}, base) is None
    assert starting_point({"model.dropout": {"low": 0.1, "high": 0.5, "step": 0.1}}, base) is None
    default = search_space(TuneConfig(), lr=0.003)
    assert set(starting_point(default, base)) == set(default)
