"""What evidence a release needs before a rollout may start: which predicates, by whose keys, how fresh.

A policy is a TOML or YAML file; what it says wrongly is refused by name, and a broken policy lets nothing start.
"""

# The libraries re-export these public names without saying so.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from securesystemslib.signer import SSlibKey

from tidegate.core.errors import BadInput
from tidegate.core.wire import read
from tidegate.trust.dsse import Envelope, ed25519_key
from tidegate.trust.statement import FAILED, SHORT, Statement, parse_statement

AHEAD_S = 300
"""A statement may be dated so far ahead: clocks differ."""
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class Demand:
    """One thing that a release must have.

    `predicate` is vsa, test-result, product-health, review, or a whole predicate type. `keys` are names from the
    policy's `keys`. `signers` of them must have said so, each in its newest word. `fresh` is how old that may be, as in
    7d; empty for any age. `checks` must be among those that it says have passed. `components` limits the demand.
    """

    predicate: str
    keys: tuple[str, ...]
    signers: int = 1
    fresh: str = ""
    checks: tuple[str, ...] = ()
    components: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.predicate not in SHORT and ":" not in self.predicate:
            raise ValueError(f"predicate must be one of {', '.join(SHORT)} or a URI, not {self.predicate!r}")
        if not self.keys or not 1 <= self.signers <= len(set(self.keys)):
            raise ValueError("keys must name at least as many keys as there are to be signers, and signers at least 1")
        if self.fresh and self.fresh_s is None:
            raise ValueError(f"fresh must be a duration as in 90s, 15m, 4h or 7d, not {self.fresh!r}")

    @property
    def fresh_s(self) -> int | None:
        """The greatest age in seconds; None for any."""
        found = re.fullmatch(r"(\d{1,9})([smhd])", self.fresh)
        return int(found[1]) * _UNITS_S[found[2]] if found else None

    @property
    def uri(self) -> str:
        """The whole predicate type."""
        return SHORT.get(self.predicate, self.predicate)


