"""One device of the message fidelity: the shipped table of core.device, with virtual effects and a fate."""

from __future__ import annotations

from tidegate.control.devices import Report
from tidegate.core.device import RESUME, UNCONFIRMED, Effect, Event, State, step
from tidegate.core.model import Arm, Outcome, Plan, PlanState
from tidegate.core.speed import speed_permits
from tidegate.sim.messages_fate import Lease
from tidegate.sim.messages_known import READ_BY, Known

RETRY_S = 5.0
DOUBLINGS = 5
FLOOD_S = 20.0
"""A device that announces without end does so this often, whatever it is told."""
MUTE_ASKS = 10
"""How often in an observation time a device that fell silent asks whether its next turn has come."""


class SimDevice(Known):
    """A device. It acts on what it knows; `world` carries its messages and its clock."""

    __slots__ = ()

    def wake(self) -> None:
        """Read the plan and do what it calls for; a device that is off or away does nothing."""
        if self._cannot_act():
            return
        self._read()
        self._weigh()

    def resume(self) -> None:
        """Come up again after having been switched off: what was being done is done again."""
        if self.fate.dead or self._cannot_act():
            return
        self.turn += 1
        self._perform(RESUME[self.state])
        self.sending = False
        self.flush()
        self._weigh()

    def timer(self, turn: int, event: Event) -> None:
        """Something took its time and is through, unless the device has moved on meanwhile."""
        if turn == self.turn and not self._cannot_act():
            self.tell(event)

    def ask_timer(self, turn: int) -> None:
        """The time to ask again has come."""
        if turn == self.turn and not self._cannot_act():
            self._read()
            self._weigh()

    def retry(self, turn: int, effect: Effect) -> None:
        """Try an effect again."""
        if turn == self.turn and not self._cannot_act():
            self._perform((effect,))

    def die(self, turn: int) -> None:
        """The harm shows: the device is silent from now on, and its site may go with it."""
        if turn == self.turn:
            self.fate.dead = True
            self.world.network.take_site_down(self.index)

    def tell(self, event: Event) -> None:
        """Take one step of the table, do its effects, and weigh the plan anew where the device is calm."""
        after, effects = step(self.state, event)
        if after is self.state:
            return
        self.state = after
        self.turn += 1
        self.errors, turn = 0, self.turn
        self._perform(effects)
        if turn == self.turn and (self.state is State.IDLE or self.state is State.READY):
            self._weigh()

    def answered(self, request: int, answer: Lease | float | None, ring: int) -> None:
        """Hear the server's answer to an announcement: a lease, seconds to wait, or None for never."""
        if request != self.request or self._cannot_act():
            return
        if self.state is not State.ANNOUNCED:
            self._renewed(answer)
        elif isinstance(answer, Lease):
            if answer.lease_id in self.fate.mute:
                self._wait_ask(self.world.observe_s / MUTE_ASKS, ring)
                return
            self.lease = answer
            self.world.lots(self, answer)
            self.tell(Event.LEASE_TREATED if answer.arm is Arm.TREATED else Event.LEASE_PLACEBO)
        elif answer is None:
            self.refused = True
            self.tell(Event.WITHDRAWN)
        else:
            self._wait_ask(answer * self.world.rng.uniform(1.0, 1.2), ring)

    def received(self, lease_ids: frozenset[str]) -> None:
        """Hear that reports are durable."""
        self.outbox = [report for report in self.outbox if report.lease_id not in lease_ids]
        self.sending, self.errors = False, 0
        self.flush()
        if not self.outbox and not self._cannot_act():
            self._weigh()

    def flush(self) -> None:
        """Send what waits, and again until the server says that it has it."""
        if not self.outbox or self.sending or self._cannot_act():
            return
        self.sending = True
        self.world.report(self, tuple(self.outbox))
        self.world.timeline.after(self._backoff_s(), self._send_again, len(self.outbox))

    def flood(self) -> None:
        """Announce without end, with no regard for answers."""
        if self.plan is None:
            self._read()
        if self.plan is not None and not self._cannot_act():
            self.seq += 1
            self.world.announce(self, 0)
        self.world.timeline.after(FLOOD_S, self.flood)

    def _send_again(self, _: int) -> None:
        self.sending = False
        self.flush()

    def _cannot_act(self) -> bool:
        if self.fate.dead:
            return True
        if self.fate.late and self.world.is_away(self):
            return True
        until_ms = self.world.network.off_until_ms(self.index)
        if until_ms > self.off_ms:
            self.turn += 1  # what was under way is lost with the power; `resume` begins it again
            self.off_ms = until_ms
            self.world.timeline.at(until_ms, self.resume)
        return until_ms > 0

    def _read(self) -> bool:
        plan, version = self.world.read_plan(self.index)
        if plan is None:
            return False
        self.plan, self.version = plan, version
        return True

    def _fresh(self) -> Plan | None:
        """Give the plan as it holds by this device's own clock: none that has expired."""
        plan = self.plan
        return plan if plan is not None and plan.expires > self.world.wall_s(self.index) else None

    def _weigh(self) -> None:
        plan = self._fresh()
        if plan is None:
            if self.plan is not None and not self.finished:
                self.world.reread(self)
            return
        if plan.state in READ_BY:
            closed = plan.state is PlanState.CLOSED
            if self.state in UNCONFIRMED or self.state in (State.SHAMMING, State.WATCHING):
                if not closed:
                    self.tell(Event.WITHDRAWN)
            elif self.state in (State.FETCHING, State.READY, State.ANNOUNCED):
                self.tell(Event.WITHDRAWN)
        elif plan.state is PlanState.OPEN and plan.announces(self.rank):
            if self.state is State.IDLE and not self.finished and not self.outbox and self._permitted():
                self.attempt += 1
                self.ask_at_ms = self.world.timeline.now_ms + round(self.world.rng.uniform(0, plan.spread_s) * 1000)
                self.tell(Event.ELIGIBLE)
            elif self.state is State.READY:
                self._ask_when_due(plan)

    def _permitted(self) -> bool:
        """Ask the signed speed limit, by this device's own clock; come back when it lets this rank begin."""
        limit = self.world.start.spec.speed
        if limit is None:
            return True
        answer = speed_permits(limit, self.rank, int(self.world.wall_s(self.index)), 0)
        if not answer.permitted and answer.retry_after_s:
            self.world.timeline.after(answer.retry_after_s, self.wake)
        return answer.permitted

    def _ask_when_due(self, plan: Plan) -> None:
        timeline = self.world.timeline
        if plan.ring > self.asked_ring:
            self.ask_at_ms = min(self.ask_at_ms, timeline.now_ms)  # a ring has opened since it was told to wait
        if timeline.now_ms >= self.ask_at_ms:
            self.tell(Event.ASK)
        else:
            self.turn += 1
            timeline.at(self.ask_at_ms, self.ask_timer, self.turn)

    def _wait_ask(self, wait_s: float, ring: int) -> None:
        self.ask_at_ms = self.world.timeline.now_ms + round(wait_s * 1000)
        self.asked_ring = ring
        if self.world.reads_at_once:
            self._read()
        self.tell(Event.NOT_YET)

    def _renewed(self, answer: Lease | float | None) -> None:
        """A lease that ran out was asked for again while it waited to be carried out."""
        if self.lease is None or self.state not in (State.APPLYING, State.SHAMMING):
            return
        if isinstance(answer, Lease) and answer.arm is self.lease.arm:
            self.lease = answer
            self._perform((Effect.ACTIVATE if self.state is State.APPLYING else Effect.SHAM,))
        elif not isinstance(answer, float):
            self.tell(Event.WITHDRAWN)

    def _perform(self, effects: tuple[Effect, ...]) -> None:
        """Do effects in their order; the happening that one of them ends with comes when all are through."""
        happened: Event | None = None
        for effect in effects:
            happened = self._do(effect) or happened
        if happened is not None:
            self.tell(happened)

    def _do(self, effect: Effect) -> Event | None:
        match effect:
            case Effect.FETCH:
                return Event.FETCHED
            case Effect.ANNOUNCE:
                self._announce(effect)
            case Effect.ACTIVATE | Effect.SHAM:
                return self._act(effect)
            case Effect.PROBE:
                self._probe()
            case Effect.CONFIRM:
                self.installed = True
                return self._put(Outcome.CONFIRMED)
            case Effect.REVERT:
                return Event.RETURNED
            case Effect.CONDEMN:
                self.condemned = True
                return self._put(Outcome.REVERTED)
            case Effect.REPORT_PLACEBO:
                return self._put(self.world.placebo_outcome(self))
            case Effect.CLEAN:
                pass
        return None

    def _announce(self, effect: Effect) -> None:
        self.seq += 1
        self.request += 1
        self.world.announce(self, self.request)
        self.world.timeline.after(self._backoff_s(), self.retry, self.turn, effect)

    def _act(self, effect: Effect) -> Event | None:
        """Carry a lease out: only under a plan that was read just now, is fresh and takes nothing back."""
        assert self.lease is not None
        world = self.world
        if not self._read() or (plan := self._fresh()) is None or plan.state is PlanState.PAUSED:
            world.timeline.after(self._backoff_s(), self.retry, self.turn, effect)
            return None
        if plan.state in READ_BY:
            return Event.WITHDRAWN
        if world.timeline.now_ms - self.lease.asked_ms >= self.lease.ttl_ms:
            self._announce(effect)
            return None
        world.acted(self, self.lease)
        return Event.ACTIVATED if effect is Effect.ACTIVATE else Event.SHAMMED

    def _probe(self) -> None:
        after_s, event = self.world.foresee(self)
        if event is None:
            self.world.timeline.after(after_s, self.die, self.turn)
        else:
            self.world.timeline.after(after_s, self.timer, self.turn, event)

    def _put(self, outcome: Outcome) -> Event:
        """Put the outcome into the outbox; one that falls silent for its own reasons never sends it."""
        assert self.lease is not None
        if self.lease.lease_id not in self.fate.mute:
            self.seq += 1
            self.outbox.append(Report(self.lease.lease_id, self.world.says(self, outcome).value, self.seq))
            self.flush()
        return Event.SETTLED

    def _backoff_s(self) -> float:
        self.errors = min(self.errors + 1, DOUBLINGS)
        return RETRY_S * self.world.rng.uniform(0.5, 1.0) * 2 ** (self.errors - 1)
