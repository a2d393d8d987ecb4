"""The controller: takes what devices and operators ask in one order, appends it durably, then answers and publishes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, cast

import structlog

from tidegate.control.appending import Appending
from tidegate.control.batch_fold import fold_batches
from tidegate.control.checkpoints import Checkpoints
from tidegate.control.deciding import decide_all
from tidegate.control.due import fold_due
from tidegate.control.following import Followed
from tidegate.control.keeping import Keeping
from tidegate.control.ledger import Ledger
from tidegate.control.ledger_work import LedgerWork
from tidegate.control.line import Line
from tidegate.control.metrics import Meters
from tidegate.control.plans import PlanPublisher, plans_due
from tidegate.control.questions import Asked, Decision, settle
from tidegate.control.standing import Standing, published_events
from tidegate.control.state import ServerState
from tidegate.control.told import tell
from tidegate.core.errors import TidegateError
from tidegate.core.model import Plan
from tidegate.core.wire import canonical
from tidegate.log.batch import Batch
from tidegate.log.events import Event
from tidegate.log.port import Fenced, Log, LogError, Overloaded
from tidegate.trust.fence import Overtaken

T = TypeVar("T")

LARGEST_BATCH = 512
MOST_WAITING = 8192
TICK_S = 0.25
LOOK_EVERY_S = 0.05
"""While reports come one batch after the other, dues are looked for, and the ledger written, only so often."""
_SLOW = "the log takes long; what was asked is not known to be durable, ask again"
_STOPPING = "the server is stopping; what was asked is not known to be durable, ask again"


class Controller:
    """One order of events. Decisions see a state that holds all before them; answers go out when they are durable.

    A decision is folded into the state before it is appended, so that the next in the batch sees it. If the append
    fails, the state is folded anew from the log and everyone in the batch is told that nothing was done.
    """

    def __init__(
        self,
        log: Log,
        publisher: PlanPublisher,
        clock: Callable[[], float] = time.time,
        *,
        ledger: Ledger | None = None,
        checkpoints: Checkpoints | None = None,
        followed: Followed | None = None,
    ) -> None:
        """Replay the log: from where a standby has followed it to, else from the newest checkpoint if there is one.

        Raises:
            Untrusted: if the log does not give the ledger that was signed before.
        """
        self._log, self._appending = log, Appending(log)
        self.ledger, self._ledger_work = ledger, LedgerWork(ledger)
        self._publisher = publisher
        self._clock = clock
        self._line = Line()
        self.meters = Meters()
        self._keeping = Keeping(log, checkpoints)
        self.state: ServerState = self._replayed(ledger, followed)
        self._log_trouble = ""
        """What the log said last instead of taking events."""
        self._standing = Standing()
        self._at_work: list[Asked] = []
        self._look_again_at, self._look_owed = 0.0, False
        self._ended = False
        self._steady = True
        """Whether all that the state holds is in the log: not between a decision and the end of its append."""

    def _replayed(self, ledger: Ledger | None = None, followed: Followed | None = None) -> ServerState:
        """Fold the log, from what is there of it on; with a ledger, begin that too."""
        found = self._keeping.newest(followed)
        after = found.seq if found else 0
        batches = ledger.begin(self._log, after) if ledger is not None else self._log.read_batches(after)
        state = fold_batches(batches, found.state if found else self._keeping.empty())
        state.devices.prepare()
        return state

    async def _replay_again(self, failed: LogError) -> None:
        """After an append that failed: fold the log anew, once, and decide nothing until it takes events again."""

        def waiting(trouble: str) -> None:
            self._log_trouble = trouble or self._log_trouble
            self._tell_all(failed)

        self.state = await self._appending.until_it_answers(self._replayed, waiting)
        self.state.published = dict(self._standing.plans)
        await self._appending.until_it_takes(waiting)
        self._log_trouble = ""  # the next event may be long in coming

    def now_ms(self) -> int:
        """Give the time that events carry: the wall clock, but never before the newest event."""
        return max(int(self._clock() * 1000), self.state.last_ms)

    @property
    def full(self) -> bool:
        """Whether so much waits, or the log takes so long, that nobody would get an answer in time."""
        return len(self._line) >= MOST_WAITING or self._appending.late

    @property
    def waiting(self) -> int:
        """How many questions wait."""
        return len(self._line)

    @property
    def last_event(self) -> int:
        """The number of the newest event in the log."""
        return self._log.last

    @property
    def trouble(self) -> str:
        """What keeps it from its work: of the log, the ledger and the plans, each says so until it has passed."""
        return self._log_trouble or (self.ledger.trouble if self.ledger else "") or self._standing.trouble

    @property
    def why_not_ready(self) -> str:
        """Say what keeps it from answering in time, or nothing."""
        if self._ended:
            return "it is stopping"
        return self.trouble or (_SLOW if self._appending.late else "too much is waiting" if self.full else "")

    async def ask(self, decide: Decision[T], devices: frozenset[int] = frozenset()) -> T:
        """Put a decision into the order of events; return its answer once its events are durable.

        `devices` is for reports alone: the devices whose leases are all that the decision looks at and changes.

        Raises:
            TidegateError: what the decision raised; it then has no events.
            LogError: if its events could not be made durable; nothing of it has happened.
        """
        return cast(T, await self.put(decide, devices))

    def put(self, decide: Decision[T], devices: frozenset[int] = frozenset()) -> asyncio.Future[T]:
        """Do as `ask` does, without waiting: its answer, or what `ask` would raise, is in the future.

        Raises:
            LogError: if it is stopping, or too much waits.
        """
        if self._ended:
            raise LogError(_STOPPING)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if len(self._line) >= 2 * MOST_WAITING:  # devices are turned away before; this is for all others
            raise Overloaded("too much is waiting; ask again later")
        self._line.join(Asked(decide, answer, devices))
        return answer

    async def run(self) -> None:
        """Work until cancelled: batches as they come, and at least every tick what time makes due."""
        try:
            await self._work()
        except asyncio.CancelledError:
            self._answer_rest()
            if self._steady:
                await self._keeping.end(self.state)
            raise
        finally:
            self._keeping.stop()
            self._answer_rest()

    def _answer_rest(self) -> None:
        self._ended = True
        self._tell_all(LogError(_STOPPING))  # nobody may wait for an answer that will never come

    def _tell_all(self, error: LogError) -> None:
        self._at_work += self._line.take_now(len(self._line))
        for asked in self._at_work:
            settle(asked, error)

    async def _work(self) -> None:
        await self._batch([])
        while True:
            batch = await self._line.take(LARGEST_BATCH, self._look_in_s())
            self._at_work = batch
            await self._batch(batch)
            if (trouble := await self._appending.look()) is not None:
                self._log_trouble = trouble
            await self._keeping.look(self.state)

    def _look_in_s(self) -> float:
        """Give the time until dues are looked for even if nobody asks."""
        return max(self._look_again_at - time.monotonic(), 0.0) if self._look_owed else TICK_S

    async def _batch(self, batch: list[Asked]) -> None:
        now_ms = self.now_ms()
        if batch:
            self.meters.batch.observe(sum(asked.count for asked in batch))
        self._steady = False
        events, answers = decide_all(self.state, batch, now_ms)
        reports = bool(batch) and all(asked.devices for asked in batch)
        look = not reports or time.monotonic() >= self._look_again_at
        self._look_owed = not look
        if look:
            events += fold_due(self.state, now_ms)
        if not await self._commit(events, answers):
            return
        for asked, answer in answers:
            if not asked.answer.done():
                asked.answer.set_result(answer)
        if look:
            await self._ledger_work.write(beside=reports)
            await self._publish(now_ms)
            self._look_again_at = time.monotonic() + LOOK_EVERY_S

    def _fold(self, events: Sequence[Event]) -> None:
        for event in events:
            self.state.apply(event)

    async def _commit(self, events: list[Event], answers: list[tuple[Asked, Any]]) -> bool:
        if not events:
            self._steady = True
            return True
        try:
            with self.meters.append.time():
                last = await self._appending.append(events, lambda: self._tell_all(Overloaded(_SLOW)))
        except LogError as error:
            self.meters.append_failures.inc()
            self._log_trouble = str(error)
            structlog.get_logger().error("append failed", trouble=self._log_trouble, questions=len(answers))
            if isinstance(error, Fenced):
                raise  # all are told as it ends
            await self._replay_again(error)
            for asked, _ in answers:
                settle(asked, error)
            return False
        self._steady, self._log_trouble = True, ""
        if self.ledger is not None:
            self.ledger.take(self._log, last, events)
        tell(events, self.state, self.meters)
        return True

    def read_batches(self) -> Iterator[tuple[int, Batch]]:
        """Give the log's records from the first, for a backup; may run in another thread."""
        return self._log.read_batches()

    def read_log(self) -> Iterator[tuple[int, Event]]:
        """Give the events from the first, for an account of what has happened; may run in another thread."""
        return self._log.read()

    def publish_soon(self) -> None:
        """Sign again at the next tick, whatever the plans say: a release or a component has come."""
        self._standing.must = True

    async def _publish(self, now_ms: int) -> None:
        """Sign what devices should read now. The event comes first: a plan that stands is always on record."""
        now_s, standing = now_ms // 1000, self._standing
        if standing.waits(self._clock()):
            return
        plans, stale = plans_due(self.state, now_s)
        try:
            if stale or standing.must:
                await self._put_plans(plans, now_ms)
            elif not plans:
                await asyncio.to_thread(self._publisher.refresh, now_s)
        except Overtaken as error:
            if not standing.may_catch_up:
                raise Fenced(str(error)) from error
            standing.must, standing.may_catch_up = True, False
            await asyncio.to_thread(self._publisher.catch_up)
            self.state.published = dict(standing.plans)
        except (OSError, TidegateError) as error:
            standing.failed(self._clock(), f"plans could not be published: {error}")
            self.state.published = dict(standing.plans)
            structlog.get_logger().error("plans not published", trouble=standing.trouble)

    async def _put_plans(self, plans: dict[str, Plan], now_ms: int) -> None:
        """Record plans, unless just these are on record already, and put them where devices read."""
        await self._ledger_work.write()  # a plan that rests on something must not stand before it
        standing, now_s = self._standing, now_ms // 1000
        events = standing.recorded_for(plans, self._publisher.next_version, now_s)
        fresh = events is None
        if events is None:
            standing.must = True
            events = published_events(plans, self._publisher.next_version, now_ms)
        self._steady = False
        self._fold(events)
        if not await self._commit(list[Event](events) if fresh else [], []):
            return
        standing.begins(events)
        files = {event.component: canonical(event.plan) for event in events}
        await asyncio.to_thread(self._publisher.publish, files, now_s)
        standing.done(self.state.published)
