"""What can go wrong with trust besides a plain refusal: the line, the clock and the disk."""

from __future__ import annotations

from tidegate.core.errors import Refused, TidegateError, Untrusted


class Unreachable(TidegateError):
    """A file could not be fetched: nothing is known to be wrong; ask again later."""


class ClockWrong(Untrusted):
    """This machine's clock lies before a time that was signed: nothing advances until it is set right."""


class DiskFull(Refused):
    """There is no room for what had to be written; what was there before is untouched."""
