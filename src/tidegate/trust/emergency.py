"""The emergency stop: one file, signed offline by release keys, that any mirror can serve and no server is needed for.

It is no TUF target on purpose: what a snapshot must name can be hidden by whoever holds the snapshot's key, and does
not come when the server is down. So it lies at one fixed path, carries its own signatures, and cannot be mistaken for
TUF metadata. To stop takes as many keys as to release: whoever may release may also take back.
"""

# The libraries re-export these public names without saying so.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from securesystemslib.signer import Signature, Signer
from tuf.api.metadata import Targets

from tidegate.core.errors import BadInput, NotFound, Untrusted
from tidegate.core.model import check_digest, check_name
from tidegate.core.wire import canonical, plain, read
from tidegate.trust import layout

ALL = "all"
STOP_LIMIT = 65_536
_KIND = "tidegate/emergency-stop/v1"
_WHAT = "the emergency stop"


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


def sign_stop(stop: Stop, signers: Iterable[Signer], before: bytes = b"") -> bytes:
    """Sign a stop, or add signatures to one that others have signed.

    Args:
        stop: what to say.
        signers: release keys.
        before: the same stop with the signatures of other holders.

    Raises:
        BadInput: if `before` says something else.
    """
    signatures: dict[str, str] = {}
    if before:
        said, signatures = _open(before)
        if said != stop:
            raise BadInput("the stop that others have signed says something else; sign theirs, or begin anew")
    for signer in signers:
        made = signer.sign(_signed(stop))
        signatures[made.keyid] = made.signature
    listed = [{"keyid": keyid, "sig": signature} for keyid, signature in sorted(signatures.items())]
    return canonical({"signatures": listed, "signed": plain(stop)})


def read_stop(data: bytes) -> Stop:
    """Read a stop; nothing is verified. Raises BadInput."""
    return _open(data)[0]


def verify_stop(data: bytes, component: str, trunk: Targets) -> Stop:
    """Read a stop that enough release keys of its component have signed.

    Args:
        data: the file.
        component: whose it must be.
        trunk: targets metadata that is itself verified; that it has expired is no reason to ignore a stop.

    Raises:
        BadInput: if it cannot be read.
        Untrusted: if it speaks of another component, or too few keys signed.
    """
    stop, signatures = _open(data)
    if stop.component != component:
        raise Untrusted(f"{_WHAT} of {component} speaks of {stop.component}; it is ignored")
    delegations = trunk.delegations
    role = (delegations.roles or {}).get(layout.release_role(component)) if delegations else None
    if delegations is None or role is None:
        raise NotFound(f"the repository has no component {component}")
    good = 0
    for keyid in role.keyids:
        if keyid in signatures and keyid in delegations.keys:
            try:
                delegations.keys[keyid].verify_signature(Signature(keyid, signatures[keyid]), _signed(stop))
            except (UnverifiedSignatureError, VerificationError):
                continue
            good += 1
    if good < role.threshold:
        raise Untrusted(f"{_WHAT} of {component} has {good} valid signatures, {role.threshold} are needed")
    return stop


def _signed(stop: Stop) -> bytes:
    return canonical([_KIND, plain(stop)])


def _open(data: bytes) -> tuple[Stop, dict[str, str]]:
    if len(data) > STOP_LIMIT:
        raise BadInput(f"{_WHAT} has {len(data)} bytes; at most {STOP_LIMIT} are read")
    try:
        value: Any = json.loads(data)
        signatures = {entry["keyid"]: entry["sig"] for entry in value["signatures"]}
        body = value["signed"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BadInput(f"{_WHAT} is none; write it with `tidegate emergency stop`") from None
    if not all(isinstance(text, str) for pair in signatures.items() for text in pair):
        raise BadInput(f"{_WHAT} has signatures that are no texts")
    return read(Stop, body, _WHAT), signatures
