"""Compare imgcls with other recipes and with logistic regression, on equal terms.

    python make_sets.py sets --packages .
    python compare.py sets --weights tf_efficientnet_lite0.safetensors

Every contestant gets the same pictures, splits, model, weights and input size, and one thread. The
recipes train for as many processor seconds as imgcls's default did on the same fold (or as
--budget-s says), and those with epochs of their own once for these. Finished runs are kept in
WORK/results.jsonl: started again, it goes on. WORK/probabilities/ has every test picture's. The
tables come last.
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from folds import FOLDS, write_fold
from results import Results

if TYPE_CHECKING:
    from baselines import Finding

DEFAULT, HEAD, PROBE = "imgcls", "imgcls --tune head", "logistic regression"
# by name: the function of baselines.py, and whether the time of imgcls's default ends it
RECIPES = {
    "timm's script": ("timm_script", True),
    "fastai's fine_tune": ("fastai_fine_tune", True),
    "AutoGluon's defaults": ("autogluon", True),
    "LP-FT": ("lp_ft", True),
    "AutoGluon's defaults, 20 epochs": ("autogluon", False),
    "LP-FT, 20 epochs": ("lp_ft", False),
}
CONTESTANTS = (DEFAULT, HEAD, PROBE, *RECIPES)


@dataclass(frozen=True)
class Job:
    """One contestant on one fold of a set."""

    set_name: str
    fold: int
    contestant: str
    data: Path
    out: Path
    model: str
    weights: Path
    img_size: int
    budget_s: float | None = None

    @property
    def key(self) -> tuple[str, int, str]:
        """What tells its row from the others."""
        return self.set_name, self.fold, self.contestant


def run(job: Job) -> dict[str, Any]:
    """Do one job, in a process of its own with one thread: its facts, its probabilities on disk."""
    import numpy as np
    import torch
    from pictures import Task

    torch.set_num_threads(1)
    task = Task(job.data, job.model, job.weights, job.img_size, seed=job.fold)
    ours = job.contestant.split()[0] == DEFAULT
    finding = run_imgcls(job, task.classes) if ours else peer(job)
    file = probabilities_file(job.out, *job.key)
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".unfinished.npz")
    np.savez_compressed(
        unfinished,
        val=finding.val,
        test=finding.test,
        val_labels=task.labels("val"),
        test_labels=task.labels("test"),
        test_groups=np.array([r["group"] for r in task.rows if r["split"] == "test"]),
    )
    unfinished.replace(file)
    return finding.facts


def probabilities_file(work: Path, set_name: str, fold: int, contestant: str) -> Path:
    """Where val's and test's probabilities of a run are."""
    plain = "".join(letter if letter.isalnum() else "-" for letter in contestant)
    return work / "probabilities" / f"{set_name}-{fold}-{plain}.npz"


def peer(job: Job) -> Finding:
    """Run one of baselines.py."""
    import baselines
    from pictures import Task

    task = Task(job.data, job.model, job.weights, job.img_size, seed=job.fold)
    if job.contestant == PROBE:
        return baselines.probe(task)
    return baselines.trained(task, getattr(baselines, RECIPES[job.contestant][0]), job.budget_s)


def run_imgcls(job: Job, classes: list[str]) -> Finding:
    """`imgcls train` and `imgcls evaluate`, as a user types them."""
    from baselines import Finding

    imgcls = (sys.executable, "-m", "imgcls")
    begun = child_seconds()
    options = job.contestant.split()[1:]
    trained = json.loads(
        output_of([
            *imgcls, "train", str(job.data), "--model", job.model, "--weights", str(job.weights),
            "--img-size", str(job.img_size), "--seed", str(job.fold), "--device", "cpu",
            "--output", str(job.out / "runs"), "--json", *options,
        ])
    )  # fmt: skip
    seconds = child_seconds() - begun
    fold = trained["folds"][0]
    found = {}
    for split in ("val", "test"):
        scored = json.loads(
            output_of([
                *imgcls, "evaluate", trained["run"], "--split", split, "--no-report", "--json",
            ])
        )  # fmt: skip
        file = Path(fold["folder"], "test_results", split, "predictions.csv")
        found[split] = read_probabilities(file, job.data, split, classes)
    facts = {
        "cpu_s": seconds,
        "epochs": fold["epochs_run"],
        "best": fold["best_epoch"],
        "temperature": scored["calibration"]["temperature"] if scored.get("calibration") else None,
    }
    return Finding(found["val"], found["test"], facts)


def read_probabilities(file: Path, data: Path, split: str, classes: list[str]) -> Any:
    """float64 [N, C] of a split, in the table's order. Ends where a picture is missing."""
    import numpy as np

    with file.open(newline="", encoding="utf-8") as table:
        by_path = {row["path"]: row for row in csv.DictReader(table)}
    with data.open(newline="", encoding="utf-8") as table:
        paths = [row["path"] for row in csv.DictReader(table) if row["split"] == split]
    missing = [path for path in paths if path not in by_path]
    if missing:
        raise SystemExit(f"{file} has no row of {missing[0]}")
    return np.array([[float(by_path[path][f"prob_{name}"]) for name in classes] for path in paths])


