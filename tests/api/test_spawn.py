"""Loader processes where they cannot be forked: each begins by running the user's script again."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import multiprocessing
import sys
import types

import imgcls
import imgcls.data.audit.scan as scan
import imgcls.data.loading.pipeline as loader

# as on macOS and Windows
loader._START_METHOD = "spawn"
scan._FEW = {few}
scan.sys = types.SimpleNamespace(platform="darwin", modules=sys.modules)

def work():
    multiprocessing.set_start_method("spawn", force=True)
    {call}
    print("done")

{start}
"""
GUARD = 'if __name__ == "__main__":\n    work()'
TRAIN = (
    "imgcls.train(PHOTOS, model='test_resnet', pretrained=False, img_size=32, epochs=1, "
    "device='cpu', preflight=False, cache='none', workers=1)"
)


def run(tmp_path, photos, call, start, few=256):
    script = tmp_path / "script.py"
    call = call.replace("PHOTOS", repr(str(photos)))
    script.write_text(SCRIPT.format(call=call, start=start, few=few))
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    runs = list((tmp_path / "outputs").glob("*"))
    return done, len(runs)


TRAINER = """config = imgcls.TrainConfig(
        data={'source': PHOTOS, 'preflight': False, 'cache': 'none'}, runtime={'workers': 1},
        model={'name': 'test_resnet', 'pretrained': False}, optim={'epochs': 1})
    imgcls.Trainer.begin(config).train_fold(0)"""


@pytest.mark.slow
@pytest.mark.parametrize("call", [TRAINER, TRAIN, "imgcls.inspect(PHOTOS)"])
def test_a_script_without_a_guard_is_told_what_to_write(tmp_path, photos, call):
    """In one line, instead of torch's recursion; nothing is trained twice."""
    # how few pictures are examined by processes before anything is trained
    few = 1 if call != TRAIN else 256
    done, runs = run(tmp_path, photos, call, "work()", few)
    assert done.returncode == 1, done.stderr
    assert runs == (call == TRAIN)
    # behind it Python may remark on semaphores of a broken pool
    [last] = [line for line in done.stderr.splitlines() if line.startswith("imgcls.errors")]
    assert last.startswith(
        "imgcls.errors.WorkerError: processes that load pictures begin by running"
    )
    assert f"{tmp_path / 'script.py'} again" in last
    assert 'under `if __name__ == "__main__":`, or load without them by workers=0' in last
    assert "bootstrapping" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "start"), [("0", "work()"), ("1", GUARD)])
def test_no_guard_is_needed_without_processes_and_with_it_they_work(
    tmp_path, photos, workers, start
):
    """Both ways to write it."""
    done, runs = run(tmp_path, photos, TRAIN.replace("workers=1", f"workers={workers}"), start)
    assert (done.returncode, done.stdout, runs) == (0, "done\n", 1), done.stderr
