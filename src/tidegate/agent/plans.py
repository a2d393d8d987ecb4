"""What the signed files say now, as one device last read them; and when to read them again."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from tidegate.agent.clock import Clock
from tidegate.agent.inclusion import Inclusion
from tidegate.agent.pace import Backoff, jittered
from tidegate.core.assign import SHARE_ONE
from tidegate.core.errors import TidegateError
from tidegate.core.model import Candidate, Manifest, Plan, PlanState, ReleaseTerms
from tidegate.core.speed import not_before
from tidegate.trust.client import TrustClient
from tidegate.trust.emergency import Stop
from tidegate.trust.errors import ClockWrong
from tidegate.trust.pardon import Pardon
from tidegate.trust.promotion import lifted


@dataclass(frozen=True, slots=True)
class Seen:
    """A component's plan as it holds at this moment: none if there is none, if it expired or is not trusted."""

    plan: Plan | None
    version: int
    sentence: str
    stop: Stop | None = None

    def withdraws(self, candidate: Candidate | None, *, closed_too: bool) -> str:
        """Say why this plan takes a candidate back, or nothing.

        A missing or expired plan takes nothing back: running devices keep what they have. Another candidate does,
        since a device that asks seldom may see only the plan that followed a halt. An emergency stop needs no plan.
        """
        if self.stop and candidate and self.stop.names(candidate.sha256):
            return self.stop.sentence
        if self.plan is None or candidate is None:
            return ""
        if self.plan.candidate != candidate:
            return f"the plan names another candidate now ({self.plan.candidate.sha256[:16]})"
        if self.plan.state is PlanState.HALTED:
            return f"rollout {self.plan.rollout} was halted"
        if self.plan.state is PlanState.CLOSED and closed_too:
            return f"rollout {self.plan.rollout} is closed"
        return ""


class Plans:
    """The device's reading of the repository. One bad answer changes nothing of what is known."""

    def __init__(
        self, trust: TrustClient, clock: Clock, rng: random.Random, poll_s: float, inclusion: Inclusion | None = None
    ) -> None:
        self._inclusion = inclusion
        self._trust, self._clock, self._rng, self._poll_s = trust, clock, rng, poll_s
        self._backoff = Backoff(poll_s, rng)
        self._seen: dict[str, Seen] = {}
        self._busy: set[str] = set()
        self._pardons_sought: set[str] = set()
        self._releases: dict[tuple[str, Candidate, int], tuple[Manifest, ReleaseTerms]] = {}
        self.next_poll_s = 0.0
        """On the clock's boot_s."""
        self.last_contact: float | None = None
        self.trouble = ""
        self._begins = ""

    @property
    def high_water_s(self) -> int:
        return self._trust.high_water_s

    def refresh(self, interval_s: float | None = None) -> bool:
        """Read anew.

        Args:
            interval_s: when to read again if all goes well; None stands for the poll interval.

        Returns:
            False if that failed; `trouble` says why, and what was known stands until it expires.
        """
        try:
            if self._trust.refresh():
                self._releases.clear()
            self._seen.clear()
        except (TidegateError, OSError) as error:
            self.trouble = str(error)
            self.next_poll_s = self._clock.boot_s() + self._backoff.next_s()
            self._ask_the_holders()
            return False
        self.trouble = ""
        self._ask_the_holders()
        self._backoff.reset()
        self.last_contact = self._clock.wall()
        self.next_poll_s = self._clock.boot_s() + jittered(interval_s or self._poll_s, self._rng)
        return True

    def begin_in(self, wait_s: float) -> None:
        """Read for the first time since this start in so many seconds."""
        self.next_poll_s = self._clock.boot_s() + wait_s
        self._begins = f"reads the plan within {wait_s:.0f} s, for the first time since this start"

    @property
    def known(self) -> bool:
        """Whether this device has ever had a plan."""
        return self._trust.high_water_s > 0

    def attend(self, component: str, busy: bool) -> None:
        """Say whether a component is under way to something: then each refresh asks for its emergency stop as well."""
        (self._busy.add if busy else self._busy.discard)(component)

    def seek_pardon(self, component: str) -> None:
        """Let the next refresh ask for a component's pardon as well: the plan names what is condemned here."""
        self._pardons_sought.add(component)

    def pardon(self, component: str) -> Pardon | None:
        """Give the newest pardon that this device has seen, if it counts under the keys of today."""
        return self._trust.pardons.get(component)

    def _ask_the_holders(self) -> None:
        asks = [(self._trust.stops, component) for component in sorted(self._busy)]
        sought = [(self._trust.pardons, component) for component in sorted(self._pardons_sought)]
        self._pardons_sought.clear()
        for statements, component in [*asks, *sought]:
            try:
                statements.refresh(component)
            except (TidegateError, OSError) as error:
                self.trouble = self.trouble or str(error)

    def hurry(self, interval_s: float) -> None:
        """Read again within this time: something unconfirmed runs."""
        self.next_poll_s = min(self.next_poll_s, self._clock.boot_s() + interval_s)

    def components(self) -> tuple[str, ...]:
        try:
            return self._trust.components()
        except TidegateError as error:
            self.trouble = self.trouble or str(error)
            return ()

    def seen(self, component: str) -> Seen:
        """Give the plan of a component as it holds now. Errors become its sentence."""
        found, stop = self._planned(component), self._trust.stop(component)
        return replace(found, stop=stop) if stop else found

    def _planned(self, component: str) -> Seen:
        known = self._seen.get(component)
        if known is None:
            try:
                plan, version = self._trust.plan(component)
                known = Seen(plan, version, "")
            except (TidegateError, OSError) as error:
                begins = "" if self.last_contact else self._begins
                return Seen(None, 0, self.trouble or begins or str(error))
            self._seen[component] = known
        plan = known.plan
        try:
            now_s = self._trust.now()
        except ClockWrong as error:
            return Seen(None, known.version, str(error))
        if plan and plan.expires <= now_s:
            return Seen(None, known.version, self.trouble or f"the plan of {component} has expired; nothing advances")
        return known

    def release(self, component: str, seen: Seen) -> tuple[Manifest, ReleaseTerms]:
        """Give the candidate as its release keys signed it. Raises Untrusted, Unreachable, BadInput."""
        assert seen.plan is not None
        key = component, seen.plan.candidate, seen.version
        if key not in self._releases:
            manifest, terms = self._trust.release(component, seen.plan.candidate)
            if self._inclusion is not None:
                policy = self._trust.ledger_policy()
                now = self._trust.now()
                terms = not_before(terms, self._inclusion.check(component, seen.plan.candidate, policy, now))
            if terms.speed.ceiling_2p32 < SHARE_ONE:
                terms = lifted(terms, self._trust.promoted(component, seen.plan.candidate))
            self._releases[key] = manifest, terms
        return self._releases[key]
