"""The interpreters that give content its meaning on devices, as the gate runs them; one file for each kind beside."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tidegate.gate.jobs import Job, Limits, Ran
from tidegate.gate.sandbox import Sandbox

PAYLOAD = "/payload"
ENOUGH, MOST_DEATHS = 3, 5
VARIANTS = "/variants"


@dataclass(frozen=True, slots=True)
class Loaded:
    """How content was taken: `refused` in good order with a reason and its place, or `crashed`. `items`: rules, records
    or signatures; `names` are (content file, item)."""

    ok: bool
    crashed: bool = False
    sentence: str = ""
    file: str = ""
    line: int = 0
    items: int = 0
    names: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    cpu_s: float = 0.0
    peak_mb: float = 0.0


@dataclass(frozen=True, slots=True)
class Match:
    """One detection: of which file, by which item of which content file (empty where the interpreter does not say)."""

    sample: str
    rule: str
    file: str = ""


@dataclass(frozen=True, slots=True)
class Scanned:
    """What a scan found. `trouble` are (sample, sentence): where the interpreter died, hung or gave up."""

    loaded: Loaded
    matches: tuple[Match, ...] = ()
    trouble: tuple[tuple[str, str], ...] = ()
    bytes: int = 0
    cpu_s: float = 0.0
    peak_mb: float = 0.0


@dataclass(slots=True)
class Patience:
    """How long one file may take in a trial: as long as on a device, until so many took longer that nothing is left to
    find out; what is looked at then is given less."""

    over: int = 0

    @property
    def lost(self) -> bool:
        """Whether it is sure that content explodes."""
        return self.over >= ENOUGH

    @property
    def most_deaths(self) -> int:
        """After so many files that kill the interpreter, the rest of a part is not looked at any more."""
        return 2 if self.lost else MOST_DEATHS

    def bound_s(self, usual_s: int) -> int:
        """Give the CPU seconds that the next file may take."""
        return max(usual_s // 5, 1) if self.lost else usual_s

    def why(self, bound_s: int, usual_s: int) -> str:
        """Say of a file that it used up its bound, and count it."""
        self.over += 1
        if bound_s < usual_s:
            return f"used more than {bound_s} s of CPU, all that it was given after others that took {usual_s} s"
        return f"used more than {bound_s} s of CPU and was ended, as it would be on a device"


@dataclass(frozen=True, slots=True)
class Runner:
    """The sandbox, and how many jobs may run in it at the same time."""

    sandbox: Sandbox
    limits: Limits
    file_cpu_s: int = 10
    slots: int = 1
    gate: threading.Semaphore = field(default_factory=threading.Semaphore)

    waits: threading.Semaphore = field(default_factory=threading.Semaphore)
    patience: Patience = field(default_factory=Patience)

    def run(self, job: Job, heard: Callable[[bytes], None] | None = None, *, patient: bool = False) -> Ran:
        """Run a job when there is a core for it; `patient`: it waits for the clock more than it computes, and has a
        place of its own beside those that compute."""
        with self.waits if patient else self.gate:
            return self.sandbox.run(job, heard)


Files = Sequence[tuple[str, int]]
"""Paths inside the sandbox, with their bytes."""
Places = Sequence[tuple[Path, str]]
Heard = Callable[[int], None]
"""Told the number of files that have been looked at."""


class Interpreter(Protocol):
    """One version of one interpreter."""

    @property
    def kind(self) -> str:
        """Its kind: yara-x, clamav, command."""
        ...

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    @property
    def separable(self) -> bool:
        """Whether each content file means the same alone as among others, so that unchanged ones need no new trial."""
        ...

    def version(self) -> str:
        """Give its version. Raises Refused if it is not to be had."""
        ...

    def fingerprint(self) -> Any:
        """Give, as plain JSON, what tells this interpreter from every other, also from one of the same version."""
        ...

    def content_files(self, payload: Path) -> list[str]:
        """Give the payload's files that it interprets, relative to it."""
        ...

    def load(self, payload: Path, within_s: int = 0) -> Loaded:
        """Let it take content; `within_s`: in at most so many seconds of CPU, and not many more by the clock."""
        ...

    def scan(
        self,
        payload: Path,
        files: Files,
        places: Places,
        heard: Heard | None = None,
        *,
        compiled: bool = False,
        each_s: int = 0,
    ) -> Scanned:
        """Let it take content and look at files; what it dies of is said, and the rest is looked at all the same.

        `compiled`: it may take the content as it was compiled before, where that is at hand; not to measure it.
        `each_s`: CPU seconds that a file may take, where that is another bound than the settings'.
        """
        ...

    def attempt(self, variants: Path, names: Sequence[str], each_s: int) -> dict[str, Loaded]:
        """Let it take each of several contents: directories of these names."""
        ...

    def fields(self) -> dict[str, int]:
        """Give how many fields of each content type it supplies, where it says so."""
        ...


def split_place(said: str) -> tuple[str, int, str]:
    """Take `file:line: text` apart; an empty file and line 0 where it is none."""
    head, colon, rest = said.partition(":")
    number, colon2, text = rest.partition(":")
    if colon and colon2 and number.isdecimal():
        return head.removeprefix(f"{PAYLOAD}/"), int(number), text.strip()
    return "", 0, said
