"""The `self` driver: the payload is the agent itself, which its launcher starts from the slot that `current` names.

To activate is to end: the launcher (`agent/launch.py`, which no release replaces) starts what the pointer names then,
and the new agent goes on from the journal. A file in the component's directory says that the start has been made.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from tidegate.core.model import Manifest
from tidegate.drivers.command import pointer_result, resolve
from tidegate.drivers.port import DriverError, OwnProcess, Place, ProbeResult
from tidegate.drivers.probes import run_probes
from tidegate.drivers.programs import fill_all

PROGRAMS = ("tidegate-agent", "tidegate-agent.pyz")
REFRESH_S = 600.0


class SelfDriver:
    """The agent's own component: healthy is an agent that runs from its slot and has read the signed state anew."""

    name = "self"

    def check(self, payload: Path, manifest: Manifest) -> None:
        """Refuse a payload without the agent's program, and a manifest that asks for what a restart is already.

        Raises:
            DriverError: saying what is to be changed.
        """
        what = f"{manifest.component} {manifest.version} is no agent"
        found = [name for name in PROGRAMS if (payload / name).is_file()]
        if not found:
            raise DriverError(f"{what}: its payload has no {' and no '.join(PROGRAMS)}")
        if not found[0].endswith(".pyz") and not os.access(payload / found[0], os.X_OK):
            raise DriverError(f"{what}: {found[0]} is not executable; set its mode and pack it again")
        if manifest.activate or manifest.deactivate or manifest.health.after_restart:
            raise DriverError(f"{what}: its launcher starts it; leave activate, deactivate and after_restart out")

    def ready(self, place: Place) -> None:
        """Refuse an agent that nobody would start again. Raises DriverError."""
        own = _own(place)
        if not own.launched:
            raise DriverError("this agent was started without its launcher: use `tidegate agent launch`")
        if own.component != place.component:
            raise DriverError(f"this agent's launcher looks after {own.component}, not {place.component}")
        _refresh_s(place)
        fill_all(place)

    def activate(self, place: Place) -> None:
        """End, to be started from the slot that `current` names; returns in the agent that was started so.

        Raises:
            DriverError: nothing is active.
        """
        _restarted(place, "activated.json", resolve(place).name)

    def deactivate(self, place: Place) -> None:
        """Nothing: once the pointer is gone, the agent ends by itself and the installed one is started."""

    def probe(self, place: Place) -> list[ProbeResult]:
        """Look whether this agent runs from `current` and has read the signed state since it began."""
        own = _own(place)
        if not place.current.exists():
            return [pointer_result(place), *run_probes(place.manifest, place)]
        wanted = place.current.resolve().name
        runs = own.slot or "the installed one"
        results = [ProbeResult("agent", own.slot == wanted, f"the agent runs from {runs[:16]}")]
        return [*results, _refreshed(place, own), *run_probes(place.manifest, place)]

    def sham(self, place: Place) -> None:
        """End and be started again, from where it runs already. Raises DriverError."""
        own = _own(place)
        _restarted(place, "shammed.json", own.slot)
        (place.work / "shammed.json").unlink(missing_ok=True)


def _refreshed(place: Place, own: OwnProcess) -> ProbeResult:
    if own.refreshed():
        return ProbeResult("refresh", True, "the signed state has been read")
    limit_s = _refresh_s(place)
    detail = f"the signed state has not been read for {own.age_s():.0f} s"
    return ProbeResult("refresh", own.age_s() < limit_s, detail, pending=True)


def _refresh_s(place: Place) -> float:
    try:
        seconds = float(place.settings.get("refresh_s", REFRESH_S))
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 86_400:
        raise DriverError(f"setting refresh_s of {place.component} must be a number of seconds, up to a day")
    return seconds


def _own(place: Place) -> OwnProcess:
    if place.own is None:
        raise DriverError("the self driver updates the agent that runs it, and is of no use anywhere else")
    return place.own


def _restarted(place: Place, name: str, slot: str) -> None:
    """End once, and return in the process that was started after that, if it runs from this slot."""
    own, path = _own(place), place.work / name
    asked: dict[str, str] = {}
    with suppress(OSError, ValueError, TypeError, RecursionError):
        asked = dict(json.loads(path.read_bytes()))
    again = own.slot == slot == asked.get("slot") and asked.get("by") != own.instance
    place.work.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{name}.new")
    with partial.open("wb") as file:
        file.write(json.dumps({"slot": slot, "by": own.instance}).encode())
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    if not again:
        own.restart()
