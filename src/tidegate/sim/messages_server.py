"""The server of the message fidelity: the shipped decisions and fold, an in-memory log, and deaths at any moment."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidegate.control import devices
from tidegate.control.plans import RENEW_S, plan_of, says_the_same
from tidegate.control.state import ServerState, fold
from tidegate.core.admission import NotYet
from tidegate.core.assign import ring_arm_salt
from tidegate.core.course import limited, next_due
from tidegate.core.errors import TidegateError
from tidegate.core.model import Plan
from tidegate.core.rollout import ClosedRing, Rollout
from tidegate.core.wire import plain
from tidegate.log.events import Event, Leased, PlanPublished, RingClosed, VerdictTaken, decode, encode

if TYPE_CHECKING:
    from tidegate.sim.messages_checks import Checks
    from tidegate.sim.messages_clock import Timeline

TICK_MS = 250
"""What time alone makes due is looked at on this grid, as the controller's tick does."""
BATCH_MS = 50
"""What arrives within so long is taken in one batch, as under load."""
Reply = Callable[[Any], None]


@dataclass(slots=True)
class Asked:
    """A request in the inbox: the decision that it asks for, and who waits for the answer."""

    decide: Callable[[ServerState, int], tuple[list[Event], Any]]
    reply: Reply


class Server:
    """One controller. Everything but `log` and `standing` (static files, outside) is lost when it dies."""

    def __init__(
        self,
        timeline: Timeline,
        rng: random.Random,
        checks: Checks,
        log: Sequence[Event],
        published: Callable[[Plan, int, bool], None],
    ) -> None:
        self.log: list[bytes] = [encode(event) for event in log]
        self.standing: tuple[Plan, int] | None = None
        self.state = fold(log)
        self.up = True
        self.deaths = self.batches = 0
        self._timeline, self._rng, self._checks, self._on_published = timeline, rng, checks, published
        self._inbox: list[Asked] = []
        self._batch_at_ms = -1
        self._ticks: set[int] = set()
        self._must_publish = True
        self._dying: float | None = None
        for event in log:
            checks.event(event)

    @property
    def rollout(self) -> Rollout:
        """The one rollout of the simulation."""
        return next(iter(self.state.rollouts.values()))

    def receive(self, decide: Callable[[ServerState, int], tuple[list[Event], Any]], reply: Reply) -> None:
        """Take a request in; a server that is dead hears nothing."""
        if not self.up:
            return
        self._inbox.append(Asked(decide, reply))
        self._batch_soon()

    def tick_at(self, at_ms: int) -> None:
        """Look at what is due at the first tick from this time on."""
        tick = -(-at_ms // TICK_MS) * TICK_MS
        if tick not in self._ticks:
            self._ticks.add(tick)
            self._timeline.at(tick, self._tick, tick)

    def die(self, down_s: float) -> None:
        """Die during the next batch: before its events are durable, or after it and before anyone is answered."""
        if self.up:
            self._dying = down_s
            self._batch_soon()

    def rise(self) -> None:
        """Start again with what the log holds."""
        self.state = fold(decode(line) for line in self.log)
        self._checks.same(self.state)
        self.up, self._must_publish = True, True
        self._batch()

    def _tick(self, tick: int) -> None:
        self._ticks.discard(tick)
        if self.up:
            self._batch()

    def _batch_soon(self) -> None:
        at_ms = (self._timeline.now_ms // BATCH_MS + 1) * BATCH_MS
        if at_ms != self._batch_at_ms:
            self._batch_at_ms = at_ms
            self._timeline.at(at_ms, self._batch)

    def _batch(self) -> None:
        """One turn of the controller: decide, fold, look at what is due, make durable, answer, publish."""
        if not self.up:
            return
        now_ms = max(self._timeline.now_ms, self.state.last_ms)
        self.batches += 1
        inbox, self._inbox = self._inbox, []
        events: list[Event] = []
        answers: list[tuple[Reply, Any]] = []
        for asked in inbox:
            try:
                made, answer = asked.decide(self.state, now_ms)
            except TidegateError as error:
                answers.append((asked.reply, error))
                continue
            self._fold(made)
            events += made
            answers.append((asked.reply, answer))
        events += self._due(now_ms)
        if self._dying is not None:
            self._fall(events)
            return
        self._commit(events)
        for reply, answer in answers:
            reply(answer)
        self._publish(now_ms)

    def _fold(self, events: list[Event]) -> None:
        for event in events:
            self.state.apply(event)

    def _commit(self, events: list[Event]) -> None:
        for event in events:
            self.log.append(encode(event))
            self._checks.event(event)
            if isinstance(event, Leased):
                self.tick_at(event.at_ms + self.rollout.observe_ms)

    def _fall(self, events: list[Event]) -> None:
        down_s, self._dying = self._dying or 0.0, None
        if self._rng.random() < 0.5:
            self._commit(events)
        self.up, self._inbox, self.state = False, [], ServerState()
        self.deaths += 1
        self._timeline.after(down_s, self.rise)

    def _due(self, now_ms: int) -> list[Event]:
        made: list[Event] = []
        for name in list(self.state.active.values()):
            rollout = self.state.rollouts[name]
            while (due := next_due(rollout, now_ms)) is not None:
                event = event_of(rollout, due, now_ms)
                self._fold([event])
                made.append(event)
                if isinstance(event, VerdictTaken) and event.verdict.opens:
                    from_ms = max(now_ms, rollout.allowed_ms[rollout.ring_open])
                    self.tick_at(from_ms + (rollout.spread_s(rollout.ring_open) + rollout.spec.observe_s) * 1000)
            waits = limited(rollout, now_ms)
            if waits is not None and waits.until_s is not None:
                self.tick_at(waits.until_s * 1000)
        return made

    def _publish(self, now_ms: int) -> None:
        """Put the plan where devices read, the event first; sign anew what is about to expire."""
        now_s = now_ms // 1000
        rollout = self.rollout
        plan = plan_of(rollout, now_s)
        before = self.state.published.get(rollout.spec.component)
        same = before is not None and says_the_same(before.plan, plan)
        if before is not None and same and not self._must_publish and before.plan["expires"] - now_s > RENEW_S:
            return
        version = (self.standing[1] if self.standing else 0) + 1
        event = PlanPublished(
            at_ms=now_ms, component=plan.component, rollout=plan.rollout, version=version, plan=plain(plan)
        )
        self._fold([event])
        self._commit([event])
        self.standing = (plan, version)
        self._must_publish = False
        self.tick_at((plan.expires - RENEW_S) * 1000)
        self._on_published(plan, version, not same)


def event_of(rollout: Rollout, due: Any, now_ms: int) -> Event:
    """Write down what was due, as the controller does."""
    spec = rollout.spec
    if isinstance(due, ClosedRing):
        salt = ring_arm_salt(bytes.fromhex(spec.arm_secret), spec.rollout, due.ring)
        return RingClosed(at_ms=now_ms, rollout=spec.rollout, closed=due, arm_salt=salt.hex())
    return VerdictTaken(at_ms=now_ms, rollout=spec.rollout, verdict=due)


def answer_of(decision: Any) -> tuple[str, Any]:
    """Put a decision on an announcement into the wire's words: ("lease", (id, arm)), ("wait", seconds), ("never", "").

    An error that is no final no is answered with "wait": the device asks again.
    """
    if isinstance(decision, NotYet):
        return "wait", decision.retry_after_s
    if isinstance(decision, devices.Halted):
        return "never", str(decision)
    if isinstance(decision, TidegateError):
        return "wait", 5.0
    rollout, position, grant = decision
    return "lease", (devices.lease_id(rollout.spec.rollout, grant.ring, position), grant.arm)
