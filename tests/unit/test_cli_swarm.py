"""The swarm's parts: answers that never come, devices that are turned away, the slope of a server's memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tidegate.cli import swarm_client
from tidegate.cli.swarm_board import Board
from tidegate.cli.swarm_play import Part, Played, play
from tidegate.cli.swarm_watch import slope_per_s

pytestmark = pytest.mark.room("cli")
Answer = Callable[[str, int], bytes]
LEASE = b'{"lease_id":"l","arm":"treated"}'


def answered(status: str, body: bytes = b"{}", head: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n{head}\r\n".encode() + body


async def played(answer: Answer, devices: int = 1, **more: object) -> tuple[Played, list[tuple[str, float]]]:
    """Let devices play against a server of a few lines; give what came of it, what was asked, and when."""
    asked: list[tuple[str, float]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                at = head.find(b"content-length:")
                if at >= 0:
                    await reader.readexactly(int(head[at + 15 :].split(b"\r\n", 1)[0]))
            except (asyncio.IncompleteReadError, ConnectionError):
                break
            path = head.split(b" ", 2)[1].decode()
            asked.append((path, time.monotonic()))
            writer.write(answer(path, len(asked)))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    who = [(index, f"1.{index}.{'0' * 32}.{'ab' * 32}") for index in range(devices)]
    part = Part("127.0.0.1", server.sockets[0].getsockname()[1], "r", who, connections=2, poll_s=0.01, **more)  # type: ignore[arg-type]
    found = await play(part)
    server.close()
    return found, asked


def as_told(path: str, _: int) -> bytes:
    return answered("200 OK", LEASE if path == "/v1/announce" else b"{}")


def test_a_device_reads_announces_and_reports_in_that_order() -> None:
    files = ("/repo/metadata/2.root.json", "/repo/metadata/timestamp.json")
    found, asked = asyncio.run(
        played(lambda path, n: answered("404 Not Found") if "root" in path else as_told(path, n), files=files)
    )
    assert [path for path, _ in asked] == [*files, "/v1/announce", "/v1/reports"]
    assert found.confirmed == 1
    assert found.tally.statuses == {"file 404": 1, "poll 200": 1, "announce 200": 1, "report 200": 1}


def test_who_is_turned_away_comes_no_sooner_than_told_and_is_counted() -> None:
    def turns_away(path: str, number: int) -> bytes:
        if number == 1:
            return answered("503 Busy", head="retry-after: 1\r\n")
        return answered("503 Busy") if number == 2 else as_told(path, number)

    found, asked = asyncio.run(played(turns_away, files=()))
    assert (found.confirmed, found.away, found.away_untold) == (1, 2, 1)
    assert asked[1][1] - asked[0][1] >= 0.99


def test_an_answer_that_never_comes_is_broken_off_and_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swarm_client, "IO_TIMEOUT_S", 0.1)
    found, asked = asyncio.run(played(lambda path, n: b"" if n == 1 else as_told(path, n), files=()))
    assert found.confirmed == 1
    assert found.tally.statuses["announce broken"] == 1
    assert len(asked) == 3


def test_a_rollout_that_is_over_is_the_end() -> None:
    found, asked = asyncio.run(played(lambda *_: answered("409 Conflict"), devices=3, files=()))
    assert (found.confirmed, found.refused, len(asked)) == (0, 3, 3)


def test_the_board_tells_how_far_all_are_and_ends_them(tmp_path: Path) -> None:
    path = tmp_path / "board"
    board, other = Board(path, 2), Board(path)
    other.tell(0, 5, 3, 20)
    other.tell(1, 6, 4, 30)
    assert board.sums() == (11, 7, 50)
    board.stop()
    assert other.stopped
    found, _ = asyncio.run(played(lambda *_: b"", files=(), board=str(path), most_s=600.0))
    assert found.confirmed == 0


def test_a_slope_leaves_out_the_beginning() -> None:
    at = np.arange(100.0)
    assert slope_per_s(at.tolist(), (2 * at + 7).tolist()) == pytest.approx(2.0)
    filled = np.where(at < 20, 100 * at, 2000.0)
    assert slope_per_s(at.tolist(), filled.tolist()) == pytest.approx(0.0)
    assert np.isnan(slope_per_s([1.0, 2.0], [1.0, 2.0]))
