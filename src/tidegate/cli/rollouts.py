"""`tidegate rollout`: start, watch, pause, resume, abort, list."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

from cyclopts import App
from rich.live import Live

from tidegate.cli.office import OfficeClient, part
from tidegate.cli.rollout_exposure import exposure_of, say_exposure
from tidegate.cli.rollout_view import rollout_panel
from tidegate.cli.show import coloured, console, duration, out, out_json, pairs_of, seconds_of, table
from tidegate.core.errors import BadInput
from tidegate.core.words import counted

app = App(name="rollout", help="Start, watch and steer rollouts.")
WATCH_S = 0.5


@app.command
def start(
    *,
    component: str,
    release: str,
    max_harmed: int,
    confidence: float = 0.999,
    canary: int = 0,
    max_silent: int = 0,
    placebo_per_treated: float = 4.0,
    silent_rate: float = 0.0,
    observe: str = "",
    spread: str = "0s",
    deadline: str = "30d",
    scope: list[str] | None = None,
    cap: list[str] | None = None,
    lanes: Literal["auto", "off"] = "off",
    estate: Path | None = None,
    approved_by: list[str] | None = None,
    scout: list[str] | None = None,
    shadow: bool = False,
    allow_hold: bool = False,
    override_halt: bool = False,
    let_through: bool = False,
    why: str = "",
    home: Path | None = None,
    json: bool = False,
) -> None:
    """Start a rollout: declare how much harm is acceptable; the rest follows from the evidence.

    Args:
        component: What is updated.
        release: The candidate: sequence number, version, or digest.
        max_harmed: At most so many devices may be harmed, whatever the defect.
        confidence: With this probability.
        canary: The first ring; default: max_harmed.
        max_silent: A smaller budget for devices that fall silent, which may need hands; default: none.
        placebo_per_treated: Placebo devices for each treated one, as far as unexposed devices are left.
        silent_rate: Devices that fall silent for reasons of their own, per observation time; for planning alone.
        observe: How long to wait for a device's word: soak and grace. Default: from the release's soak.
        spread: Over how long a ring's announcements are spread.
        scope: Only devices with NAME=VALUE. Can be given several times.
        deadline: How long the whole may take; a budget that needs longer counts as one that cannot be done.
        cap: LABEL=N: at most N devices of one value of the label in flight at once.
        lanes: auto: limits and lanes from the estate's k of n, so that no service with slack falls; needs --estate.
        estate: The estate file; without --lanes it only shows which services this release could take down.
        approved_by: Who has approved, where a service that could fall names an approver. Several times.
        scout: A label whose values, in pairs, are each tried first on their lowest-ranked device. Several times.
        shadow: Both arms placebo: measures this fleet's background and the smallest budget, and changes nothing.
        allow_hold: Start though it cannot reach everyone.
        override_halt: Go on with a candidate that was halted, with what is left of its budget; takes two people.
        let_through: Start without the evidence that the policy demands, where the policy allows that; needs --why.
        why: The reason, for the record.
        home: The control plane's directory.
        json: Print JSON.
    """
    caps = pairs_of("--cap", cap or ())
    for label, most in caps.items():
        if not most.isdecimal():
            raise BadInput(f"--cap must be LABEL=N, not {label}={most}")
    body: dict[str, Any] = {
        "component": component,
        "release": release,
        "max_harmed": max_harmed,
        "confidence": confidence,
        "canary": canary,
        "max_silent": max_silent,
        "placebo_per_treated": placebo_per_treated,
        "silent_rate": silent_rate,
        "observe_s": seconds_of("--observe", observe) if observe else 0,
        "spread_s": seconds_of("--spread", spread),
        "scope": pairs_of("--scope", scope or ()),
        "deadline_s": seconds_of("--deadline", deadline),
        "caps": {label: int(most) for label, most in caps.items()},
        "scouts": scout or [],
        "shadow": shadow,
        "allow_hold": allow_hold,
        "override_halt": override_halt,
        "let_through": let_through,
    }
    office = OfficeClient(home)
    outlook = exposure_of(office, estate, lanes, body, approved_by or [])
    if outlook is not None and not json:
        say_exposure(outlook)
    made = office.post("/api/v1/rollouts", body, why)
    if json:
        out_json(made if outlook is None else {**made, "exposure": outlook})
        return
    if shadow:
        many = counted(made["devices"], "device")
        out(f"Shadow rollout {made['rollout']} measures {many} and changes nothing.")
    else:
        _say_started(made)
    out(f"Next: tidegate rollout watch {made['rollout']}")


def _say_started(made: dict[str, Any]) -> None:
    out(
        f"Rollout {made['rollout']}: {counted(made['devices'], 'device')}, about {counted(made['rings'], 'ring')}"
        f" by the {made['rule']} rule, at most {made['budget']['max_harmed']:,} harmed."
    )
    if made["speed"] and (waits := made["speed"]["waits"]):
        out(f"Ring {waits['ring']} waits: {waits['sentence']}. When the others open: tidegate status")


@app.command
def watch(rollout: str, /, *, home: Path | None = None, json: bool = False) -> int:
    """Watch a rollout until it ends. Exit code 0 if it reached everyone, 1 if it was halted.

    Args:
        rollout: Its name, or the component's for its newest rollout.
        home: The control plane's directory.
        json: Print one JSON object a line as it changes.
    """
    office = OfficeClient(home)
    path = f"/api/v1/rollouts/{part(rollout)}"
    found = office.get(path, devices=1)
    if json:
        return _watch_lines(office, path)
    with Live(rollout_panel(found), console=console, refresh_per_second=4) as live:
        while found["phase"] not in ("halted", "closed"):
            time.sleep(WATCH_S)
            found = office.get(path, devices=1)
            live.update(rollout_panel(found))
    out()
    return 0 if found["phase"] == "closed" else 1


def _watch_lines(office: OfficeClient, path: str) -> int:
    last: dict[str, Any] = {}
    while True:
        found = office.get(path)
        if found != last:
            out_json(found)
            last = found
        if found["phase"] in ("halted", "closed"):
            return 0 if found["phase"] == "closed" else 1
        time.sleep(WATCH_S)


@app.command
def pause(rollout: str, /, *, why: str = "", home: Path | None = None) -> None:
    """Pause a rollout: no new leases; what is under way goes on to its end.

    Args:
        rollout: Its name, or the component's for its newest rollout.
        why: The reason, for the record.
        home: The control plane's directory.
    """
    _steer(rollout, "pause", why, home)


@app.command
def resume(rollout: str, /, *, why: str = "", home: Path | None = None) -> None:
    """Resume a paused rollout.

    Args:
        rollout: Its name, or the component's for its newest rollout.
        why: The reason, for the record.
        home: The control plane's directory.
    """
    _steer(rollout, "resume", why, home)


@app.command
def abort(rollout: str, /, *, why: str, home: Path | None = None) -> None:
    """End a rollout: no new leases, and devices that have not confirmed return to their last known good.

    Args:
        rollout: Its name, or the component's for its newest rollout.
        why: The reason, for the record.
        home: The control plane's directory.
    """
    _steer(rollout, "abort", why, home)


def _steer(rollout: str, verb: str, why: str, home: Path | None) -> None:
    found = OfficeClient(home).post(f"/api/v1/rollouts/{part(rollout)}/{verb}", {}, why)
    out(f"Rollout {found['rollout']} is {found['phase']}: {found['sentence']}")


@app.command
def limit(component: str, /, *, max_harmed_30d: int, why: str = "", home: Path | None = None) -> None:
    """Limit what all releases of a component together may harm in 30 days; rollouts reserve from it.

    It counts from when it is set: what rollouts reserved or harmed before is not in it.

    Args:
        component: Whose releases.
        max_harmed_30d: Devices, in any 30 days from now on.
        why: The reason, for the record.
        home: The control plane's directory.
    """
    path = f"/api/v1/components/{part(component)}/budget"
    found = OfficeClient(home).post(path, {"max_harmed_30d": max_harmed_30d}, why)
    out(f"{component}: at most {found['max_harmed_30d']:,} devices harmed in 30 days, {found['left']:,} of them left.")
    out("It counts from when it was first set: rollouts that were started before reserve nothing from it.")


@app.command(name="list")
def listing(*, home: Path | None = None, json: bool = False) -> None:
    """List the rollouts, the oldest first.

    Args:
        home: The control plane's directory.
        json: Print JSON.
    """
    found = OfficeClient(home).get("/api/v1/rollouts")
    if json:
        out_json(found)
    else:
        rollout_table(found["rollouts"])


def rollout_table(rollouts: list[dict[str, Any]]) -> None:
    """Print rollouts as a table, and below it the sentence of each."""
    rows = [
        (
            r["rollout"],
            f"{r['release']['version']} ({r['release']['seq']})",
            coloured(r["phase"]),
            f"{r['confirmed']:,} of {r['devices']:,}",
            f"{r['reverted'] + r['silent']:,} of {r['budget']['max_harmed']:,}",
            duration(((r["ended_ms"] or time.time() * 1000) - r["started_ms"]) / 1000),
        )
        for r in rollouts
    ]
    columns = ("rollout", "release", "state", "confirmed", "failed of budget", "ran for")
    table("Rollouts", columns, rows, empty="No rollout has been started yet: tidegate rollout start")
    for r in rollouts:
        out(f"{r['rollout']}: {r['sentence']}")
