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
import imgcls.data.loading.loader as loader

# as on macOS and Windows
loader._START_METHOD = "spawn"
scan._FEW = 1
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
    "device='cpu', preflight=False, cache='none', workers=WORKERS)"
)


def run(tmp_path, photos, call, start):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(call=call.replace("PHOTOS", repr(str(photos))), start=start))
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
@pytest.mark.parametrize("call", [TRAINER, TRAIN.replace("WORKERS", "1"), "imgcls.inspect(PHOTOS)"])
def test_a_script_without_a_guard_is_told_what_to_write(tmp_path, photos, call):
    """In one line, instead of torch's recursion; nothing is trained twice."""
    done, runs = run(tmp_path, photos, call, "work()")
    assert done.returncode == 1
    assert runs == ("inspect" not in call)
    last = done.stderr.splitlines()[-1]
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
    done, runs = run(tmp_path, photos, TRAIN.replace("WORKERS", workers), start)
    assert (done.returncode, done.stdout, runs) == (0, "done\n", 1), done.stderr
