"""The recovery queue's pages as a real process: they are there when all else is down, so nobody may take all places."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.e2e.stage import wait_for

from tidegate.contingency.book import Book
from tidegate.contingency.queue_store import LEAD, QueueStore

pytestmark = [pytest.mark.room("contingency"), pytest.mark.room("cli"), pytest.mark.timeout(300)]
FILES, SILENT = 256, 300
CASE = """
technicians: [{name: ann, site: HQ}]
services: {desk: {value_per_h: 10, needs: 2}}
devices:
  - {service: desk, site: HQ, minutes: 30, count: 3}
"""


@pytest.fixture
def pages(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes], str]]:
    """Serve a queue by a process with few files: its address, the process, and the lead's token."""
    (tmp_path / "july.yaml").write_text(CASE)
    store = QueueStore(Book(tmp_path / "book"), "july")
    store.open(tmp_path / "july.yaml", who="x", at_ms=int(time.time() * 1000))
    said = tmp_path / "said"
    with said.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "tidegate", "recovery", "serve", "july", "--listen", "127.0.0.1:0"],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TIDEGATE_BOOK": str(tmp_path / "book"), "PYTHONUNBUFFERED": "1"},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES)),
        )
    try:
        wait_for(lambda: b"Serving july at http" in said.read_bytes() or process.poll() is not None, 120)
        assert process.poll() is None, said.read_text()
        yield said.read_text().split("Serving july at ")[1].split(";")[0], process, store.tokens()[LEAD]
    finally:
        process.kill()
        process.wait()


def test_whoever_opens_lines_and_asks_for_nothing_keeps_no_technician_out(
    pages: tuple[str, subprocess.Popen[bytes], str],
) -> None:
    url, process, token = pages
    host, port = url.removeprefix("http://").split(":")

    def board() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return "devices done" in httpx.get(f"{url}/board/{token}", timeout=5).text
        return False

    assert board()
    lines = [socket.create_connection((host, int(port)), 60) for _ in range(SILENT)]
    try:
        wait_for(board, 120)
        assert len(os.listdir(f"/proc/{process.pid}/fd")) < FILES
    finally:
        for line in lines:
            line.close()
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 0


def test_a_form_that_does_not_end_is_not_read_to_its_end(pages: tuple[str, subprocess.Popen[bytes], str]) -> None:
    url, _, token = pages
    host, port = url.removeprefix("http://").split(":")
    line = socket.create_connection((host, int(port)), 60)
    head = f"POST /board/{token} HTTP/1.1\r\nhost: x\r\ncontent-length: 100000000\r\n\r\n"
    with line, pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):
        line.sendall(head.encode())
        for _ in range(1000):
            line.sendall(bytes(100_000))
    assert "devices done" in httpx.get(f"{url}/board/{token}", timeout=60).text
