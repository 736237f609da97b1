"""What the formats of an export share."""

from __future__ import annotations

import pytest

from imgcls.errors import ConfigError, ExportError
from imgcls.jobs.export.work import failing_as


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (RuntimeError("node 3:\n  no kernel"), ExportError("onnx: cannot run (node 3: no kernel)")),
        (MemoryError("no room"), MemoryError("no room")),
        (ConfigError("--format: is wrong"), ConfigError("--format: is wrong")),
    ],
)
def test_a_runtimes_error_is_the_formats_and_lacking_memory_is_the_machines(raised, expected):
    """In one line; what imgcls raises itself stays as it is."""
    with pytest.raises(type(expected)) as caught, failing_as("onnx: cannot run"):
        raise raised
    assert str(caught.value) == str(expected)
