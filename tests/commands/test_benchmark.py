"""`imgcls benchmark`: settings, agreement, the largest batch, the best setting, the baseline."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny_config
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from imgcls import BenchmarkConfig, benchmark
from imgcls.engine.device.batches import ComputeSettings
from imgcls.jobs.benchmark import settings
from imgcls.jobs.benchmark.pipeline import bottleneck
from imgcls.jobs.benchmark.single import agreement
from imgcls.jobs.benchmark.subject import Subject, open_subject
from imgcls.jobs.benchmark.verdicts import best_setting
from imgcls.results.benchmark import Agreement

QUICK = ("--img-size", "32", "--num-samples", "8", "--device", "cpu")


def report_of(done):
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_it_reports_what_it_timed(command):
    """One JSON document; samples rounded up to whole batches; throughput is over total time."""
    done = command(
        "benchmark", "test_resnet", "--batch-size", "4", "--num-samples", "10", "--json",
        "--device", "cpu",
    )  # fmt: skip
    report = report_of(done)
    [result] = report["results"]
    assert report["device"] == "cpu"
    assert result["timed_batches"] == 3
    speed = result["speed_metrics"]
    assert speed["samples_tested"] == 12
    assert speed["throughput_samples_per_sec"] == pytest.approx(
        4 / (result["latency_mean_ms"] / 1e3), rel=1e-6
    )
    assert result["latency_p50_ms"] <= result["latency_p90_ms"] <= result["latency_p99_ms"]
    assert result["parameters"] == 373367 - 96 * 7 - 7 + 96 * 1000 + 1000
    assert result["images_per_sec_per_core"] == pytest.approx(
        speed["throughput_samples_per_sec"] / report["threads"]
    )


def test_every_combination_is_a_row(command, tmp_path):
    """Models, batch sizes, precisions and backends; on the screen, in the CSV and the picture."""
    done = command(
        "benchmark", "test_resnet", "test_vit", "--batch-size", "1,2", "--precision",
        "fp32,off,bf16", "--no-channels-last", "--num-samples", "4", "--device", "cpu",
        "--csv", "t.csv", "--plot", "p.png",
    )  # fmt: skip
    assert done.code == 0, done.err
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(r["model_name"], r["precision"], r["batch_size"]) for r in rows] == [
        (model, precision, size)
        for model in ("test_resnet", "test_vit")
        for precision in ("fp32", "bf16")
        for size in "12"
    ]
    assert all((r["largest_difference"] == "") == (r["precision"] == "fp32") for r in rows)
    assert done.out.count("torch bf16") == 4
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_a_checkpoint_is_timed_at_its_own_size(command, photos):
    """By its run folder."""
    from imgcls import Trainer

    trainer = Trainer.begin(tiny_config(photos, optim={"epochs": 1}))
    trainer.train_fold(0)
    report = report_of(command("benchmark", trainer.run, "--num-samples", "2", "--json"))
    assert report["results"][0]["input_size"] == [3, 32, 32]


def test_agreement_is_in_standard_deviations():
    """The largest difference over the spread, and the share of the same highest class."""
    reference = np.array([[0.0, 2.0], [2.0, 0.0]])  # standard deviation 1
    found = agreement(reference, np.array([[0.0, 2.0], [0.5, 1.0]]))
    assert (found.largest_difference, found.same_top_1) == (1.5, 0.5)


def test_training_is_timed(command):
    """Forward, backward and step; one picture alone is too few for batch norm."""
    train = ("benchmark", "test_resnet", *QUICK, "--train")
    report = report_of(command(*train, "--batch-size", "4", "--json"))
    assert report["results"][0]["mode"] == "training"
    done = command(*train, "--batch-size", "1")
    assert done.code == 2
    assert "at least 2 pictures to train" in done.error_lines[0]


@given(st.integers(0, 5000), st.integers(1, 4096))
def test_bisection_finds_the_largest_batch(most, limit):
    """To a sixteenth of itself, never one that does not fit, and no size is tried twice."""
    asked = []

    def fits(size):
        asked.append(size)
        return size <= most

    found = settings.largest_batch(fits, limit)
    best = min(most, limit)
    assert found <= best
    assert best - found <= found // 16
    assert len(asked) == len(set(asked))
    assert max(asked) <= limit


class Hungry(nn.Module):
    """Fits five pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 2)

    def forward(self, images):
        if len(images) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.layer(images.mean((1, 2, 3))[:, None])


