"""`python -m tidegate.agent`: runs one device's agent until it is told to end."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from tidegate.agent.lean import leave_out, let_go


def main(arguments: list[str] | None = None) -> int:
    options = _read(arguments)
    leave_out()
    let_go()
    from tidegate.agent.process import run  # not before: what is loaded first stays

    return run(options["home"], options["once"], options["stop_component"], options["verbose"])


def _read(arguments: list[str] | None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="tidegate agent", description="Keeps one device up to date, with care.")
    parser.add_argument("--home", type=Path, required=True, help="the agent's directory, made by `tidegate enrol`")
    parser.add_argument("--once", action="store_true", help="read the plan once, see it through, and end")
    parser.add_argument("--stop-component", action="store_true", help="stop the protected component on SIGTERM as well")
    parser.add_argument("-v", "--verbose", action="store_true", help="say more")
    return vars(parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
