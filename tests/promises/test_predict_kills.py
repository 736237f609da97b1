"""A prediction that is killed, signalled or out of room goes on to the same bytes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from conftest import run_process
from faults import largest_file
from killing import wait_for

RUN = ("--checkpoint", "outputs/single", "--device", "cpu", "--workers", "0", "--batch-size", "7")


@pytest.fixture
def place(trained, tmp_path):
    """A folder with a run, many/ of 1,200 links, some to damaged files, and few/ of 100."""
    shutil.copytree(trained / "outputs/single", tmp_path / "outputs/single")
    (tmp_path / "bad.jpg").write_bytes(b"none")
    files = [*sorted((trained / "photos").glob("*/*.jpg")), tmp_path / "bad.jpg"]
    link("many", tmp_path, files, 1200)
    link("few", tmp_path, files, 100)
    return tmp_path


def link(name, place, files, count):
    (place / name).mkdir(exist_ok=True)
    for n in range(count):
        (place / f"{name}/{n:05d}.jpg").symlink_to(files[n % len(files)])


def killed_until_done(launcher, place, arguments, kills, rng):
    """How often the command was killed before it came to its end."""
    start_s = time.monotonic()
    assert launcher.run(place, *[a.replace("NAME", "whole") for a in arguments]) == 0
    longest_s = time.monotonic() - start_s
    killed = 0
    command = [argument.replace("NAME", "cut") for argument in arguments]
    while True:
        pause_s = rng.uniform(0.02, longest_s) if killed < kills else None
        code = launcher.run(place, *command, kill_after_s=pause_s)
        if code == 0 and (pause_s is None or killed):
            return killed
        if code == 0:  # done before its first kill: begin anew
            for file in [*place.glob("cut*"), *place.glob(".cut*")]:
                file.unlink()
            continue
        assert code == -signal.SIGKILL, (place / "log.txt").read_text()[-2000:]
        killed += 1


def compare(place, suffix):
    assert (place / f"whole.{suffix}").read_bytes() == (place / f"cut.{suffix}").read_bytes()
    hidden = {p.name for p in place.glob(".cut*")}
    assert hidden == {f".cut.{suffix}.lock"}


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_killed_at_random_it_goes_on_to_the_same_bytes(launcher, place, suffix):
    """In each format, with all columns."""
    arguments = ["predict", "many", *RUN, "--output", f"NAME.{suffix}"]
    arguments += ["--sets", "0.5", "--unlike", "0.4"]
    assert killed_until_done(launcher, place, arguments, 3, random.Random(suffix)) >= 1
    compare(place, suffix)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_twenty_kills_change_nothing(launcher, place, suffix):
    """With features and sorted pictures beside the rows, and all columns."""
    arguments = ["predict", "many", "few", *RUN, "--output", f"NAME.{suffix}"]
    arguments += ["--features", "NAME-f.npy", "--sort-into", "NAME-sorted"]
    arguments += ["--sets", "0.5", "--unlike", "0.4"]
    killed_until_done(launcher, place, arguments, 20, random.Random(suffix))
    for name in (f"NAME.{suffix}", "NAME-f.npy", "NAME-f.csv"):
        whole, cut = (place / name.replace("NAME", which) for which in ("whole", "cut"))
        assert whole.read_bytes() == cut.read_bytes(), name
    links = {
        which: {
            p.relative_to(place / f"{which}-sorted"): p.readlink()
            for p in (place / f"{which}-sorted").rglob("*")
            if p.is_symlink()
        }
        for which in ("whole", "cut")
    }
    assert len(links["whole"]) == 1300
    assert links["whole"] == links["cut"]


@pytest.mark.slow
def test_killed_with_another_backend_it_goes_on_by_the_same(launcher, place):
    """What auto chose is kept, and its answers are the same bits in each process."""
    arguments = ["predict", "many", *RUN, "--output", "NAME.csv", "--backend", "auto"]
    assert killed_until_done(launcher, place, arguments, 4, random.Random(0)) >= 1
    compare(place, "csv")


@pytest.mark.parametrize(
    ("suffix", "function", "number"),
    [
        ("csv", "write_text", 1),  # the last journal
        ("csv", "sync_folder", 1),  # behind the rows' own name
        ("csv", "write_json", 1),  # what made them, beside
        ("parquet", "sync_file", 1),  # in the midst of making it from JSON lines
        ("parquet", "sync_folder", 1),
        ("parquet", "write_json", 1),
    ],
)
def test_killed_at_its_end_it_is_finished_by_the_same_command(
    launcher, place, suffix, function, number
):
    """In each step in which the files take their names."""
    command = ["predict", "few", *RUN, "--output"]
    assert launcher.run(place, *command, f"whole.{suffix}") == 0
    module = "imgcls.storage.predictions"
    launcher.start(place, *command, f"cut.{suffix}", kill_at=(module, function, number))
    assert launcher.wait() == -signal.SIGKILL
    assert launcher.run(place, *command, f"cut.{suffix}") == 0
    compare(place, suffix)
    assert (place / f"cut.{suffix}.json").is_file()


@pytest.mark.parametrize("number", [1, 2])
def test_killed_while_it_keeps_what_it_fitted_it_is_done_by_the_same_command(
    launcher, place, number
):
    """A fit is kept whole or not at all."""
    command = ["predict", "few", *RUN, "--sets", "0.5", "--unlike", "0.4", "--output"]
    kill_at = ("imgcls.storage.held_out", "write_bytes", number)
    launcher.start(place, *command, "cut.csv", kill_at=kill_at)
    assert launcher.wait() == -signal.SIGKILL
    for name in ("cut.csv", "whole.csv"):
        assert launcher.run(place, *command, name) == 0, (place / "log.txt").read_text()
    compare(place, "csv")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_keeps_the_rows(launcher, place, number, code):
    """One line, the exit code of the signal, and the same command goes on."""
    command = ["predict", "many", *RUN, "--output"]
    pid = launcher.start(place, *command, "cut.csv")
    wait_for((place / ".cut.csv.journal").exists)
    os.kill(pid, number)
    assert launcher.wait() == code
    [line] = (place / "log.txt").read_text().splitlines()
    assert "rows are kept, the same command goes on" in line
    for name in ("cut.csv", "whole.csv"):
        assert launcher.run(place, *command, name) == 0
    compare(place, "csv")


def test_two_processes_never_write_one_file(launcher, place):
    """The second is refused, and the first is not disturbed."""
    arguments = ("predict", "few", *RUN, "--output", "cut.csv")
    pid = launcher.start(place, *arguments)
    wait_for((place / ".cut.csv.part").exists)
    os.kill(pid, signal.SIGSTOP)
    second = run_process(*arguments, cwd=place)
    os.kill(pid, signal.SIGCONT)
    assert second.code == 2
    assert "in use by process" in second.err
    assert launcher.wait() == 0


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_full_disk_costs_nothing_that_is_written(command, trained, suffix, monkeypatch):
    """One line, exit 1, and with room again the same command goes on to the same bytes."""
    from imgcls.jobs.predict import files

    monkeypatch.setattr(files, "_COMMIT_EVERY_S", 0.0)
    shutil.copytree(trained / "outputs/single", "outputs/single")
    arguments = ("predict", trained / "photos", *RUN, "--output")
    assert command(*arguments, f"whole.{suffix}").code == 0
    with largest_file(2500):
        done = command(*arguments, f"cut.{suffix}")
    assert done.code == 1
    [line] = done.error_lines
    assert "cannot be written" in line
    assert "the same command goes on" in line
    assert not Path(f"cut.{suffix}").exists()
    done = command(*arguments, f"cut.{suffix}")
    assert done.code == 0, done.err
    assert Path(f"whole.{suffix}").read_bytes() == Path(f"cut.{suffix}").read_bytes()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="asks Linux for a folder without files")
def test_a_place_that_takes_no_file_is_said_before_anything_is_scored(command, trained):
    """As what it is, and not as one that another process holds."""
    arguments = ("predict", trained / "photos", "--checkpoint", trained / "outputs/single")
    done = command(*arguments, "--device", "cpu", "--output", "/proc/p.csv")
    assert done.code == 1
    assert "/proc/p.csv: cannot be written" in done.error_lines[0]


def test_a_part_belongs_to_its_checkpoint_and_inputs(command, trained):
    """Begun by others, it is refused in one line that says so; --force begins anew."""
    shutil.copytree(trained / "outputs", "outputs")
    shutil.copytree(trained / "photos", "photos")
    arguments = ("predict", "photos", *RUN, "--on-bad-image", "error", "--output", "p.csv")
    Path("photos/violet/zz.jpg").write_bytes(b"none")
    assert command(*arguments).code == 1
    assert Path(".p.csv.journal").exists()
    other = tuple("outputs/folds/fold_0" if a == "outputs/single" else a for a in arguments)
    done = command(*other)
    assert done.code == 2
    assert "p.csv: was begun by another checkpoint" in done.error_lines[0]
    Path("photos/china/000.jpg").unlink()
    done = command(*arguments)
    assert done.code == 2
    assert "the inputs have other pictures now" in done.error_lines[0]
    Path("photos/violet/zz.jpg").unlink()
    assert command(*arguments, "--force").code == 0
    assert len(Path("p.csv").read_text().splitlines()) == 36
