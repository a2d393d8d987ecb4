"""Every cut of every way: listed from a recorded run, done one by one, and checked."""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from . import checks, trace
from .stage import Stage, Way, guard_command
from .trace import Fault

ERRORS = ("ENOSPC", "EIO", "EROFS")
UNFAILING = ("unlink", "unlinkat", "rmdir")
"""Calls for which no room is no answer that a file system gives."""
FAULT_WITHIN_S = 2.5
RUNS_TRIED = 3
"""A run that ends before its cut is done anew: on a busy machine a request may fail, and the agent asks later."""


@dataclass(frozen=True, slots=True)
class Cut:
    """One cut of one way. `site` is the file, without the digits of this run, for people."""

    way: str
    fault: Fault
    site: str

    def __str__(self) -> str:
        return f"{self.way}: {self.fault} ({self.site})"


@dataclass(slots=True)
class Tally:
    """What came of the cuts: how many of each way and kind, the failures, and the seconds."""

    done: Counter[tuple[str, str]]
    outcomes: Counter[tuple[str, str]]
    failures: list[str]
    seconds: float = 0.0


def cuts_of(stage: Stage, way: Way, home: Path) -> list[Cut]:
    """Record one run, and give a cut by death at every call that changes the home, and each error at each of them."""
    stage.begin(way, home)
    ran = stage.send(way, home, record=True)
    assert ran.code == 0, f"{way.name} fails without any fault: {ran.said}"
    stage.said[way.name] = ran.said
    calls = [call for call in ran.calls if call.main and call.changes(home)]
    found: list[Cut] = []
    for call in calls:
        site = site_of(call.text, home)
        found.append(Cut(way.name, Fault(call.name, call.nth), site))
        for error in ERRORS:
            if not (error == "ENOSPC" and call.name in UNFAILING):
                found.append(Cut(way.name, Fault(call.name, call.nth, error), site))
                found.append(Cut(way.name, Fault(call.name, call.nth, error, ever=True), site))
    return found


def every_cut(stage: Stage, home: Path) -> list[Cut]:
    return [cut for way in stage.ways.values() for cut in cuts_of(stage, way, home)]


def kills(cuts: Iterable[Cut]) -> list[Cut]:
    return [cut for cut in cuts if cut.fault.what == "KILL"]


def sample(cuts: list[Cut], count: int, seed: int) -> list[Cut]:
    """Draw some, spread over ways and kinds of fault as they are."""
    return sorted(random.Random(seed).sample(cuts, min(count, len(cuts))), key=str)


def do(stage: Stage, cut: Cut, home: Path) -> str:
    """Do one cut, start the device again, and check both moments.

    Raises:
        AssertionError: saying which cut, and what does not hold.
    """
    way = stage.ways[cut.way]
    killed = cut.fault.what == "KILL"
    ran = _cut_off(stage, way, cut.fault, home) if killed else _refused(stage, way, cut.fault, home)
    try:
        if killed:
            assert ran.code not in (0, 1, None), f"it was not killed ({ran.code})"
        checks.at_the_cut(stage, way, home)
        again(stage, way, home)
        return checks.afterwards(stage, way, home, faults=not killed)
    except Exception as error:
        after = (stage.aside / "revived.log").read_text()
        raise AssertionError(f"{cut}: {error}\n{ran.said[-1500:]}\nand then:\n{after[-1500:]}") from error


def _cut_off(stage: Stage, way: Way, fault: Fault, home: Path) -> trace.Ran:
    for _ in range(RUNS_TRIED - 1):
        ran = _refused(stage, way, fault, home, 20.0)
        if ran.code not in (0, 1, None):
            return ran
    return _refused(stage, way, fault, home, 20.0)


def _refused(stage: Stage, way: Way, fault: Fault, home: Path, within_s: float = FAULT_WITHIN_S) -> trace.Ran:
    stage.begin(way, home)
    return stage.send(way, home, fault, within_s=within_s)


def again(stage: Stage, way: Way, home: Path) -> None:
    """Start the device again without any fault; where the guard was cut, the component first."""
    if way.name == "guard":
        assert trace.run(guard_command(home), stage.aside).code == 0
    stage.revive(home, reported=True)


def do_all(stage: Stage, cuts: list[Cut], home: Path) -> Tally:
    """Do them all, and keep going after a failure."""
    tally = Tally(Counter(), Counter(), [])
    began = time.monotonic()
    for cut in cuts:
        kind = f"{cut.fault.what}{' from then on' if cut.fault.ever else ''}"
        tally.done[cut.way, kind] += 1
        try:
            tally.outcomes[cut.way, do(stage, cut, home)] += 1
        except AssertionError as error:
            tally.failures.append(str(error))
    tally.seconds = time.monotonic() - began
    return tally


def site_of(text: str, home: Path) -> str:
    """Name the file of a call, without the digits that differ from run to run."""
    match = re.search(re.escape(str(home)) + r"([^\">]*)", text)
    path = (match[1] if match else "").lstrip("/")
    return re.sub(r"\.[a-z0-9_]{8}\.tmp$", ".*.tmp", re.sub(r"[0-9a-f]{16,}", "*", path)) or "."
