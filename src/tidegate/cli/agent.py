"""`tidegate agent`: the device's agent, by hand. It runs as a process of its own that loads nothing of the server."""

from __future__ import annotations

import json as jsonlib
import os
import sys
from pathlib import Path

from cyclopts import App

from tidegate.cli.show import out, out_json
from tidegate.core.errors import NotFound

app = App(name="agent", help="Run the device's agent, or ask it how it stands.")


@app.command
def run(*, home: Path, once: bool = False, stop_component: bool = False, verbose: bool = False) -> None:
    """Run the agent until it is told to stop (Ctrl-C or SIGTERM).

    Args:
        home: The agent's directory, made by tidegate enrol.
        once: See one reading of the plan through, and end.
        stop_component: Stop the protected component as well when the agent ends.
        verbose: Say more.
    """
    words = [sys.executable, "-m", "tidegate.agent", "--home", str(home)]
    words += ["--once"] * once + ["--stop-component"] * stop_component + ["-v"] * verbose
    sys.stdout.flush()
    os.execv(sys.executable, words)


@app.command
def status(*, home: Path, json: bool = False) -> None:
    """Say what the agent does, and why it is not updating, from its own directory.

    Args:
        home: The agent's directory.
        json: Print JSON.
    """
    try:
        found = jsonlib.loads((home / "status.json").read_text())
    except (OSError, ValueError) as error:
        raise NotFound(f"{home} has no agent that has run; start it: tidegate agent run --home {home}") from error
    if json:
        out_json(found)
        return
    for name, value in found.items():
        out(f"{name + ':':15} {value}")
