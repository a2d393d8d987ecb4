"""The witness's HTTP interface (C2SP tlog-witness), answer by answer; and what a ledger takes from it."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tidegate.cli.ledger_witness import WitnessApp
from tidegate.core.errors import BadInput, Untrusted
from tidegate.trust.checkpoint import Checkpoint, sign_checkpoint
from tidegate.trust.merkle import EMPTY_ROOT, Tree, consistency_proof, leaf_hash
from tidegate.trust.note import COSIGNATURE, NoteSigner, parse_note
from tidegate.trust.witness import cosign, cosigned_at
from tidegate.trust.witness_call import MOST_CALL, origin_hash, read_call, take_answer, write_call

NOW = 1_800_000_000
LEDGER = NoteSigner("ledger.example/one", Ed25519PrivateKey.generate())
KEY = Ed25519PrivateKey.generate()
WITNESS = NoteSigner("witness.example/1", KEY, COSIGNATURE)


def tree(size: int, kind: str = "entry") -> Tree:
    return Tree(leaf_hash(f"{kind} {number}".encode()) for number in range(size))


def checkpoint(size: int, kind: str = "entry", signer: NoteSigner = LEDGER, **changes: Any) -> bytes:
    return sign_checkpoint(Checkpoint(signer.key.name, size, changes.get("root", tree(size, kind).root())), signer)


def call(old: int, size: int, kind: str = "entry") -> bytes:
    proof = consistency_proof(old, size, tree(size, kind).node) if old <= size else []
    return write_call(old, proof, checkpoint(size, kind))


@pytest.fixture
def app(tmp_path: Path) -> WitnessApp:
    return WitnessApp(tmp_path, WITNESS, [LEDGER.key], lambda: NOW)


def test_a_checkpoint_that_continues_is_cosigned_and_shown(app: WitnessApp) -> None:
    for old, size in ((0, 3), (3, 3), (3, 8)):
        status, _, answer = app.add(call(old, size))
        assert status == 200
        made = take_answer(checkpoint(size), answer, WITNESS.key)
        assert cosigned_at(made, WITNESS.key) == NOW
        assert app.newest(f"/{origin_hash(LEDGER.key.name)}/checkpoint") == (200, "text/plain; charset=utf-8", made)


def test_its_memory_outlives_a_restart(app: WitnessApp, tmp_path: Path) -> None:
    app.add(call(0, 5))
    again = WitnessApp(tmp_path, WITNESS, [LEDGER.key], lambda: NOW)
    assert again.add(call(0, 9))[:2] == (409, "text/x.tlog.size")
    assert again.add(call(0, 9))[2] == b"5\n"
    assert again.add(call(5, 9))[0] == 200


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (409, call(0, 9)),
        (409, call(4, 9)),
        (409, call(3, 3)),
        (422, call(5, 9, "fork")),
        (422, write_call(5, [], checkpoint(5, "fork"))),
        (422, write_call(5, [b"\0" * 32], checkpoint(5))),
        (422, write_call(5, [], checkpoint(9))),
        (400, write_call(9, [], checkpoint(5))),
        (404, write_call(0, [], checkpoint(5, signer=NoteSigner("another", Ed25519PrivateKey.generate())))),
        (403, write_call(5, [], checkpoint(5, signer=NoteSigner(LEDGER.key.name, Ed25519PrivateKey.generate())))),
        (403, call(5, 9).replace(b"\n9\n", b"\n10\n")),
        (400, b"old 5\n\nno checkpoint"),
        (400, b"old 05\n\n" + checkpoint(5)),
        (400, b"old -1\n\n" + checkpoint(5)),
        (400, b"new 5\n\n" + checkpoint(5)),
        (400, b"old 5\nnot base64!\n\n" + checkpoint(5)),
        (400, write_call(5, [b"short"], checkpoint(9))),
        (400, write_call(5, [b"\0" * 32] * 64, checkpoint(9))),
        (400, b"old 99999999999999999999999\n\n" + checkpoint(5)),
        (400, b""),
    ],
)
def test_what_does_not_continue_gets_no_cosignature(app: WitnessApp, status: int, body: bytes) -> None:
    app.add(call(0, 5))
    before = app.newest(f"/{origin_hash(LEDGER.key.name)}/checkpoint")
    assert app.add(body)[0] == status
    assert app.newest(f"/{origin_hash(LEDGER.key.name)}/checkpoint") == before
    assert app.add(call(5, 6))[0] == 200, "and its memory is what it was"


def test_an_empty_ledger_has_the_root_of_nothing(app: WitnessApp) -> None:
    assert app.add(write_call(0, [], checkpoint(0, root=b"x" * 32)))[0] == 422
    assert app.add(write_call(0, [], checkpoint(0, root=EMPTY_ROOT)))[0] == 200


def test_over_http(app: WitnessApp) -> None:
    def ask(method: str, path: str, *parts: bytes) -> tuple[int, bytes]:
        sent: list[dict[str, Any]] = []
        messages = [{"body": part, "more_body": True} for part in parts] + [{"body": b"", "more_body": False}]

        async def receive() -> dict[str, Any]:
            return messages.pop(0)

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        asyncio.run(app({"type": "http", "method": method, "path": path}, receive, send))
        return sent[0]["status"], sent[1]["body"]

    body = call(0, 5)
    assert ask("POST", "/add-checkpoint", body[:20], body[20:])[0] == 200
    assert ask("POST", "/add-checkpoint", b"x" * MOST_CALL, b"x") == (400, b"a request has at most 65536 bytes\n")
    assert ask("GET", "/add-checkpoint")[0] == 405
    assert ask("DELETE", "/anything")[0] == 405
    for path in ("/", "/checkpoint", "/../witness.pem", f"/{'0' * 64}/checkpoint", "/witness.pem", "/lock"):
        assert ask("GET", path)[0] == 404


def test_a_ledger_takes_its_own_witness_and_no_other(app: WitnessApp, tmp_path: Path) -> None:
    answer = app.add(call(0, 5))[2]
    note, other = checkpoint(5), NoteSigner("witness.example/2", Ed25519PrivateKey.generate(), COSIGNATURE)
    foreign = cosign(note, other, NOW)[len(note) :]
    assert take_answer(note, foreign + answer, WITNESS.key) == take_answer(note, answer, WITNESS.key)
    of_another_size = WitnessApp(tmp_path / "x", WITNESS, [LEDGER.key]).add(call(0, 4))[2]
    zero = base64.b64encode(WITNESS.key.key_id + bytes(8) + WITNESS.sign(b"cosignature/v1\ntime 0\n" + note)).decode()
    for wrong in (
        foreign,
        of_another_size,
        answer.replace(b"A", b"B"),
        f"— {WITNESS.key.name} {zero}\n".encode(),
        b"\n\xe2\x80\x94 more text",
        b"<html>",
        b"\xff",
        note.replace(b"\n5\n", b"\n6\n")[: note.index(b"\n\n") + 2] + answer,
    ):
        with pytest.raises(Untrusted):
            take_answer(note, wrong, WITNESS.key)


def test_a_call_comes_back_as_it_was_written() -> None:
    body = call(5, 9)
    assert write_call(*read_call(body)) == body
    with pytest.raises(BadInput):
        read_call(body[: body.index(b"\n\n")])
    assert parse_note(read_call(body).note).signatures
