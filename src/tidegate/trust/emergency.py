"""The emergency stop: one file, signed offline by release keys, that any mirror can serve and no server is needed for.

To stop takes as many keys as to release: whoever may release may also take back. How it is signed: `holders.py`.
"""

# The libraries re-export these public names without saying so.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from securesystemslib.signer import Signer
from tuf.api.metadata import Targets

from tidegate.core.model import check_digest, check_name
from tidegate.trust.holders import STATEMENT_LIMIT, Kind

ALL = "all"
STOP_LIMIT = STATEMENT_LIMIT


@dataclass(frozen=True, slots=True)
class Stop:
    """What of a component is stopped: digests of manifests, or `all`; empty lifts. The newest `issued` counts."""

    component: str
    stopped: tuple[str, ...]
    issued: int
    reason: str = ""
    v: int = 1

    def __post_init__(self) -> None:
        check_name("component", self.component)
        if self.v != 1:
            raise ValueError(f"stop version {self.v} is not known; update the agent")
        if len(self.reason) > 500 or len(self.stopped) > 200:
            raise ValueError("a stop has at most 500 characters of reason and 200 digests")
        if self.stopped != (ALL,):
            for digest in self.stopped:
                check_digest("stopped", digest)

    def names(self, digest: str) -> bool:
        """Say whether a release is stopped."""
        return digest in self.stopped or ALL in self.stopped

    @property
    def sentence(self) -> str:
        """Say it for people."""
        return "stopped by the release holders" + (f": {self.reason}" if self.reason else "")


STOP = Kind(Stop, "tidegate/emergency-stop/v1", "emergency stop", "tidegate emergency stop")


def sign_stop(stop: Stop, signers: Iterable[Signer], before: bytes = b"") -> bytes:
    """Sign a stop, or add signatures to one that others have signed; see `Kind.sign`."""
    return STOP.sign(stop, signers, before)


def read_stop(data: bytes) -> Stop:
    """Read a stop; nothing is verified. Raises BadInput."""
    return STOP.read(data)


def verify_stop(data: bytes, component: str, trunk: Targets) -> Stop:
    """Read a stop that enough release keys of its component have signed; see `Kind.verify`."""
    return STOP.verify(data, component, trunk)
