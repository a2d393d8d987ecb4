"""The recovery queue while people work: what is open, given, done or cannot be done; planned again as reports come."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from tidegate.contingency.book import Entry
from tidegate.contingency.case import Batch, Case
from tidegate.contingency.replan import remaining
from tidegate.contingency.schedule import Schedule, plan_recovery
from tidegate.core.errors import BadInput, NotFound, Refused

OPENED, GIVEN, DONE, CANT, AGAIN, KEY = (
    "recovery_opened",
    "recovery_given",
    "recovery_done",
    "recovery_cant",
    "recovery_again",
    "recovery_key_shown",
)
Json = dict[str, Any]


@dataclass(slots=True)
class Item:
    """One device that is not simply open: who has it, since when, how it ended."""

    state: str
    technician: str = ""
    at_h: float = 0.0
    planned_h: float = 0.0
    why: str = ""


@dataclass(slots=True)
class Queue:
    """A case being worked off. Items are numbered from 1, batch after batch."""

    name: str
    case: Case
    began_ms: int
    items: dict[int, Item] = field(default_factory=lambda: {})
    keys_shown: dict[int, Json] = field(default_factory=lambda: {})
    version: int = 0
    _first: list[int] = field(default_factory=lambda: [])
    _plan: tuple[int, float, Schedule] | None = None

    def __post_init__(self) -> None:
        """Number the items."""
        at = 1
        for batch in self.case.batches:
            self._first.append(at)
            at += batch.count

    @property
    def size(self) -> int:
        """How many items there are."""
        return self.case.devices

    def batch_of(self, item: int) -> int:
        """Give the batch of an item. Raises NotFound."""
        if not 1 <= item <= self.size:
            raise NotFound(f"there is no item {item}: they go from 1 to {self.size:,}")
        return bisect.bisect_right(self._first, item) - 1

    def label(self, item: int) -> str:
        """Call an item as people do."""
        batch = self.case.batches[self.batch_of(item)]
        name = batch.name or f"{batch.service} at {batch.site}"
        number = item - self._first[self.batch_of(item)] + 1
        return name if batch.count == 1 else f"{name} ({number} of {batch.count})"

    def hour(self, at_ms: int) -> float:
        """Give a moment as hours since the queue began."""
        return (at_ms - self.began_ms) / 3_600_000

    def take(self, entry: Entry) -> None:
        """Fold one line of the book."""
        body, at_h = entry.body, self.hour(entry.at_ms)
        self.version = entry.seq
        item = body.get("item")
        if item is None or not 1 <= item <= self.size:
            return
        if entry.what == GIVEN:
            self.items[item] = Item("given", body["technician"], at_h, body.get("planned_h", 0.0))
        elif entry.what == DONE:
            old = self.items.get(item)
            planned, began = (old.planned_h, old.at_h) if old and old.state == "given" else (0.0, at_h)
            self.items[item] = Item("done", body["technician"], at_h, planned, why=f"{at_h - began:.6f}")
        elif entry.what == CANT:
            self.items[item] = Item("cant", body["technician"], at_h, why=body["why"])
        elif entry.what == AGAIN:
            self.items.pop(item, None)
        elif entry.what == KEY:
            self.keys_shown[item] = {"who": entry.who, "at_ms": entry.at_ms}

    def count(self, state: str) -> int:
        """Count the items of a state other than open."""
        return sum(one.state == state for one in self.items.values())

    def has(self, technician: str) -> int | None:
        """Give the item that a technician has in hand."""
        return next((i for i, one in self.items.items() if one.state == "given" and one.technician == technician), None)

    def schedule(self, now_h: float) -> Schedule:
        """Plan what is left from where everybody is: the same until something is reported, or a minute passes."""
        if self._plan and self._plan[0] == self.version and abs(self._plan[1] - now_h) < 1 / 60:
            return self._plan[2]
        done, gone = Counter[int](), Counter[int]()
        where = {t.name: (t.site, max(t.arrives_h, now_h)) for t in self.case.technicians}
        for item, one in sorted(self.items.items(), key=lambda pair: pair[1].at_h):
            at = self.batch_of(item)
            (gone if one.state == "cant" else done)[at] += 1
            if one.technician in where:
                busy = one.at_h + one.planned_h if one.state == "given" else one.at_h
                where[one.technician] = (self.case.batches[at].site, max(busy, now_h))
        people = tuple(replace(t, site=where[t.name][0], arrives_h=where[t.name][1]) for t in self.case.technicians)
        made = plan_recovery(remaining(self.case, done, gone, people), bound=False)
        self._plan = (self.version, now_h, made)
        return made

    def open_items(self, batch: int) -> Iterable[int]:
        """Give the open items of a batch."""
        first = self._first[batch]
        return (i for i in range(first, first + self.case.batches[batch].count) if i not in self.items)

    def next_for(self, technician: str, now_h: float) -> tuple[int, float] | None:
        """Give the item that a technician is to take next, and how long it should take with the way, in hours.

        Raises:
            NotFound: for somebody who is none of the case's technicians.
        """
        self.check_name(technician)
        made = self.schedule(now_h)
        at = next(i for i, t in enumerate(self.case.technicians) if t.name == technician)
        one = next((a for a in made.assignments if a.technician == at), None)
        item = next(iter(self.open_items(one.batch)), None) if one else None
        return None if one is None or item is None else (item, one.travel_h + one.end_h - one.start_h)

    def check_name(self, technician: str) -> None:
        """Demand a technician of the case. Raises NotFound."""
        if technician not in {t.name for t in self.case.technicians}:
            few = ", ".join(t.name for t in self.case.technicians[:8])
            raise NotFound(f"there is no technician {technician!r}; there are {few} ...")

    def check_open(self, item: int) -> Batch:
        """Demand an item that is not done. Raises NotFound and Refused."""
        batch = self.case.batches[self.batch_of(item)]
        one = self.items.get(item)
        if one is not None and one.state == "done":
            raise Refused(f"item {item} was done by {one.technician}")
        return batch

    def services(self) -> dict[str, Json]:
        """Give for each service how many devices are done, how many it needs, and whether it is back."""
        done = Counter[str]()
        for item, one in self.items.items():
            done[self.case.batches[self.batch_of(item)].service] += one.state == "done"
        found: dict[str, Json] = {}
        for name in self.case.order:
            service = self.case.services[name]
            below = all(found[b]["back"] for b in service.depends_on)
            found[name] = {"done": done[name], "needs": service.needs, "back": below and done[name] >= service.needs}
        return {name: found[name] for name in self.case.services}


def fold_queue(name: str, case: Case, entries: Iterable[Entry]) -> Queue:
    """Give a queue as its book says it stands. Raises BadInput for a book that does not begin with its opening."""
    queue: Queue | None = None
    for entry in entries:
        if entry.what == OPENED:
            queue = Queue(name, case, entry.at_ms)
        elif queue is not None:
            queue.take(entry)
    if queue is None:
        raise BadInput(f"the book of {name} has no beginning")
    return queue
