"""How much memory there is: of the system, and of the control groups around the process."""

from __future__ import annotations

import pytest

from imgcls.engine.device.memory import _left_in_control_groups, available_memory_mib


def group(folder, names, limit, used, cached=0):
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in zip(names[:2], (limit, used), strict=True):
        (folder / name).write_text(f"{value}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{names[2]} {cached}\n")


TWO = ("memory.max", "memory.current", "inactive_file")
ONE = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


@pytest.mark.parametrize(
    ("line", "top", "names"), [("0::", ".", TWO), ("5:cpu,memory:", "memory", ONE)]
)
def test_the_limit_of_any_group_around_the_process_counts(tmp_path, line, top, names):
    """Slurm and systemd set it in between; cached files give way."""
    (tmp_path / "own").write_text(f"3:cpuset:/x\n{line}/slurm/job_7/step_0\n")
    root = tmp_path / "groups"
    group(root / top / "slurm/job_7/step_0", names, "max" if names is TWO else 2**63, 10)
    group(root / top / "slurm/job_7", names, 1000, 400, 100)
    group(root / top / "slurm", names, 5000, 500)
    left = list(_left_in_control_groups(tmp_path / "own", root))
    assert min(left) == 700
    assert 4500 in left


def test_in_a_container_the_group_is_the_root(tmp_path):
    """Its path is the host's, and is not there."""
    (tmp_path / "own").write_text("0::/host/docker/abc\n")
    group(tmp_path / "groups", TWO, 300, 100)
    assert list(_left_in_control_groups(tmp_path / "own", tmp_path / "groups")) == [200]
    assert list(_left_in_control_groups(tmp_path / "none", tmp_path / "groups")) == []


def test_some_memory_is_available():
    """On any system."""
    assert available_memory_mib() > 1
