"""The world of the message fidelity: a fleet, its fates and its faults, around one server and one clock."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tidegate.control import devices
from tidegate.core.assign import RANK_END, rank
from tidegate.core.device import Event, State
from tidegate.core.model import Arm, Outcome, Plan
from tidegate.sim.messages_checks import Checks
from tidegate.sim.messages_clock import Timeline
from tidegate.sim.messages_device import SimDevice
from tidegate.sim.messages_fate import Fate, Lease
from tidegate.sim.messages_network import Network, Noise, Outage, Spill
from tidegate.sim.messages_server import Server, answer_of
from tidegate.sim.messages_start import ROLLOUT, Start
from tidegate.sim.scenario import Fault, Scenario

MOST_MS = 1 << 60
REREAD_S = 60.0
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Told:
    """A lie or a clock's error, told by these devices while it lasts."""

    fault: Fault
    start_ms: int
    end_ms: int
    devices: Mask

    def holds(self, index: int, now_ms: int) -> bool:
        return self.start_ms <= now_ms < self.end_ms and bool(self.devices[index])


class World:
    """Everything that is not decided by Tidegate: who is harmed, late, lying, cut off; and the way of each message."""

    def __init__(self, scenario: Scenario, start: Start, rng: random.Random, checks: Checks) -> None:
        self.scenario, self.rng, self.checks = scenario, rng, checks
        self.start = start
        self.timeline = Timeline(start.begin_ms)
        faults = _faults(scenario, start)
        self._told, self._outages = faults.told, faults.outages
        self.network = Network(self.timeline, rng, faults.outages, faults.noises, faults.spills)
        self.observe_s = float(start.spec.observe_s)
        self._poll_ms = round(scenario.rollout.poll_s * 1000)
        ranks = rank(bytes.fromhex(start.spec.order_salt), start.keys)
        back_ms = start.begin_ms + (round(scenario.late.return_s * 1000) if scenario.late else 0)
        self.devices = [
            SimDevice(
                self, i, start.device_ids[i], int(ranks[i]), Fate(bool(start.harmed[i]), bool(start.late[i]), back_ms)
            )
            for i in range(scenario.fleet.devices)
        ]
        self._in_order = sorted(self.devices, key=lambda device: device.rank, reverse=True)
        self._in_range: dict[int, SimDevice] = {}
        self.server = Server(self.timeline, rng, checks, start.log, self._published)
        for at_ms, down_s in faults.deaths:
            self.timeline.at(at_ms, self.server.die, down_s)
        for device in self.devices:
            if device.fate.late:
                self.timeline.at(back_ms, self._back, device)
        for told in self._told:
            if told.fault.kind == "byzantine" and told.fault.lie == "announce":
                for index in np.flatnonzero(told.devices):
                    self.timeline.at(told.start_ms, self._flood, self.devices[index], told)

    # What devices ask of the world.

    def announce(self, device: SimDevice, request: int) -> None:
        """Carry an announcement to the server, and its answer back."""
        claim = devices.Claim(device.index, device.device_id, device.seq)
        said = devices.Announcement(ROLLOUT, device.version, None, device.seq, device.attempt)
        asked_ms, ring = self.timeline.now_ms, device.plan.ring if device.plan else 0

        def reply(decision: object) -> None:
            kind, value = answer_of(decision)
            answer = float(value) if kind == "wait" else None
            if kind == "lease":
                name, arm = value
                self._send(device, device.answered, request, Lease(name, arm, self.start.ttl_ms, asked_ms), ring)
            else:
                self._send(device, device.answered, request, answer, ring)

        decide = lambda state, now_ms: devices.announce(state, now_ms, claim, said)  # noqa: E731
        self.network.send(device.index, "announce", self._receive, decide, reply)

    def report(self, device: SimDevice, reports: tuple[devices.Report, ...]) -> None:
        """Carry reports to the server, and its receipt back. A request has a number of its own, as the agent's has."""
        device.seq += 1
        claim = devices.Claim(device.index, device.device_id, device.seq)
        names = frozenset(report.lease_id for report in reports)

        def reply(decision: object) -> None:
            if not isinstance(decision, Exception):
                self._send(device, device.received, names)

        decide = lambda state, now_ms: devices.report(state, now_ms, claim, reports)  # noqa: E731
        self.network.send(device.index, "reports", self._receive, decide, reply)

    def read_plan(self, index: int) -> tuple[Plan | None, int]:
        """Read the static files, or nothing if they cannot be reached."""
        standing = self.server.standing
        if standing is None or self.network.cut_off(index, "read"):
            return None, 0
        return standing

    @property
    def reads_at_once(self) -> bool:
        """Whether devices read a plan as soon as it stands, not at their next poll."""
        return self._poll_ms == 0

    def wall_s(self, index: int) -> float:
        """Give the time that a device's wall clock shows."""
        now_ms = self.timeline.now_ms
        offset_s = sum(
            told.fault.offset_s for told in self._told if told.fault.kind == "clock_skew" and told.holds(index, now_ms)
        )
        return now_ms / 1000 + offset_s

    def reread(self, device: SimDevice) -> None:
        """Let a device that sees no fresh plan read again: when its trouble ends, or after a while."""
        index, now_ms = device.index, self.timeline.now_ms
        ends = [o.end_ms for o in self._outages if o.what != "reports" and o.hits(index, now_ms)]
        ends += [t.end_ms for t in self._told if t.fault.kind == "clock_skew" and t.holds(index, now_ms)]
        self.timeline.at(min(ends, default=now_ms + round(REREAD_S * 1000)), device.wake)

    def is_away(self, device: SimDevice) -> bool:
        """Say whether a late device is still away: until it is back, and until its turn has passed."""
        if self.timeline.now_ms < device.fate.back_ms:
            return True
        return self.server.up and device.index not in self.server.rollout.overdue

    def lots(self, device: SimDevice, lease: Lease) -> None:
        """Draw what befalls a device under this lease for its own reasons."""
        background = self.scenario.background
        if background.rate == 0:
            return
        lot = self.rng.random()
        if lot < background.silent_rate:
            device.fate.mute.add(lease.lease_id)
        elif lot < background.rate:
            device.fate.sick.add(lease.lease_id)

    def acted(self, device: SimDevice, lease: Lease) -> None:
        """A device carries a lease out."""
        self.checks.acted(device.index, lease.arm, lease.lease_id, self.timeline.now_ms)

    def foresee(self, device: SimDevice) -> tuple[float, Event | None]:
        """Give after how many seconds the probing ends, and how; None for a device that dies of the candidate."""
        assert device.lease is not None
        soak_s, defect = float(self.start.spec.soak_s), self.scenario.defect
        if device.lease.lease_id in device.fate.sick:
            return self.rng.uniform(0, soak_s), Event.SICK
        shows = device.fate.harmed and device.state is State.PROBING and defect.delay_s <= self.observe_s
        if shows and not self._lies(device, "healthy"):
            after_s = min(defect.delay_s, soak_s)
            return (after_s, Event.SICK) if defect.outcome == "reverted" else (after_s, None)
        return soak_s, Event.HEALTHY

    def placebo_outcome(self, device: SimDevice) -> Outcome:
        """Give how a placebo device fared."""
        assert device.lease is not None
        return Outcome.REVERTED if device.lease.lease_id in device.fate.sick else Outcome.CONFIRMED

    def says(self, device: SimDevice, outcome: Outcome) -> Outcome:
        """Give what a device reports: the truth, unless it is one that says that every treatment made it sick."""
        treated = device.lease is not None and device.lease.arm is Arm.TREATED
        return Outcome.REVERTED if treated and self._lies(device, "sick") else outcome

    # What happens to the world.

    def _published(self, plan: Plan, version: int, news: bool) -> None:
        """A plan stands: devices that it concerns read it at their next poll; with no poll interval, at once."""
        reach = int(plan.announce_rank, 16)
        while self._in_order and self._in_order[-1].rank <= reach:
            device = self._in_order.pop()
            self._in_range[device.index] = device
        if not news:
            return
        finished: list[int] = []
        for index, device in self._in_range.items():
            if device.finished:
                finished.append(index)
            elif device.concerned(plan):
                self.timeline.at(self._next_read_ms(device), device.wake)
        for index in finished:
            del self._in_range[index]

    def _next_read_ms(self, device: SimDevice) -> int:
        now_ms = self.timeline.now_ms
        if self._poll_ms == 0:
            return now_ms + round(self.network.way_s() * 1000)
        phase = device.rank * self._poll_ms // RANK_END
        return now_ms + (phase - now_ms) % self._poll_ms

    def _send(self, device: SimDevice, act: object, *args: object) -> None:
        self.network.send(device.index, "answer", act, *args)  # type: ignore[arg-type]

    def _receive(self, decide: object, reply: object) -> None:
        self.server.receive(decide, reply)  # type: ignore[arg-type]

    def _back(self, device: SimDevice) -> None:
        """A late device is back, but its turn may not have passed yet; then it is late all the same."""
        if device.finished:
            return
        if self.is_away(device):
            self.timeline.after(max(self.observe_s / 8, 1.0), self._back, device)
        else:
            device.wake()

    def _flood(self, device: SimDevice, told: Told) -> None:
        if self.timeline.now_ms < told.end_ms and not self.over():
            device.flood()

    def over(self) -> bool:
        """Say whether the rollout has ended."""
        return self.server.up and not self.server.state.active

    def _lies(self, device: SimDevice, lie: str) -> bool:
        now_ms = self.timeline.now_ms
        return any(
            told.fault.kind == "byzantine" and told.fault.lie == lie and told.holds(device.index, now_ms)
            for told in self._told
        )


