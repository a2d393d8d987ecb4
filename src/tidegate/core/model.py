"""The words of the design as frozen values: devices, releases, budgets, plans, leases and their outcomes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum

from tidegate.core.assign import SHARE_ONE

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z")
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
MOST_DEVICES = 10_000_000_000
MOST_PLACEBO = 1000
PLAN_LIFETIME_LIMIT_S = 1800
"""A plan that lives longer would make 'letting the plan expire' a slow stop; devices refuse it."""


class Arm(str, Enum):
    """What a lease lets a device do."""

    TREATED = "treated"
    PLACEBO = "placebo"


class Outcome(str, Enum):
    """How a lease ends, as the device says it; silence is what is left after the observation time."""

    CONFIRMED = "confirmed"
    REVERTED = "reverted"


class PlanState(str, Enum):
    """What devices are told about a rollout."""

    OPEN = "open"
    HOLD = "hold"
    PAUSED = "paused"
    HALTED = "halted"
    CLOSED = "closed"


def check_name(what: str, value: str) -> None:
    """Refuse a name that could not stand in a path, a URL and a metric alike.

    Raises:
        ValueError: naming what it should be.
    """
    if not _NAME.match(value):
        raise ValueError(f"{what} must be 1 to 63 of a-z 0-9 . _ - and begin with a letter or digit, not {value!r}")


def check_digest(what: str, value: str) -> None:
    """Refuse what is no SHA-256 in hexadecimal. Raises ValueError."""
    if not _DIGEST.match(value):
        raise ValueError(f"{what} must be 64 hexadecimal digits (SHA-256), not {value!r}")


@dataclass(frozen=True, slots=True)
class SpeedLimit:
    """The fastest a release may ever spread, signed offline inside it; devices enforce it with what they know.

    `steps` are (seconds after logging, share in parts of 2**32), non-decreasing. `least_devices` of `fleet_devices`
    is the share that is allowed from the start whatever the steps say, so that a small fleet has a first device.
    """

    steps: tuple[tuple[int, int], ...]
    logged: int
    not_after: int
    ceiling_2p32: int = SHARE_ONE
    dwell_s: int = 0
    clock_slack_s: int = 120
    least_devices: int = 0
    fleet_devices: int = 1

    def __post_init__(self) -> None:
        if not self.steps:
            raise ValueError("a speed limit needs at least one step [seconds, share_2p32]")
        previous = (-1, 0)
        for step in self.steps:
            if step[0] <= previous[0] or step[1] < previous[1] or not 0 <= step[1] <= SHARE_ONE:
                raise ValueError(f"speed limit steps must rise in time and not fall in share (0 to 2**32), at {step}")
            previous = step
        if not 0 <= self.ceiling_2p32 <= SHARE_ONE:
            raise ValueError("ceiling_2p32 must be 0 to 2**32")
        if self.not_after <= self.logged:
            raise ValueError("not_after must be later than logged")
        if min(self.dwell_s, self.clock_slack_s, self.least_devices) < 0 or self.fleet_devices < 1:
            raise ValueError("dwell_s, clock_slack_s and least_devices must not be negative, fleet_devices at least 1")


@dataclass(frozen=True, slots=True)
class Probe:
    """One health probe: a command that must end with 0 in time. `{...}` is filled in from the device's settings."""

    name: str
    command: tuple[str, ...]
    timeout_s: int = 10

    def __post_init__(self) -> None:
        if not self.command:
            raise ValueError(f"probe {self.name!r} has no command")
        if self.timeout_s < 1:
            raise ValueError(f"probe {self.name!r}: timeout_s must be at least 1")


@dataclass(frozen=True, slots=True)
class Health:
    """When a device counts as healthy: every probe passes, again and again, through the whole soak.

    With `after_restart` what runs is then started anew, and every probe must pass once more.
    """

    soak_s: int
    interval_s: int = 1
    after_restart: bool = False
    probes: tuple[Probe, ...] = ()

    def __post_init__(self) -> None:
        if self.soak_s < 0 or self.interval_s < 1:
            raise ValueError("soak_s must not be negative and interval_s at least 1")


