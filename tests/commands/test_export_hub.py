"""`imgcls export --format hf`: a model folder that others open, and a card that says what it is."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from imgcls.cli.boundary import run
from imgcls.engine.checkpoint.folder import read_checkpoint
from imgcls.engine.checkpoint.temperature import Temperature, temperature_file
from imgcls.jobs.export import hub, pictures
from imgcls.storage.pointers import find_checkpoint

# a process in which imgcls cannot be imported runs the lines of the card, and prints all of them
WITHOUT_IMGCLS = """
import json, sys
sys.modules["imgcls"] = None
{lines}
found = {{}}
for path in {paths}:
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    with torch.inference_mode():
        found[path] = {scaled}.softmax(-1)[0].tolist()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """A folder with photos/, a run that was evaluated and calibrated, and its export."""
    root = tmp_path_factory.mktemp("hub")
    shutil.copytree(trained / "photos", root / "photos")
    shutil.copytree(trained / "outputs/single", root / "outputs/single")
    single = str(root / "outputs/single")
    best = read_checkpoint(find_checkpoint(Path(single)))
    file, text = temperature_file(best, Temperature(0.5, "val", 9))
    file.write_text(text)
    common = ("--device", "cpu", "--workers", "0", "--quiet")
    assert run(["evaluate", single, *common, "--no-report"]) == 0
    assert run(["export", single, "--format", "hf", "--quiet"]) == 0
    return root


@pytest.fixture
def folder(exported):
    return exported / "outputs/single/fold_0/exports/hf"


def card_of(folder):
    return ModelCard.load(folder / "README.md")


def evaluated(root, name):
    return root / "outputs/single/fold_0/test_results/test" / name


