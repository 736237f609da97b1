"""Data behind URLs: the same keys and pixels as on disk, whatever the server does in between."""

from __future__ import annotations

import os
import pickle
import random
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import fsspec
import numpy as np
import pytest
from conftest import OFFLINE
from packing import ODD, SPECS, pack, png
from serving import served

from imgcls.config.augment import PRESETS
from imgcls.config.reading import ReadingConfig
from imgcls.data.loading.loader import TrainLoader
from imgcls.data.open import absolute_spec, find_source, open_source
from imgcls.data.pixels.decode import UnreadableImageError
from imgcls.data.pixels.transforms import train_transform
from imgcls.data.remote import fetching, files
from imgcls.data.remote.files import RemoteFile, read_range
from imgcls.data.remote.urls import has_pattern, is_remote
from imgcls.errors import ConfigError, DataError, ReadError

KINDS = list(SPECS)
FACTS = SimpleNamespace(
    input_size=(3, 16, 16), mean=(0.5,) * 3, std=(0.25,) * 3, interpolation="bicubic",
    crop_pct=0.875, crop_mode="center",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Tries follow one another at once."""
    monkeypatch.setattr(fetching, "_PAUSES_S", (0.01,) * 4)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A folder of 24 pictures in each form; nothing changes it."""
    root = tmp_path_factory.mktemp("packed")
    pack(root, [("abc"[n % 3], png(n, side=12)) for n in range(24)])
    return root


@pytest.fixture
def server(packed):
    """(URL, Faults) of a server of these pictures."""
    with served(packed) as found:
        yield found


@pytest.fixture
def memory(packed):
    """The URL of the same pictures in fsspec's memory."""
    system = fsspec.filesystem("memory")
    for file in packed.rglob("*"):
        if file.is_file():
            system.pipe_file(f"/shelf/{file.relative_to(packed).as_posix()}", file.read_bytes())
    yield "memory://shelf"
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def spec_below(root, kind):
    # a server has no list of its files: these are named
    names = {"parquet": "p-{}.parquet"} if str(root).startswith("http") else {}
    return f"{root}/{names.get(kind, SPECS[kind])}".replace("{}", "0")


def local_of(packed, kind):
    """The pictures on disk of what is named on a server."""
    return open_source(f"{packed}/{spec_below('http:', kind).removeprefix('http:/')}")


def everything(table):
    contents = [table.images.content(row) for row in range(len(table))]
    return table.keys, table.labels.tolist(), table.class_names, table.splits, contents


def epochs(table, workers=0):
    """Keys and transformed pixels of two epochs, the second from inside."""
    loader = TrainLoader(
        table, np.arange(len(table)), train_transform(FACTS, PRESETS["light"]), batch_size=5,
        grad_accum=1, seed=3, workers=workers, device_type="cpu", even_batches=False,
    )  # fmt: skip
    steps = [*loader.steps(0), *loader.steps(1, start_step=2)]
    return [(batch.keys, batch.images.numpy().tobytes()) for step in steps for batch in step]


@pytest.mark.parametrize("kind", KINDS)
def test_memory_holds_what_the_disk_holds(packed, memory, kind):
    """Keys, labels and encoded pictures; braces, globs and odd names."""
    local = open_source(spec_below(packed, kind))
    remote = open_source(spec_below(memory, kind))
    assert everything(remote) == everything(local)
    assert remote.images.location(0).startswith("memory://shelf/")
    assert len(remote) == 24


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_fails_gives_what_the_disk_holds(packed, server, kind):
    """One request of three is answered by 500, cut off, or slowly."""
    url, faults = server
    faults.every = 3
    table = open_source(spec_below(url, kind))
    assert everything(table) == everything(local_of(packed, kind))
    if kind == "table":
        assert faults.failed > 3
        assert table.images.location(0) == f"{url}/a%20b%23%2520%3F%C3%A9/0000.png"
        assert table.keys[0] == f"{ODD}/0000.png"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", ["memory", "http"])
def test_epochs_are_those_of_the_disk(packed, memory, server, kind, place):
    """Keys and augmented pixels, also of an epoch that is begun inside."""
    url, faults = server
    faults.every = 4
    remote = open_source(spec_below(url if place == "http" else memory, kind))
    local = local_of(packed, kind) if place == "http" else open_source(spec_below(packed, kind))
    assert epochs(remote) == epochs(local)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_loader_processes_give_the_same_epochs(packed, memory, server, kind):
    """Begun anew for a server, forked for what only this process has in memory."""
    url, faults = server
    faults.every = 4
    expected = epochs(local_of(packed, kind))
    assert epochs(open_source(spec_below(url, kind)), workers=2) == expected
    local = epochs(open_source(spec_below(packed, kind)))
    assert epochs(open_source(spec_below(memory, kind)), workers=2) == local


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_fetched_is_not_fetched_again(server, kind):
    """Neither for the next epoch nor for the next start, which only asks for the state."""
    url, faults = server
    first = everything(open_source(spec_below(url, kind)))
    fetched = len(faults.gets())
    assert everything(open_source(spec_below(url, kind))) == first
    assert len(faults.gets()) == fetched
    assert fetched <= {"tar": 2, "parquet": 1, "table": 25}[kind]


def test_a_replaced_file_is_fetched_anew(packed, tmp_path):
    """Of the same size: the server's mark tells."""
    for name in ("s-0.tar", "s-1.tar"):
        shutil.copy(packed / name, tmp_path / name)
    with served(tmp_path) as (url, _):
        before = open_source(f"{url}/s-0.tar").images.content(0)
        content = (tmp_path / "s-0.tar").read_bytes()
        other = (packed / "s-1.tar").read_bytes()
        assert len(content) == len(other)
        (tmp_path / "s-0.tar").write_bytes(other)
        after = open_source(f"{url}/s-0.tar")
        assert after.images.content(0) != before
        assert after.keys[0] == "s-0.tar/0012.png"


def test_a_file_that_changes_under_a_run_stops_it(packed, tmp_path, monkeypatch):
    """What is read then would be of another content; nothing of it is kept."""
    monkeypatch.setattr(files, "_BLOCK_BYTES", 64)
    monkeypatch.setattr(files, "_BUFFER_BYTES", 512)
    shutil.copy(packed / "s-0.tar", tmp_path)
    with served(tmp_path) as (url, _):
        table = open_source(f"{url}/s-0.tar")
        shutil.rmtree(Path(os.environ["IMGCLS_CACHE"], "remote"))
        table.images.content(0)
        kept = len(list(Path(os.environ["IMGCLS_CACHE"], "remote").iterdir()))
        (tmp_path / "s-0.tar").write_bytes((packed / "s-1.tar").read_bytes())
        monkeypatch.setattr(files, "_CHECK_EVERY_S", 0.0)
        with pytest.raises(ReadError, match="has changed since it was opened"):
            table.images.content(5)
        assert len(list(Path(os.environ["IMGCLS_CACHE"], "remote").iterdir())) == kept


def test_without_a_mark_nothing_is_kept(server):
    """Neither blocks nor an index, which might be of an older content."""
    url, faults = server
    faults.marks = False
    table = open_source(f"{url}/s-0.tar")
    assert "neither an ETag nor a date" in table.notes[0]
    assert open_source(f"{url}/p-0.parquet").notes == table.notes
    assert everything(open_source(f"{url}/s-0.tar")) == everything(table)
    kept = Path(os.environ["IMGCLS_CACHE"])
    assert not [file for file in kept.rglob("*") if file.is_file()]
    assert len(faults.gets()) > 24


def test_a_server_without_parts_gives_small_files_whole(server, packed):
    """And of large ones it says what to do."""
    url, faults = server
    faults.ranges = False
    assert everything(open_source(f"{url}/s-0.tar")) == everything(open_source(f"{packed}/s-0.tar"))


def test_of_a_large_file_parts_are_needed(tmp_path, monkeypatch):
    """All of it would be fetched for each block."""
    monkeypatch.setattr(fetching, "_PIECE_BYTES", 1000)
    (tmp_path / "x.bin").write_bytes(bytes(5000))
    with served(tmp_path) as (url, faults):
        state = RemoteFile(f"{url}/x.bin").state()
        assert read_range(f"{url}/x.bin", state, 0, 5000) == bytes(5000)
        faults.ranges = False
        shutil.rmtree(os.environ["IMGCLS_CACHE"])
        with pytest.raises(OSError, match="gives no parts of files; download it"):
            read_range(f"{url}/x.bin", state, 0, 10)


def test_a_length_that_is_not_announced_is_no_hindrance(server, packed):
    """As of a table that a server makes while it is asked."""
    url, faults = server
    faults.lengths = False
    assert everything(open_source(f"{url}/t.csv")) == everything(open_source(f"{packed}/t.csv"))


def test_any_range_is_what_lies_there(tmp_path, monkeypatch):
    """Whatever blocks were kept, lost or damaged before."""
    monkeypatch.setattr(files, "_BLOCK_BYTES", 64)
    monkeypatch.setattr(fetching, "_PIECE_BYTES", 200)
    rng = np.random.default_rng(0)
    content = rng.bytes(1000)
    (tmp_path / "x.bin").write_bytes(content)
    with served(tmp_path) as (url, faults):
        faults.every = 5
        file = RemoteFile(f"{url}/x.bin")
        state = file.state()
        for _ in range(150):
            start, stop = sorted(rng.integers(0, 1100, 2).tolist())
            assert read_range(file.url, state, start, stop) == content[start:stop]
            blocks = sorted(Path(os.environ["IMGCLS_CACHE"], "remote").glob("*"))
            if blocks:
                lost = blocks[rng.integers(len(blocks))]
                lost.unlink() if rng.integers(2) else lost.write_bytes(b"damaged")
        with file.stream() as stream:
            assert stream.read() == content
            stream.seek(-10, os.SEEK_END)
            assert stream.read(4) == content[-10:-6]


def test_the_commands_take_urls(server, command):
    """Training, evaluation of the run's own and of other pictures, audit, and what is recorded."""
    url, _ = server
    options = ("--epochs", "1", "--device", "cpu", "--experiment", "r", *OFFLINE)
    assert command("train", f"{url}/t.csv", *options).code == 0
    config = Path("outputs/r/config.yaml").read_text()
    assert f"source: {url}/t.csv\n" in config
    shards = f"{url}/s-{{0..1}}.tar"
    for arguments in (
        ("evaluate", "outputs/r", "--device", "cpu", "--no-report"),
        ("evaluate", "outputs/r", "--data", shards, "--device", "cpu", "--no-report"),
        ("resume", "outputs/r", "--data", shards, "--epochs", "2"),
        ("inspect", f"{url}/p-0.parquet"),
    ):
        done = command(*arguments, "--workers", "0")
        assert done.code == 0, done.err


ERRORS = [
    (404, "there is no such file (404)"),
    (403, "access is denied (403); give them by ~/.netrc"),
    (401, "access is denied (401)"),
    (503, "the server answers 503, 5 times in a row"),
    (418, "the server answers 418"),
]


@pytest.mark.parametrize(("status", "words"), ERRORS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_is_one_line_with_the_url(server, command, kind, status, words):
    """Of the command, without traceback; nothing is written."""
    url, faults = server
    faults.status = status
    done = command("train", spec_below(url, kind))
    assert done.code == 2
    [line] = done.error_lines
    assert words in line
    assert url in line
    assert "Traceback" not in done.err
    assert not Path("outputs").exists()


def test_a_silent_server_is_one_line(server, command, monkeypatch):
    """After some tries."""
    url, faults = server
    monkeypatch.setattr(fetching, "_SILENT_S", 0.05)
    faults.silent_s = 0.3
    done = command("inspect", f"{url}/t.csv")
    assert done.code == 2
    assert "timed out, 5 times in a row" in done.error_lines[0]


def test_a_server_that_is_not_there_is_one_line(command):
    """A port that nobody listens at."""
    done = command("train", "http://127.0.0.1:9/t.csv")
    assert done.code == 2
    assert "cannot be reached" in done.error_lines[0]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("foo://x/t.csv", "the protocol 'foo' is not known"),
        ("file:///tmp/t.csv", "name it by its path"),
        ("https://example.org/photos", "is no table of pictures; from URLs are read .csv"),
        ("https://example.org/a.tar.gz", "is an archive"),
        ("https://[x/t.csv", "is no URL that can be read"),
        ("memory://nowhere/t.csv", "there is no such file"),
        ("memory://nowhere/t-*.parquet", "no such file"),
    ],
)
def test_what_cannot_be_read_says_why(spec, words, tmp_path):
    """One line, before any server is asked where that is possible."""
    with pytest.raises(DataError, match=words):
        open_source(spec)


