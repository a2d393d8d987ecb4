"""Becomes another program under limits of its own: `python -S -E limited.py MEMORY_MB CPU_S -- COMMAND...`.

Standard library alone, and nothing but this file: between a fork and an exec of a process with threads, Python code is
not safe, so the limits are set in a process of their own. 0 stands for no limit of that kind.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

EXIT_NO_COMMAND = 127


def limit(memory_mb: int, cpu_s: int) -> None:
    """Let the system refuse this process more address space, and end it after so much CPU. No core files."""
    with suppress(ImportError):  # no such limits on this system: the caller's time-out is what is left
        import resource

        wanted = {resource.RLIMIT_CORE: 0}
        wanted |= {resource.RLIMIT_AS: memory_mb << 20} if memory_mb else {}
        wanted |= {resource.RLIMIT_CPU: cpu_s} if cpu_s else {}
        for kind, value in wanted.items():
            hard = resource.getrlimit(kind)[1]
            soft = value if hard < 0 else min(value, hard)
            resource.setrlimit(kind, (soft, hard))


def main(arguments: list[str]) -> int:
    limit(int(arguments[0]), int(arguments[1]))
    command = arguments[3:]
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]}: {error.strerror}\n")
    return EXIT_NO_COMMAND


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
