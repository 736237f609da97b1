"""Options as keywords: names, types, defaults and errors follow from the options' declarations."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import imgcls
from imgcls.api.keywords import keyword_config, keyword_options
from imgcls.config.base import option_fields
from imgcls.config.benchmark import BenchmarkConfig
from imgcls.config.evaluate import EvaluateConfig
from imgcls.config.predict import PredictConfig
from imgcls.config.reference import COMMANDS
from imgcls.config.run import TrainConfig
from imgcls.config.tune import TuneConfig
from imgcls.errors import ConfigError

NAMES = {verb: verb.replace("-", "_") for verb in COMMANDS} | {"import": "import_checkpoint"}
# of runs a program has the objects, and prints them itself
CALLS = {name: COMMANDS[verb] for verb, name in NAMES.items() if not verb.startswith("runs")}


def config_of(config_class, **keywords):
    return keyword_config(config_class, keyword_options(config_class), keywords)


@pytest.mark.parametrize("name", CALLS)
def test_a_call_takes_all_options_of_its_command(name):
    """Each option on the command line is a keyword, with its default and its description."""
    call = getattr(imgcls, name)
    parameters = inspect.signature(call).parameters
    for option in option_fields(CALLS[name]):
        if option.flag.exposed:
            parameter = parameters[option.flag_names[0][2:].replace("-", "_")]
            default = option.field.default
            assert parameter.default == (str(default) if isinstance(default, Path) else default)
            assert " ".join(option.field.description.split()) in " ".join(call.__doc__.split())
    assert next(iter(parameters.values())).kind is inspect.Parameter.POSITIONAL_OR_KEYWORD


def test_help_shows_types_and_descriptions_without_torch():
    """As a user of Python asks for it."""
    code = "import imgcls, sys; help(imgcls.train); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "epochs: int | Literal['auto'] = " in done.stdout
    assert "weights: str | PathLike[str] | None = None" in done.stdout
    assert "patience: Epochs without improvement before stopping" in done.stdout


@pytest.mark.parametrize(
    ("config_class", "keywords", "said"),
    [
        (TrainConfig, {"epochs": 0}, "epochs: 0 is not allowed; expected a whole number >= 1"),
        (TrainConfig, {"epoch": 3}, "epoch: no such keyword; did you mean epochs?"),
        (TrainConfig, {"learning_rate": 1}, "learning_rate: no such keyword; did you mean lr?"),
        (TrainConfig, {"metric": "x"}, "metric: no such keyword; did you mean eval_metric?"),
        (TrainConfig, {"optim.lr": 1}, "optim.lr: no such keyword; did you mean lr?"),
        (TrainConfig, {"imbalance": "focul"}, "(did you mean focal?); expected none, "),
        (TrainConfig, {"model": None}, "model: has no value; expected a text"),
        (TrainConfig, {"folds": 1}, "folds: 1 fold has nothing to validate on"),
        (TrainConfig, {"folds": 3, "fold": 3}, "fold: 3 is out of range; with 3 folds"),
        (EvaluateConfig, {"top_k": 0}, "top_k: 0 is not allowed; expected a whole number >= 1, or"),
        (EvaluateConfig, {"open": True, "report": False}, "open: there is no page to show"),
        (PredictConfig, {"copy": True}, "copy: says how sort_into puts pictures there"),
        (TrainConfig, {"lr": True}, "lr: True is not allowed (a number, not yes); expected a"),
        (TrainConfig, {"seed": np.random.RandomState(0)}, "expected a whole number >= 0 and <"),
    ],
)  # fmt: skip
def test_a_wrong_keyword_is_named_with_what_it_takes(config_class, keywords, said):
    """In the words of the call, without a dash."""
    with pytest.raises(ConfigError) as raised:
        config_of(config_class, **keywords)
    assert said in str(raised.value)
    assert "--" not in str(raised.value)


def test_what_python_users_have_is_taken():
    """Paths, one instead of a list, numpy's numbers, torch's devices, other tools' names."""
    import torch

    config = config_of(TrainConfig, data=Path("photos"), epochs=np.int64(3), lr=np.float32(0.5))
    assert (config.data.source, config.optim.epochs, config.optim.lr) == ("photos", 3, 0.5)
    assert config_of(TrainConfig, device=torch.device("cuda", 1)).runtime.device == "cuda:1"
    assert config_of(TrainConfig, batch=8).data.batch_size == 8
    assert config_of(PredictConfig, inputs=Path("a.jpg")).inputs == ("a.jpg",)
    assert config_of(PredictConfig, inputs=["a.jpg", Path("b")]).inputs == ("a.jpg", "b")
    config = config_of(BenchmarkConfig, model=Path("outputs/a"), batch_size="auto")
    assert (config.models, config.batch_size) == (("outputs/a",), "auto")
    assert config_of(EvaluateConfig, top_k=np.array([1, 2])).top_k == (1, 2)
    space = {"optim.lr": {"low": 1e-4, "high": 1e-2, "log": True}}
    assert config_of(TuneConfig, space=space, max_minutes=3).search.max_minutes == 3


def test_a_value_of_many_lines_is_told_in_one():
    """A table, or a module, where a text belongs."""
    import torch

    for value in (torch.nn.Sequential(torch.nn.Linear(1, 1)), np.zeros((9, 9))):
        with pytest.raises(ConfigError, match=r"^data: .* is not allowed") as raised:
            config_of(TrainConfig, data=value)
        assert "\n" not in str(raised.value)


def test_only_what_was_given_counts_as_set():
    """`evaluate(data=...)` without a split scores all of the data, as the command does."""
    assert not config_of(EvaluateConfig, data="photos").names_split
    assert config_of(EvaluateConfig, split="test").names_split


def test_a_config_says_all():
    """Keywords beside it, or another command's, are refused."""
    with pytest.raises(ConfigError, match=r"^epochs: a TrainConfig was given"):
        imgcls.train(TrainConfig(), epochs=3)
    with pytest.raises(ConfigError, match=r"^train: takes TrainConfig or keywords, not Evaluate"):
        imgcls.train(EvaluateConfig())
    with pytest.raises(ConfigError, match=r"^epoch: no such keyword"):
        imgcls.train("digits", epoch=3)