@pytest.mark.parametrize("package", ["fsspec", "aiohttp"])
def test_a_missing_extra_is_one_line(monkeypatch, package):
    """With what to type."""
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DataError, match=r'pip install "imgcls\[remote\]"'):
        find_source("https://example.org/t.csv")


def test_a_missing_file_system_is_one_line(monkeypatch):
    """s3fs and its like are installed by those who need them."""
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(DataError, match="s3:// is missing: pip install s3fs"):
        find_source("s3://bucket/t.csv")


SECRETS = [
    "https://user:hunter2@example.org/t.csv",
    "https://hunter2@example.org/s-{0..1}.tar",
    "s3://key:hunter2@bucket/t.csv",
    "https://example.org/t.csv?X-Amz-Signature=hunter2",
    "https://example.org/t.csv?token=hunter2&x=1",
    "https://example.org/t.csv?sig=hunter2",
    "s-0.tar::https://user:hunter2@example.org/s-1.tar",
]


@pytest.mark.parametrize("verb", ["train", "inspect", "evaluate", "predict"])
@pytest.mark.parametrize("spec", SECRETS)
def test_credentials_in_a_url_are_refused_and_not_told(trained, command, verb, spec):
    """They would be written into config.yaml."""
    option = {"evaluate": ["--data"]}.get(verb, [])
    run = {"evaluate": [trained / "outputs" / "single"]}.get(verb, [])
    if verb == "predict":
        run = ["--checkpoint", trained / "outputs" / "single"]
    done = command(verb, *run, *option, spec)
    assert done.code == 2
    assert "credentials" in done.error_lines[0]
    assert "hunter2" not in done.out + done.err


