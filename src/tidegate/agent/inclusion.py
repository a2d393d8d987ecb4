"""The demand that each release stands in the ledger, checked on the device with two small files and no server.

The signed targets name the ledger's key and say whether it is demanded; the device's owner may pin a key besides.
Beside the signed files lie `ledger/releases/<digest>.json`, the ledger's entry, and `<digest>.tlog-proof`, its place
under a checkpoint that the ledger's key has signed. Whoever serves them cannot make them up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tidegate.core.errors import BadInput, Untrusted
from tidegate.core.model import Candidate
from tidegate.core.speed import CLOCK_TOLERANCE_S
from tidegate.core.wire import canonical, parse_json
from tidegate.trust.errors import Unreachable
from tidegate.trust.ledger_policy import LedgerPolicy
from tidegate.trust.ledger_proof import parse_proof
from tidegate.trust.note import NoteKey, parse_key
from tidegate.trust.updater import Fetch
from tidegate.trust.witness import witnessed

MOST_ENTRY, MOST_PROOF = 1 << 16, 1 << 16


class Inclusion:
    """What this device demands of a release's place in the ledger: what its owner set, else what the targets sign."""

    def __init__(self, fetch: Fetch, key: str = "", witnesses: Sequence[str] = (), quorum: int = 0) -> None:
        """Take the ledger's key and the witnesses' as texts. Raises BadInput for what is no key."""
        if quorum and (not key or quorum > len(witnesses)):
            raise BadInput("a quorum of witnesses needs the ledger's key, and as many witnesses as it asks for")
        self._fetch, self._quorum = fetch, quorum
        self._key: NoteKey | None = parse_key(key) if key else None
        self._witnesses = tuple(parse_key(text) for text in witnesses)

    def check(self, component: str, candidate: Candidate, signed: LedgerPolicy | None, now: int) -> int:
        """Refuse a release that is not in the ledger.

        Args:
            component: whose release it is.
            candidate: the release.
            signed: what the targets' holders demand, for where the owner has not set a key.
            now: unix seconds; a witness that dates its word later counts as none, so that it cannot hold others back.

        Returns:
            When the demanded witnesses saw it there (unix seconds): it is not older than that, whatever it says of
            itself. 0 where none are demanded.

        Raises:
            Untrusted: if the proof is missing, is another release's, or does not hold. It is asked for again later.
            Unreachable: if it cannot be had now.
        """
        key, witnesses, quorum = self._demand(signed)
        if key is None:
            return 0
        what = f"release {candidate.sha256[:16]} of {component}"
        entry = self._read(f"ledger/releases/{candidate.sha256}.json", MOST_ENTRY, what)
        proof = self._read(f"ledger/releases/{candidate.sha256}.tlog-proof", MOST_PROOF, what)
        said = _entry(entry, what)
        named = [said.get(name) for name in ("kind", "component", "digest", "seq")]
        if named != ["release", component, candidate.sha256, candidate.seq]:
            raise Untrusted(f"the ledger's proof that came for {what} is of something else; it is refused")
        try:
            found = parse_proof(proof)
            found.verify(entry, key)
            latest = now + CLOCK_TOLERANCE_S
            times = sorted((at for _, at in witnessed(found.note, witnesses, quorum, latest)), reverse=True)
        except Untrusted as error:
            raise Untrusted(f"{what} is refused: its place in the ledger is not proved: {error}") from None
        return times[quorum - 1] if quorum else 0

    def _demand(self, signed: LedgerPolicy | None) -> tuple[NoteKey | None, tuple[NoteKey, ...], int]:
        if self._key is None and (signed is None or not signed.demand):
            return None, (), 0
        key, witnesses, quorum = self._key, self._witnesses, self._quorum
        if signed is not None and (key is None or key == signed.note_key) and quorum == 0:
            witnesses, quorum = tuple(witness.note_key for witness in signed.witnesses), signed.quorum
        return key or (signed.note_key if signed else None), witnesses, quorum

    def _read(self, path: str, most: int, what: str) -> bytes:
        try:
            data = self._fetch(path, most)
        except FileNotFoundError:
            raise Untrusted(f"{what} is refused: there is no proof that it stands in the ledger") from None
        except OSError as error:
            raise Unreachable(f"the proof that {what} stands in the ledger cannot be had: {error}") from error
        if len(data) > most:
            raise Untrusted(f"{what} is refused: its proof has more than {most} bytes")
        return data


def _entry(data: bytes, what: str) -> dict[str, Any]:
    """Read an entry in the one form that it has: in another, whoever watches the ledger could read something else."""
    try:
        value = parse_json(data)
        if isinstance(value, dict) and canonical(value) == data:
            return value
    except (ValueError, RecursionError):
        pass
    raise Untrusted(f"the ledger's proof that came for {what} is of something else; it is refused")
