"""Inside the sandbox: runs one program and says at the end of its output what it used. Standard library alone.

    measured.py [--each=S --first=S] PROGRAM ...

With bounds, a program that says a line of each file that it has looked at may take so many CPU seconds for each line,
and for the first one; one that takes more is ended by the signal for that.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import sys
from contextlib import suppress

LOOK_S = 0.1
_TICK = os.sysconf("SC_CLK_TCK")


def main(words: list[str]) -> int:
    bounds: list[float] = []
    while words and words[0].startswith(("--each=", "--first=")):
        bounds.append(float(words.pop(0).partition("=")[2]))
    code = watched(words, *bounds) if len(bounds) == 2 else subprocess.call(words)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = {"cpu_s": used.ru_utime + used.ru_stime, "peak_mb": used.ru_maxrss / 1024}
    sys.stdout.flush()
    os.write(1, b"\n@measured " + json.dumps(said).encode() + b"\n")
    return code if code >= 0 else 128 - code


def watched(words: list[str], each_s: float, first_s: float) -> int:
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        reading, since_s, bound_s = process.stdout.fileno(), 0.0, first_s
        while True:
            ready = select.select([reading], [], [], LOOK_S)[0]
            if ready:
                piece = os.read(reading, 1 << 16)
                if not piece:
                    break
                view = memoryview(piece)
                while view:
                    view = view[os.write(1, view) :]
                since_s, bound_s = used_s(process.pid), each_s
            elif used_s(process.pid) - since_s > bound_s:
                process.send_signal(signal.SIGXCPU)
    return process.returncode


def used_s(pid: int) -> float:
    """Give the CPU seconds of a process, with those of its children that have ended."""
    with suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/stat", "rb") as file:
        return sum(int(word) for word in file.read().rpartition(b")")[2].split()[11:15]) / _TICK
    return 0.0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
