"""The rollout: what is fixed when it starts, and the state that its events fold into."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tidegate.core.aside import Aside, silent_members
from tidegate.core.caps import Cap
from tidegate.core.evidence import Bools, Evidence, Ints
from tidegate.core.limits import Lanes, Limit
from tidegate.core.looks import LookPlan
from tidegate.core.model import Arm, Budget, Candidate, Outcome, PlanState, SpeedLimit
from tidegate.core.overdue import Overdue
from tidegate.core.phases import ENDED, Effect, Happening, step
from tidegate.core.rings import Rings
from tidegate.core.roster import Positions, Roster
from tidegate.core.speed import opens_at_s, promoted
from tidegate.core.spread import ring_spread_s
from tidegate.core.turns import Turns

LONGEST_S = 90 * 86_400


@dataclass(frozen=True, slots=True)
class RolloutSpec:
    """What is fixed when a rollout starts: the frozen roster, the order, the budget and the rings.

    `roster` holds device indices. `looks` are the planned looks of the statistical rule; without them the certain rule
    carries the whole fleet; `looks_silent` are those of the smaller budget for silent devices. `planned_rings` is what
    a good update will take. `scouts` are roster positions that go first and are in no ring. In a `shadow` rollout every
    lease is a placebo: it measures the background and changes nothing. `limits` and `lanes` keep services up, over
    all rollouts together. `cap_rounds` are the observation times that caps and lanes make the slowest group wait,
    `usual_rounds` those of the usual device. `spread_s` is the least time over which a ring's announcements are spread.
    `speed` is the release's signed limit, which devices enforce; None in rollouts of older logs.
    """

    rollout: str
    component: str
    candidate: Candidate
    replaces: tuple[str, ...]
    order_salt: str
    arm_secret: str
    budget: Budget
    planned_rings: int
    roster: Roster
    observe_s: int
    soak_s: int
    lease_ttl_s: int
    looks: LookPlan | None = None
    looks_silent: LookPlan | None = None
    scouts: tuple[int, ...] = ()
    shadow: bool = False
    spread_s: int = 0
    caps: tuple[Cap, ...] = ()
    limits: tuple[Limit, ...] = ()
    lanes: tuple[Lanes, ...] = ()
    cap_rounds: int = 1
    usual_rounds: float = 0.0
    speed: SpeedLimit | None = None
    scope: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.roster, Roster):  # pyright: ignore[reportUnnecessaryIsInstance]
            object.__setattr__(self, "roster", Roster(self.roster))
        if not self.roster:
            raise ValueError("a rollout needs at least one device")
        if self.observe_s < 1 or self.observe_s <= self.soak_s:
            raise ValueError(f"observe_s ({self.observe_s}) must be longer than the soak ({self.soak_s} s)")
        if self.observe_s > LONGEST_S or not 0 <= self.spread_s <= LONGEST_S:
            raise ValueError(f"observe_s and spread_s must lie within {LONGEST_S // 86_400} days")


@dataclass(frozen=True, slots=True)
class ClosedRing:
    """A ring's evidence, frozen when it closed, and the devices that had no lease by then.

    `late`: their positions in the roster, in the form that a roster has itself, since a whole fleet may be late.
    """

    ring: int
    treated: int
    treated_failed: int
    placebo: int
    placebo_failed: int
    late: Roster
    treated_reverted: int = 0
    placebo_reverted: int = 0


class Rollout:
    """One rollout's state: a fold over its events. It decides nothing; `admission` and `course` do."""

    def __init__(self, spec: RolloutSpec, keys: npt.NDArray[np.uint64], started_ms: int) -> None:
        self.spec = spec
        self.started_ms = started_ms
        self.rings = Rings(
            keys,
            bytes.fromhex(spec.order_salt),
            bytes.fromhex(spec.arm_secret),
            spec.rollout,
            spec.budget.placebo_per_treated,
            spec.scouts,
        )
        self.position = Positions(spec.roster)
        self.evidence = Evidence(self.rings, started_ms)
        self.phase = PlanState.OPEN
        self.opened_ms: dict[int, int] = {}
        self.allowed_ms: dict[int, int] = {}
        """From when the speed limit and the dwell allow each ring's last member to begin."""
        self.ceiling_2p32 = 0
        """What a promotion has lifted the release's ceiling to."""
        self.dwells_ms: Ints | None = None
        """Until when the signed dwell holds back each device of the roster, if it holds back any; shape (devices,)."""
        self.granted_ms: dict[int, int] = {}
        """The newest treated lease of each ring, where caps or lanes may hold members back."""
        self.closed: dict[int, ClosedRing] = {}
        self.turns = Turns(len(spec.roster), started_ms)
        """When those who were refused may ask again: advice, and no part of the fold."""
        self.overdue = Overdue(len(spec.roster))
        self.silent_in: dict[int, frozenset[int]] = {}
        self.aside: dict[int, Aside] = {}
        """Of each frozen ring, what was set aside since."""
        self.sentence = "started; no ring is open yet"
        self.verdict = ""
        self.ended_ms: int | None = None

    @property
    def observe_ms(self) -> int:
        """The observation time, in milliseconds."""
        return self.spec.observe_s * 1000

    def lease(self, position: int, ring: int, arm: Arm, at_ms: int, *, late: bool) -> None:
        """Fold a lease."""
        if self.spec.cap_rounds > 1 and arm is Arm.TREATED and not late:
            self.granted_ms[ring] = at_ms
        if arm is Arm.TREATED and not self.evidence.treated_lease[position]:
            self.overdue.leased(position)
        self.evidence.grant(position, ring, arm, at_ms, late=late)

    def lease_many(self, positions: Ints, rings: Ints, treated: Bools, at_ms: Ints, late: Bools) -> None:
        """Fold leases as `lease` does one after the other; no position comes twice. Arrays of shape (n,)."""
        if self.spec.cap_rounds > 1:
            rows = treated & ~late
            self.granted_ms.update(zip(rings[rows].tolist(), at_ms[rows].tolist(), strict=True))
        self.overdue.leased_many(positions, treated & ~self.evidence.treated_lease[positions])
        self.evidence.grant_many(positions, rings, treated, at_ms, late)

    def report(self, position: int, ring: int, outcome: Outcome) -> bool:
        """Fold a report; give whether it was news."""
        return self.evidence.report(position, ring, outcome)

    @property
    def ring_open(self) -> int:
        """The newest ring, 0 before the first."""
        return len(self.rings.drawn)

    def open_ring(self, treated: int, placebo: int | None, at_ms: int) -> None:
        """Fold the opening of the next ring, for `treated` devices and `placebo` beside them."""
        self.rings.draw(treated, placebo)
        self.opened_ms[self.ring_open] = at_ms
        self.allowed_ms[self.ring_open] = max(at_ms, self._allowed_ms())

    def _allowed_ms(self) -> int:
        at_s = opens_at_s(self.speed, self.rings.last_rank(0)) if self.speed is not None else None
        dwells_ms = 0 if self.dwells_ms is None else int(self.dwells_ms[self.rings.members(self.ring_open)].max())
        return max((at_s or 0) * 1000, dwells_ms)

    @property
    def speed(self) -> SpeedLimit | None:
        """The release's signed speed limit, with the ceiling that a promotion has given it."""
        return None if self.spec.speed is None else promoted(self.spec.speed, self.ceiling_2p32)

    def close_ring(self, closed: ClosedRing) -> None:
        """Fold the closing of a ring; its devices without a lease are late from now on."""
        self.silent_in[closed.ring] = silent_members(self, closed.ring)
        self.closed[closed.ring] = replace(closed, late=Roster())  # four bytes each are a lot for a whole fleet
        self.overdue.add(closed.late)

    def move(self, happening: Happening, sentence: str, at_ms: int) -> tuple[Effect, ...]:
        """Fold a happening: the phase changes by the table. One that has no place changes nothing."""
        after = step(self.phase, happening)
        if after is None:
            return ()
        self.phase = after.phase
        self.sentence = sentence
        if self.phase in ENDED:
            self.ended_ms = at_ms
        return after.effects

    @property
    def statistical(self) -> bool:
        """Whether the statistical rule can open the window; if not, the certain rule carries the whole fleet."""
        return self.spec.looks is not None

    def spread_s(self, ring: int) -> int:
        """Give the seconds over which the devices of a drawn ring spread their announcements."""
        spec = self.spec
        if not 0 < ring <= self.ring_open:
            return spec.spread_s
        drawn = self.rings.drawn[ring - 1]
        rounds = spec.usual_rounds * drawn.treated / self.devices
        return ring_spread_s(drawn.treated + drawn.placebo, rounds, spec.soak_s, spec.spread_s)

    def treated_through(self, ring: int) -> int:
        """Count the treated devices of rings 1 to `ring`, present or not: the place in the order where they end."""
        return sum(drawn.treated for drawn in self.rings.drawn[:ring])

    @property
    def covered(self) -> int:
        """Devices that run the candidate, confirmed."""
        return self.evidence.confirmed

    @property
    def at_risk(self) -> int:
        """Exposed devices that have not confirmed."""
        return self.evidence.exposed - self.evidence.confirmed

    @property
    def late_at_risk(self) -> int:
        """Of these, late ones and scouts."""
        return self.evidence.late_exposed - self.evidence.late_confirmed

    @property
    def countable(self) -> int:
        """The roster's devices but those that were exposed and whose reports were set aside: they never confirm."""
        return self.devices - sum(bool(self.evidence.treated_lease[one]) for one in self.evidence.aside)

    @property
    def devices(self) -> int:
        """The roster's size."""
        return len(self.spec.roster)
