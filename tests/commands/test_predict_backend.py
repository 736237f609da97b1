"""`imgcls predict --backend`: the same answers by another runtime, or none."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from imgcls.engine.scoring import backends as engine_backends
from imgcls.engine.scoring.backends import by_torch
from imgcls.jobs import backends as jobs_backends
from imgcls.jobs.backends import RunModel
from imgcls.jobs.predict import backend as choosing
from imgcls.jobs.predict import predict as job

ONLY_TORCH_SAYS = "which torch alone tells"


@pytest.fixture
def place(trained, tmp_path):
    """A folder with a link to photos/ of three classes, and the runs beside it."""
    (tmp_path / "photos").symlink_to(trained / "photos")
    shutil.copytree(trained / "outputs", tmp_path / "outputs")
    return tmp_path


@pytest.fixture
def predict(command, place):
    """`imgcls predict ARGUMENTS` with the run of one fold, in that folder."""

    def run(*arguments):
        checkpoint = () if "--checkpoint" in arguments else ("--checkpoint", "outputs/single")
        return command("predict", *arguments, *checkpoint, "--device", "cpu")

    return run


class Runtimes:
    """Both runtimes as torch itself, a little off, with the speeds that a test wants."""

    def __init__(self) -> None:
        self.off = {"onnxruntime": 1e-6, "openvino": 2e-6}
        self.speed = {"onnxruntime": 200.0, "openvino": 300.0, "torch": 100.0}
        self.opened: list[str] = []
        self.converted = 0

    def table(self):
        return MappingProxyType(
            {
                name: replace(runtime, module="torch", open=self._opener(name))
                for name, runtime in engine_backends.RUNTIMES.items()
            }
        )

    def convert(self, model, _images):
        self.converted += 1
        return model

    def _opener(self, name):
        def open_model(model, compute, *, spins):
            assert not spins
            self.opened.append(name)
            run = by_torch(model, compute)
            return lambda images: (
                run(images).roll(1, 1)
                if self.off[name] > 1
                else (run(images) * (1 + self.off[name]))
            )

        return open_model


@pytest.fixture
def runtimes(monkeypatch):
    """Stand-ins for ONNX Runtime and OpenVINO, whose own conversions take seconds."""
    own = Runtimes()
    table = own.table()
    for module in (jobs_backends, choosing):
        monkeypatch.setattr(module, "RUNTIMES", table)
    monkeypatch.setattr(jobs_backends, "WRITERS", ())
    monkeypatch.setattr(jobs_backends, "to_onnx", own.convert)
    compared = choosing.BackendChoice._compared

    def with_speed(self, scorer, *arguments, **options):
        tried = compared(self, scorer, *arguments, **options)
        name = own.opened[-1] if isinstance(scorer.model, RunModel) else "torch"
        return replace(tried, images_per_sec=own.speed[name])

    monkeypatch.setattr(choosing.BackendChoice, "_compared", with_speed)
    for module in (choosing, job):
        monkeypatch.setattr(module, "WORTH_PICTURES", 20)
    return own


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


def close(rows, want):
    assert [(r["path"], r["label"], r["error"]) for r in rows] == [
        (w["path"], w["label"], w["error"]) for w in want
    ]
    for row, one in zip(rows, want, strict=True):
        for name in ("probability", "probability_2"):
            assert float(row[name] or 0) == pytest.approx(float(one[name] or 0), abs=1e-5)


def chosen_in(done):
    return next(line for line in done.err.splitlines() if line.startswith("--backend"))


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_another_runtime_gives_torchs_rows(predict, backend):
    """Also for batches that are not full, since some pictures cannot be read."""
    shutil.copytree("photos/china", "mixed")
    for number in (1, 6, 7):
        Path(f"mixed/{number:03d}.jpg").write_bytes(b"none")
    shape = ("mixed", "--batch-size", "5")
    done = predict(*shape, "--backend", backend)
    assert done.code == 0, done.err
    assert "agrees with torch: the same classes for the first 7 pictures" in chosen_in(done)
    close(rows_of(done.out), rows_of(predict(*shape).out))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "compile"])
def test_views_and_ensembles_run_by_another_backend(predict, backend):
    """Each model of them is converted; their average is taken as ever."""
    shape = ("photos", "--ensemble", "--tta", "d4", "--checkpoint", "outputs/folds")
    done = predict(*shape, "--backend", backend)
    assert done.code == 0, done.err
    close(rows_of(done.out), rows_of(predict(*shape).out))


def test_views_and_ensembles_are_averaged_as_ever(predict, runtimes):
    """Whatever runs each of the models."""
    shape = ("photos", "--ensemble", "--tta", "d4", "--checkpoint", "outputs/folds")
    done = predict(*shape, "--backend", "openvino")
    assert done.code == 0, done.err
    assert runtimes.converted == 2
    close(rows_of(done.out), rows_of(predict(*shape).out))


def test_a_backend_that_disagrees_is_refused_by_numbers(predict, runtimes):
    """Nothing is written; auto takes the next, and says so."""
    runtimes.off["openvino"] = 2.0
    done = predict("photos", "--backend", "openvino", "--output", "p.csv")
    assert done.code == 2
    [line] = done.error_lines
    assert "--backend openvino: does not agree with torch: other classes for 36 of the" in line
    assert "where 0.001 is allowed; leave it to --backend torch" in line
    assert not Path("p.csv").exists()
    done = predict("photos", "--backend", "auto", "--output", "p.csv")
    assert done.code == 0, done.err
    assert chosen_in(done).startswith("--backend auto: onnxruntime (pictures/s: torch 100, ")
    assert "openvino does not agree: other classes for 36 of" in chosen_in(done)
    assert runtimes.converted == 2  # once for both in auto


def test_auto_takes_the_fastest_and_keeps_its_choice(predict, runtimes):
    """Beside the checkpoint, for the machine, versions and settings that it holds for."""
    done = predict("photos", "--backend", "auto", "--output", "p.csv", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["backend"] == "openvino"
    assert "openvino (pictures/s: torch 100, onnxruntime 200, openvino 300; the same classes" in (
        chosen_in(done)
    )
    [file] = Path("outputs/single").rglob("fold_0/checkpoints/step-*/backend.json")
    assert json.loads(file.read_text())["backend"] == "openvino"
    runtimes.speed["onnxruntime"] = 900.0
    runtimes.opened.clear()
    done = predict("photos", "--backend", "auto", "--output", "q.csv")
    assert chosen_in(done).startswith("--backend auto: openvino (as before; ")
    assert runtimes.opened == ["openvino"]
    assert Path("q.csv").read_bytes() == Path("p.csv").read_bytes()
    kept = json.loads(file.read_text())
    for holds_for in ({"machine": "another"}, {"versions": {}}, {"weights_sha256": ["0"]}):
        file.write_text(json.dumps({**kept, "holds_for": {**kept["holds_for"], **holds_for}}))
        done = predict("photos", "--backend", "auto")
        assert chosen_in(done).startswith("--backend auto: onnxruntime (pictures/s: "), holds_for
    file.write_text("damaged")
    runtimes.speed.update(onnxruntime=105.0, openvino=104.0)
    assert chosen_in(predict("photos", "--backend", "auto")).startswith("--backend auto: torch (")
    done = predict("photos", "--backend", "auto")
    assert "torch, the fastest when it was measured here" in chosen_in(done)
    assert predict("outputs/single", "--backend", "auto").code == 2


def test_auto_converts_nothing_for_a_few_pictures(predict, runtimes):
    """Torch's rows, to the last bit."""
    done = predict("photos/china", "--backend", "auto")
    assert "torch; another one is converted for 20 pictures or more" in chosen_in(done)
    assert done.out == predict("photos/china").out
    assert runtimes.converted == 0


