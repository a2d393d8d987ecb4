"""Whether a file that holds a secret can be read by others than its owner."""

from __future__ import annotations

import stat

OTHERS = 0o077


def too_open(path: object, mode: int) -> str:
    """Say what is wrong with a secret file's mode and what to do, or nothing.

    Only regular files count: what comes through a pipe has no mode of its own.

    Args:
        path: as it was named.
        mode: `st_mode`.
    """
    if not stat.S_ISREG(mode) or not mode & OTHERS:
        return ""
    return f"{path} holds a secret, and others can read it (mode {stat.S_IMODE(mode):04o}): chmod 600 {path}"
