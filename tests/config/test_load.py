"""Options, settings, files and defaults become one config, or one clear line."""

from __future__ import annotations

import pytest

from imgcls.cli.options import split_at_commas
from imgcls.config.base import option_fields
from imgcls.config.benchmark import BenchmarkConfig
from imgcls.config.evaluate import EvaluateConfig
from imgcls.config.list_models import ListModelsConfig
from imgcls.config.load import dump_yaml, load_config
from imgcls.config.run import ResumeConfig, TrainConfig
from imgcls.errors import ConfigError

ALL_CONFIGS = (TrainConfig, EvaluateConfig, BenchmarkConfig, ResumeConfig, ListModelsConfig)


def test_options_beat_settings_beat_file_beats_defaults(tmp_path):
    """Precedence: option > --set > file > default."""
    file = tmp_path / "c.yaml"
    file.write_text("optim: {lr: 0.1, epochs: 3, momentum: 0.5}\n")
    config = load_config(TrainConfig, file, ["optim.lr=0.2", "optim.epochs=4"], {"optim.lr": "0.3"})
    assert (config.optim.lr, config.optim.epochs, config.optim.momentum) == (0.3, 4, 0.5)
    assert config.optim.opt == "adamw"


def test_a_dumped_config_reads_back_equal(tmp_path):
    """What is written to a run can be given to --config."""
    config = load_config(
        TrainConfig, settings=["optim.lr=1e-3", "model.weights=w.pth", "data.source=ä b"]
    )
    file = tmp_path / "c.yaml"
    file.write_text(dump_yaml(config), encoding="utf-8")
    assert load_config(TrainConfig, file) == config


def test_json_is_read_as_yaml(tmp_path):
    """JSON is a subset of YAML."""
    file = tmp_path / "c.json"
    file.write_text('{"optim": {"lr": 0.5}}')
    assert load_config(TrainConfig, file).optim.lr == 0.5


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("optim.lr=-1", ["optim.lr (--lr)", "-1", "a number > 0.0 or auto"]),
        ("optim.lr=0", ["optim.lr (--lr)", "0"]),
        ("optim.weightdecay=1", ["optim.weightdecay", "did you mean optim.weight_decay?"]),
        ("weight_decay=1", ["did you mean optim.weight_decay?"]),
        ("runtime.amp=bf17", ["'bf17'", "auto, off, bf16 or fp16"]),
        ("data.batch_size=0", ["--batch-size", "a whole number >= 1"]),
        ("data.folds=1", ["1 fold has nothing to validate on"]),
        ("data=3", ["data", "a group of options"]),
        ("early_stopping.metric=accuracy", ["did you mean val_accuracy?"]),
        ("early_stopping.metric=f1", ["did you mean val_macro_f1?"]),
        ("recipe.imbalance=weighted", ["did you mean weighted-loss?"]),
        ("optim.sched=cosineannealing", ["did you mean cosine?"]),
        ("augment.preset=Light", ["did you mean light?"]),
        ("optim.sched=cosine-annealing", ["did you mean cosine?"]),
        ("data.val_size=20", ["did you mean 0.2?"]),
        ("data.val_size=15%", ["did you mean 0.15?"]),
        ("optim.lr=0,001", ["did you mean 0.001?"]),
        ("model.img_size=224x224", ["did you mean 224?"]),
        ("runtime.output=''", ["--output", "it is empty"]),
        ("runtime.device=CPU", ["did you mean cpu?"]),
        ("checkpoint.keep=some", ["--keep", "last:3 or all"]),
        ("runtime.device=tpu", ["--device", "cuda"]),
        ("optim.warmup_epochs=99", ["99", "longer than optim.epochs"]),
        ("no-equals-sign", ["group.name=value"]),
        ("optim.lr=[", ["optim.lr", "'['"]),
        ("data.val_size=0.99", ["leave nothing to train on"]),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(setting, words):
    """Every validation error names the field, the value and the allowed values, in one line."""
    with pytest.raises(ConfigError) as caught:
        load_config(TrainConfig, settings=[setting])
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_fold_must_lie_below_folds():
    """A fold out of range is told the range."""
    with pytest.raises(ConfigError, match=r"7 is out of range; with 5 folds it is 0 to 4"):
        load_config(TrainConfig, settings=["data.folds=5", "data.fold=7"])


@pytest.mark.parametrize(
    ("content", "words"),
    [("a: [", "not valid YAML"), ("- 1\n- 2", "expected groups"), ("optim: {lrr: 1}", "optim.lr")],
)
def test_a_bad_config_file_is_named(tmp_path, content, words):
    """The file's name stands in the message."""
    file = tmp_path / "bad.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=words) as caught:
        load_config(TrainConfig, file)
    assert "bad.yaml" in str(caught.value)


def test_a_missing_config_file_is_named(tmp_path):
    """No such file."""
    with pytest.raises(ConfigError, match="no such file"):
        load_config(TrainConfig, tmp_path / "none.yaml")


# nine names of nine, eight deep: its repr would take gigabytes
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("unknown: 2024-13-45", id="a date that is none"),
        pytest.param(f"unknown: {'9' * 5000}", id="a number beyond Python's limit"),
        pytest.param("[" * 3000, id="nested too deeply"),
        pytest.param("a: &a [*a]", id="within itself"),
        pytest.param("optim: &a\n  <<: *a\n  lr: *a", id="its own group"),
        pytest.param(f"{BOMB}optim: *i", id="aliases for a group"),
        pytest.param(f"{BOMB}optim:\n  lr: *i", id="aliases for an option"),
        pytest.param(f"- {'x' * 10**6}", id="a long text for groups"),
        pytest.param("optim:\n  lr: 1e400", id="an infinite number"),
    ],
)
def test_hostile_yaml_is_one_short_line(tmp_path, text):
    """Whatever YAML allows ends in one line that a person can read, at once."""
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(TrainConfig, file)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    if not text.startswith((*BOMB[:1], "-", "[")):
        path, _, value = text.replace("\n", "").replace("optim:  lr", "optim.lr").partition(": ")
        with pytest.raises(ConfigError):
            load_config(TrainConfig, settings=[f"{path}={value}"])