_CUTS = {"telemetry_outage": "reports", "partition": "anything", "site_down": "on"}


@dataclass(slots=True)
class _Faults:
    """A scenario's faults as messages meet them; `deaths` are (time in ms, seconds away)."""

    outages: list[Outage] = field(default_factory=lambda: [])
    told: list[Told] = field(default_factory=lambda: [])
    noises: list[Noise] = field(default_factory=lambda: [])
    spills: list[Spill] = field(default_factory=lambda: [])
    deaths: list[tuple[int, float]] = field(default_factory=lambda: [])


def _faults(scenario: Scenario, start: Start) -> _Faults:
    found = _Faults()
    for fault, mask in zip(scenario.faults, start.struck, strict=True):
        begin_ms = start.begin_ms + round(min(fault.start_s * 1000, MOST_MS))
        end_ms = start.begin_ms + round(min(fault.end_s * 1000, MOST_MS))
        if fault.kind in _CUTS:
            found.outages.append(Outage(_CUTS[fault.kind], begin_ms, end_ms, mask))
        elif fault.kind == "bad_network":
            found.noises.append(Noise(begin_ms, end_ms, fault.share))
        elif fault.kind == "server_crash":
            found.deaths.append((begin_ms, fault.duration_s))
        elif fault.kind == "interference":
            down_ms = round(min(fault.duration_s * 1000, MOST_MS))
            found.spills.append(Spill(begin_ms, MOST_MS, down_ms, fault.site_devices, mask))
        else:
            found.told.append(Told(fault, begin_ms, end_ms, mask))
    return found
