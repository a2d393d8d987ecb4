"""What the device was doing, one file for each component, on disk before it is done."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tidegate.core.device import State
from tidegate.core.errors import BadInput
from tidegate.core.model import Candidate, check_digest
from tidegate.core.wire import canonical, plain, read
from tidegate.trust.durable import write_durably

Moment = tuple[str, float]
"""(boot_id, boot_s): see clock.stamp."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The server's word that this device may act, as it was granted; `granted` is when the answer came."""

    lease_id: str
    arm: str
    ring: int
    ttl_s: float
    observe_s: float
    granted_boot: str
    granted_s: float

    @property
    def granted(self) -> Moment:
        return self.granted_boot, self.granted_s


@dataclass(frozen=True, slots=True)
class Record:
    """Everything that a restart must know. `state` is a name of core.device.State."""

    state: str = "IDLE"
    rollout: str = ""
    plan_version: int = 0
    candidate: Candidate | None = None
    lease: Lease | None = None
    attempt: int = 0
    report_seq: int = 0
    kind: str = ""
    """The outcome to report, once it is known: confirmed or reverted."""
    note: str = ""
    probes: tuple[dict[str, Any], ...] = ()
    changed_boot: str = ""
    changed_s: float = 0.0
    """When this component last took a release (boot_id, boot_s), for the dwell of the next."""
    refused: str = ""
    """The rollout that, as the server said, has nothing for this device, now or later."""
    withdrawn: bool = False
    """The lease ended because the rollout did, not because this device was harmed: the digest is not condemned."""
    generation: int = 0

    def __post_init__(self) -> None:
        if self.state not in State.__members__:
            raise ValueError(f"state {self.state!r} is not known")

    @property
    def at(self) -> State:
        return State[self.state]

    @property
    def digest(self) -> str | None:
        return self.candidate.sha256 if self.candidate else None


class Journal:
    """One component's journal file. `recovered` says what was found wrong with it, if anything."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recovered = ""
        self.record = Record()

    def load(self) -> bool:
        """Read the journal.

        Returns:
            False if there is none, or a damaged one (`recovered` says how, and a copy is kept as `journal.damaged`):
            what was being done must then be told from the slots, and written anew.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return False
        except OSError as error:
            self.recovered = f"the journal cannot be read ({error.strerror})"
            return False
        try:
            self.record = _open(data)
        except BadInput as error:
            self.recovered = f"the journal was damaged ({error}); a copy is kept as journal.damaged"
            with suppress(OSError):
                self.path.with_name("journal.damaged").write_bytes(data)
            return False
        return True

    def write(self, **changes: Any) -> Record:
        """Make a change durable, and only then known. Raises DiskFull; the old record stands then."""
        record = replace(self.record, generation=self.record.generation + 1, **changes)
        body = plain(record)
        sealed = {"record": body, "sha256": hashlib.sha256(canonical(body)).hexdigest(), "v": 1}
        write_durably(self.path, canonical(sealed), mode=0o600)
        self.record = record
        return record

    def go_on_unwritten(self, **changes: Any) -> None:
        """Change the record in memory alone, where waiting for room on the disk would do harm."""
        self.record = replace(self.record, **changes)


def _open(data: bytes) -> Record:
    what = "journal"
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{what} is not JSON: {len(data)} bytes") from error
    if not isinstance(value, dict) or value.get("v") != 1:
        raise BadInput(f"{what} has no known version")
    body = value.get("record")
    if hashlib.sha256(canonical(body)).hexdigest() != value.get("sha256"):
        raise BadInput(f"{what} does not have the checksum it was written with")
    record = read(Record, body, what)
    if record.candidate:
        check_digest("candidate", record.candidate.sha256)
    return record
