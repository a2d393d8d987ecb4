"""One component's way through one update: the table of core.device, run with a journal in front of every effect."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tidegate.agent import guard
from tidegate.agent.clock import stamp
from tidegate.agent.journal import Journal, Lease, Record
from tidegate.agent.pace import Backoff, place_within
from tidegate.agent.recover import from_slots, outdated
from tidegate.agent.slots import Slots, slot_name
from tidegate.core.device import RESUME, UNCONFIRMED, Effect, Event, State, step
from tidegate.core.errors import TidegateError
from tidegate.core.model import Outcome
from tidegate.trust.errors import DiskFull

if TYPE_CHECKING:
    from tidegate.agent.download import Download
    from tidegate.agent.tools import Tools

CALM = frozenset({State.IDLE, State.FETCHING, State.READY})
"""States in which another component of this device may begin: nothing is leased, nothing unconfirmed runs."""


@dataclass(frozen=True, slots=True)
class Happened:
    """An effect is through: what has happened, and what the journal must know with it."""

    event: Event
    changes: dict[str, Any] = field(default_factory=lambda: {})


@dataclass(frozen=True, slots=True)
class Wait:
    """An effect goes on later: in how many seconds, and what `agent status` says meanwhile."""

    seconds: float
    sentence: str = ""


def readable(text: str, length: int = 1000) -> str:
    """Shorten a sentence, and replace what no JSON text can hold: names of files may be any bytes."""
    return text[:length].encode(errors="replace").decode()


Result = Happened | Wait | None
Run = Callable[["Machine", "Tools"], Result]


@dataclass(slots=True)
class Soak:
    """The probing of one release; lost with the process, so that a restart begins the soak anew."""

    began_s: float
    woken: bool = False
    restarted: bool = False


class Machine:
    """One component on this device.

    `due_s` (the clock's boot_s) is when the pending effect goes on; `ask_at_s` when a ready device asks for its lease;
    `retry_at_s` when an idle one tries again what failed. `changed` is called after each change of state.
    """

    def __init__(
        self, component: str, tools: Tools, effects: dict[Effect, Run], changed: Callable[[], None] = lambda: None
    ) -> None:
        self.component = component
        self.tools = tools
        self._effects, self._changed = effects, changed
        directory = tools.home.component(component)
        self.slots = Slots(directory)
        self.journal = Journal(directory / "journal.json")
        self.pending: tuple[Effect, ...] = ()
        self.due_s = 0.0
        self.ask_at_s: float | None = None
        self.waits_ring: int | None = None
        """The ring at which the server said that this device's has yet to open."""
        self.retry_at_s = 0.0
        self.backoff = Backoff(tools.settings.poll_s, tools.rng)
        self.failures = Backoff(tools.settings.poll_s * 4, tools.rng)
        self.sentence = ""
        self.found = ""
        """What is wrong with the slots since this start, for `agent status`; empty if nothing is."""
        self.damaged: list[str] = []
        """Slots of current and good whose files are not as they were installed; see mend.py."""
        self.mending: Download | None = None
        self.mend_at_s = 0.0
        self.soak: Soak | None = None
        self.download: Download | None = None

    @property
    def record(self) -> Record:
        return self.journal.record

    @property
    def state(self) -> State:
        return self.record.at

    @property
    def lease(self) -> Lease:
        lease = self.record.lease
        if lease is None:
            raise TidegateError(f"{self.component}: no lease in the journal in state {self.record.state}")
        return lease

    @property
    def digest(self) -> str:
        digest = self.record.digest
        if digest is None:
            raise TidegateError(f"{self.component}: no candidate in the journal in state {self.record.state}")
        return digest

    def asks_at_s(self, now_s: float, ring: int, spread_s: int) -> float:
        """Give the moment (boot_s) at which a ready device asks: its place within the spread, or when it was told to.

        One that was told that its ring has yet to open has a new place as soon as the plan names another ring.
        """
        opened = self.waits_ring is not None and ring != self.waits_ring
        if self.ask_at_s is None or opened:
            place_s = now_s + place_within(spread_s, self.tools.rng)
            self.ask_at_s = min(place_s, self.ask_at_s or place_s)
            self.waits_ring = None
        return self.ask_at_s

    def begin(self) -> None:
        """Read the journal, or tell from the slots where the device stands, and take up what was being done."""
        whole = self.journal.load()
        if whole:
            self.journal.recovered = outdated(self.record, self.slots)
        if not whole or self.journal.recovered:
            self.journal.record, found = from_slots(self.slots)
            sentence = f"{self.journal.recovered or 'there is no journal'}; {found}"
            if self.journal.recovered or found:
                self.tools.say("journal_recovered", component=self.component, sentence=sentence)
                self.sentence = sentence
                self._keep_recovered(sentence)
        self.pending = RESUME[self.state]
        if self.state is not State.IDLE:
            self.tools.say("resumed", component=self.component, state=self.record.state)
        self.look_at_slots()
        with suppress(TidegateError, OSError):  # on a disk that cannot be written they stay condemned all the same
            self.slots.marks.stamp(self.tools.plans.high_water_s)

    def dues(self) -> Iterator[float]:
        """Give the moments (boot_s) at which there is something to do again."""
        if self.pending:
            yield self.due_s
        if self.state is State.READY and self.ask_at_s is not None:
            yield self.ask_at_s
        if self.state is State.IDLE and self.damaged:
            yield self.mend_at_s
        if self.state is State.IDLE and self.retry_at_s > self.tools.clock.boot_s():
            yield self.retry_at_s

    def look_at_slots(self) -> None:
        """Notice what a failing disk did to releases: never confirm it, and never use what can be had again."""
        slots, digest = self.slots, self.record.digest
        current, good = guard.slot_of(slots.directory, "current"), guard.slot_of(slots.directory, "good")
        self.found, self.damaged = "", []
        for slot in slots.pointed():
            if wrong := slots.broken(slot):
                self.damaged.append(slot)
                self.found = f"{'what runs' if slot == current else 'the last known good'} ({slot}) is damaged: {wrong}"
                self.tools.say("damaged", component=self.component, sentence=self.found)
        name = slot_name(digest) if digest else None
        if digest is None or not (wrong := slots.broken(name)):
            return
        if name == current and self.state in UNCONFIRMED:
            note = f"its files are damaged on this device: {wrong}"
            self.tell(Event.SICK, kind=Outcome.REVERTED.value, note=note, probes=(), withdrawn=True)
        elif name not in (current, good):
            slots.drop(digest)
            note = f"the fetched candidate was damaged here, and is fetched again: {wrong}"
            self.tools.say("damaged", component=self.component, sentence=note)
            if self.state is State.READY:
                self.tell(Event.UNFIT, note=note)

    def _keep_recovered(self, sentence: str) -> None:
        try:
            self.journal.write(note=readable(sentence))
        except (DiskFull, OSError) as error:  # the slots say the same at the next start
            self.tools.say("journal_unwritten", component=self.component, sentence=str(error))

    def tell(self, event: Event, **changes: Any) -> None:
        """Make what has happened durable, and take up what the table says is next.

        Raises:
            DiskFull: it could not be written: nothing has changed, and the effect is done again. Going back is the
                exception: it goes on unwritten, since the disk may be full because of the candidate.
        """
        before = self.state
        after, effects = step(before, event)
        if after is before:
            return
        if "note" in changes:
            changes["note"] = readable(changes["note"])
        if after in UNCONFIRMED and before not in UNCONFIRMED:
            changes["changed_boot"], changes["changed_s"] = stamp(self.tools.clock)
        try:
            self.journal.write(state=after.name, **changes)
        except (DiskFull, OSError) as error:
            if after is not State.REVERTING:
                raise
            self.journal.go_on_unwritten(state=after.name, **changes)
            self.tools.say("journal_unwritten", component=self.component, sentence=str(error))
        self.pending, self.due_s, self.soak, self.mending = effects, 0.0, None, None
        self.backoff.reset()
        self.tools.say(
            "state",
            component=self.component,
            state=after.name,
            was=before.name,
            because=event.name,
            rollout=self.record.rollout,
            candidate=(self.record.digest or "")[:16],
            note=self.record.note or None,
        )
        self._changed()

    def run(self) -> None:
        """Do what is due; what fails for a reason outside is tried again later, which every effect allows."""
        clock = self.tools.clock
        while self.pending and clock.boot_s() >= self.due_s:
            try:
                result = self._effects[self.pending[0]](self, self.tools)
                if isinstance(result, Happened):
                    self.tell(result.event, **result.changes)
                    continue
            except Exception as error:  # one component's fault must not stop the others, nor the watch over a soak
                sentence = str(error) if isinstance(error, TidegateError | OSError) else f"fault: {error!r}"
                result = Wait(self.backoff.next_s(), sentence)
                self.tools.say("again_later", component=self.component, state=self.record.state, sentence=sentence)
            if result is None:
                self.pending = self.pending[1:]
                continue
            self.due_s = clock.boot_s() + result.seconds
            self.sentence = result.sentence or self.sentence
            return  # also after a wait of no time: the others have their turn first
