"""What a device condemned: marks that the guards and the agent make, and that a signed pardon alone lifts, once.

A mark is a file `condemned/<digest>`; both guards make it, and nobody takes it away. A pardon renames it to
`<digest>.pardoned-<when the pardon was issued>`: one step, so that a cut leaves it condemned or pardoned, and the same
pardon lifts nothing that is condemned later. A guard has no clock to trust, so the agent adds `after` to each mark: the
newest signed time that this device had seen. Only what was issued later can be about it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.agent import guard
from tidegate.core.errors import TidegateError
from tidegate.trust.durable import room_for, sync_dir

if TYPE_CHECKING:
    from tidegate.agent.machine import Machine
    from tidegate.agent.tools import Tools

_LIFTED = ".pardoned-"


class Marks:
    """The marks of one component's directory."""

    def __init__(self, component_dir: Path) -> None:
        self.component_dir = component_dir
        self.directory = component_dir / "condemned"

    def has(self, digest: str) -> bool:
        """Whether a digest is condemned; a guard that knows no more names it by its slot."""
        return any(path.exists() for path in self._paths(digest))

    def make(self, digest: str, reason: str, after: int) -> None:
        """Condemn a digest, or say of a guard's mark after which signed time it was made. Raises DiskFull."""
        with room_for("the mark of a condemned release"):
            if not self.has(digest):
                guard.condemn(self.component_dir, digest, reason)
            self.stamp(after, self._paths(digest))

    def stamp(self, after: int, paths: Iterable[Path] | None = None) -> None:
        """Give an `after` to the marks that have none: those of a guard, and damaged ones."""
        for path in sorted(self.directory.glob("*")) if paths is None else paths:
            if _LIFTED not in path.name and path.is_file() and _after(path) is None:
                guard.write(path, {**(guard.read(path) or {"digest": path.name}), "after": after})

    def lift(self, digest: str, issued: int) -> str:
        """Let a digest be tried again.

        Args:
            digest: the release's.
            issued: when the pardon was issued.

        Returns:
            Why this pardon does not lift the mark, as a sentence; nothing if it did.
        """
        whole, short = self._paths(digest)
        if issued <= max(self._lifted(digest), default=0):
            return "its pardon has been used already, and it was taken back again"
        times = [_after(path) for path in (whole, short) if path.exists()]
        if any(after is None or issued <= after for after in times):
            return "its pardon was issued before it was taken back here"
        if short.exists():
            short.unlink() if whole.exists() else short.replace(whole)
            sync_dir(self.directory)
        whole.replace(whole.with_name(f"{digest}{_LIFTED}{issued}"))
        sync_dir(self.directory)
        return ""

    def _paths(self, digest: str) -> tuple[Path, Path]:
        return self.directory / digest, self.directory / digest[:16]

    def _lifted(self, digest: str) -> list[int]:
        numbers = (path.name.rpartition("-")[2] for path in self.directory.glob(f"{digest}{_LIFTED}*"))
        return [int(number) for number in numbers if number.isdecimal()]


def _after(path: Path) -> int | None:
    value = (guard.read(path) or {}).get("after")
    return value if type(value) is int else None


def condemned_here(machine: Machine, tools: Tools, digest: str) -> str:
    """Say that a digest is condemned, and why no pardon lifts that; nothing if it may be tried.

    While one is condemned that the plan names, each reading of the plan asks for a pardon as well.
    """
    marks = machine.slots.marks
    if not marks.has(digest):
        return ""
    tools.plans.seek_pardon(machine.component)
    sentence = f"{digest[:16]} was taken back here and is never tried again without a signed pardon"
    pardon = tools.plans.pardon(machine.component)
    if pardon is None or not pardon.names(digest):
        return sentence
    try:
        if wrong := marks.lift(digest, pardon.issued):
            return f"{sentence}; {wrong}"
    except (TidegateError, OSError) as error:
        return f"{sentence}; it is pardoned, which cannot be written yet: {error}"
    tools.say("pardoned", component=machine.component, candidate=digest[:16], sentence=pardon.sentence)
    return ""
