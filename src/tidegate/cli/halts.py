"""What a control plane knows of a halted rollout, for an incident's record: by its HTTP, or from its log at rest."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tidegate.cli.home import Home, default_home
from tidegate.cli.ledger_home import open_ledger
from tidegate.cli.office import OfficeClient, part
from tidegate.contingency.moments import from_ms, moment_text
from tidegate.control.state import ServerState, fold
from tidegate.control.timeline import build_timeline, find_subject
from tidegate.control.views import device_view, rollout_view
from tidegate.core.errors import NotFound, Refused, TidegateError
from tidegate.trust.durable import read_bytes
from tidegate.trust.ledger import CHECKPOINT

MOST_RECORDS = 400
Json = dict[str, Any]


class Source:
    """Rollouts, devices and accounts, wherever they can be had. Raises NotFound where there is no control plane."""

    def __init__(self, home: Path | None) -> None:
        """Ask the server if it runs, else read the log."""
        self._place = Home(home or default_home())
        self._place.check()
        self._office: OfficeClient | None = None
        self._state: ServerState | None = None
        try:
            office = OfficeClient(self._place.path)
            office.get("/healthz")
            self._office = office
        except (NotFound, Refused):
            if self._place.log.is_file():
                self._state = self._read()

    def _read(self) -> ServerState:
        log = self._place.open_log()
        try:
            return fold(event for _, event in log.read())
        finally:
            log.close()

    def halted(self) -> list[Json]:
        """Give the halted rollouts, as the operators' API shows them."""
        if self._office is not None:
            found = self._office.get("/api/v1/rollouts")["rollouts"]
        elif self._state is not None:
            now_ms = int(time.time() * 1000)
            found = [rollout_view(self._state, one, now_ms) for one in self._state.rollouts.values()]
        else:
            found = []
        return [one for one in found if one["phase"] == "halted"]

    def standings(self, rollout: str) -> list[Json]:
        """Give where each device of a rollout stands, with its labels."""
        if self._office is not None:
            view = self._office.get(f"/api/v1/rollouts/{part(rollout)}", devices=1)
            devices = self._devices(self._office)
        else:
            assert self._state is not None
            view = rollout_view(self._state, self._state.rollouts[rollout], int(time.time() * 1000), devices=True)
            devices = {row.device.index: device_view(row) for row in self._state.devices}
        return [{**one, "labels": devices.get(one["index"], {}).get("labels", {})} for one in view["where"]]

    def _devices(self, office: OfficeClient) -> dict[int, Json]:
        found: dict[int, Json] = {}
        while True:
            page = office.get("/api/v1/devices", limit=1000, offset=len(found))
            found |= {one["index"]: one for one in page["devices"]}
            if not page["devices"] or len(found) >= page["total"]:
                return found

    def story(self, rollout: str) -> list[Json]:
        """Give the ledger's records of a rollout; those of single devices are left to its timeline."""
        try:
            account = self._account(rollout)
        except TidegateError:
            return []
        told = [row for row in account["records"] if not row["sentence"].startswith(("Device ", "Plan version"))]
        return [{name: row.get(name) for name in ("at_ms", "sentence", "entry")} for row in told[:MOST_RECORDS]]

    def _account(self, rollout: str) -> Json:
        if self._office is not None:
            return self._office.get("/api/v1/timeline", rollout=rollout)
        ledger = open_ledger(self._place)
        if ledger is None or self._state is None:
            raise Refused("there is no ledger")
        log = self._place.open_log()
        try:
            subject = find_subject(self._state, rollout=rollout)
            note = read_bytes(ledger.directory / CHECKPOINT, "the ledger's checkpoint")
            return build_timeline(log.read(), subject, note, ledger.signer, int(time.time() * 1000))
        finally:
            log.close()


def incident_of(source: Source, view: Json) -> Json:
    """Give the body with which a halt opens an incident: facts, who was exposed, and the ledger's story."""
    name, release = view["rollout"], view["release"]
    standings = source.standings(name)
    failed = [one for one in standings if one["standing"] in ("reverted", "silent")]
    touched = {
        label: sorted({one["labels"][key] for one in failed if key in one["labels"]})
        for label, key in (("services", "service"), ("sites", "site"))
    }
    exposed = {
        "exposed": view["exposed"],
        "devices": len(failed),
        "device_ids": [one["device_id"] for one in failed][:1000],
        **touched,
    }
    values: Json = {
        "title": f"{view['component']} {release['version'] or release['seq']} was halted",
        "description": f"{view['sentence'][:1].upper()}{view['sentence'][1:]}.",
        "component": view["component"],
        "version": str(release["version"] or release["seq"]),
        "occurred": moment_text(from_ms(view["started_ms"])),
        "aware": moment_text(from_ms(view["ended_ms"] or view["started_ms"])),
        "discovered_by": "monitoring systems",
        "devices": len(failed),
        **{label: found for label, found in touched.items() if found},
    }
    return {"rollout": name, "values": values, "exposed": exposed, "timeline": source.story(name)}
