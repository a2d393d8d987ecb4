"""An independent check of what devices saw: by their own records, and at the end the log; never the server's word."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tidegate.cli.swarm_line import Line, SwarmDevice


@dataclass(frozen=True)
class Allowed:
    """What was declared. No more may be at risk at any moment."""

    max_harmed: int
    canary: int
    cap: int
    """Devices of one site."""
    site_of: Mapping[int, str]
    lane_of: Mapping[int, tuple[str, str]] = field(default_factory=lambda: {})
    """Service and lane of the devices that have one: two lanes of a service are never at risk together."""
    alpha: float = 0.0
    """What the statistical rule may spend; with 0 the certain rule stands alone."""

    def proves(self, reached: int, looked_at: int, failed: int) -> bool:
        """Say whether `failed` failures among the first `looked_at` devices let exposure reach `reached` devices.

        It breaks the promise only if the first `reached` - 1 hold `max_harmed` harmed devices or more; those would lie
        in a random order, so that so few among the first come about with a known (hypergeometric) probability.
        """
        if not self.alpha or looked_at >= reached:
            return False
        others, ways = reached - 1 - looked_at, math.comb(reached - 1, self.max_harmed)
        few = sum(
            math.comb(looked_at, harmed) * math.comb(others, self.max_harmed - harmed)
            for harmed in range(min(failed, self.max_harmed) + 1)
        )
        return ways == 0 or few / ways <= self.alpha


@dataclass
class History:
    """What every device sent and was told, each with the moments of both."""

    enrolled: list[tuple[int, str]] = field(default_factory=list)
    """(device, device_id)"""
    leased: list[tuple[float, int, str, str, int]] = field(default_factory=list)
    """(answered at, device, lease, arm, ring)"""
    sent: list[tuple[float, int, str, str]] = field(default_factory=list)
    """(sent at, device, lease, kind): a server may know of it from then on."""
    acknowledged: list[tuple[float, int, str, str]] = field(default_factory=list)
    """(answered at, device, lease, kind)"""
    statuses: Counter[int] = field(default_factory=Counter)
    waits: list[tuple[float, int]] = field(default_factory=list)
    """(seconds until the answer, status) of everything that was asked."""

    def check_moments(self, allowed: Allowed) -> int:
        """At no moment more devices at risk than the window, the caps and the lanes allow; give the most there were.

        A device is at risk from the answer with its lease until it has sent its confirmation. What a server knows lies
        between the two, so a server that is right never looks wrong here.
        """
        moments = [(at, 1, device, lease, ring) for at, device, lease, arm, ring in self.leased if arm == "treated"]
        treated = {(device, lease): ring for _, _, device, lease, ring in moments}
        for at, device, lease, kind in self.sent:
            if kind == "confirmed" and (device, lease) in treated:
                moments.append((at, 0, device, lease, treated[device, lease]))
        now = _AtRisk(allowed, Counter(treated.values()))
        for _, begins, device, lease, ring in sorted(moments):
            if begins:
                now.begin(device, lease, ring)
            else:
                now.end(device, ring)
        return now.most

    def check_log(self, events: list[dict[str, Any]]) -> tuple[int, int]:
        """Whatever a device was told is in the log, once; give how many leases and reports were told."""
        leases: dict[str, dict[str, Any]] = {}
        reports: dict[str, str] = {}
        devices: dict[int, str] = {}
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
            elif event["kind"] == "enrolled":
                assert event["index"] not in devices, f"device {event['index']} was enrolled twice"
                devices[event["index"]] = event["device_id"]
        for device, device_id in self.enrolled:
            assert devices.get(device) == device_id, f"the enrolment of device {device} was lost"
        for _, device, lease, arm, ring in self.leased:
            found = leases.get(lease)
            assert found is not None, f"the lease {lease} that a device was given is not in the log"
            assert (found["index"], found["arm"], found["ring"]) == (device, arm, ring), f"{lease} says something else"
        for _, _, lease, kind in self.acknowledged:
            assert reports.get(lease) == kind, f"the acknowledged report of {lease} was lost"
        return len({lease for _, _, lease, _, _ in self.leased}), len({lease for _, _, lease, _ in self.acknowledged})


class _AtRisk:
    """Who is at risk at one moment; complains when there are too many."""

    def __init__(self, allowed: Allowed, of_ring: Counter[int]) -> None:
        self.allowed, self.of_ring = allowed, of_ring
        self.now: dict[int, str] = {}
        self.sites: Counter[str] = Counter()
        self.lanes: Counter[tuple[str, str]] = Counter()
        self.exposed_of: Counter[int] = Counter()
        self.good_of: Counter[int] = Counter()
        self.good: set[int] = set()
        self.most = 0

    def begin(self, device: int, lease: str, ring: int) -> None:
        """Take in a treated lease; the same one may come again."""
        if device in self.good or device in self.now:
            assert self.now.get(device, lease) == lease, f"device {device} was exposed by two leases"
            return
        self.now[device] = lease
        self.exposed_of[ring] += 1
        self.most = max(self.most, len(self.now))
        allowed = min(self.allowed.max_harmed, self.allowed.canary + len(self.good))
        assert len(self.now) <= allowed or self._opened(ring), f"{len(self.now)} at risk, {allowed} allowed"
        site = self.allowed.site_of[device]
        self.sites[site] += 1
        assert self.sites[site] <= self.allowed.cap, f"{self.sites[site]} of {site} at risk, cap {self.allowed.cap}"
        if (own := self.allowed.lane_of.get(device)) is not None:
            self.lanes[own] += 1
            beside = [lane for lane, count in self.lanes.items() if count and lane[0] == own[0] and lane != own]
            assert not beside, f"lanes {own[1]} and {beside[0][1]} of {own[0]} at risk together"

    def _opened(self, ring: int) -> bool:
        """Whether the rings before this one, as far as they have confirmed, allow the statistical rule to open it."""
        looked_at = sum(count for number, count in self.of_ring.items() if number < ring)
        good = sum(count for number, count in self.good_of.items() if number < ring)
        reached = sum(count for number, count in self.exposed_of.items() if number <= ring)
        return self.allowed.proves(reached, looked_at, looked_at - good)

    def end(self, device: int, ring: int) -> None:
        """Take in a confirmation of a treated lease."""
        if device in self.good:
            return
        self.good.add(device)
        self.good_of[ring] += 1
        if self.now.pop(device, None) is not None:
            self.sites[self.allowed.site_of[device]] -= 1
            if (own := self.allowed.lane_of.get(device)) is not None:
                self.lanes[own] -= 1


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
        began = time.monotonic()
        found = await line.post(*device.announcement(rollout))
        _note(history, began, found.status)
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
            began = time.monotonic()
            done = await line.post(*message)  # the same message again: the same number, the same MAC
            _note(history, began, done.status)
            if done.status == 200:
                history.acknowledged.append((time.monotonic(), device.index, said["lease_id"], "confirmed"))
                break
            assert done.status in (0, 429, 503, 507), (done.status, done.body)
            assert done.status == 0 or done.retry_after_s > 0, "a device that is turned away is told when to come back"
            await asyncio.sleep(pause_s)
        if said["arm"] == "treated":
            return


def _note(history: History, began: float, status: int) -> None:
    history.statuses[status] += 1
    history.waits.append((time.monotonic() - began, status))
