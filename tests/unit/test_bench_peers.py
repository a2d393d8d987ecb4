"""The comparison with other update servers: what cannot be had is skipped with a reason, and nothing else is."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest
from bench.peers._drive import rate
from bench.peers._port import Skip, request, tree_cpu_s
from bench.peers._sources import sources

pytestmark = pytest.mark.room("cli")


def test_a_peer_without_sources_is_skipped_with_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIDEGATE_PEER_SOURCES", raising=False)
    with pytest.raises(Skip, match="TIDEGATE_PEER_SOURCES is not set"):
        sources("nebraska", "HEAD", tmp_path)
    monkeypatch.setenv("TIDEGATE_PEER_SOURCES", str(tmp_path))
    with pytest.raises(Skip, match="has no clone named nebraska"):
        sources("nebraska", "HEAD", tmp_path)
    subprocess.run(["git", "init", "-q", tmp_path / "nebraska"], check=True)
    with pytest.raises(Skip, match=r"has no 1\.2\.3"):
        sources("nebraska", "1.2.3", tmp_path)


def test_a_commit_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clone, cache = tmp_path / "nebraska", tmp_path / "cache"
    cache.mkdir()
    subprocess.run(["git", "init", "-q", clone], check=True)
    (clone / "main.go").write_text("package main\n")
    as_someone = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["add", "."], [*as_someone, "commit", "-q", "-m", "x"]):
        subprocess.run(["git", "-C", clone, *words], check=True)
    monkeypatch.setenv("TIDEGATE_PEER_SOURCES", str(tmp_path))
    assert (sources("nebraska", "HEAD", cache) / "main.go").read_text() == "package main\n"


def test_the_client_counts_things_of_several_requests_and_reads_chunks() -> None:
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.read(65536):
            asked.append(head.split(b" ", 2)[1])
            writer.write(b"HTTP/1.1 200\r\ntransfer-encoding: chunked\r\n\r\n2\r\n")
            await writer.drain()
            writer.write(b"{}\r\n0\r\n\r\n")
        writer.close()

    def run(port: int) -> None:
        pair = (request("GET", "/one"), request("GET", "/two"))
        found = rate(port, [pair] * 10, lambda: 0.0, 60.0)
        assert (found.failed, found.cut) == (0, False)

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        await asyncio.to_thread(run, server.sockets[0].getsockname()[1])
        server.close()

    asyncio.run(main())
    assert sorted(asked) == [b"/one"] * 10 + [b"/two"] * 10


def test_time_is_that_of_a_process_and_what_it_started() -> None:
    counts = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; read x"
    busy = subprocess.Popen(["sh", "-c", counts], stdin=subprocess.PIPE)
    try:
        while tree_cpu_s([busy.pid]) < 0.05:
            assert busy.poll() is None
        assert tree_cpu_s([os.getpid()]) >= 0.05
    finally:
        busy.kill()
        busy.wait()
