"""Every kind of data through the commands: trained on, evaluated, gone on with, repeated."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import OFFLINE, tiny_config
from safetensors.torch import load_file

from imgcls.config.reading import ReadingConfig
from imgcls.config.reference import option_reference
from imgcls.engine.checkpoint.folder import read_checkpoint
from imgcls.jobs.plan.plan import make_plan
from imgcls.jobs.plan.tables import checkpoint_table
from imgcls.jobs.train.assemble import assemble
from imgcls.storage.pointers import find_checkpoint

ROOT = Path(__file__).parents[2]
TINY = (
    "--model", "test_resnet", "--no-pretrained", "--img-size", "32", "--epochs", "1", "--lr",
    "1e-3", "--device", "cpu", "--workers", "0",
)  # fmt: skip


def rows_of(photos):
    """(path below the photos' parent, class, patient) of each."""
    files = sorted(photos.glob("*/*.jpg"))
    return [
        (f.relative_to(photos.parent).as_posix(), f.parent.name, f"p{int(f.stem) // 2}")
        for f in files
    ]


def write_csv(file, header, rows):
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])


@pytest.fixture
def data(photos, tmp_path):
    """The same pictures in every form that the README names."""
    rows = rows_of(photos)
    names = sorted({label for _, label, _ in rows})
    write_csv(tmp_path / "birds.csv", ["path", "species"], [row[:2] for row in rows])
    write_csv(tmp_path / "new-birds.csv", ["path", "species"], [row[:2] for row in rows[::3]])
    write_csv(tmp_path / "scans.csv", ["path", "label", "patient"], rows)
    (tmp_path / "birds").mkdir()
    feature = {"label": {"names": names, "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": feature}})}
    for number in range(2):
        part = rows[number::2]
        pictures = [{"bytes": (tmp_path / p).read_bytes(), "path": Path(p).name} for p, *_ in part]
        table = pa.table({
            "image": pa.array(pictures, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            "label": [names.index(label) for _, label, _ in part],
        })  # fmt: skip
        table = table.replace_schema_metadata(metadata)
        pq.write_table(table, tmp_path / "birds" / f"data-{number:05d}-of-00002.parquet")
        with tarfile.open(tmp_path / f"birds-{number:03d}.tar", "w") as archive:
            for index, (path, label, _) in enumerate(part):
                for suffix, content in (
                    ("jpg", (tmp_path / path).read_bytes()),
                    ("cls", label.encode()),
                ):
                    info = tarfile.TarInfo(f"{index:04d}.{suffix}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
    return tmp_path


def section(title):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.search(rf"^## {title}\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)[1]


def readme_commands():
    lines = re.findall(r"^    imgcls (.*)$", section("Your data"), re.MULTILINE)
    return [tuple(shlex.split(line, comments=True)) for line in lines]


def test_the_readme_has_an_example_for_each_source():
    """Folder, table, Parquet, tar, digits, groups, other data, the audit."""
    shown = "\n".join(" ".join(line) for line in readme_commands())
    for words in ("train photos", ".csv", ".parquet", ".tar", "digits", "--group-col", "--data"):
        assert words in shown


def test_the_readmes_commands_run_as_they_stand(data, command):
    """In turn, with a tiny model where one is trained; evaluate takes the model of the folder."""
    lines = readme_commands()
    first = [line for line in lines if line[:2] == ("train", "photos")]
    others = [line for line in lines if line[0] == "train" and line not in first]
    rest = [line for line in lines if line[0] != "train"]
    assert all((first, others, rest))
    for line in first + rest + others:
        tiny = TINY if line[0] == "train" else ()
        if line[:2] == ("train", "digits"):
            tiny = (*tiny, "--batch-size", "512")
        done = command(*line, *tiny)
        assert done.code == 0, (line, done.err)


def test_the_page_names_no_option_that_does_not_exist():
    """examples/your_data.md, against the declarations."""
    page = (ROOT / "examples" / "your_data.md").read_text(encoding="utf-8")
    named = set(re.findall(r"--[a-z][a-z-]+", page))
    assert named
    assert named <= set(re.findall(r"--[a-z][a-z-]+", option_reference()))


def only_run(folder):
    [run] = (folder / "outputs").iterdir()
    return run


def splits(run):
    with (run / "splits.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


SOURCES = {
    "table": ("birds.csv", "--label-col", "species"),
    "parquet": ("birds/*.parquet",),
    "tar": ("birds-{000..001}.tar",),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_a_run_on_any_source_is_evaluated_extended_and_repeated(data, command, kind, monkeypatch):
    """From another folder too: what the run keeps says where the data are and how to read them."""
    assert command("train", *SOURCES[kind], *TINY, "--workers", "1").code == 0
    run = only_run(data)
    (data / "elsewhere").mkdir()
    monkeypatch.chdir(data / "elsewhere")
    scored = command("evaluate", run, "--json")
    assert json.loads(scored.out)["metrics"]["samples"] == 7, scored.err
    assert command("train", "--config", run / "config.yaml", "--output", "again").code == 0
    [again] = (data / "elsewhere" / "again").iterdir()
    assert splits(again) == splits(run)
    assert same_weights(run, again)
    assert command("resume", run, "--epochs", "2").code == 0
    history = (run / "fold_0" / "history.csv").read_text().splitlines()
    assert len(history) == 3


@pytest.mark.parametrize("kind", ["parquet", "tar"])
def test_the_number_of_workers_changes_no_shard(data, kind):
    """Bit for bit, whichever process opens the files; none is shared over a fork."""
    config = {"source": str(data / SOURCES[kind][0]), "batch_size": 8}
    seen = []
    for workers in (0, 2):
        plan = make_plan(tiny_config(data=config, runtime={"workers": workers}))
        plan.data.table.images.content(0)
        steps = assemble(plan, 0).parts.train_batches.steps(1)
        seen.append([batch for step in steps for batch in step])
    for one, two in zip(*seen, strict=True):
        assert one.keys == two.keys
        assert torch.equal(one.images, two.images)


def test_a_pattern_that_the_shell_has_expanded_is_told(data, command):
    """One line with what to type, not a list of shards."""
    for shards in (data.glob("*.tar"), (data / "birds").glob("*.parquet")):
        done = command("train", *shards)
        assert done.code == 2
        assert "quote a pattern" in done.error_lines[0]


def weights(run):
    return load_file(run / "fold_0" / "checkpoints" / "last" / "model.safetensors")


def same_weights(one, two):
    a, b = weights(one), weights(two)
    return all(torch.equal(a[key], b[key]) for key in a)


def test_a_table_of_a_folder_trains_the_same_model(photos, command, tmp_path):
    """Bit for bit: the source changes neither split, nor order, nor pixels."""
    rows = [(path.removeprefix("photos/"), label) for path, label, _ in rows_of(photos)]
    write_csv(tmp_path / "m.csv", ["path", "label"], rows[::-1])
    assert command("train", photos, *TINY, "--output", "a").code == 0
    assert command("train", "m.csv", "--root", photos, *TINY, "--output", "b").code == 0
    [one], [two] = (list((tmp_path / name).iterdir()) for name in "ab")
    assert splits(one) == splits(two)
    assert same_weights(one, two)


def test_a_runs_splits_are_a_table_too(photos, command, tmp_path):
    """splits.csv given back as DATA keeps every picture where it was."""
    assert command("train", photos, *TINY).code == 0
    run = only_run(tmp_path)
    done = command("train", run / "splits.csv", "--root", photos, *TINY, "--output", "b")
    assert done.code == 0, done.err
    [again] = (tmp_path / "b").iterdir()
    assert splits(again) == splits(run)


def test_group_folds_keep_patients_whole_and_are_named(data, command):
    """No patient is trained on and validated; summary.json names the splitter, resumed or not."""
    done = command("train", "scans.csv", "--group-col", "patient", "--folds", "3", *TINY)
    assert done.code == 0, done.err
    assert "StratifiedGroupKFold(3)" in done.err
    run = only_run(data)
    rows = splits(run)
    places = {}
    for row in rows:
        places.setdefault(row["group"], set()).add((row["split"], row["fold"]))
    assert len(places) == 10
    assert all(len(where) == 1 for where in places.values())
    assert {row["fold"] for row in rows} == {"0", "1", "2", ""}
    for _ in range(2):
        summary = json.loads((run / "summary.json").read_text())
        assert summary["splitter"] == "StratifiedGroupKFold(3)"
        assert command("resume", run, "--epochs", "2").code == 0


def test_folds_of_the_table_are_taken_without_an_option(data, command):
    """A fold column makes a cross-validation; nothing is held out that it does not hold out."""
    rows = [(p, c, int(Path(p).stem) % 2 + 1) for p, c, _ in rows_of(data / "photos")]
    write_csv(data / "folds.csv", ["path", "label", "fold"], rows)
    done = command("train", "folds.csv", *TINY)
    assert done.code == 0, done.err
    summary = json.loads((only_run(data) / "summary.json").read_text())
    assert (summary["folds"], summary["splitter"]) == (2, "folds given by the data")


def test_other_tables_are_read_as_the_runs_own_unless_told(data, command):
    """--label-col and --root hold for evaluate --data, and can be given again."""
    (data / "elsewhere").mkdir()
    rows = [(path, label) for path, label, _ in rows_of(data / "photos")]
    write_csv(data / "elsewhere" / "a.csv", ["path", "species"], rows)
    write_csv(data / "elsewhere" / "b.csv", ["file", "kind"], [r for r in rows if r[1] == "china"])
    table = (data / "birds.csv", "--label-col", "species", "--root", data)
    assert command("train", *table, *TINY).code == 0
    scored = command("evaluate", "--data", "elsewhere/a.csv", "--no-report", "--json")
    assert json.loads(scored.out)["metrics"]["samples"] == 48, scored.err
    refused = command("evaluate", "--data", "elsewhere/b.csv")
    assert refused.code == 2
    assert "no column 'path'; its columns are file, kind" in refused.err
    given = ("--path-col", "file", "--label-col", "kind")
    one_class = command("evaluate", "--data", "elsewhere/b.csv", *given, "--json")
    assert json.loads(one_class.out)["metrics"]["samples"] == 20, one_class.err


def test_pictures_are_decoded_as_in_training_wherever_the_model_goes(data, command, photos):
    """Channels, background and limit belong to the run; the limit alone can be changed."""
    changed = ("--in-chans", "1", "--background", "black", "--max-image-pixels", "5000")
    assert command("train", photos, *TINY, *changed).code == 0
    run = only_run(data)
    checkpoint = read_checkpoint(find_checkpoint(run))
    for other, reading, pixels in (
        (None, ReadingConfig(), 5000),
        (str(photos), ReadingConfig(), 5000),
        (str(photos), ReadingConfig(max_image_pixels=6000), 6000),
    ):
        images = checkpoint_table(checkpoint, other, reading).images
        assert images.open(0).mode == "L"
        assert images.decoding.background == "black"
        assert images.decoding.max_pixels == pixels
    for arguments in (("--data", photos), ("--split", "val", "--no-report")):
        assert command("evaluate", *arguments).code == 0
    refused = command("evaluate", "--max-image-pixels", "2000")
    assert refused.code != 0
    assert "more than 2000 pixels" in refused.err
    assert "--max-image-pixels" in refused.err


@pytest.mark.parametrize("channels", ["2", "4"])
def test_transparency_may_be_a_channel(photos, command, channels):
    """Trained and evaluated; --aa, which cannot handle it, is refused."""
    assert command("train", photos, *TINY, "--in-chans", channels).code == 0
    assert command("evaluate").code == 0
    done = command("train", photos, *TINY, "--in-chans", channels, "--aa", "rand-m9")
    assert done.code == 2
    assert f"--in-chans {channels}" in done.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--background", "blurple"), "'blurple' is no colour"),
        (("--label-col", "x"), "--label-col says nothing about data of this kind"),
        (("--group-regex", "("), "--group-regex"),
        (("--group-regex", "nothing"), "finds nothing"),
        (("--group-col", "a", "--group-regex", "b"), "give one"),
        (("--in-chans", "5"), "--in-chans"),
        (("--max-image-pixels", "0"), "--max-image-pixels"),
    ],
)
def test_wrong_ways_to_read_are_one_line(photos, command, options, words):
    """Exit 2, before anything is made."""
    done = command("train", photos, *TINY, *options)
    assert done.code == 2
    assert len(done.error_lines) == 1
    assert words in done.error_lines[0]


def test_data_with_the_longest_name_can_be_scored(command, photos, tmp_path):
    """Its results get a folder of a shorter name, and two such folders get two."""
    assert command("train", "photos", *OFFLINE, "--epochs", "1", "--name", "r").code == 0
    for end in "ab":
        long = "\u00e9" * 127 + end
        (tmp_path / long).symlink_to(photos)
        score = ("--data", long, "--ci", "none", "--no-report", "--exclude-trained")
        done = command("evaluate", "outputs/r", *score, "--device", "cpu")
        assert done.code == 0, done.err
    assert len(list((tmp_path / "outputs/r/fold_0/test_results").glob("data-*"))) == 2