@pytest.mark.parametrize("began", ["openvino", "auto"])
def test_a_stopped_prediction_goes_on_by_its_own_backend(predict, runtimes, began):
    """Another is refused; auto takes what its rows were begun by, also for the few left."""
    shutil.copytree("photos", "mixed")
    good = Path("mixed/violet/010.jpg").read_bytes()
    shape = ("mixed", "--batch-size", "4", "--on-bad-image", "error", "--output", "p.csv")
    Path("mixed/violet/010.jpg").write_bytes(b"none")
    assert predict(*shape, "--backend", began).code == 1
    for file in Path("outputs").rglob("backend.json"):
        file.unlink()
    runtimes.speed["onnxruntime"] = 900.0
    Path("mixed/violet/010.jpg").write_bytes(good)
    done = predict(*shape)
    assert done.code == 2
    assert "was begun by --backend openvino and not torch" in done.error_lines[0]
    done = predict(*shape, "--backend", "auto")
    assert done.code == 0, done.err
    assert chosen_in(done).startswith("--backend openvino: agrees with torch")
    done = predict(*shape, "--backend", "auto")
    assert "is finished already" in done.err
    assert predict(*shape[:-1], "whole.csv", "--backend", "openvino").code == 0
    assert Path("p.csv").read_bytes() == Path("whole.csv").read_bytes()


def test_what_a_backend_cannot_do_is_one_line(predict, monkeypatch):
    """Exit 2, before anything is read."""
    for more in (("--features", "f.npy"), ("--unlike", "0.05")):
        done = predict("photos", "--backend", "auto", *more)
        assert (done.code, len(done.error_lines)) == (2, 1)
        assert ONLY_TORCH_SAYS in done.error_lines[0]
    done = predict("photos", "--backend", "onnxruntime", "--amp", "bf16")
    assert done.code == 2
    assert "computes in fp32 on a CPU" in done.error_lines[0]
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    done = predict("photos", "--backend", "openvino")
    assert done.code == 2
    assert 'pip install "imgcls[openvino]"' in done.error_lines[0]
