"""The pardon: release holders let devices try a release again that was taken back there.

A device condemns a digest when the release harmed it, and nothing but this makes it forget: no plan, no restart, no
server. It is signed offline, as the emergency stop is (`holders.py`), and counts once: only what was condemned
before it was issued, so that the same file, served again, lifts nothing that comes later.
"""

from __future__ import annotations

from dataclasses import dataclass

from tidegate.core.model import check_digest, check_name
from tidegate.trust.holders import Kind


@dataclass(frozen=True, slots=True)
class Pardon:
    """Digests of manifests that devices may try again, if they were condemned before `issued` (unix seconds)."""

    component: str
    pardoned: tuple[str, ...]
    issued: int
    reason: str = ""
    v: int = 1

    def __post_init__(self) -> None:
        check_name("component", self.component)
        if self.v != 1:
            raise ValueError(f"pardon version {self.v} is not known; update the agent")
        if not 0 < self.issued < 1 << 40:
            raise ValueError("issued must be a time in unix seconds")
        if len(self.reason) > 500 or not 0 < len(self.pardoned) <= 200:
            raise ValueError("a pardon has at most 500 characters of reason and 1 to 200 digests")
        for digest in self.pardoned:  # each by name: what nobody has looked at is not pardoned
            check_digest("pardoned", digest)

    def names(self, digest: str) -> bool:
        """Say whether a release is pardoned."""
        return digest in self.pardoned

    @property
    def sentence(self) -> str:
        """Say it for people."""
        return "pardoned by the release holders" + (f": {self.reason}" if self.reason else "")


PARDON = Kind(Pardon, "tidegate/pardon/v1", "pardon", "tidegate emergency pardon")
