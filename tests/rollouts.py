"""A rollout driven through core and the fold, as the controller does it; the promise is checked at every step."""

from __future__ import annotations

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate.control.acts import Who, steer_rollout
from tidegate.control.devices import Announcement, Claim, Halted, Report, announce, lease_id, report
from tidegate.control.plans import plan_of
from tidegate.control.state import ServerState
from tidegate.core.admission import Grant, Never, NotYet
from tidegate.core.assign import device_key
from tidegate.core.caps import Cap
from tidegate.core.course import next_due
from tidegate.core.errors import Refused
from tidegate.core.model import Arm, Budget, Candidate, Outcome, PlanState
from tidegate.core.phases import ENDED, step
from tidegate.core.rollout import ClosedRing, RolloutSpec
from tidegate.core.verdict import Verdict
from tidegate.core.wire import plain
from tidegate.log.events import (
    Act,
    Enrolled,
    Event,
    PlanPublished,
    VerdictTaken,
    decode,
    encode,
    ring_closed,
)

MOST_DUE = 1000
"""A course that finds more than this due at one moment does not end."""


def ids_of(devices: int, seed: int = 0) -> list[str]:
    """Device ids, as a server would draw them."""
    return [random.Random(f"{seed}/{index}").randbytes(16).hex() for index in range(devices)]


def keys_of(devices: int, seed: int = 0) -> npt.NDArray[np.uint64]:
    """Their keys, uint64, shape (devices,)."""
    return np.array([device_key(device_id) for device_id in ids_of(devices, seed)], dtype=np.uint64)


def spec_of(
    devices: int, *, rollout: str = "r1", component: str = "edr-rules", max_harmed: int = 3, **changes: Any
) -> RolloutSpec:
    """A rollout on the certain rule alone, unless `looks` are given; budget terms go by their own names."""
    terms = {name: changes.pop(name) for name in list(changes) if name in Budget.__dataclass_fields__}
    digest = hashlib.sha256(f"{component}/{rollout}".encode()).hexdigest()
    given: dict[str, Any] = {
        "rollout": rollout,
        "component": component,
        "candidate": Candidate(f"releases/{component}/1.json", digest, 100, 1),
        "replaces": ("any", "absent"),
        "order_salt": "0123456789abcdef" * 2,
        "arm_secret": "5a" * 32,
        "budget": Budget(max_harmed, **{"placebo_per_treated": 1.0, **terms}),
        "planned_rings": 1,
        "roster": tuple(range(devices)),
        "observe_s": 10,
        "soak_s": 2,
        "lease_ttl_s": 60,
    }
    return RolloutSpec(**{**given, **changes})


class Course:
    """One rollout of a `Fleet`: asks and folds as the controller does, and keeps its own books beside it."""

    def __init__(self, fleet: Fleet, spec: RolloutSpec) -> None:
        self.fleet, self.spec = fleet, spec
        body = {"rollout": spec.rollout, "spec": plain(spec)}
        fleet.fold(Act(at_ms=fleet.now_ms, what="rollout_started", who="test", why="", body=body))
        self.rollout = fleet.state.rollouts[spec.rollout]
        plan = {**plain(plan_of(self.rollout, 0)), "expires": 10**12}
        fleet.fold(
            PlanPublished(at_ms=fleet.now_ms, component=spec.component, rollout=spec.rollout, version=1, plan=plan)
        )
        self.treated: dict[int, Grant] = {}
        self.placebo: dict[int, list[int]] = defaultdict(list)
        self.good: set[int] = set()
        self.frozen: dict[int, ClosedRing] = {}
        self.verdicts: list[Verdict] = []
        self.over = False

    def announce(self, position: int) -> Grant | NotYet | Never:
        """Let a device ask, and fold what it is given."""
        said = Announcement(self.spec.rollout, 1, None, 1, 1)
        try:
            events, answer = announce(self.fleet.state, self.fleet.now_ms, self._claim(position), said)
        except Halted as error:
            return Never(str(error))
        if isinstance(answer, NotYet):
            assert not events
            return answer
        grant = answer[2]
        assert not self.over, "an ended rollout grants nothing"
        assert len(events) == (0 if grant.repeated else 1), "a lease is one event, given once"
        self._granted(position, grant)
        self.fleet.fold(*events)
        self.fleet.check()
        return grant

    def _claim(self, position: int) -> Claim:
        index = self.spec.roster[position]
        return Claim(index, self.fleet.state.devices[index].device.device_id, 1)

    def _granted(self, position: int, grant: Grant) -> None:
        known = self.treated.get(position)
        if grant.arm is Arm.TREATED:
            same = known is None or (grant.repeated and (known.ring, known.late) == (grant.ring, grant.late))
            assert same, f"device {position} is treated twice: {known}, {grant}"
            assert known is not None or not grant.repeated, "a lease is repeated that was never given"
            self.treated.setdefault(position, grant)
        else:
            assert known is None, f"device {position} is exposed, and now a control"
            assert grant.repeated == (grant.ring in self.placebo[position]), "one placebo lease a ring"
            if not grant.repeated:
                self.placebo[position].append(grant.ring)

    def leases(self, position: int) -> list[int]:
        """The rings in which a device holds or held a lease, in order."""
        mine = self.treated.get(position)
        return [*self.placebo[position], *([mine.ring] if mine else [])]

    def report(self, position: int, outcome: Outcome, ring: int | None = None) -> bool:
        """Let a device report for a ring (its newest lease's, if none is named); give whether it was news."""
        leases = self.leases(position)
        if not leases:
            return False
        name = lease_id(self.spec.rollout, leases[-1] if ring is None else ring, position)
        events, _ = report(
            self.fleet.state, self.fleet.now_ms, self._claim(position), (Report(name, outcome.value, 1),)
        )
        self.fleet.fold(*events)
        if events and position in self.treated and outcome is Outcome.CONFIRMED:
            self.good.add(position)
        self.fleet.check()
        return bool(events)

    def look(self) -> None:
        """Do all that is due now, as the controller does at every tick."""
        for _ in range(MOST_DUE):
            due = next_due(self.rollout, self.fleet.now_ms)
            if due is None:
                return
            self.take(due)
            self.fleet.check()
        raise AssertionError(f"after {MOST_DUE} steps still more is due")

    def take(self, due: ClosedRing | Verdict) -> None:
        """Fold one thing that is due."""
        name, now_ms = self.spec.rollout, self.fleet.now_ms
        if isinstance(due, ClosedRing):
            assert due.ring not in self.frozen, "a ring closes once"
            self.frozen[due.ring] = due
            self.fleet.fold(ring_closed(now_ms, name, due, ""))
            return
        self.verdicts.append(due)
        assert step(self.rollout.phase, due.happening), f"{due.happening} has no place in {self.rollout.phase}"
        self.fleet.fold(VerdictTaken(at_ms=now_ms, rollout=name, verdict=due))
        self.over = self.over or self.rollout.phase in ENDED

    def steer(self, verb: str) -> None:
        """An operator pauses, resumes or aborts; what has no place changes nothing."""
        try:
            events, _ = steer_rollout(
                self.fleet.state, self.fleet.now_ms, Who("operator", "test"), rollout=self.spec.rollout, verb=verb
            )
        except Refused:
            return
        self.fleet.fold(*events)
        self.over = self.over or self.rollout.phase in ENDED

    @property
    def at_risk(self) -> int:
        """Exposed and not confirmed, by our own books."""
        return len(self.treated) - len(self.good)

    def check(self) -> None:
        rollout, budget = self.rollout, self.spec.budget
        evidence = rollout.evidence
        assert (evidence.exposed, evidence.confirmed) == (len(self.treated), len(self.good))
        if not rollout.statistical:
            most = min(budget.max_harmed, budget.first_ring + len(self.good))
            assert self.at_risk <= most, f"{self.at_risk} at risk, {most} are allowed"
        frozen = {ring: replace(closed, late=()) for ring, closed in self.frozen.items()}
        assert dict(rollout.closed) == frozen, "a ring's frozen evidence never changes"
        late = {position for closed in self.frozen.values() for position in closed.late}
        assert set(rollout.overdue) == late
        assert rollout.overdue.absent == len(late - set(self.treated))
        if self.over:
            assert rollout.phase in ENDED