def test_the_search_survives_running_out_of_memory():
    """And says why it went no further."""
    preprocessing = open_subject("test_resnet", "auto").preprocessing
    subject = Subject("hungry", "hungry", Hungry().eval(), preprocessing, None, None)
    compute = ComputeSettings(torch.device("cpu"))
    for train in (False, True):
        found = settings.find_batch_size(subject, compute, train=train)
        assert found == (5, "larger ones run out of memory")


def test_the_search_leaves_the_system_its_memory(monkeypatch):
    """On a CPU, where running out would end some process."""
    monkeypatch.setattr(settings, "available_memory_mib", lambda: 100.0)
    subject = open_subject("test_resnet", 64)
    size, reason = settings.find_batch_size(
        subject, ComputeSettings(torch.device("cpu")), train=True
    )
    assert reason == "larger ones would leave too little memory"
    # how far it comes depends on what the process has freed before and still holds
    assert 1 < size < 4096


@pytest.mark.slow
def test_the_best_setting_is_one_to_paste(command, monkeypatch):
    """The fastest that agrees; what it prints is a command that runs."""
    monkeypatch.setattr(settings, "BACKENDS", ("torch", "openvino"))
    done = command("benchmark", "test_resnet", *QUICK, "--batch-size", "2", "--find-best", "--json")
    report = report_of(done)
    ways = {(r["backend"], r["precision"], r["channels_last"]) for r in report["results"]}
    assert ways == {
        ("torch", "fp32", False), ("torch", "fp32", True), ("torch", "bf16", False),
        ("torch", "bf16", True), ("openvino", "fp32", False), ("openvino", "bf16", False),
    }  # fmt: skip
    [best] = report["best"]
    agreeing = [
        r["speed_metrics"]["throughput_samples_per_sec"]
        for r in report["results"]
        if r["agreement"] is None or r["agreement"]["largest_difference"] <= best["tolerance"]
    ]
    assert best["images_per_sec"] == max(agreeing)
    assert best["speedup"] >= 1.0
    assert command(*best["command"].split()[1:], *QUICK).code == 0


@pytest.mark.parametrize(
    ("mode", "backend", "trained", "expected"),
    [
        ("training", "compile", False,
         "imgcls train --model test_resnet --batch-size 2 --amp bf16 --channels-last --compile"),
        ("inference", "torch", True,
         "imgcls evaluate 'my run' --batch-size 2 --amp bf16 --channels-last"),
        ("inference", "torch", False,
         "imgcls benchmark 'my run' --backend torch --batch-size 2 --amp bf16 --channels-last"),
        ("inference", "openvino", True,
         "imgcls benchmark 'my run' --backend openvino --batch-size 2 --amp bf16"),
    ],
)  # fmt: skip
def test_what_to_paste_is_the_command_that_has_the_options(mode, backend, trained, expected):
    """train for training, evaluate for a checkpoint in torch, benchmark for the rest."""
    config = BenchmarkConfig(
        models=("test_resnet",), img_size=32, num_samples=2, device="cpu", channels_last=False
    )
    [plain] = benchmark(config).results
    speed = plain.speed_metrics
    fast = {**speed, "throughput_samples_per_sec": 3 * speed["throughput_samples_per_sec"]}
    way = {"mode": mode, "backend": backend, "precision": "bf16", "channels_last": True}
    quick = replace(plain, **way, batch_size=2, speed_metrics=fast, agreement=Agreement(0.005, 1.0))
    wrong = replace(quick, batch_size=4, agreement=Agreement(0.5, 1.0))
    subject = replace(
        open_subject("test_resnet", 32), name="my run", checkpoint=Path("x") if trained else None
    )
    best = best_setting(subject, [plain, quick, wrong], 0.01)
    assert best.command == expected
    assert best.speedup == pytest.approx(3.0)