def test_credentials_in_a_cell_are_refused_and_not_told(packed, tmp_path):
    """They would be written into splits.csv."""
    (tmp_path / "t.csv").write_text("path,label\nhttps://u:hunter2@example.org/a.png,x\n")
    with served(tmp_path) as (url, _), pytest.raises(DataError, match="credentials") as caught:
        open_source(f"{url}/t.csv")
    assert "hunter2" not in str(caught.value)


def test_a_url_is_recorded_as_it_was_typed():
    """No current folder before it, and no slash less."""
    for spec in ("s3://b/x.csv", "https://h/a.tar::https://h/b.tar", "hf://datasets/u/n/*.parquet"):
        assert absolute_spec(spec) == spec
        assert is_remote(spec)
    assert has_pattern("https://h/s-*.tar")
    assert not has_pattern("https://[::1]/s.csv?x=1")
    assert not is_remote("C:\\photos")
    assert not is_remote("photos/x.csv")


def test_a_table_names_pictures_anywhere(packed, server, tmp_path):
    """By whole URLs: below its own folder they are names, elsewhere they stay URLs."""
    url, _ = server
    odd = "a%20b%23%2520%3F%C3%A9"
    with served(tmp_path) as (other, _):
        (tmp_path / "own.png").write_bytes(png(7))
        rows = [f"{url}/{odd}/0003.png", f"{other}/own.png", "sub/../own.png"]
        (tmp_path / "t.csv").write_text("path,label\n" + "".join(f"{r},x\n" for r in rows))
        table = open_source(f"{other}/t.csv")
        assert sorted(table.keys) == sorted([rows[0], "own.png"])
        contents = dict(zip(table.keys, everything(table)[-1], strict=True))
        assert contents["own.png"] == png(7)
        assert contents[rows[0]] == (packed / ODD / "0003.png").read_bytes()


