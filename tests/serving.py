"""A local HTTP server of a folder, with Range, that fails as servers do."""

from __future__ import annotations

import itertools
import random
import threading
import time
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Faults:
    """What the server does wrong, and what it was asked for.

    every: of so many requests one, drawn at random, fails; 0: none does. kinds: how. status: the
    answer to every request. silent: no answer for so many seconds. ranges, marks: whether parts of
    files are given, and ETags.
    """

    def __init__(self):
        self.every = 0
        self.kinds = ("500", "cut", "slow")
        self.status = None
        self.silent_s = 0.0
        self.ranges = self.marks = self.lengths = True
        self.asked: list[tuple[str, str, str | None]] = []
        self.failed = 0
        self._rng = random.Random(0)
        self._kinds = itertools.count()

    def next(self):
        if not self.every or self._rng.randrange(self.every):
            return None
        self.failed += 1
        return self.kinds[next(self._kinds) % len(self.kinds)]

    def gets(self):
        return [path for method, path, _ in self.asked if method == "GET"]


class Handler(BaseHTTPRequestHandler):
    """Answers from `folder`, with what `faults` says."""

    folder: Path
    faults: Faults
    protocol_version = "HTTP/1.1"
    # head and body in one packet, or the client's system waits before it says that it has one
    wbufsize = 2**16

    def log_message(self, *_):
        """Nothing."""

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, *, with_body):
        faults = self.faults
        faults.asked.append((self.command, self.path, self.headers.get("Range")))
        file = self.folder / unquote(urlsplit(self.path).path).lstrip("/")
        time.sleep(faults.silent_s)
        fault = faults.next()
        if fault == "slow":
            time.sleep(0.3)
        status = faults.status or (500 if fault == "500" else 0 if file.is_file() else 404)
        if status:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = self.begin(file.read_bytes(), file.stat().st_mtime_ns)
        if with_body and fault == "cut":
            self.close_connection = True
            self.wfile.write(content[: len(content) // 2])
        elif with_body:
            self.wfile.write(content)

    def begin(self, content, mark):
        """Send the head; the part that was asked for."""
        size, wanted = len(content), self.headers.get("Range")
        if wanted is not None and self.faults.ranges:
            start, end = (int(n) for n in wanted.removeprefix("bytes=").split("-"))
            content = content[start : end + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{min(end, size - 1)}/{size}")
        else:
            self.send_response(200)
        if self.faults.marks:
            self.send_header("ETag", f'"{mark:x}-{size:x}"')
            self.send_header("Last-Modified", formatdate(mark / 1e9, usegmt=True))
        if self.faults.lengths:
            self.send_header("Content-Length", str(len(content)))
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        return content


class Server(ThreadingHTTPServer):
    """A client that was killed is none of its faults."""

    daemon_threads = True

    def handle_error(self, *_):
        """Nothing."""


@contextmanager
def served(folder: Path):
    """(the folder's URL, its Faults), while the block runs."""
    faults = Faults()
    handler = type("FolderHandler", (Handler,), {"folder": folder, "faults": faults})
    server = Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", faults
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
