"""An independent check of what devices saw: by their own records, and at the end the log; never the server's word."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.history_risk import Allowed, AtRisk

from tidegate.cli.swarm_line import Line, SwarmDevice


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
    asked: list[tuple[float, int]] = field(default_factory=list)
    """(sent at, device) of every announcement"""
    editions: list[tuple[float, str, int]] = field(default_factory=list)
    """(answered at, reader, edition of the plans): what a reader of the published files saw, in its order"""
    statuses: Counter[int] = field(default_factory=Counter)
    waits: list[tuple[float, int]] = field(default_factory=list)
    """(seconds until the answer, status) of everything that was asked."""

    def check_told(self) -> None:
        """What devices were told does not contradict itself, whatever the log says."""
        numbers, names = [device for device, _ in self.enrolled], [name for _, name in self.enrolled]
        for what, found in (("number", Counter(numbers)), ("id", Counter(names))):
            assert not (twice := [one for one, count in found.items() if count > 1]), (
                f"two devices got the {what} {twice}"
            )
        said: dict[str, tuple[int, str, int]] = {}
        exposed: dict[int, str] = {}
        for _, device, lease, arm, ring in sorted(self.leased):
            first = said.setdefault(lease, (device, arm, ring))
            assert first == (device, arm, ring), (
                f"lease {lease} was given to devices {first[0]} and {device}, or changed"
            )
            if arm == "treated":
                exposed[device] = lease
            assert exposed.get(device, lease) == lease, f"device {device} was exposed, and is a control afterwards"
        newest: dict[str, int] = {}
        for _, reader, edition in self.editions:
            assert edition >= newest.get(reader, 0), f"{reader} saw edition {edition} after {newest[reader]}"
            newest[reader] = edition

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
        now = AtRisk(allowed, Counter(treated.values()))
        for _, begins, device, lease, ring in sorted(moments):
            if begins:
                now.begin(device, lease, ring)
            else:
                now.end(device, ring)
        return now.most

    def check_log(self, events: list[dict[str, Any]]) -> tuple[int, int]:
        """Whatever a device was told is in the log, once, and what is there was asked for; give how many leases and
        reports were told."""
        found = Logged(events)
        for device, device_id in self.enrolled:
            assert found.devices.get(device) == device_id, f"the enrolment of device {device} was lost"
        for _, device, lease, arm, ring in self.leased:
            event = found.leases.get(lease)
            assert event is not None, f"the lease {lease} that a device was given is not in the log"
            assert (event["index"], event["arm"], event["ring"]) == (device, arm, ring), f"{lease} says something else"
        for _, _, lease, kind in self.acknowledged:
            assert found.outcome(lease) == kind, f"the acknowledged report of {lease} was lost"
        sent = {(lease, device): kind for _, device, lease, kind in self.sent}
        for lease, event in found.reports.items():
            assert sent.get((lease, event["index"])) == event["outcome"], (
                f"nobody sent the report of {lease} in the log"
            )
        asked = {device for _, device in self.asked}
        for lease, event in found.leases.items():
            assert event["index"] in asked, f"device {event['index']} never asked for the lease {lease} in the log"
        self._check_order(found)
        times = [event["at_ms"] for event in events if "at_ms" in event]
        assert times == sorted(times), "the log's time goes back"
        return len({lease for _, _, lease, _, _ in self.leased}), len({lease for _, _, lease, _ in self.acknowledged})

    def _check_order(self, found: Logged) -> None:
        """What was told before something else was asked stands before it in the log."""
        begun: dict[str, float] = {}
        ended: dict[str, float] = {}
        asked: dict[int, list[float]] = {}
        for at, device in self.asked:
            asked.setdefault(device, []).append(at)
        before: dict[int, float] = {}
        for at, device, lease, _, _ in sorted(self.leased):
            if lease not in ended:  # whichever of the announcements since the last report it was that got it
                begun[lease] = min((one for one in asked.get(device, []) if one >= before.get(device, 0.0)), default=at)
                ended[lease], before[device] = at, at
        for at, _, lease, _ in sorted(self.sent):
            begun.setdefault(f"report of {lease}", at)
        for at, _, lease, _ in sorted(self.acknowledged):
            ended.setdefault(f"report of {lease}", at)
        latest, which = -1.0, ""
        for name in found.order:
            if ended.get(name, float("inf")) < latest:
                raise AssertionError(f"{which} stands before {name} in the log, and was asked for after that was told")
            if begun.get(name, -1.0) > latest:
                latest, which = begun[name], name

    def check_log_moments(self, events: list[dict[str, Any]], allowed: Allowed) -> int:
        """At no point of the log more at risk than was allowed, as far as it knew by then; give the most there were.

        A server that grants on a confirmation before that is durable looks right to devices, and is found out here.
        """
        found = Logged(events)
        treated = {name: event for name, event in found.leases.items() if event["arm"] == "treated"}
        now = AtRisk(allowed, Counter(event["ring"] for event in treated.values()))
        for name in found.order:
            if name in treated:
                now.begin(treated[name]["index"], name, treated[name]["ring"])
            elif (lease := name.removeprefix("report of ")) in treated and found.outcome(lease) == "confirmed":
                now.end(treated[lease]["index"], treated[lease]["ring"])
        return now.most


class Logged:
    """A log's leases, reports and devices by name, each there once and in an order that makes sense."""

    def __init__(self, events: list[dict[str, Any]]) -> None:
        self.leases: dict[str, dict[str, Any]] = {}
        self.reports: dict[str, dict[str, Any]] = {}
        self.devices: dict[int, str] = {}
        self.order: list[str] = []
        self._exposed: set[tuple[str, int]] = set()
        self._over: set[str] = set()
        for event in events:
            take = {"leased": self._leased, "reported": self._reported, "enrolled": self._enrolled}.get(event["kind"])
            if take is not None:
                take(event, f"{event.get('rollout')}:{event.get('ring')}:{event.get('position')}")
            elif event["kind"] == "verdict" and event["verdict"]["happening"] in ("harm", "complete"):
                self._over.add(event["rollout"])

    def outcome(self, lease: str) -> str | None:
        return self.reports[lease]["outcome"] if lease in self.reports else None

    def _leased(self, event: dict[str, Any], name: str) -> None:
        assert name not in self.leases, f"lease {name} was given twice"
        assert (event["rollout"], event["index"]) not in self._exposed, "an exposed device got another lease"
        assert event["rollout"] not in self._over, f"lease {name} was given after the rollout's end"
        self.leases[name] = event
        self.order.append(name)
        if event["arm"] == "treated":
            self._exposed.add((event["rollout"], event["index"]))

    def _reported(self, event: dict[str, Any], name: str) -> None:
        assert name not in self.reports, f"report {name} was counted twice"
        assert name in self.leases, f"report {name} stands before its lease"
        assert self.leases[name]["index"] == event["index"], f"report {name} is another device's"
        self.reports[name] = event
        self.order.append(f"report of {name}")

    def _enrolled(self, event: dict[str, Any], _: str) -> None:
        assert event["index"] not in self.devices, f"device {event['index']} was enrolled twice"
        assert event["device_id"] not in self.devices.values(), f"the id {event['device_id']} was given twice"
        self.devices[event["index"]] = event["device_id"]


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
        history.asked.append((began, device.index))
        found = await line.post(*device.announcement(rollout))
        _note(history, began, found.status)
        if found.status == 409:
            return
        said = found.json() if found.status == 200 else {}
        if "lease_id" not in said:
            assert found.status in (0, 200, 429, 503), (found.status, found.body)
            assert found.status in (0, 200) or found.retry_after_s > 0, "who is turned away is told when to come back"
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


async def watch_editions(line: Line, reader: str, history: History, over: asyncio.Event) -> None:
    """Read the published timestamp again and again, as devices do."""
    while not over.is_set():
        found = await line.get("/repo/metadata/timestamp.json")
        if found.status == 200:
            history.editions.append((time.monotonic(), reader, int(found.json()["signed"]["version"])))
        await asyncio.sleep(0.02)


def _note(history: History, began: float, status: int) -> None:
    history.statuses[status] += 1
    history.waits.append((time.monotonic() - began, status))