@dataclass(frozen=True, slots=True)
class EvidencePolicy:
    """A policy, read. `let_through`: whether a named person may start a rollout without the evidence, on record."""

    keys: dict[str, str]
    require: tuple[Demand, ...] = ()
    let_through: bool = False
    version: int = 1

    def __post_init__(self) -> None:
        if self.version != 1:
            raise ValueError(f"version {self.version} of an evidence policy is not known; 1 is")
        for number, demand in enumerate(self.require):
            unknown = [name for name in demand.keys if name not in self.keys]
            if unknown:
                raise ValueError(f"require[{number}].keys names {unknown[0]!r}, which is not among the policy's keys")

    def key(self, name: str) -> SSlibKey:
        """Give a key by its name. Raises BadInput."""
        return ed25519_key(self.keys[name], f"keys.{name}")


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of a policy: sentences on what is missing, and the digests of the envelopes that count."""

    missing: tuple[str, ...] = ()
    counted: tuple[str, ...] = field(default=())

    @property
    def met(self) -> bool:
        """Whether nothing is missing."""
        return not self.missing


def read_policy(data: bytes, name: str) -> EvidencePolicy:
    """Read a policy: YAML if the name ends with .yaml or .yml, else TOML.

    Raises:
        BadInput: naming the line or the key at fault.
    """
    try:
        value: Any = _yaml(data, name) if name.endswith((".yaml", ".yml")) else tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"the evidence policy {name} cannot be read: {error}") from None
    policy = read(EvidencePolicy, value, name)
    seen: dict[str, str] = {}
    for known in policy.keys:
        keyid = policy.key(known).keyid
        if keyid in seen:
            raise BadInput(f"{name}: keys {seen[keyid]} and {known} are one key; it would count as two signers")
        seen[keyid] = known
    return policy


def _yaml(data: bytes, name: str) -> Any:
    import yaml  # here alone: most policies are TOML

    try:
        return yaml.safe_load(data)
    except (yaml.YAMLError, RecursionError) as error:
        raise BadInput(f"the evidence policy {name} cannot be read: {' '.join(str(error).split())}") from None


def digest_of(data: bytes) -> str:
    """Name a policy by its bytes."""
    return hashlib.sha256(data).hexdigest()


def judge(policy: EvidencePolicy, component: str, release: str, envelopes: Iterable[Envelope], now_s: float) -> Judged:
    """Hold a release's attestations against a policy. The newest word of each key counts, and no older one.

    Args:
        policy: what is demanded.
        component: whose release it is.
        release: its digest; what speaks of another release says nothing.
        envelopes: what is there; what cannot be read or is signed by others is passed over.
        now_s: unix seconds.
    """
    read_ones = [(each, found) for each in envelopes if (found := _about(each, release)) is not None]
    missing: list[str] = []
    counted: list[str] = []
    for demand in policy.require:
        if demand.components and component not in demand.components:
            continue
        lacking, used = _judge_one(policy, demand, read_ones, now_s)
        missing += lacking
        counted += used
    return Judged(tuple(missing), tuple(dict.fromkeys(counted)))


def _about(envelope: Envelope, release: str) -> Statement | None:
    try:
        found = parse_statement(envelope)
    except BadInput:
        return None
    return found if any(subject.sha256 == release for subject in found.subjects) else None


def _judge_one(
    policy: EvidencePolicy, demand: Demand, known: Sequence[tuple[Envelope, Statement]], now_s: float
) -> tuple[list[str], list[str]]:
    mine = [(each, said) for each, said in known if said.predicate_type == demand.uri]
    per_check = demand.predicate == "test-result" and demand.checks
    parts: list[tuple[str, ...]] = [(name,) for name in demand.checks] if per_check else [demand.checks]
    missing: list[str] = []
    counted: list[str] = []
    for wanted in parts:
        said_no, good = [], []
        for name in demand.keys:
            newest = _newest(mine, policy.key(name), wanted if per_check else ())
            fault = "has said nothing" if newest is None else _fault(newest[1], demand, wanted, now_s)
            if not fault and newest is not None:
                good.append(newest[0].digest)
            else:
                said_no.append(f"{name} {fault}")
        rejected = demand.predicate == "review" and any("says no" in each for each in said_no)
        if len(good) < demand.signers or rejected:
            what = f"{demand.predicate} ({wanted[0]})" if per_check else demand.predicate
            have = f"{len(good)} of {demand.signers}"
            missing.append(f"{what} by {have} of {', '.join(demand.keys)}: {'; '.join(said_no)}")
        counted += good
    return missing, counted


def _newest(
    mine: Sequence[tuple[Envelope, Statement]], key: SSlibKey, about: tuple[str, ...]
) -> tuple[Envelope, Statement] | None:
    signed = [
        (each, said) for each, said in mine if each.verified_by([key]) and (not about or _speaks_of(said, about[0]))
    ]
    # Of two words of the same second the worse one counts.
    return max(signed, key=lambda found: (found[1].at_s, found[1].result == FAILED), default=None)


def _speaks_of(said: Statement, check: str) -> bool:
    own = said.predicate.get("tidegate")
    return isinstance(own, dict) and own.get("check") == check  # pyright: ignore[reportUnknownMemberType]


def _fault(said: Statement, demand: Demand, wanted: tuple[str, ...], now_s: float) -> str:
    if said.result == FAILED:
        return "says no" if demand.predicate == "review" else "says that it failed"
    if demand.fresh_s is not None and not now_s - demand.fresh_s <= said.at_s <= now_s + AHEAD_S:
        return f"spoke too long ago (or in the future); it must be within {demand.fresh}"
    lacking = sorted(set(wanted) - said.checks)
    return f"does not say that {', '.join(lacking)} passed" if lacking else ""
