"""Inside the sandbox: a coverage-guided run (atheris) of a Python function of bytes, that must end in good order.

python -m tidegate.gate.inside.fuzz MODULE:FUNCTION SECONDS SEEDS
"""

from __future__ import annotations

import base64
import importlib
import sys

import atheris  # pyright: ignore[reportMissingImports]

from tidegate.core.errors import TidegateError

SHOWN_BYTES = 150


def main(words: list[str]) -> None:
    target, seconds, seeds = words
    module, _, name = target.partition(":")
    with atheris.instrument_imports(  # pyright: ignore[reportAttributeAccessIssue]
        include=[module.split(".")[0]]
    ):
        function = getattr(importlib.import_module(module), name)

    def one(data: bytes) -> None:
        try:
            function(data)
        except TidegateError:
            return
        except BaseException:  # libFuzzer itself shows short inputs alone
            begins = " begins" if len(data) > SHOWN_BYTES else ""
            sys.stderr.write(f"Base64{begins}: {base64.b64encode(data[:SHOWN_BYTES]).decode()}\n")
            sys.stderr.flush()
            raise

    options = [f"-max_total_time={seconds}", "-rss_limit_mb=0", "-timeout=10", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *options, "-artifact_prefix=/tmp/", "/tmp", seeds], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
