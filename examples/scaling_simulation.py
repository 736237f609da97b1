"""Checkpoints against failures, and ranks that wait for the slowest: a discrete-event simulation.

    python examples/scaling_simulation.py interval     # is the formula's interval the best one?
    python examples/scaling_simulation.py deviations   # where it is not
    python examples/scaling_simulation.py failures     # what failures cost 8, 64 and 512 GPUs
    python examples/scaling_simulation.py stragglers   # what the slowest of N costs in each step

Time is in hours where a name ends in `_h`, and in units of a step for stragglers. See scaling.md.
"""

from __future__ import annotations

import heapq
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

MINUTE_H = 1 / 60
GPUS = (1, 8, 64, 512)
# GPU hours between interruptions: 419 in 54 days of 16,384 GPUs (Llama 3, arXiv:2407.21783), and
# less than 12 hours of 992 GPUs (OPT-175B, by glennklockwood.com/garden/job-reliability)
GPU_HOURS_BETWEEN_FAILURES = {"Llama 3": 54 * 24 * 16_384 / 419, "OPT-175B": 12 * 992}
BURSTS = 0.7  # Weibull's shape: 0.7 to 0.8 in Schroeder & Gibson 2006 (DSN), nodes of 22 clusters
STALLS, STALL_STEPS = 1e-4, 20.0
MOST_MISFIT = 0.1  # of a curve to be called one, as a share of its height
RUNS = 200


@dataclass(frozen=True)
class Job:
    """work_h: training without stops. interval_h: training from save to save.

    copy_h: what training waits for at each save. write_h: until the copy is safe, beside training;
    the next save waits for it. restart_h: from a failure to the first step behind it.
    """

    work_h: float
    interval_h: float
    copy_h: float
    write_h: float
    restart_h: float


def hours(job: Job, failures: Iterator[float]) -> float:
    """From start to end, by events in order of time; failures: hours from each to the next one.

    After a failure training goes on from the last checkpoint that was whole on the disk. Failures
    strike copies, writes and restarts too.
    """
    events: list[tuple[float, str, float]] = [(next(failures), "failure", 0.0)]
    now = done = safe = 0.0
    writing_until = 0.0

    def train() -> None:
        """Go on from `done`, now: to the next save, or to the end."""
        left = job.work_h - done
        what = "save" if left > job.interval_h else "end"
        work = min(left, job.interval_h)
        heapq.heappush(events, (now + work, what, done + work))

    train()
    while True:
        now, what, reached = heapq.heappop(events)
        if what == "end":
            return now
        if what == "failure":
            events.clear()
            done = safe
            heapq.heappush(events, (now + next(failures), "failure", 0.0))
            heapq.heappush(events, (now + job.restart_h, "restarted", 0.0))
        elif what == "save":
            copied = max(now, writing_until) + job.copy_h
            heapq.heappush(events, (copied, "copied", reached))
        elif what == "copied":
            done, writing_until = reached, now + job.write_h
            heapq.heappush(events, (writing_until, "safe", reached))
            train()
        elif what == "safe":
            safe = reached
        else:
            writing_until = now
            train()


def gaps(mean_h: float, seed: int, shape: float = 1.0) -> Iterator[float]:
    """Hours between failures: Weibull of this mean; shape 1 is exponential, below 1 in bursts."""
    rng, scale = np.random.default_rng(seed), mean_h / math.gamma(1 + 1 / shape)
    while True:
        yield from (scale * rng.weibull(shape, 256)).tolist()


def overhead(job: Job, mean_h: float, runs: int = RUNS, shape: float = 1.0) -> tuple[float, float]:
    """Hours beyond the work, as a share of it, and the standard error over runs.

    The same failures for each job, so that two jobs differ by what they do about them.
    """
    shares = [hours(job, gaps(mean_h, seed, shape)) / job.work_h - 1 for seed in range(runs)]
    return float(np.mean(shares)), float(np.std(shares, ddof=1) / math.sqrt(runs))


def young_h(copy_h: float, mean_h: float) -> float:
    """Best hours of training between saves, to first order (Young 1974, CACM 17(9):530)."""
    return math.sqrt(2 * copy_h * mean_h)


def daly_h(copy_h: float, mean_h: float) -> float:
    """The same to a higher order (Daly 2006, FGCS 22(3):303, equation 37)."""
    if copy_h >= 2 * mean_h:
        return mean_h
    ratio = copy_h / (2 * mean_h)
    return young_h(copy_h, mean_h) * (1 + math.sqrt(ratio) / 3 + ratio / 9) - copy_h


