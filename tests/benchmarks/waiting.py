"""A training step on a machine that does something else too: `python tests/benchmarks/waiting.py`.

resnet18 with 32 pictures of 32 pixels, on all cores, with and without another process that keeps
one core busy; with GNU OpenMP's own number of looks before a waiting thread sleeps, and with that
of the commands (GOMP_SPINCOUNT).
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys

from imgcls.__main__ import SPINS

ROUNDS = 3
STEPS = """
import time, timm, torch
net = timm.create_model("resnet18", num_classes=10).train()
optimizer = torch.optim.AdamW(net.parameters(), fused=True)
images, labels = torch.randn(32, 3, 32, 32), torch.zeros(32, dtype=torch.long)
times_s = []
for _ in range(30):
    start_s = time.perf_counter()
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(net(images), labels).backward()
    optimizer.step()
    times_s.append(time.perf_counter() - start_s)
print(1e3 * sum(times_s[5:]) / len(times_s[5:]))
"""


@contextlib.contextmanager
def busy(wanted):
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if wanted else None
    yield
    if process is not None:
        process.kill()
        process.wait()


def step_ms(spins, crowded):
    environment = {k: v for k, v in os.environ.items() if k != "GOMP_SPINCOUNT"}
    if spins is not None:
        environment["GOMP_SPINCOUNT"] = spins
    with busy(crowded):
        done = subprocess.run(
            [sys.executable, "-c", STEPS], env=environment, stdout=subprocess.PIPE, check=True
        )
    return float(done.stdout)


if __name__ == "__main__":
    for crowded in (False, True):
        rounds = [[step_ms(spins, crowded) for spins in (None, SPINS)] for _ in range(ROUNDS)]
        theirs, ours = map(statistics.median, zip(*rounds, strict=True))
        beside = "beside a busy process" if crowded else "alone"
        print(f"{beside:<24}{theirs:>8.1f} ms a step {ours:>8.1f} ms with {SPINS} looks")
