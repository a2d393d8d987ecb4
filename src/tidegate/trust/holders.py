"""What release holders say beside the releases: a file with signatures of its own, that any mirror can serve.

It is no TUF target on purpose: what a snapshot must name can be hidden by whoever holds the snapshot's key, and does
not come when the server is down. So each kind lies at one fixed path, carries its own signatures, and cannot be
mistaken for TUF metadata or for another kind. It takes as many keys as a release.
"""

# The libraries re-export these public names without saying so.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from securesystemslib.signer import Signature, Signer
from tuf.api.metadata import Targets

from tidegate.core.errors import BadInput, NotFound, Untrusted
from tidegate.core.wire import canonical, parse_json, plain, read
from tidegate.trust import layout
from tidegate.trust.votes import check_votes

STATEMENT_LIMIT = 65_536


class Statement(Protocol):
    """What a statement has at least: whose it is, and when it was made (unix seconds). The newest counts."""

    @property
    def component(self) -> str: ...

    @property
    def issued(self) -> int: ...


Said = TypeVar("Said", bound=Statement)


@dataclass(frozen=True, slots=True)
class Kind(Generic[Said]):
    """One kind of statement: its values' type, the tag that is signed with them, its name, and what writes it."""

    type: type[Said]
    tag: str
    name: str
    command: str

    def sign(self, said: Said, signers: Iterable[Signer], before: bytes = b"") -> bytes:
        """Sign a statement, or add signatures to one that others have signed.

        Args:
            said: what to say.
            signers: release keys.
            before: the same statement with the signatures of other holders.

        Raises:
            BadInput: if `before` says something else.
        """
        signatures: dict[str, str] = {}
        if before:
            theirs, signatures = self._open(before)
            if theirs != said:
                raise BadInput(
                    f"the {self.name} that others have signed says something else; sign theirs, or begin anew"
                )
        for signer in signers:
            made = signer.sign(self._signed(said))
            signatures[made.keyid] = made.signature
        listed = [{"keyid": keyid, "sig": signature} for keyid, signature in sorted(signatures.items())]
        return canonical({"signatures": listed, "signed": plain(said)})

    def read(self, data: bytes) -> Said:
        """Read a statement; nothing is verified. Raises BadInput."""
        return self._open(data)[0]

    def verify(self, data: bytes, component: str, trunk: Targets) -> Said:
        """Read a statement that enough release keys of its component have signed.

        Args:
            data: the file.
            component: whose it must be.
            trunk: targets metadata that is itself verified; that it has expired is no reason to ignore a statement.

        Raises:
            BadInput: if it cannot be read.
            Untrusted: if it speaks of another component, or too few keys signed.
        """
        said, signatures = self._open(data)
        if said.component != component:
            raise Untrusted(f"the {self.name} of {component} speaks of {said.component}; it is ignored")
        delegations = trunk.delegations
        role = (delegations.roles or {}).get(layout.release_role(component)) if delegations else None
        if delegations is None or role is None:
            raise NotFound(f"the repository has no component {component}")
        check_votes(trunk, layout.release_role(component))
        good = 0
        for keyid in role.keyids:
            if keyid in signatures and keyid in delegations.keys:
                try:
                    delegations.keys[keyid].verify_signature(Signature(keyid, signatures[keyid]), self._signed(said))
                except (UnverifiedSignatureError, VerificationError):
                    continue
                good += 1
        if good < role.threshold:
            raise Untrusted(f"the {self.name} of {component} has {good} valid signatures, {role.threshold} are needed")
        return said

    def _signed(self, said: Said) -> bytes:
        return canonical([self.tag, plain(said)])

    def _open(self, data: bytes) -> tuple[Said, dict[str, str]]:
        if len(data) > STATEMENT_LIMIT:
            raise BadInput(f"the {self.name} has {len(data)} bytes; at most {STATEMENT_LIMIT} are read")
        try:
            value: Any = parse_json(data)
            signatures = {entry["keyid"]: entry["sig"] for entry in value["signatures"]}
            body = value["signed"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise BadInput(f"the {self.name} is none; write it with `{self.command}`") from None
        if not all(isinstance(text, str) for pair in signatures.items() for text in pair):
            raise BadInput(f"the {self.name} has signatures that are no texts")
        return read(self.type, body, f"the {self.name}"), signatures