def daly_overhead(job: Job, mean_h: float) -> float:
    """Expected overhead when training waits for the whole save (Daly 2006, equation 20)."""
    segment = math.expm1((job.interval_h + job.copy_h) / mean_h)
    return mean_h * math.exp(job.restart_h / mean_h) * segment / job.interval_h - 1


def best_interval_h(
    job: Job, mean_h: float, near_h: float, shape: float = 1.0
) -> tuple[float, float]:
    """The cheapest interval of the simulation, looked for from one near it, and its overhead.

    First in steps of 1.4 for as long as it gets cheaper; then, since the curve is flat there and
    its points have noise, the least of a / t + b t + c through points around, which is exact for
    Young's costs. Where the least is a corner and no such curve, the cheapest point.
    """

    def cost(interval_h: float) -> float:
        return overhead(replace(job, interval_h=interval_h), mean_h, shape=shape)[0]

    middle_h, least = near_h, cost(near_h)
    for factor in (math.sqrt(2), math.sqrt(0.5)):
        while (next_cost := cost(middle_h * factor)) < least:
            middle_h, least = middle_h * factor, next_cost
    factors = np.exp(np.linspace(-0.7, 0.7, 7))
    costs = np.array([cost(float(middle_h * factor)) for factor in factors])
    terms = np.stack([1 / factors, factors, np.ones_like(factors)], axis=1)
    (save, lost, rest), *_ = np.linalg.lstsq(terms, costs, rcond=None)
    misfit = float(np.abs(terms @ (save, lost, rest) - costs).max())
    found_h = float(middle_h * factors[int(np.argmin(costs))])
    if save > 0 and lost > 0 and misfit < MOST_MISFIT * float(np.ptp(costs)):
        found_h = math.sqrt(save / lost) * middle_h
    return found_h, cost(found_h)


def expected_max(ranks: int, deviation: float) -> float:
    """Mean of the largest of so many normal times of mean 1 (Blom 1958)."""
    place = (ranks - 0.375) / (ranks + 0.25)
    return 1 + deviation * NormalDist().inv_cdf(place) if ranks > 1 else 1.0


def slowest(
    ranks: int, draw: Callable[[np.random.Generator, int], np.ndarray], steps: int = 4000
) -> float:
    """Mean time of a step that ends when the last rank has ended its own."""
    rng = np.random.default_rng(ranks)
    return float(np.mean([draw(rng, ranks).max() for _ in range(steps)]))


def loaded(ranks: int, load: float, prefetch: int, workers: int = 8, steps: int = 3000) -> float:
    """Mean time of a step of 1 when each rank's loaders make batches in lognormal times.

    load: mean share of the loaders' time that a step needs; prefetch: batches that each loader
    process makes ahead. It begins a batch when it has ended the one before and a place is free;
    batches are taken in their order, as torch's DataLoader gives them.
    """
    rng = np.random.default_rng(ranks)
    spread = math.sqrt(math.log(1 + 0.5**2))
    mean = load * workers
    free = np.zeros((workers, ranks))  # when each process has ended its last batch
    taken = [0.0] * (workers * prefetch)  # when a place in the queue became free, in turn
    now = 0.0
    for step in range(steps):
        worker, place = step % workers, step % len(taken)
        times = mean * rng.lognormal(-(spread**2) / 2, spread, ranks)
        free[worker] = np.maximum(free[worker], taken[place]) + times
        now = max(now, float(free[worker].max()))
        taken[place] = now
        now += 1.0
    return now / steps


def interval() -> None:
    """Cost by the interval, simulated and by formula."""
    copy_h, restart_h, mean_h = MINUTE_H, 10 * MINUTE_H, 12 * 992 / 512
    best = young_h(copy_h, mean_h)
    print(f"work 200 h, save 1 min, restart 10 min, 23.2 h between failures, {RUNS} runs each")
    print(f"Young {60 * best:.0f} min, Daly {60 * daly_h(copy_h, mean_h):.0f} min")
    print(f"{'interval':>12}{'of Young':>10}{'simulated':>17}{'Daly, exact':>13}")
    job = Job(200, best, copy_h, 0.0, restart_h)
    for factor in (0.25, 0.5, 1, 2, 4):
        one = replace(job, interval_h=factor * best)
        mean, error = overhead(one, mean_h)
        exact = daly_overhead(one, mean_h)
        print(
            f"{60 * one.interval_h:>8.0f} min{factor:>9}x{mean:>9.2%} +-{error:>5.2%}{exact:>13.2%}"
        )
    found, cost = best_interval_h(job, mean_h, best)
    print(f"best of the simulation: {60 * found:.0f} min, {cost:.2%}")