@pytest.mark.parametrize("config_class", ALL_CONFIGS)
def test_every_option_has_its_own_names_and_a_description(config_class):
    """No two options of a command share a flag, and each says what it is for."""
    names = []
    for option in option_fields(config_class):
        assert option.field.description, option.path
        if option.flag.exposed and not option.flag.positional:
            names += [*option.flag_names, *option.flag.aliases]
            names += [option.flag.short] if option.flag.short else []
    assert len(names) == len(set(names))


def test_configs_are_frozen():
    """Config is what the user said and is never changed."""
    with pytest.raises(ValueError, match="frozen"):
        TrainConfig().optim.lr = 1.0


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("data.background", "#808080", "#808080"),
        ("data.background", "'#808080'", "#808080"),
        ("runtime.experiment", "2024-01-01", "2024-01-01"),
        ("runtime.experiment", "001", "001"),
        ("runtime.experiment", "1e3", "1e3"),
        ("runtime.experiment", "off", "off"),
        ("runtime.experiment", "null", None),
        ("runtime.experiment", "'null'", "null"),
        ("runtime.amp", "off", "off"),
        ("runtime.amp", "no", "off"),
        ("runtime.amp", "False", "off"),
        ("data.cache", "off", "none"),
        ("data.cache", "null", "none"),
        ("recipe.imbalance", "no", "none"),
        ("runtime.channels_last", "off", False),
        ("runtime.channels_last", "auto", "auto"),
        ("runtime.compile", "yes", True),
        ("optim.lr", "1e-3", 1e-3),
        ("optim.epochs", "010", 10),
        ("optim.clip_grad", "~", None),
        ("reading.group_col", "12:30:45", "12:30:45"),
    ],
)
def test_a_value_is_read_by_the_type_of_its_option(tmp_path, path, text, value):
    """The same by --set and in a file, whatever YAML 1.1 would make of it."""
    group, name = path.split(".")
    by_set = load_config(TrainConfig, settings=[f"{path}={text}"])
    assert getattr(getattr(by_set, group), name) == value
    if not text.startswith("#"):
        file = tmp_path / "c.yaml"
        file.write_text(f"{group}:\n  {name}: {text}\n")
        assert load_config(TrainConfig, file) == by_set
        file.write_text(f"{path}: {text}\n")
        assert load_config(TrainConfig, file) == by_set
        file.write_text(dump_yaml(by_set))
        assert load_config(TrainConfig, file) == by_set


def test_python_may_say_false_for_off():
    """As it is written in the config of other trainers."""
    assert TrainConfig.model_validate({"runtime": {"amp": False}}).runtime.amp == "off"


def test_a_comment_that_swallows_a_value_is_explained(tmp_path):
    """`background: #808080` in a file has no value."""
    file = tmp_path / "c.yaml"
    file.write_text("data:\n  background: #808080\n")
    with pytest.raises(ConfigError, match=r"has no value.*# begins a comment"):
        load_config(TrainConfig, file)


def test_a_file_with_a_value_for_a_group_is_named(tmp_path):
    """`model: resnet18` beside a typed --model is the file's mistake, not the option's."""
    file = tmp_path / "flat.yaml"
    file.write_text("model: resnet18\n")
    with pytest.raises(ConfigError, match=r"flat\.yaml: `model` is a group .* one of them is mod"):
        load_config(TrainConfig, file, options={"model.name": "resnet50"})


@pytest.mark.parametrize(
    ("option", "typed", "value"),
    [
        ("--top-k", "1, 3,7", (1, 3, 7)),
        ("--by", "site, camera", ("site", "camera")),
        ("--fail-under", "accuracy=0.8, f1_macro=.5", {"accuracy": 0.8, "f1_macro": 0.5}),
    ],
)
def test_commas_are_the_command_lines_way_to_write_a_list(option, typed, value):
    """In the config it is a tuple, or a mapping."""
    name = option.removeprefix("--").replace("-", "_")
    field = next(o for o in option_fields(EvaluateConfig) if o.path == name)
    config = load_config(EvaluateConfig, options={name: split_at_commas(field, typed)})
    assert getattr(config, name) == value


@pytest.mark.parametrize(
    ("name", "typed", "words"),
    [
        ("top_k", "1,0", "'0'"),
        ("top_k", "1,,3", "''"),
        ("by", "site,", "''"),
        ("fail_under", "accuracy", "'accuracy'"),
        ("fail_under", "accuracy=0.5,accuracy=0.6", "'accuracy=0.5,accuracy=0.6'"),
        ("fail_under", "accuracy=high", "'high'"),
    ],
)
def test_a_wrong_list_is_one_line(name, typed, words):
    """With the part that is wrong and what is allowed."""
    field = next(o for o in option_fields(EvaluateConfig) if o.path == name)
    with pytest.raises(ConfigError) as caught:
        load_config(EvaluateConfig, options={name: split_at_commas(field, typed)})
    assert f"{words} is not allowed; expected" in str(caught.value)
