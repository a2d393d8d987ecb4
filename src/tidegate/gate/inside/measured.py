"""Inside the sandbox: runs one program and says at the end of its output what it used. Standard library alone."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys


def main(words: list[str]) -> int:
    code = subprocess.call(words)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = {"cpu_s": used.ru_utime + used.ru_stime, "peak_mb": used.ru_maxrss / 1024}
    sys.stdout.flush()
    os.write(1, b"\n@measured " + json.dumps(said).encode() + b"\n")
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
