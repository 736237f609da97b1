"""Damaged and forged checkpoints: refused with imgcls's own error, or harmless."""

from __future__ import annotations

import json
import random
import shutil
import sys
import time

import pytest
import torch
from forging import FILES, flip, forge, reseal

from imgcls.config.load import load_config
from imgcls.config.model import ModelConfig
from imgcls.config.run import TrainConfig
from imgcls.engine.checkpoint.folder import (
    load_checkpoint,
    read_checkpoint,
    read_state,
    save_checkpoint,
    take_snapshot,
)
from imgcls.errors import ImgclsError
from imgcls.models.build import create_model
from imgcls.models.card import (
    model_card,
    model_from_card,
    preprocessing_from_card,
    preprocessing_of,
)
from imgcls.results.checkpoint import Sidecar
from imgcls.storage.runs import fold_is_finished

# files opened while a forged checkpoint is read
opened: list[str] = []
watching = [False]


def _audit(event, arguments):
    if watching[0] and event == "open" and isinstance(arguments[0], str):
        opened.append(arguments[0])
    if watching[0] and event in {"os.system", "subprocess.Popen", "os.remove", "socket.connect"}:
        opened.append(event)


sys.addaudithook(_audit)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    config = ModelConfig(name="test_vit", num_classes=2, img_size=32, pretrained=False)
    model = create_model(config)
    facts = preprocessing_of(model, "crop")
    state = {
        "progress": {"epoch": 1, "step": 5},
        "optimizer": {0: {"m": torch.ones(4), "t": (1, None, float("inf"))}},
    }
    return save_checkpoint(
        take_snapshot(
            model,
            model_card(model, ["a", "b"], facts),
            Sidecar(class_names=("a", "b"), epoch=1, step=5, config={}),
            state,
        ),
        tmp_path_factory.mktemp("fuzz") / "step-00000005",
    )


def use(folder) -> None:
    """All that evaluate and resume do with a checkpoint."""
    found = read_checkpoint(folder)
    preprocessing_from_card(found.card)
    model = model_from_card(found.card)
    load_checkpoint(model, folder)
    read_state(found)


@pytest.mark.parametrize(
    "cases",
    [
        pytest.param(400, id="short"),
        pytest.param(
            10_500,
            id="long",
            marks=[pytest.mark.slow, pytest.mark.record, pytest.mark.timeout(1800)],
        ),
    ],
)
def test_no_damage_does_harm(original, tmp_path, cases):
    """No traceback, no long wait, no file outside the folder, nothing run."""
    rng = random.Random(cases)
    folder = tmp_path / original.name
    refused = harmless = 0
    for case in range(cases):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(original, folder)
        name = rng.choice(FILES)
        file = folder / name
        sealed = rng.random() < 0.8
        if name.endswith(".json") and rng.random() < 0.7:
            file.write_text(json.dumps(forge(json.loads(file.read_text()), rng)))
        else:
            file.write_bytes(flip(file.read_bytes(), rng))
        if sealed:
            try:
                reseal(folder)
            except ValueError:
                pass  # no JSON any more
        start = time.monotonic()
        opened.clear()
        watching[0] = True
        try:
            use(folder)
            harmless += 1
        except ImgclsError as error:
            refused += 1
            assert str(error)
            assert "\n" not in str(error)
        finally:
            watching[0] = False
        fold_is_finished(folder.parent)
        assert time.monotonic() - start < 30, case
        foreign = [p for p in opened if not p.startswith(str(folder)) and "site-packages" not in p]
        assert [p for p in foreign if not p.startswith((sys.prefix, sys.base_prefix))] == []
    print(f"\n{cases} damaged checkpoints: {refused} refused, {harmless} harmless")
    assert refused > cases / 2


@pytest.mark.parametrize(
    "cases",
    [pytest.param(300, id="short"), pytest.param(5000, id="long", marks=pytest.mark.slow)],
)
def test_no_config_file_does_harm(tmp_path, cases):
    """A damaged config.yaml is a ConfigError or a config."""
    rng = random.Random(cases)
    from imgcls.config.load import dump_yaml

    content = dump_yaml(TrainConfig()).encode()
    refused = 0
    for _ in range(cases):
        file = tmp_path / "config.yaml"
        if rng.random() < 0.5:
            file.write_bytes(flip(content, rng))
        else:
            import yaml

            file.write_text(json.dumps(forge(yaml.safe_load(content), rng)))
        try:
            load_config(TrainConfig, file)
        except ImgclsError as error:
            refused += 1
            assert "\n" not in str(error)
    print(f"\n{cases} damaged configs: {refused} refused")
    assert refused > cases / 3
