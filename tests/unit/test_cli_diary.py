"""The diary: lines where they can be written, and no trouble where they cannot."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tidegate.cli import diary
from tidegate.cli.diary import Diary

WRITES = """
import structlog
from tidegate.cli.diary import write_diary
write_diary("info")
structlog.get_logger().info("one", device=3)
structlog.get_logger().debug("never")
structlog.get_logger().error("two", text="half a character: \\ud800")
"""


def test_everything_of_a_level_is_there_when_the_process_has_ended() -> None:
    done = subprocess.run([sys.executable, "-c", WRITES], capture_output=True, text=True, timeout=60, check=True)
    one, two = done.stderr.splitlines()
    assert one.startswith('{"device": 3, "event": "one", "level": "info"')
    assert '"event": "two"' in two


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk_stops_nothing() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    found = Diary(full)
    found.error("nobody reads this")
    found.close()
    os.close(full)


def test_a_reader_that_does_not_read_stops_nothing_and_gets_what_was_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diary, "MOST_WAITING", 100)
    reading, writing = os.pipe()
    found = Diary(writing)
    for number in range(1000):
        found.info(f"{number} {'x' * 1000}")  # more than a pipe holds, and more than waits
    got = b""
    while got.count(b"\n") < 100:
        got += os.read(reading, 1 << 16)
    lines = [int(line.split()[0]) for line in got.splitlines()[:100]]
    assert lines == list(range(100))
    os.close(reading)
    found.info("the reader has ended")
    found.close()
    os.close(writing)