def rows_of(file):
    with file.open(encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


@pytest.mark.slow
def test_the_cards_own_lines_give_the_runs_probabilities_without_imgcls(exported, folder):
    """timm builds the model from the folder; the temperature is divided by as the card says."""
    lines = re.search(r"```python\n(import timm.*?)```", card_of(folder).text, re.DOTALL)[1]
    rows = rows_of(evaluated(exported, "predictions.csv"))
    paths = [str(exported / "photos" / row["path"].removeprefix("photos/")) for row in rows]
    scaled = re.search(r"probabilities = (.*)\.softmax", lines)[1]
    lines = lines.replace("hf-hub:user/name", f"local-dir:{folder}").replace(
        "picture.jpg", paths[0]
    )
    script = WITHOUT_IMGCLS.format(
        lines=lines, paths=paths, scaled=scaled.replace("logits", "model(transform(image)[None])")
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    first, found = done.stdout.splitlines()
    found = json.loads(found)
    assert first.startswith(f"{rows[0]['predicted']} tensor(")
    names = json.loads((folder / "config.json").read_text())["label_names"]
    for path, row in zip(paths, rows, strict=True):
        expected = [float(row[f"prob_{name}"]) for name in names]
        assert found[path] == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_transformers_pipeline_says_the_same_classes(exported, folder, monkeypatch):
    """From the folder alone, offline; its scores are without the temperature."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pytest.importorskip("transformers", reason="pip install transformers")
    paths = sorted((exported / "photos").glob("*/*.jpg"))
    script = (
        "import json\n"
        "from transformers import pipeline\n"
        f"classify = pipeline('image-classification', model={str(folder)!r}, device='cpu')\n"
        f"print(json.dumps([classify(path)[0]['label'] for path in {list(map(str, paths))}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    out = exported / "classes.csv"
    assert (
        run(["predict", str(exported / "photos"), "--checkpoint", str(folder), "-o", str(out)]) == 0
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [row["label"] for row in rows_of(out)]


def test_imgcls_classifies_with_the_folder_as_with_the_run(exported, folder, command):
    """Its temperature lies beside the weights; `evaluate` takes the folder, too."""
    for name, checkpoint in (("run", exported / "outputs/single"), ("folder", folder)):
        done = command(
            "predict", exported / "photos", "--checkpoint", checkpoint, "-o", f"{name}.csv"
        )
        assert done.code == 0, done.err
    assert rows_of(Path("run.csv")) == rows_of(Path("folder.csv"))
    copy = Path("downloaded")
    shutil.copytree(folder, copy)
    report = json.loads(
        command("evaluate", copy, "--data", exported / "photos", "--no-report", "--json").out
    )
    assert report["metrics"]["samples"] == 36
    assert report["calibration"]["temperature"] == 0.5


def test_the_metadata_hold_what_the_evaluation_found(exported, folder):
    """huggingface_hub reads them; each result is the number of test_metrics.json, with interval."""
    data = card_of(folder).data
    found = json.loads(evaluated(exported, "test_metrics.json").read_text())
    assert (data.library_name, data.pipeline_tag) == ("timm", "image-classification")
    assert data.base_model is None  # from scratch
    results = {one.metric_name: one for one in data.eval_results}
    accuracy = results["Accuracy"]
    assert accuracy.metric_value == found["metrics"]["accuracy"]
    assert accuracy.metric_args["interval_95"] == found["intervals"]["accuracy"]
    assert accuracy.dataset_split == "test"
    assert results["F1 (macro)"].metric_value == found["metrics"]["f1_macro"]


def test_the_card_says_how_good_on_what_and_where_it_ends(exported, folder):
    """Intervals, calibration, counts, split, limits, recipe and licence; rendered as tables."""
    from markdown_it import MarkdownIt

    text = card_of(folder).text
    for words in (
        "that training neither saw nor chose anything by", "| 95% interval |", "bootstrap of",
        "Few pictures", "**0.5000**", "(logits / 0.5)", "| Calibration error |",
        "How they were split: stratified by hash", "No groups were given", "Not checked:",
        "| --model | test\\_resnet |", "imgcls train photos --config imgcls.yaml",
        "trained from scratch: no one else's weights", "put `license:` into the metadata",
    ):  # fmt: skip
        assert words in text, words
    html = MarkdownIt("commonmark").enable("table").render(text)
    assert html.count("<table>") >= 5
    assert "<td>china</td>" in html
    assert "|" not in re.sub(r"<(pre|code).*?</\1>", "", html, flags=re.DOTALL)


def test_the_config_beside_it_repeats_the_training_and_names_no_folder(exported, folder, command):
    """Nothing that goes to the Hub says where the pictures lay."""
    for file in folder.iterdir():
        if file.suffix in {".md", ".json", ".yaml"}:
            assert str(exported.parent) not in file.read_text(encoding="utf-8"), file.name
    (Path("photos")).symlink_to(exported / "photos")
    config = folder / "imgcls.yaml"
    done = command("train", "photos", "--config", config, "--dry-run", "--json", "--device", "cpu")
    assert done.code == 0, done.err
    plan = json.loads(done.out)
    assert (plan["model_name"], plan["epochs"], plan["img_size"]) == ("test_resnet", 1, 32)


def test_without_a_test_evaluation_the_card_says_that_its_numbers_are_optimistic(trained, command):
    """Those of the best epoch on val, with the exact interval of the accuracy."""
    done = command("export", trained / "outputs/single", "--format", "hf", "--output", "out")
    assert done.code == 0, done.err
    assert "hf upload user/name out/hf . --exclude export.json" in done.out
    assert "first run: imgcls evaluate" in done.err
    card = card_of(Path("out/hf"))
    assert "so the numbers are optimistic" in card.text
    assert "There are no numbers on pictures that nothing was chosen by" in card.text
    assert "exact binomial" in card.text
    accuracy = next(one for one in card.data.eval_results if one.metric_type == "accuracy")
    assert accuracy.dataset_split == "validation"
    low, high = accuracy.metric_args["interval_95"]
    assert low <= accuracy.metric_value <= high


def test_a_model_folder_of_others_is_exported_with_what_it_says(
    exported, folder, command, monkeypatch
):
    """Its licence, and that its training is not recorded."""
    monkeypatch.setattr(pictures, "MOST_PICTURES", 8)
    theirs = Path("theirs")
    shutil.copytree(folder, theirs, ignore=shutil.ignore_patterns("[!cm]*", "calibration.json"))
    config = json.loads((theirs / "config.json").read_text())
    config["pretrained_cfg"] |= {"tag": "r160_in1k", "license": "cc-by-nc-4.0"}
    (theirs / "config.json").write_text(json.dumps(config))
    done = command("export", theirs, "--format", "hf", "--output", "out")
    assert done.code == 0, done.err
    card = card_of(Path("out/hf"))
    assert "How it was trained is not recorded." in card.text
    assert "Nothing is recorded of how well it does" in card.text
    assert "`test_resnet.r160_in1k` of timm" in card.text
    assert "for non-commercial use only" in card.text
    assert card.data.base_model == "timm/test_resnet.r160_in1k"
    assert card.data.eval_results is None


def test_a_folder_that_answers_otherwise_never_appears(trained, command, monkeypatch):
    """timm's own answers are compared with the checkpoint's before anything is shown."""
    real = hub.weights_of_model

    def changed(subject):
        return {k: v + 1 if k == "fc.bias" else v * 2 for k, v in real(subject).items()}

    monkeypatch.setattr(hub, "weights_of_model", changed)
    done = command("export", trained / "outputs/single", "--format", "hf", "--output", "out")
    assert done.code == 1
    assert "does not answer as its checkpoint does" in done.error_lines[0]
    assert not [path for path in Path("out").rglob("*") if path.suffix != ".lock"]


def test_corrupt_results_of_an_evaluation_are_not_taken_for_the_models(trained, command):
    """Scores of other files than were evaluated; the card goes on with those of training."""
    shutil.copytree(trained / "outputs/single", "single")
    shutil.copytree(trained / "photos", "photos")
    results = Path("single/fold_0/test_results/test")
    results.mkdir(parents=True)
    (results / "test_metrics.json").write_text('{"format": "imgcls-evaluation", "metrics": 3}')
    done = command("export", "single", "--format", "hf", "--output", "out")
    assert done.code == 0, done.err
    assert "so the numbers are optimistic" in card_of(Path("out/hf")).text


def test_a_new_card_replaces_the_old_one_and_a_users_readme_stays(trained, command):
    """README.md and config.json are of an hf folder; beside another format they are the user's."""
    arguments = (
        "export",
        trained / "outputs/single",
        "--format",
        "safetensors,hf",
        "--output",
        "out",
    )
    assert command(*arguments).code == 0
    for name in ("hf", "safetensors"):
        for file in ("README.md", "config.json", "notes.txt"):
            Path("out", name, file).write_text("mine")
    assert command(*arguments, "--force").code == 0
    for file in ("README.md", "config.json", "notes.txt"):
        assert Path("out/safetensors", file).read_text() == "mine"
    assert card_of(Path("out/hf")).data.library_name == "timm"
    assert Path("out/hf/config.json").read_text() != "mine"
    assert Path("out/hf/notes.txt").read_text() == "mine"


def test_the_weights_are_those_of_the_checkpoint(exported, folder):
    """Under timm's own key names."""
    own = load_file(exported / "outputs/single/fold_0/checkpoints/best/model.safetensors")
    found = load_file(folder / "model.safetensors")
    assert found.keys() == own.keys()
    assert all(found[key].equal(own[key]) for key in own)
