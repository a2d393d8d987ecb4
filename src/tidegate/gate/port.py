"""What a check of the gate is, and what it says: results, findings, and where each of them points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol

from tidegate.core.errors import BadInput

if TYPE_CHECKING:
    from tidegate.gate.trial import Trial

GROUP = "tidegate.checks"
PASSED, WARNED, FAILED, SKIPPED = "PASSED", "WARNED", "FAILED", "SKIPPED"
MOST_FINDINGS = 50
_PARTS = ("name", "question", "order", "needs", "alone", "inputs", "run")
Say = Callable[[float, str], None]
"""How far a check has come (0 to 1), and at what it is."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check saw. `file` and `line` are in the payload; `sample` is what it was tried on.

    `grave` findings fail the release; others are a warning, or with `note` only worth knowing. `quote` is what stands
    in that line; the pipeline fills it in.
    """

    sentence: str
    file: str = ""
    line: int = 0
    rule: str = ""
    sample: str = ""
    grave: bool = True
    note: bool = False
    quote: str = ""

    @property
    def place(self) -> str:
        """Where to look, as `file:line`."""
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Result:
    """What one check says: its result follows from its findings, unless it had to be left out, with a reason."""

    check: str
    findings: tuple[Finding, ...] = ()
    figures: dict[str, Any] = field(default_factory=lambda: {})
    skipped: str = ""
    started_s: float = 0.0
    took_s: float = 0.0
    reused: bool = False
    blocks: bool = True
    """Whether those that need this check have no meaning if it failed."""
    seen_s: float = 0.0
    """Of a reused answer: when it was found, in seconds since 1970."""

    @property
    def result(self) -> str:
        """PASSED, WARNED, FAILED or SKIPPED."""
        if self.skipped:
            return SKIPPED
        if any(finding.grave and not finding.note for finding in self.findings):
            return FAILED
        return WARNED if any(not finding.note for finding in self.findings) else PASSED


@dataclass(slots=True)
class Seen:
    """What a check gathers while it runs."""

    findings: list[Finding] = field(default_factory=lambda: [])
    figures: dict[str, Any] = field(default_factory=lambda: {})
    skipped: str = ""
    blocks: bool = True

    def fail(self, sentence: str, **where: Any) -> None:
        """Add what fails the release."""
        self.findings.append(Finding(sentence, **where))

    def warn(self, sentence: str, **where: Any) -> None:
        """Add a warning."""
        self.findings.append(Finding(sentence, grave=False, **where))

    def note(self, sentence: str, **where: Any) -> None:
        """Add what is only worth knowing."""
        self.findings.append(Finding(sentence, grave=False, note=True, **where))


class Check(Protocol):
    """One question to a release. A plug-in: entry point group `tidegate.checks`, one class without arguments."""

    name: str
    question: str
    """What it answers, for people."""
    order: int
    """Checks with a lower number stand earlier in the report."""
    needs: tuple[str, ...]
    """Checks that must not have failed for this one to have a meaning. With `beside`, a tuple of some of them, it need
    not wait for those: what it says is left out if one of them fails."""
    alone: bool
    """Whether nothing else may run beside it, because it measures."""

    def inputs(self, trial: Trial) -> Any:
        """Give what the answer depends on, as plain JSON: the same inputs give the same answer, which is reused.

        None: it is never reused.
        """
        ...

    def run(self, trial: Trial, seen: Seen, say: Say) -> None:
        """Look, and put what is found into `seen`. Raises TidegateError if it cannot look at all."""
        ...


def load_checks() -> list[Check]:
    """Make all checks that are installed, in the order of the report.

    Raises:
        BadInput: a check cannot be loaded, or bears the name of another one, which would then be silently left out.
    """
    found: dict[str, tuple[Check, str]] = {}
    for entry in entry_points(group=GROUP):
        origin = f"{entry.value} of {entry.dist.name if entry.dist else 'an unknown package'}"
        try:
            check: Check = entry.load()()
            lacking = [name for name in _PARTS if not hasattr(check, name)]
        except Exception as error:
            raise BadInput(f"the check {origin} cannot be loaded: {type(error).__name__}: {error}") from None
        if lacking:
            raise BadInput(f"the check {origin} lacks {', '.join(lacking)}")
        if check.name in found:
            raise BadInput(f"two checks are called {check.name}: {found[check.name][1]} and {origin}; uninstall one")
        found[check.name] = (check, origin)
    return sorted((check for check, _ in found.values()), key=lambda check: (check.order, check.name))


def choose(checks: list[Check], only: list[str], without: list[str]) -> list[Check]:
    """Choose checks by name. Raises BadInput naming those that there are."""
    known = [check.name for check in checks]
    for name in (*only, *without):
        if name not in known:
            raise BadInput(f"there is no check {name!r}; there are {', '.join(known)}")
    return [check for check in checks if (not only or check.name in only) and check.name not in without]
