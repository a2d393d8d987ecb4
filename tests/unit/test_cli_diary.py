"""The diary: lines where they can be written, and no trouble where they cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

WRITES = """
import os, sys, structlog
from tidegate.cli.diary import write_diary
write_diary("info")
structlog.get_logger().info("one", device=3)
os.dup2(os.open(sys.argv[1], os.O_WRONLY), 2)
structlog.get_logger().error("two", text="half a character: \\ud800")
structlog.get_logger().debug("never")
print("went on")
"""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_diary_that_cannot_be_written_stops_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WRITES, "/dev/full"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "went on\n"
    (line,) = map(json.loads, done.stderr.splitlines())
    assert (line["event"], line["device"], line["level"]) == ("one", 3, "info")
