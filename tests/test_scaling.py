"""The page on scaling: its formulas, its simulation, and that it shows what its scripts print."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "tests" / "benchmarks"
NEVER = math.inf


def loaded(file):
    """A script as a module; its dataclasses look for it by its name."""
    spec = importlib.util.spec_from_file_location(f"script_{file.stem}", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


limits = loaded(ROOT / "examples" / "scaling.py")
simulation = loaded(ROOT / "examples" / "scaling_simulation.py")
data_parallel = loaded(BENCHMARKS / "data_parallel.py")
page = loaded(BENCHMARKS / "scaling_page.py")
Job = simulation.Job


def hours(job, *failures):
    return simulation.hours(job, iter([*failures, NEVER]))


@pytest.mark.slow
def test_the_page_shows_what_its_scripts_print():
    """Each block behind a command; none of the scripts' tables is left out."""
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.filled(text) == text
    shown = set(re.findall(r"^    \$ python examples/(\w+)\.py (\w+)$", text, re.MULTILINE))
    assert shown == {
        *(("scaling", table) for table in limits.TABLES),
        *(("scaling_simulation", table) for table in simulation.TABLES),
    }


def test_the_files_that_the_page_names_exist():
    """Its scripts, and the pages that it leads to."""
    text = page.PAGE.read_text(encoding="utf-8")
    for file in re.findall(r"(?:examples|tests/benchmarks)/[\w/]+\.\w+", text):
        assert (ROOT / file).is_file(), file
    for target in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (ROOT / "examples" / target).exists(), target


def test_one_gpu_sums_nothing():
    """No network, no time."""
    assert limits.all_reduce_s(1, 1e9, limits.NVLINK) == 0


def test_two_gpus_send_as_many_bytes_as_there_are():
    """2 (N - 1) / N is 1 for two, and each bucket has its two hops."""
    network = limits.Network("of 1 GB/s", 1e9)
    found = limits.all_reduce_s(2, 2 * limits.BUCKET_BYTES, network)
    assert found == pytest.approx(2 * limits.BUCKET_BYTES / 1e9 + 4 * limits.HOP_S)


@pytest.mark.parametrize(("gpus", "seen_us"), [(16, 163.4), (32, 319.4), (64, 631.3)])
def test_a_ring_of_the_assumed_hops_takes_what_others_saw(gpus, seen_us):
    """nccl-tests of 8 bytes on 2, 4 and 8 nodes of 8 V100, where NCCL took rings."""
    assert 2 * (gpus - 1) * limits.HOP_S * 1e6 == pytest.approx(seen_us, rel=0.1)


def test_what_the_backward_pass_covers_costs_nothing_but_the_last_bucket():
    """A long step hides all of a large all-reduce, a short one hides little."""
    model = "vit_large_patch16_224"
    slow = limits.NETWORKS[-1]
    long, short = (
        limits.step_of(model, 64, 64 * pictures, slow, cores=1000) for pictures in (10_000, 1)
    )
    assert long.exposed_s == limits.all_reduce_s(64, limits.BUCKET_BYTES, slow)
    assert short.exposed_s == pytest.approx(
        short.reduce_s - limits.BACKWARD_SHARE * short.compute_s
    )
    assert short.limit == "network"
    assert long.limit == "GPU"


def test_few_cores_limit_a_small_model():
    """Whatever the network."""
    step = limits.step_of("mobilenetv3_small_100", 8, 4096, limits.NVLINK, cores=1)
    assert step.limit == "decoding"
    assert step.total_s == step.load_s


@pytest.mark.parametrize(("mean_h", "minutes"), [(24, 117), (6, 57), (0.25, 9.1)])
def test_daly_gives_his_own_examples(mean_h, minutes):
    """Figures 3 to 5 of his paper: saves of 5 minutes."""
    assert 60 * simulation.daly_h(5 / 60, mean_h) == pytest.approx(minutes, rel=0.01)


def test_a_run_without_failures_takes_its_work_and_its_copies():
    """The end is no save: a run of 2 h with a save each half hour has three."""
    assert hours(Job(2, 0.5, 0.1, 0, 1)) == pytest.approx(2.3)


def test_a_failure_costs_what_was_not_saved_and_the_restart():
    """At 1.2 h the save at 1 h is safe."""
    assert hours(Job(2, 0.5, 0, 0, 0.25), 1.2) == pytest.approx(2 + 0.2 + 0.25)


def test_a_failure_in_a_restart_begins_it_anew():
    """0.1 h into the restart behind 1.2 h."""
    assert hours(Job(2, 0.5, 0, 0, 0.25), 1.2, 0.1) == pytest.approx(2 + 0.2 + 0.1 + 0.25)