_OFTEN_H = 12 * 992 / 512
CASES: dict[str, tuple[Job, float, float]] = {
    "as above": (Job(100, 0, MINUTE_H, 0, 10 * MINUTE_H), _OFTEN_H, 1.0),
    "save 5 min, failure each 15 min": (Job(4, 0, 5 * MINUTE_H, 0, 0), 0.25, 1.0),
    "failures in bursts, Weibull 0.7": (Job(100, 0, MINUTE_H, 0, 10 * MINUTE_H), _OFTEN_H, BURSTS),
    "copy 1 s, write 30 s beside": (Job(100, 0, 1 / 3600, 30 / 3600, 1 / 6), _OFTEN_H, 1.0),
    "copy 1 s, write 30 min beside": (Job(100, 0, 1 / 3600, 0.5, 1 / 6), _OFTEN_H, 1.0),
    "2 h of work": (Job(2, 0, MINUTE_H, 0, 10 * MINUTE_H), _OFTEN_H, 1.0),
}


def deviations() -> None:
    """The formulas' interval beside the best one of the simulation, and what each costs."""
    print(f"{'':<34}{'Young':>9}{'Daly':>9}{'best':>9}{'cost, Young':>13}{'cost, best':>12}")
    for name, (job, mean_h, shape) in CASES.items():
        young, daly = young_h(job.copy_h, mean_h), daly_h(job.copy_h, mean_h)
        found, cost = best_interval_h(job, mean_h, young, shape)
        at_young, _ = overhead(replace(job, interval_h=young), mean_h, shape=shape)
        print(
            f"{name:<34}{60 * young:>5.1f} min{60 * daly:>5.1f} min{60 * found:>5.1f} min"
            f"{at_young:>13.2%}{cost:>12.2%}"
        )


def failures() -> None:
    """Mean overhead by GPUs, at the default of 10 minutes, by the formula, and once an epoch."""
    # of scaling.py's resnet50: 0.8 GB copied, written, and a start with 14.2 million rows
    copy_h, write_h, restart_h = 1 / 3600, 4 / 3600, 10 * MINUTE_H
    print("copy 1 s, write 4 s, restart 10 min, 100 h of work; interval and cost")
    print(f"{'GPUs':>5} {'rate of':<10}{'a failure each':>15}{'Young':>18}{'10 min':>9}{'5 h':>9}")
    for gpus in GPUS[1:]:
        for name, gpu_hours in GPU_HOURS_BETWEEN_FAILURES.items():
            mean_h = gpu_hours / gpus
            young = young_h(copy_h, mean_h)
            costs = [
                overhead(Job(100, at_h, copy_h, write_h, restart_h), mean_h)[0]
                for at_h in (young, 10 * MINUTE_H, 5.0)
            ]
            print(
                f"{gpus:>5} {name:<10}{mean_h:>13.1f} h{60 * young:>6.0f} min {costs[0]:>7.2%}"
                f"{costs[1]:>9.2%}{costs[2]:>9.2%}"
            )


STRAGGLING: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal, 3% deviation": lambda rng, n: rng.normal(1, 0.03, n),
    "lognormal, 3% deviation": lambda rng, n: rng.lognormal(-0.00045, 0.03, n),
    "lognormal, 30% deviation": lambda rng, n: rng.lognormal(-0.0431, 0.2936, n),
    "a stall of 20 steps in 10,000": lambda rng, n: 1 + STALL_STEPS * (rng.random(n) < STALLS),
    "one rank 10% slower": lambda _rng, n: np.where(np.arange(n) == 0, 1.1, 1.0),
}


def stragglers() -> None:
    """Time of a step of 1, by ranks."""
    print(f"{'':<34}" + "".join(f"{n:>8}" for n in GPUS))
    for name, draw in STRAGGLING.items():
        print(f"{name:<34}" + "".join(f"{slowest(n, draw):>8.3f}" for n in GPUS))
    print(f"{'  Blom, normal of 3%':<34}" + "".join(f"{expected_max(n, 0.03):>8.3f}" for n in GPUS))
    for load, prefetch in ((0.8, 1), (0.8, 2), (0.8, 8), (0.95, 2), (1.1, 2)):
        name = f"loaders {load:.0%} busy, {prefetch} ahead"
        print(f"{name:<34}" + "".join(f"{loaded(n, load, prefetch):>8.3f}" for n in GPUS))


TABLES = {table.__name__: table for table in (interval, deviations, failures, stragglers)}

if __name__ == "__main__":
    for table in sys.argv[1:] or TABLES:
        TABLES[table]()