def test_files_to_logits_and_what_limits(command, photos):
    """The stages of the loop make up its time."""
    for extra in ((), ("--train",)):
        done = command(
            "benchmark", "test_resnet", *QUICK, "--data", photos, "--batch-size", "4", "--workers",
            "0", "--json", *extra,
        )  # fmt: skip
        [result] = report_of(done)["results"]
        times = result["pipeline"]
        assert times["pictures"] == 8
        loop_ms = times["copy_ms"] + times["compute_ms"]
        whole_ms = result["speed_metrics"]["avg_time_per_sample_ms"]
        assert loop_ms / whole_ms == pytest.approx(1 - times["idle_share"], abs=0.01)
        assert times["decode_ms"] > 0 < times["transform_ms"]
        assert times["bottleneck"] in ("decode", "transform", "copy", "compute")


@pytest.mark.parametrize(
    ("device", "workers", "idle_share", "expected"),
    [
        ("cuda", 2, 0.3, "decode"), ("cuda", 2, 0.05, "compute"), ("cuda", 0, 0.4, "compute"),
        ("cuda", 0, 0.6, "decode"), ("cpu", 2, 0.3, "compute"), ("cpu", 2, 0.6, "decode"),
    ],
)  # fmt: skip
def test_the_bottleneck_is_what_the_loop_waits_for(device, workers, idle_share, expected):
    """Pictures when it waits for them, otherwise the model; a CPU is shared by both."""
    stage, advice = bottleneck(
        decode_ms=3.0, transform_ms=1.0, copy_ms=0.1, compute_ms=2.0,
        workers=workers, idle_share=idle_share, device_type=device,
    )  # fmt: skip
    assert stage == expected
    assert ("--workers" in advice) == (expected == "decode")


def test_a_baseline_tells_noise_from_change(command, tmp_path):
    """Beside itself; beside a report twice as fast; and a setting that it lacks."""
    report = report_of(command("benchmark", "test_resnet", *QUICK, "--json"))
    [result] = report["results"]
    result["block_medians_ms"] = [ms / 10 for ms in result["block_medians_ms"]]
    (tmp_path / "fast.json").write_text(json.dumps(report))
    done = command(
        "benchmark", "test_resnet", *QUICK, "--batch-size", "1,2", "--baseline", "fast.json",
        "--json",
    )  # fmt: skip
    verdicts = [change["verdict"] for change in report_of(done)["changes"]]
    assert verdicts == ["slower", "not in the baseline"]


def test_settings_that_cannot_be_are_left_out_of_several(command):
    """With the reason; alone they are an error."""
    done = command("benchmark", "test_resnet", *QUICK, "--precision", "fp32,fp16")
    assert done.code == 0
    assert "note: left out: --amp fp16: needs a GPU" in done.err
    for ways in (("--precision", "fp16"), ("--backend", "onnxruntime", "--amp", "bf16,fp16")):
        done = command("benchmark", "test_resnet", *QUICK, *ways)
        assert done.code == 2
        assert len(done.error_lines) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--batch-size", "8,x"), "a whole number >= 1 or auto; several with commas"),
        (("--precision", "fp8"), "'fp8' is not allowed; expected auto, off, bf16 or fp16"),
        (("--backend", "tensorrt"), "onnxruntime"),
        (("--train", "--backend", "openvino"), "do not train"),
        (("--find-best", "--backend", "compile"), "leave out --data, --backend and --compile"),
        (("--data", "digits", "--batch-size", "auto"), "needs a --batch-size in numbers"),
        (("--data", "digits", "--batch-size", "4096"), "more than the 1797 pictures"),
        (("--baseline", "none.json"), "no such file"),
        (("--baseline", "own.json"), "is not what `imgcls benchmark --json` prints"),
        (("--plot", "p.pdf"), "neither a .png nor a .svg"),
    ],
)
def test_wrong_requests_are_one_line(command, tmp_path, arguments, words):
    """Exit 2 before anything is timed."""
    (tmp_path / "own.json").write_text('{"results": [{}]}')
    done = command("benchmark", "test_resnet", *arguments)
    assert done.code == 2
    assert len(done.error_lines) == 1
    assert words in done.error_lines[0]