def test_a_save_that_is_not_written_yet_is_lost():
    """The copy of 0.5 h is on the disk at 0.8 h."""
    job = Job(2, 0.5, 0, 0.3, 0)
    assert hours(job, 0.7) == pytest.approx(2 + 0.7)
    assert hours(job, 0.9) == pytest.approx(2 + 0.4)


def test_a_save_waits_for_the_one_before():
    """Training of half an hour, written in an hour: the second copy is made at 1.5 h."""
    assert hours(Job(1.5, 0.5, 0, 1.0, 0)) == pytest.approx(2.0)


@pytest.mark.parametrize("factor", [0.25, 1, 4])
def test_the_simulation_agrees_with_dalys_exact_cost(factor):
    """Within four of its standard errors."""
    mean_h, save_h = 20.0, 1 / 60
    interval_h = factor * simulation.young_h(save_h, mean_h)
    job = Job(400, interval_h, save_h, 0, 1 / 6)
    mean, error = simulation.overhead(job, mean_h, runs=100)
    exact = simulation.daly_overhead(job, mean_h)
    assert abs(mean - exact) < 4 * error
    assert error < 0.1 * exact


def test_the_best_simulated_interval_is_youngs():
    """Where saves are short beside the time between failures."""
    mean_h, save_h = 23.0, 1 / 60
    young = simulation.young_h(save_h, mean_h)
    job = Job(100, 0, save_h, 0, 1 / 6)
    found, _ = simulation.best_interval_h(job, mean_h, 1.5 * young)
    assert found == pytest.approx(young, rel=0.2)


def test_what_is_written_beside_training_wants_no_shorter_interval_than_its_writing():
    """Young's, by the copy alone, would be a fifth of it."""
    job = Job(50, 0, 1 / 3600, 0.5, 1 / 6)
    found, _ = simulation.best_interval_h(job, 23.0, simulation.young_h(1 / 3600, 23.0))
    assert found == pytest.approx(0.5, rel=0.2)


def test_failures_have_the_mean_they_are_asked_for():
    """Also in bursts."""
    for shape in (1.0, 0.7):
        some = list(itertools.islice(simulation.gaps(3.0, 0, shape), 20_000))
        assert sum(some) / len(some) == pytest.approx(3.0, rel=0.05)


@pytest.mark.parametrize("ranks", [1, 8, 64, 512])
def test_bloms_mean_of_the_largest_is_the_simulated_one(ranks):
    """Of normal times."""
    draw = simulation.STRAGGLING["normal, 3% deviation"]
    found = simulation.slowest(ranks, draw, steps=2000)
    assert found == pytest.approx(simulation.expected_max(ranks, 0.03), rel=0.005)


def test_loaders_that_lag_set_the_time_of_a_step():
    """Deep queues hide unequal times, but no lack of them."""
    assert simulation.loaded(1, 0.5, 8) == pytest.approx(1.0, rel=0.01)
    assert simulation.loaded(1, 2.0, 8) == pytest.approx(2.0, rel=0.1)
    assert simulation.loaded(64, 0.8, 1) > simulation.loaded(64, 0.8, 8)


def write_history(folder, epochs):
    folder.mkdir(parents=True)
    rows = [f"{n},{0.7 - n / 10},{2.0 if n else 60.0}" for n in range(epochs)]
    (folder / "history.csv").write_text("\n".join(["epoch,train_loss,epoch_time", *rows]))


def test_the_first_epoch_does_not_count_in_a_speed(tmp_path):
    """It has what happens once in it."""
    write_history(tmp_path / "run" / "fold_0", data_parallel.EPOCHS)
    found = data_parallel.trained(tmp_path, 100)
    assert found == data_parallel.Trained(50.0, 0.7)


def test_two_trainings_are_not_taken_for_one_of_two_processes(tmp_path):
    """What a program makes of torch.distributed.run that does not know it."""
    for name in ("run", "run-1"):
        write_history(tmp_path / name / "fold_0", data_parallel.EPOCHS)
    with pytest.raises(SystemExit, match="2 runs"):
        data_parallel.trained(tmp_path, 100)


@pytest.mark.slow
def test_what_one_machine_can_measure_is_measured(tmp_path):
    """The part that starts two processes; figures of another part stay as they were."""
    file = tmp_path / "scaling.json"
    file.write_text(json.dumps({"table": {"shuffle_s": 1.0}}))
    subprocess.run(
        [sys.executable, BENCHMARKS / "scaling.py", "merge", "--save", file],
        check=True,
        capture_output=True,
        timeout=500,
    )
    found = json.loads(file.read_text())
    assert found["table"] == {"shuffle_s": 1.0}
    assert all(found["merge"][name] > 0 for name in ("gather", "order", "write"))