@dataclass(frozen=True, slots=True)
class Payload:
    """The archive of a release: what arrives must have this digest and length, and unpack to just this much."""

    sha256: str
    length: int
    files: int
    unpacked: int

    def __post_init__(self) -> None:
        check_digest("payload.sha256", self.sha256)
        if min(self.length, self.files, self.unpacked) < 0:
            raise ValueError("payload length, files and unpacked must not be negative")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a release is: its payload and how a device brings it to life, checks it and takes it back.

    Its canonical JSON is the release's target file; the SHA-256 of that is the release's digest.
    `replaces` names what a device may run before: digests, `any`, `absent`.
    """

    component: str
    version: str
    seq: int
    driver: str
    payload: Payload
    health: Health
    replaces: tuple[str, ...] = ("any", "absent")
    activate: tuple[str, ...] = ()
    deactivate: tuple[str, ...] = ()
    notes: str = ""
    v: int = 1

    def __post_init__(self) -> None:
        check_name("component", self.component)
        check_name("driver", self.driver)
        if self.v != 1:
            raise ValueError(f"manifest version {self.v} is not known; this Tidegate reads version 1")
        if not self.version or len(self.version) > 100:
            raise ValueError("version must have 1 to 100 characters")
        if self.seq < 1:
            raise ValueError("seq must be at least 1")
        if not self.replaces:
            raise ValueError("replaces must name digests, 'any' or 'absent'")
        for entry in self.replaces:
            if entry not in ("any", "absent"):
                check_digest("replaces", entry)

    def may_replace(self, installed: str | None) -> bool:
        """Say whether a device that runs `installed` (a digest, or None for nothing) may take this release."""
        if installed is None:
            return "absent" in self.replaces
        return "any" in self.replaces or installed in self.replaces


@dataclass(frozen=True, slots=True)
class ReleaseTerms:
    """What release keys sign beside the digest: order, sequence and speed. The target's custom metadata."""

    seq: int
    order_salt: str
    speed: SpeedLimit
    v: int = 1

    def __post_init__(self) -> None:
        if self.v != 1:
            raise ValueError(f"release terms version {self.v} is not known")
        if not re.fullmatch(r"[0-9a-f]{32}", self.order_salt):
            raise ValueError("order_salt must be 32 hexadecimal digits")


@dataclass(frozen=True, slots=True)
class Candidate:
    """The release that a plan names. The device looks it up under the release keys and compares all four."""

    path: str
    sha256: str
    length: int
    seq: int

    def __post_init__(self) -> None:
        check_digest("candidate.sha256", self.sha256)


@dataclass(frozen=True, slots=True)
class Budget:
    """How much harm is acceptable; it belongs to a candidate digest, with its evidence and its alpha."""

    max_harmed: int
    confidence: float = 0.999
    false_halt: float = 0.001
    canary: int = 0
    """The first ring; 0 stands for `max_harmed`."""
    placebo_per_treated: float = 4.0
    q_gate: float = 0.05
    reverted_bound: float = 1e-6
    late_budget_share: float = 0.2
    max_silent: int = 0
    """A smaller budget for devices that fall silent, which may need hands; 0 for none."""
    signalled_bound: float = 1e-6
    """Share of devices that people or systems call down for no fault of the candidate."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_harmed <= MOST_DEVICES:
            raise ValueError(f"max_harmed must be 1 to {MOST_DEVICES:,}")
        for name in ("confidence", "false_halt"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must lie between 0 and 1")
        if not 0 <= self.canary <= self.max_harmed:
            raise ValueError("canary must be 1 to max_harmed (or 0 for max_harmed)")
        if not 0 <= self.placebo_per_treated <= MOST_PLACEBO:
            raise ValueError(f"placebo_per_treated must be 0 to {MOST_PLACEBO}")
        if not 0 <= self.q_gate < 1 or not 0 <= self.late_budget_share < 1:
            raise ValueError("q_gate and late_budget_share lie in [0, 1)")
        if not 0 < self.reverted_bound < 1 or not 0 < self.signalled_bound < 1:
            raise ValueError("reverted_bound and signalled_bound must lie between 0 and 1")
        if not 0 <= self.max_silent <= self.max_harmed:
            raise ValueError("max_silent must be 1 to max_harmed (or 0 for none)")

    @property
    def first_ring(self) -> int:
        """Treated devices that may be exposed while nobody has confirmed."""
        return min(self.canary or self.max_harmed, self.max_silent or self.max_harmed)

    @property
    def late_part(self) -> int:
        """Devices of the budget that are kept for late devices and scouts, where the statistical rule runs."""
        return int(self.max_harmed * self.late_budget_share)


@dataclass(frozen=True, slots=True)
class Plan:
    """The signed statement that devices read: who may announce at this moment, and for what. DESIGN section 5."""

    rollout: str
    component: str
    ring: int
    state: PlanState
    candidate: Candidate
    replaces: tuple[str, ...]
    announce_rank: str
    late_open: bool
    arm_commit: str
    observe_s: int
    lease_ttl_s: int
    spread_s: int
    issued: int
    expires: int
    scouts: tuple[str, ...] = ()
    """Ranks of the devices that go first, wherever they stand in the order."""
    v: int = 1

    def __post_init__(self) -> None:
        if self.v != 1:
            raise ValueError(f"plan version {self.v} is not known; update the agent")
        if not re.fullmatch(r"[0-9a-f]{16}", self.announce_rank):
            raise ValueError("announce_rank must be 16 hexadecimal digits")
        if not self.issued < self.expires <= self.issued + PLAN_LIFETIME_LIMIT_S:
            raise ValueError(f"a plan must expire after it is issued, within {PLAN_LIFETIME_LIMIT_S} s")

    def announces(self, device_rank: int) -> bool:
        """Say whether a device of this rank may announce. Past the last ring every rank lies in range."""
        return device_rank <= int(self.announce_rank, 16) or f"{device_rank:016x}" in self.scouts


@dataclass(frozen=True, slots=True)
class Device:
    """One endpoint as the server knows it."""

    index: int
    device_id: str
    key: int
    labels: dict[str, str] = field(default_factory=lambda: {})
