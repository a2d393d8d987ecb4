"""`tidegate agent`: the device's agent, by hand. It runs as a process of its own that loads nothing of the server."""

from __future__ import annotations

import json as jsonlib
import os
import sys
from pathlib import Path

from cyclopts import App

from tidegate.agent import launch as launcher
from tidegate.cli.show import ago, out, out_json, table
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
def launch(*, home: Path, component: str = "agent", trial_s: float = 1800.0) -> None:
    """Run the agent under its launcher, which starts it again, also from a release of its own: for service managers.

    Args:
        home: The agent's directory, made by tidegate enrol.
        component: The component whose releases are this agent.
        trial_s: How long, besides its soak, a new agent may take to prove itself.
    """
    words = [sys.executable, "-I", "-S", launcher.__file__, "--home", str(home), "--component", component]
    words += ["--trial-s", str(trial_s), "--", sys.executable, "-m", "tidegate.agent", "--home", str(home.absolute())]
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
    contact = ago(int(found["last_contact"] * 1000)) if found["last_contact"] else "never"
    out(f"Device {found['device_id']}, last contact {contact}")
    rows = [
        (c["component"], c["state"].lower(), (c["installed"] or "-")[:16], (c["good"] or "-")[:16])
        for c in found["components"]
    ]
    columns = ("component", "state", "runs", "last known good")
    table("Components", columns, rows, empty=f"Nothing is updated here yet: {found['sentence']}")
    for c in found["components"]:
        out(f"{c['component']}: {c['sentence']}")
    for sentence in found.get("found", ()):
        out(f"Found since its last start: {sentence}")
    if found.get("ended"):
        out(f"The agent does not run: {found['ended']}")
