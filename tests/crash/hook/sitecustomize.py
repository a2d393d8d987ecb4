"""Loaded by the agent's interpreter in crash tests alone: leaves one fsync out, to prove that its loss is noticed.

`TIDEGATE_TEST_DROP_FSYNC` is a site, as `site_of` names it, or `list:FILE`: drop nothing, write the sites seen to FILE.
"""

from __future__ import annotations

import os
import sys
from types import FrameType

_DROP = os.environ.get("TIDEGATE_TEST_DROP_FSYNC", "")
_fsync = os.fsync
_HELPERS = ("durable.py", "guard.py")
_PORT = "disk.py"


def site_of(frame: FrameType | None) -> str:
    """Name where an fsync is called: the functions from the call outwards, to the first beyond the helpers."""
    names: list[str] = []
    while frame is not None:
        if frame.f_code.co_filename.endswith(_PORT):
            frame = frame.f_back
            continue
        names.append(frame.f_code.co_name)
        if not frame.f_code.co_filename.endswith(_HELPERS):
            break
        frame = frame.f_back
    return "<".join(name for name in names if name != "__enter__")


def fsync(descriptor: int) -> None:
    site = site_of(sys._getframe(1))
    if _DROP.startswith("list:"):
        with open(_DROP[5:], "a") as file:
            file.write(site + "\n")
    elif site == _DROP or (_DROP == "every file" and site.startswith(("sync_file", "write<"))):
        return
    _fsync(descriptor)


if _DROP:
    os.fsync = fsync