class Fleet:
    """Devices with labels, a clock, and any number of rollouts at once."""

    def __init__(self, devices: int, labels: Mapping[int, dict[str, str]] | None = None, *, seed: int = 0) -> None:
        self.labels = {index: dict((labels or {}).get(index, {})) for index in range(devices)}
        self.now_ms = 1_000_000
        self.state = ServerState()
        self.courses: list[Course] = []
        token = {"token_id": "t", "hash": "", "labels": {}, "uses": devices, "expires_ms": 0}
        self.fold(Act(at_ms=0, what="token_created", who="test", why="", body=token))
        for index, device_id in enumerate(ids_of(devices, seed)):
            self.fold(
                Enrolled(
                    at_ms=0,
                    index=index,
                    device_id=device_id,
                    public_key=device_id,
                    token_id="t",
                    labels=self.labels[index],
                    facts={},
                )
            )

    def fold(self, *events: Event) -> None:
        """Fold events as they come out of a log."""
        for event in events:
            self.state.apply(decode(encode(event)))

    def start(self, spec: RolloutSpec) -> Course:
        """Begin a rollout."""
        course = Course(self, spec)
        self.courses.append(course)
        course.look()
        return course

    def pass_s(self, seconds: float) -> None:
        """Let time pass, and do what it makes due."""
        self.now_ms += round(seconds * 1000)
        self.look()

    def look(self) -> None:
        for course in self.courses:
            course.look()

    def check(self) -> None:
        """Hold all that was promised against our own books."""
        counts: Counter[tuple[str, str]] = Counter()
        for index, labels in self.labels.items():
            if any(index in _exposed(course) for course in self.courses):
                counts.update(labels.items())
        for course in self.courses:
            course.check()
            for cap in course.spec.caps:
                self._check_cap(cap, counts)

    def _check_cap(self, cap: Cap, counts: Counter[tuple[str, str]]) -> None:
        for group, count in counts.items():
            assert group[0] != cap.label or count <= cap.at_most, f"{count} of {group} in flight, {cap}"
            assert self.state.in_flight.count(group) == count


def _exposed(course: Course) -> set[int]:
    return {course.spec.roster[position] for position in course.treated.keys() - course.good}


def run_good(course: Course, *, most_s: int = 2000) -> None:
    """A fleet of present, healthy devices, until the rollout ends: all ask, then all report."""
    for _ in range(most_s):
        for position in range(course.rollout.devices):
            if isinstance(course.announce(position), Grant):
                course.report(position, Outcome.CONFIRMED)
        course.fleet.pass_s(1)
        if course.rollout.phase is PlanState.CLOSED:
            return
    raise AssertionError(f"not ended in {most_s} s: {course.rollout.sentence}")
