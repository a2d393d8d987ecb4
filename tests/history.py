"""An independent check of what devices saw: by their own records, and at the end the log; never the server's word."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tidegate.cli.swarm_line import Line, SwarmDevice


@dataclass
class History:
    """What every device sent and was told, each with the moments of both."""

    leased: list[tuple[float, int, str, str, int]] = field(default_factory=list)
    """(answered at, device, lease, arm, ring)"""
    sent: list[tuple[float, int, str, str]] = field(default_factory=list)
    """(sent at, device, lease, kind): a server may know of it from then on."""
    acknowledged: list[tuple[float, int, str, str]] = field(default_factory=list)
    """(answered at, device, lease, kind)"""
    statuses: Counter[int] = field(default_factory=Counter)

    def check_moments(self, max_harmed: int, canary: int, site_of: dict[int, str], cap: int) -> int:
        """At no moment more devices at risk than the certain rule and the caps allow; give the most there were.

        A device is at risk from the answer with its lease until it has sent its confirmation. What a server knows lies
        between the two, so a server that is right never looks wrong here.
        """
        moments = [(at, 1, device, lease) for at, device, lease, arm, _ in self.leased if arm == "treated"]
        moments += [(at, 0, device, lease) for at, device, lease, kind in self.sent if kind == "confirmed"]
        treated = {(device, lease) for _, device, lease, arm, _ in self.leased if arm == "treated"}
        at_risk: dict[int, str] = {}
        sites: Counter[str] = Counter()
        good: set[int] = set()
        most = 0
        for _, order, device, lease in sorted(moments):
            if order:
                if device in good or device in at_risk:
                    assert at_risk.get(device, lease) == lease, f"device {device} was exposed by two leases"
                    continue
                at_risk[device] = lease
                sites[site_of[device]] += 1
                most = max(most, len(at_risk))
                allowed = min(max_harmed, canary + len(good))
                assert len(at_risk) <= allowed, f"{len(at_risk)} at risk, {allowed} allowed"
                assert sites[site_of[device]] <= cap, (
                    f"{sites[site_of[device]]} of {site_of[device]} at risk, cap {cap}"
                )
            elif (device, lease) in treated and device not in good:
                good.add(device)
                if at_risk.pop(device, None) is not None:
                    sites[site_of[device]] -= 1
        return most

    def check_log(self, events: list[dict[str, Any]]) -> tuple[int, int]:
        """Whatever a device was told is in the log, once; give how many leases and reports were told."""
        leases: dict[str, dict[str, Any]] = {}
        reports: dict[str, str] = {}
        exposed: set[tuple[str, int]] = set()
        for event in events:
            name = f"{event.get('rollout')}:{event.get('ring')}:{event.get('position')}"
            if event["kind"] == "leased":
                assert name not in leases, f"lease {name} was given twice"
                assert (event["rollout"], event["index"]) not in exposed, "an exposed device got another lease"
                leases[name] = event
                if event["arm"] == "treated":
                    exposed.add((event["rollout"], event["index"]))
            elif event["kind"] == "reported":
                assert name not in reports, f"report {name} was counted twice"
                reports[name] = event["outcome"]
        for _, device, lease, arm, ring in self.leased:
            found = leases[lease]
            assert (found["index"], found["arm"], found["ring"]) == (device, arm, ring), lease
        for _, _, lease, kind in self.acknowledged:
            assert reports.get(lease) == kind, f"the acknowledged report of {lease} was lost"
        return len({lease for _, _, lease, _, _ in self.leased}), len({lease for _, _, lease, _ in self.acknowledged})


async def behave(
    device: SwarmDevice,
    line: Line,
    rollout: str,
    history: History,
    over: asyncio.Event,
    *,
    go: asyncio.Event,
    soak_s: float = 0.0,
    pause_s: float = 0.02,
) -> None:
    """Be one device: announce until there is a treated lease, report each, and send again what was not answered."""
    while not over.is_set():
        await go.wait()
        found = await line.post(*device.announcement(rollout))
        history.statuses[found.status] += 1
        if found.status == 409:
            return
        said = found.json() if found.status == 200 else {}
        if "lease_id" not in said:
            await asyncio.sleep(min(said.get("retry_after_s", 0.1), 0.3) if found.status else pause_s)
            continue
        history.leased.append((time.monotonic(), device.index, said["lease_id"], said["arm"], said["ring"]))
        await asyncio.sleep(soak_s)
        history.sent.append((time.monotonic(), device.index, said["lease_id"], "confirmed"))
        message = device.report(said["lease_id"])
        while not over.is_set():
            done = await line.post(*message)  # the same message again: the same number, the same MAC
            history.statuses[done.status] += 1
            if done.status == 200:
                history.acknowledged.append((time.monotonic(), device.index, said["lease_id"], "confirmed"))
                break
            assert done.status in (0, 429, 503), (done.status, done.body)
            await asyncio.sleep(pause_s)
        if said["arm"] == "treated":
            return
