"""What time it must be at least: the latest signed time, and what has passed since by a clock that nobody can set."""

from __future__ import annotations

from collections.abc import Callable

from tidegate.core.speed import CLOCK_TOLERANCE_S
from tidegate.trust.errors import ClockWrong


class SignedTime:
    """The wall clock, held against what was signed. A clock that stands still or jumps back is noticed as it runs on.

    Args:
        wall: gives unix seconds; anyone may have set it to anything.
        passed: gives seconds from any beginning, time asleep included, that only ever grow; None: nothing is known
            to pass, and the signed times alone count.
    """

    def __init__(self, wall: Callable[[], int], passed: Callable[[], float] | None = None) -> None:
        self.wall = wall
        self._passed = passed or (lambda: 0.0)
        self._signed_s, self._seen_s = 0, 0.0

    def saw(self, signed_s: int) -> None:
        """Take in a time that was signed, and so lies in the past (unix seconds)."""
        if signed_s > self.least_s:
            self._signed_s, self._seen_s = signed_s, self._passed()

    def forget(self) -> None:
        """Drop what was signed by keys that count no more."""
        self._signed_s = 0

    @property
    def least_s(self) -> int:
        """The unix second that it must be at least; 0 if no signed time was ever seen."""
        return self._signed_s + int(self._passed() - self._seen_s) if self._signed_s else 0

    def now(self) -> int:
        """Give the unix second that counts: the wall clock, or what it must be at least if that is later.

        Raises:
            ClockWrong: if the wall clock lies further behind than is put down to imprecision.
        """
        wall_s, least_s = self.wall(), self.least_s
        if wall_s < least_s - CLOCK_TOLERANCE_S:
            raise ClockWrong(
                f"this machine's clock is {least_s - wall_s} s behind a time that was signed; set it right, "
                "nothing advances until then"
            )
        return max(wall_s, least_s)
