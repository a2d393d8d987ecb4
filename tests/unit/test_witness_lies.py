"""A witness that lies: its bare word stops no ledger, a fork that it shows does."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.server import Plant
from tests.wire import Wire, answer

from tidegate.cli.ledger_home import open_ledger
from tidegate.control.ledger import Ledger
from tidegate.control.witnesses import Witnesses
from tidegate.log.events import Act
from tidegate.log.sqlite import SqliteLog
from tidegate.trust.checkpoint import Checkpoint, sign_checkpoint
from tidegate.trust.ledger_policy import LedgerPolicy, NamedWitness
from tidegate.trust.note import COSIGNATURE, NoteSigner
from tidegate.trust.witness import cosign

pytestmark = [pytest.mark.room("control"), pytest.mark.room("trust")]
BOMB = gzip.compress(bytes(10_000_000))


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


WITNESS = NoteSigner("witness.example", Ed25519PrivateKey.generate(), COSIGNATURE)
WITNESS_AS_LEDGER = NoteSigner("witness.example", Ed25519PrivateKey.generate())


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    place = Plant(tmp_path)
    place.log.close()
    made = open_ledger(place.home)
    assert made is not None
    events = [Act(at_ms=n, what="noted", who="ada", why=str(n), body={}) for n in range(1, 6)]
    log = SqliteLog(place.home.path / "own.db")
    list(made.begin(log))
    made.take(log, log.append(events), events)
    made.publish()
    log.close()
    assert made.checkpoint.size == 5
    return made


def _turn(ledger: Ledger, wire: Wire) -> tuple[Witnesses, list[str]]:
    alarms: list[str] = []
    policy = LedgerPolicy(ledger.key.text(), witnesses=(NamedWitness(WITNESS.key.text(), wire.address),), quorum=1)
    witnesses = Witnesses(ledger, lambda: policy, alarms.append)

    async def once() -> None:
        async with httpx.AsyncClient(timeout=5, follow_redirects=False) as client:
            await witnesses.turn(client)

    asyncio.run(once())
    return witnesses, alarms


@pytest.mark.parametrize(
    "said",
    [
        answer("409 Conflict", b"999999999"), answer("409 Conflict", b"6"), answer("422 No", b""),
        answer("409 Conflict", b"-1"), answer("409 Conflict", "٣".encode()), answer("409 Conflict", b"9" * 5000),
        answer("200 OK", b"x" * 100_000), answer("200 OK", BOMB, "Content-Encoding: gzip"),
        answer("302 Found", b"", "Location: file:///etc/passwd"),
    ],
    ids=["huge", "one more", "other", "below nothing", "digits", "long", "endless", "packed", "redirect"],
)  # fmt: skip
def test_a_witness_stops_no_ledger_by_its_bare_word(ledger: Ledger, wire: Wire, said: bytes) -> None:
    """Only a checkpoint that the ledger's own key has signed is a fork; else any one witness could stop all news."""
    wire.talk = lambda head: [said]
    witnesses, alarms = _turn(ledger, wire)
    assert not ledger.barred and not alarms
    (shown,) = witnesses.view()
    assert shown["trouble"] and shown["entries"] == 0
    # What it shows in place of a proof: a checkpoint of its own making.
    forged = cosign(sign_checkpoint(Checkpoint(ledger.key.name, 9, bytes(32)), WITNESS_AS_LEDGER), WITNESS, 1)
    wire.talk = lambda head: [answer("200 OK", forged) if head.startswith(b"GET") else said]
    _, alarms = _turn(ledger, wire)
    assert not ledger.barred and not alarms


def test_a_witness_that_shows_the_fork_stops_the_ledger(ledger: Ledger, wire: Wire) -> None:
    fork = cosign(sign_checkpoint(Checkpoint(ledger.key.name, 9, bytes(32)), ledger.signer), WITNESS, 1)
    wire.talk = lambda head: [answer("200 OK", fork) if head.startswith(b"GET") else answer("409 Conflict", b"9")]
    _, alarms = _turn(ledger, wire)
    assert "would fork" in ledger.barred and len(alarms) == 1