def output_of(command: list[str]) -> str:
    """What a command prints. Ends the comparison where the command fails, having said why."""
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True, env=one_thread)  # noqa: S603  our own words and the user's files
    if done.returncode:
        raise SystemExit(f"failed: {' '.join(command)}")
    return done.stdout


def child_seconds() -> float:
    """Processor seconds of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def jobs_of(args: argparse.Namespace, results: Results) -> list[list[Job]]:
    """What is left to do, in the order of folds: those of a list can be done at the same time."""
    sets = args.sets or sorted(path.parent.name for path in args.root.glob("*/table.csv"))
    stages: list[list[Job]] = []
    for fold in args.folds:
        first, then = [], []
        for name in sets:
            data = args.work / "folds" / f"{name}-{fold}.csv"
            if not data.exists():
                write_fold(args.root / name, fold, data, args.trained)
            for contestant in args.contestants:
                if results.find(name, fold, contestant) is None:
                    job = Job(
                        name, fold, contestant, data, args.work, args.model,
                        args.weights.absolute(), args.img_size,
                    )  # fmt: skip
                    # its time is the others' budget
                    (first if contestant == DEFAULT else then).append(job)
        stages += [first, then]
    return stages


def with_budget(job: Job, args: argparse.Namespace, results: Results) -> Job:
    """The job with the seconds that it may take. Ends where they are not known."""
    if not RECIPES.get(job.contestant, ("", False))[1]:
        return job
    budget_s = args.budget_s
    if budget_s is None:
        default = results.find(job.set_name, job.fold, DEFAULT)
        if default is None:
            raise SystemExit(
                f"{job.contestant} trains for as long as {DEFAULT} did: run that one too, or say "
                "--budget-s"
            )
        budget_s = default["cpu_s"]
    return Job(**{**vars(job), "budget_s": budget_s})


def do(stage: list[Job], args: argparse.Namespace, results: Results) -> None:
    """Do the jobs of a stage, --jobs at a time, and write each down when it is done."""
    jobs = [with_budget(job, args, results) for job in stage]
    with ProcessPoolExecutor(args.jobs, multiprocessing.get_context("spawn")) as pool:
        start = time.monotonic()
        running = {pool.submit(run, job): job for job in jobs}
        for done in as_completed(running):
            job, facts = running[done], done.result()
            results.add(*job.key, **facts, budget_s=job.budget_s)
            print(f"{time.monotonic() - start:.0f} s", *job.key, json.dumps(facts), file=sys.stderr)


def require_same_settings(args: argparse.Namespace) -> None:
    """End where WORK holds runs of another model, size or kind of split: they do not compare."""
    asked = {name: getattr(args, name) for name in ("model", "img_size", "trained")}
    file = args.work / "settings.json"
    if file.exists() and json.loads(file.read_text(encoding="utf-8")) != asked:
        raise SystemExit(f"{args.work} holds runs with other settings: see {file}, or take another")
    args.work.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(asked), encoding="utf-8")


def known(contestant: str) -> str:
    """The name of a contestant. Raises ArgumentTypeError for one that there is not."""
    if contestant not in CONTESTANTS and not contestant.startswith(f"{DEFAULT} "):
        raise argparse.ArgumentTypeError(f"{contestant!r} is none of {', '.join(CONTESTANTS)}")
    return contestant


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, help="the folder with the sets")
    parser.add_argument("--weights", type=Path, required=True, help="safetensors of the model")
    parser.add_argument("--model", default="tf_efficientnet_lite0")
    parser.add_argument("--img-size", type=int, default=96)
    parser.add_argument("--work", type=Path, default=Path("outputs/compare"))
    parser.add_argument("--sets", nargs="+", help="all by default")
    parser.add_argument("--folds", nargs="+", type=int, default=range(FOLDS), choices=range(FOLDS))
    parser.add_argument(
        "--contestants", nargs="+", default=CONTESTANTS, type=known, metavar="NAME",
        help=f"all by default: {', '.join(CONTESTANTS)}; also 'imgcls OPTIONS' with any of train's",
    )  # fmt: skip
    parser.add_argument(
        "--trained", type=int, metavar="N",
        help="train and validate on about N pictures of each set, test on all others",
    )  # fmt: skip
    parser.add_argument("--budget-s", type=float, help="processor seconds; else as imgcls took")
    parser.add_argument("--jobs", type=int, default=2, help="processes, of one thread each")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    require_same_settings(args)
    results = Results(args.work / "results.jsonl", ("set", "fold", "contestant"))
    for stage in jobs_of(args, results):
        do(stage, args, results)
    from tables import tables

    print(tables(args.work, results.rows, args.contestants, DEFAULT))


if __name__ == "__main__":
    main()
