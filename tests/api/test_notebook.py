"""The calls in a notebook: the example runs, and an interrupted training goes on."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

nbclient = pytest.importorskip("nbclient")
jupyter_client = pytest.importorskip("jupyter_client")

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.slow,
    # jupyter_client's own, on how it listens
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]


@pytest.fixture(autouse=True)
def _own_jupyter(tmp_path, monkeypatch):
    """No test reads or fills the user's own folders; imgcls is this one."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)


def outputs_of(cell, kind):
    return [output for output in cell.outputs if output.output_type == kind]


def test_the_example_notebook_runs(tmp_path):
    """Trains on the digits, evaluates, predicts a PIL picture and shows it; no bar is left."""
    import nbformat

    notebook = nbformat.read(ROOT / "examples" / "notebook.ipynb", 4)
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=where).execute()
    train, evaluate, predict, probabilities = (
        cell for cell in notebook.cells if cell.cell_type == "code"
    )
    text = "".join(one.text for one in outputs_of(train, "stream") if one.name == "stdout")
    assert text.count("train loss") == 1
    assert " 4/4 " in text
    for cell in (train, evaluate):
        for bars in outputs_of(cell, "display_data"):
            assert bars.data["text/html"] == ""
    [shown] = outputs_of(evaluate, "execute_result")
    accuracy = float(shown.data["text/plain"].strip("()").split(",")[0])
    assert accuracy > 0.8
    [shown] = outputs_of(predict, "execute_result")
    assert shown.data["text/html"].count('<img src="data:image/jpeg;base64,') == 1
    assert shown.data["text/plain"].startswith("Prediction(label='")
    [shown] = outputs_of(probabilities, "execute_result")
    assert "dtype=float32" in shown.data["text/plain"]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_interrupted_training_goes_on_in_the_next_cell(tmp_path, workers):
    """By the kernel's interrupt: everything is saved, the error says how, and the kernel lives."""
    manager, client = jupyter_client.manager.start_new_kernel(cwd=str(tmp_path))
    try:
        interrupted, error = run_cell(
            client,
            "import imgcls, pathlib\n"
            "from imgcls.engine.training.events import StepDone\n"
            "def mark(event):\n"
            "    if isinstance(event, StepDone) and event.epoch == 2:\n"
            "        pathlib.Path('begun').touch()\n"
            f"options = dict(epochs=500, patience=0, workers={workers}, cache='none')\n"
            "options |= dict(model='test_resnet', pretrained=False, img_size=32, device='cpu')\n"
            "imgcls.train('digits', [mark], **options)",
            interrupt=(manager, tmp_path / "begun"),
        )
        assert error["ename"] == "InterruptedRunError"
        run = next((tmp_path / "outputs").iterdir()).relative_to(tmp_path)
        assert f'everything is saved; go on with: imgcls.resume("{run}")' in error["evalue"]
        assert "SIGINT: saving" in interrupted
        text, error = run_cell(
            client,
            "import signal\n"
            "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
            f"result = imgcls.resume('{run}', epochs=3)\n"
            "print('epochs', result.folds[0].epochs_run)",
        )
        assert error is None
        assert "Going on with fold 0 at epoch 2, step" in text
        assert "epochs 3" in text
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def run_cell(client, code, interrupt=None):
    """(what it printed, its error or None). interrupt: (the kernel, when this file is there)."""
    asked, text, error = client.execute(code), [], None
    deadline_s = time.monotonic() + 240
    while time.monotonic() < deadline_s:
        if interrupt is not None and interrupt[1].exists():
            interrupt[0].interrupt_kernel()
            interrupt = None
        try:
            message = client.get_iopub_msg(timeout=0.2)
        except Exception as nothing:
            assert type(nothing).__name__ == "Empty"
            continue
        if message["parent_header"].get("msg_id") != asked:
            continue
        content = message["content"]
        if message["msg_type"] == "stream":
            text.append(content["text"])
        elif message["msg_type"] == "error":
            error = content
        elif message["msg_type"] == "status" and content["execution_state"] == "idle":
            return "".join(text), error
    pytest.fail(f"the cell did not end: {''.join(text)}")