def test_paths_of_another_machine_are_refused(tmp_path):
    """A server's files are not looked through for them."""
    (tmp_path / "t.csv").write_text("path,label\n/data/a.png,x\nC:\\data\\b.png,x\n")
    with served(tmp_path) as (url, _), pytest.raises(DataError, match="2 absolute paths"):
        open_source(f"{url}/t.csv")


def test_the_pictures_of_a_remote_table_may_lie_on_disk(packed, server):
    """By --root."""
    url, faults = server
    table = open_source(f"{url}/t.csv", ReadingConfig(root=packed))
    assert everything(table) == everything(open_source(f"{packed}/t.csv"))
    assert len(faults.gets()) == 1


def test_a_root_behind_a_url_is_refused(packed, command):
    """With the URL as it was typed, and not below the current folder."""
    done = command("train", packed / "t.csv", "--root", "s3://bucket/photos")
    assert done.code == 2
    assert "--root s3://bucket/photos: is a URL" in done.error_lines[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_picture_is_a_bad_one_and_a_failing_server_is_not(server, kind):
    """What is left out for good is told apart from what a server could not give today."""
    url, faults = server
    table = open_source(spec_below(url, kind))
    shutil.rmtree(os.environ["IMGCLS_CACHE"])
    faults.status = 404
    with pytest.raises(UnreadableImageError, match="there is no such file"):
        table.images.content(0)
    for status in (403, 500):
        faults.status = status
        with pytest.raises(ReadError, match="not the picture's"):
            table.images.content(0)


def test_tries_leave_the_random_numbers_alone(server):
    """A picture's random changes are drawn from the same state, whatever the server did."""
    url, faults = server
    faults.every = 2
    table = open_source(f"{url}/t.csv")
    random.seed(0)
    expected = random.random()
    random.seed(0)
    everything(table)
    assert random.random() == expected


def test_a_store_is_sent_without_what_it_has_open(server):
    """To loader processes, which are not forked: fsspec's thread would be missing there."""
    url, _ = server
    for kind in KINDS:
        table = open_source(spec_below(url, kind))
        assert not table.images.outlives_fork
        assert not table.select(np.array([1])).images.outlives_fork
        again = pickle.loads(pickle.dumps(table.images))
        assert again.content(2) == table.images.content(2)


def test_the_limit_of_the_cache_is_checked(server, monkeypatch):
    """It is a number of GiB; 0 keeps nothing."""
    url, _ = server
    monkeypatch.setenv("IMGCLS_REMOTE_CACHE", "much")
    with pytest.raises(ConfigError, match="IMGCLS_REMOTE_CACHE: 'much' is no number of GiB"):
        open_source(f"{url}/t.csv")
    monkeypatch.setenv("IMGCLS_REMOTE_CACHE", "0")
    everything(open_source(f"{url}/t.csv"))
    assert not Path(os.environ["IMGCLS_CACHE"], "remote").exists()
