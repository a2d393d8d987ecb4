"""The ledger's files: written so that no crash misleads, and every fork, cut or edit is seen by whoever reads them."""

from __future__ import annotations

import random
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from tests.pens import Watched

from tidegate.core.errors import BadInput, NotFound, Untrusted
from tidegate.trust.checkpoint import Checkpoint, ledger_origin, open_checkpoint, parse_checkpoint, sign_checkpoint
from tidegate.trust.ledger import LedgerWriter, directory_fetch
from tidegate.trust.ledger_proof import EntryProof, parse_proof
from tidegate.trust.ledger_read import LedgerReader
from tidegate.trust.merkle import (
    EMPTY_ROOT,
    Tree,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    verify_consistency,
    verify_inclusion,
)
from tidegate.trust.note import COSIGNATURE, Note, NoteSigner, open_note, parse_key, parse_note
from tidegate.trust.tiles import TileReader, entries_path, pack_entries, tile_path, unpack_entries
from tidegate.trust.witness import Witness, cosign, cosigned_at, require_witnesses

ORIGIN = ledger_origin("ab" * 32)
SIGNER = NoteSigner(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(32)))
OTHER = NoteSigner(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\1"))
WITNESS = NoteSigner("witness.example/1", Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\2"), COSIGNATURE)


def entry(number: int, word: str = "entry") -> bytes:
    return f"{word} {number}".encode()


def entries(count: int, word: str = "entry") -> list[bytes]:
    return [entry(number, word) for number in range(count)]


def writer(place: Path, given: list[bytes], **more: object) -> LedgerWriter:
    made = LedgerWriter(place / "ledger", place / "memory", SIGNER, given, **more)  # pyright: ignore[reportArgumentType]
    made.publish()
    return made


def reader(place: Path) -> LedgerReader:
    return LedgerReader(directory_fetch(place / "ledger"), SIGNER.key)


def naive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, word for word."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaf_hash(leaves[0])
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return node_hash(naive_root(leaves[:k]), naive_root(leaves[k:]))


@given(st.integers(0, 70))
def test_the_root_is_that_of_the_rfc(size: int) -> None:
    assert Tree(map(leaf_hash, entries(size))).root() == naive_root(entries(size))


@given(st.integers(1, 600), st.data())
def test_every_proof_holds_and_no_other_does(size: int, data: st.DataObject) -> None:
    tree = Tree(map(leaf_hash, entries(size)))
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size))
    proof, grown = inclusion_proof(index, size, tree.node), consistency_proof(old, size, tree.node)
    verify_inclusion(index, size, leaf_hash(entry(index)), proof, tree.root())
    verify_consistency(old, size, grown, tree.root(old), tree.root())
    with pytest.raises(Untrusted):
        verify_inclusion(index, size, leaf_hash(b"another"), proof, tree.root())
    with pytest.raises(Untrusted):
        verify_inclusion(index, size, leaf_hash(entry(index)), [*proof, EMPTY_ROOT], tree.root())
    forked = Tree(map(leaf_hash, [*entries(size - 1), b"another"]))
    if old == size:
        with pytest.raises(Untrusted):
            verify_consistency(old, size, grown, tree.root(), forked.root())


def test_paths_are_those_of_tlog_tiles() -> None:
    assert tile_path(0, 1234067) == "tile/0/x001/x234/067"
    assert entries_path(5, 7) == "tile/entries/005.p/7"
    assert tile_path(1, 0, 1) == "tile/1/000.p/1"


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_bundles_come_back_as_they_were(given: list[bytes]) -> None:
    assert unpack_entries(pack_entries(given)) == given


def test_what_does_not_fit_a_bundle_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        LedgerWriter(tmp_path / "ledger", tmp_path / "memory", SIGNER, [bytes(65_536)])
    assert not (tmp_path / "ledger").exists()
    with pytest.raises(Untrusted):
        unpack_entries(b"\0\5abc")


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 600])
def test_the_whole_is_read_back_and_every_entry_proven(tmp_path: Path, size: int) -> None:
    ledger = writer(tmp_path, [])
    for low in range(0, size, 97):
        ledger.add(entries(size)[low : low + 97])
        ledger.publish()
    found = reader(tmp_path)
    assert found.verify() == entries(size)
    for index in {0, size // 2, size - 1} & set(range(size)):
        text, proof = found.prove(index)
        file = EntryProof(index, tuple(proof), found.note).data()
        assert parse_proof(file).verify(text, SIGNER.key).size == size
        assert parse_proof(ledger.proof(index)).verify(text, SIGNER.key).size == size
        with pytest.raises(Untrusted):
            parse_proof(file).verify(text + b" ", SIGNER.key)
    with pytest.raises(BadInput):
        found.prove(size)


@pytest.mark.slow
def test_a_big_ledger_has_a_second_level(tmp_path: Path) -> None:
    writer(tmp_path, entries(66_000))
    found = reader(tmp_path)
    text, proof = found.prove(65_999)
    assert text == entry(65_999)
    assert len(proof) > 4
    assert (tmp_path / "ledger" / "tile" / "2" / "000.p" / "1").exists()
    verify_consistency(257, 66_000, found.consistency(257), Tree(map(leaf_hash, entries(257))).root(),
                       found.checkpoint.root)  # fmt: skip


def test_old_partial_tiles_are_gone_when_the_full_one_is_there_and_readers_fall_back(tmp_path: Path) -> None:
    ledger = writer(tmp_path, entries(200))
    before = reader(tmp_path)
    ledger.add(entries(300)[200:])
    ledger.publish()
    assert not list((tmp_path / "ledger" / "tile" / "0" / "000.p").glob("*"))
    assert before.verify() == entries(200)


# What somebody with a disk editor can do. Each is found by verification, and each is healed from the log at a restart.


def cut_bundle(place: Path) -> None:
    path = place / "ledger" / entries_path(0)
    path.write_bytes(path.read_bytes()[:-3])


def edit_entry(place: Path) -> None:
    path = place / "ledger" / entries_path(1, 44)
    path.write_bytes(path.read_bytes().replace(b"entry 270", b"entry 999"))


def edit_entry_and_tile(place: Path) -> None:
    edit_entry(place)
    path = place / "ledger" / tile_path(0, 1, 44)
    path.write_bytes(path.read_bytes().replace(leaf_hash(b"entry 270"), leaf_hash(b"entry 999")))


def edit_upper_tile(place: Path) -> None:
    path = place / "ledger" / tile_path(1, 0, 1)
    path.write_bytes(bytes(32))


def lose_tile(place: Path) -> None:
    (place / "ledger" / tile_path(0, 0)).unlink()


def drop_last_entry(place: Path) -> None:
    bundle, tile = place / "ledger" / entries_path(1, 44), place / "ledger" / tile_path(0, 1, 44)
    bundle.write_bytes(pack_entries(unpack_entries(bundle.read_bytes())[:-1]))
    tile.write_bytes(tile.read_bytes()[:-32])


def rewrite_checkpoint(place: Path) -> None:
    path = place / "ledger" / "checkpoint"
    path.write_bytes(path.read_bytes().replace(b"\n300\n", b"\n299\n"))


def sign_as_somebody_else(place: Path) -> None:
    found = Checkpoint(ORIGIN, 300, Tree(map(leaf_hash, entries(300))).root())
    (place / "ledger" / "checkpoint").write_bytes(sign_checkpoint(found, OTHER))


DAMAGE: list[Callable[[Path], None]] = [
    cut_bundle, edit_entry, edit_entry_and_tile, edit_upper_tile, lose_tile, drop_last_entry, rewrite_checkpoint,
    sign_as_somebody_else,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_damage_by_hand_is_detected_and_healed_from_the_log(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    writer(tmp_path, entries(300))
    reader(tmp_path).verify()
    damage(tmp_path)
    with pytest.raises((Untrusted, NotFound)):
        reader(tmp_path).verify()
    writer(tmp_path, entries(300))
    assert reader(tmp_path).verify() == entries(300)


@pytest.mark.parametrize("gone", ["neither", "memory", "ledger"])
@pytest.mark.parametrize("log", ["edited", "truncated", "reordered"])
def test_a_log_that_gives_another_ledger_is_refused_whole(tmp_path: Path, log: str, gone: str) -> None:
    writer(tmp_path, entries(300))
    if gone == "memory":
        (tmp_path / "memory").unlink()
    elif gone == "ledger":
        shutil.rmtree(tmp_path / "ledger")
    other = entries(400)
    if log == "edited":
        other[10] = b"another"
    elif log == "reordered":
        other[298], other[299] = other[299], other[298]
    else:
        del other[299:]
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(Untrusted, match="log"):
        LedgerWriter(tmp_path / "ledger", tmp_path / "memory", SIGNER, other)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_ledger_set_back_to_an_older_state_is_brought_forward_and_not_signed_anew(tmp_path: Path) -> None:
    ledger = writer(tmp_path, entries(100))
    shutil.copytree(tmp_path / "ledger", tmp_path / "old")
    ledger.add(entries(150)[100:])
    ledger.publish()
    shutil.rmtree(tmp_path / "ledger")
    shutil.move(tmp_path / "old", tmp_path / "ledger")
    with pytest.raises(Untrusted):
        LedgerWriter(tmp_path / "ledger", tmp_path / "memory", SIGNER, entries(120))
    assert writer(tmp_path, entries(150)).size == 150
    assert reader(tmp_path).verify() == entries(150)


class PowerCut(Exception):
    """The power is gone."""


@pytest.mark.parametrize("cut", range(12))
def test_a_power_cut_at_each_write(tmp_path: Path, cut: int) -> None:
    """At every moment what a reader sees verifies; a restart gets every entry in, once and in order."""
    left = cut

    def write(path: Path, data: bytes) -> None:
        nonlocal left
        if left == 0:
            raise PowerCut
        left -= 1

    writer(tmp_path, entries(250))
    seen = reader(tmp_path)
    survived = 0
    try:
        ledger = LedgerWriter(tmp_path / "ledger", tmp_path / "memory", SIGNER, entries(250), pen=Watched(write))
        for _ in range(2):
            ledger.add([entry(ledger.size + i) for i in range(5)])
            survived = ledger.publish()
    except PowerCut:
        pass
    found = reader(tmp_path)
    assert found.verify() == entries(found.checkpoint.size)
    assert found.checkpoint.size >= survived
    again = writer(tmp_path, entries(260))
    assert again.size == 260
    after = reader(tmp_path)
    assert after.verify() == entries(260)
    verify_consistency(250, 260, after.consistency(250), seen.checkpoint.root, after.checkpoint.root)


def test_a_publication_that_failed_is_done_whole_by_the_next(tmp_path: Path) -> None:
    fail = [False]

    def write(path: Path, data: bytes) -> None:
        if fail[0] and path.name == "checkpoint":
            raise OSError(28, "no space")

    ledger = writer(tmp_path, entries(3), pen=Watched(write))
    fail[0] = True
    ledger.add([entry(3)])
    with pytest.raises(OSError, match="no space"):
        ledger.publish()
    assert (ledger.size, ledger.waiting, reader(tmp_path).checkpoint.size) == (3, 1, 3)
    fail[0] = False
    ledger.add([entry(4)])
    assert ledger.publish() == 5
    assert reader(tmp_path).verify() == entries(5)


def test_a_note_is_read_as_it_was_written_and_holds_for_its_key_alone() -> None:
    data = Note("one\n\ntwo\n").signed_by(SIGNER).data()
    assert open_note(data, parse_key(SIGNER.key.text())) == "one\n\ntwo\n"
    for wrong in (OTHER.key, WITNESS.key):
        with pytest.raises(Untrusted):
            open_note(data, wrong)
    rng = random.Random(1)
    for _ in range(300):
        at = rng.randrange(len(data))
        broken = data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
        with pytest.raises(Untrusted):
            open_note(broken, SIGNER.key)


@pytest.mark.parametrize("text", ["", "a\n1\n", "a\n01\nAAAA\n", "a\n-1\n\n", "a\n1\n!!\n", "a\n1\nAAAA\n"])
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(Untrusted):
        parse_checkpoint(text)
    with pytest.raises(Untrusted):
        parse_note(text.encode())


@pytest.mark.parametrize("text", ["", "a+b+c", "a b+00000000+AAAA", SIGNER.key.text()[:-4], "x" + SIGNER.key.text()])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        parse_key(text)


def test_a_checkpoint_of_another_ledger_is_refused() -> None:
    data = sign_checkpoint(Checkpoint("tidegate.local/other", 0, EMPTY_ROOT), SIGNER)
    with pytest.raises(Untrusted):
        open_checkpoint(data, SIGNER.key)


def test_a_witness_cosigns_what_continues_and_keeps_its_word_over_restarts(tmp_path: Path) -> None:
    ledger = writer(tmp_path, entries(10))
    memory = tmp_path / "seen"
    witness = Witness(memory, SIGNER.key, WITNESS)
    first = reader(tmp_path)
    data = witness.add(first.note, first.consistency(0), 1_800_000_000)
    assert cosigned_at(data, WITNESS.key) == 1_800_000_000
    assert open_checkpoint(data, SIGNER.key).size == 10
    assert require_witnesses(data, [WITNESS.key, WITNESS.key], 1) == ["witness.example/1"]
    with pytest.raises(Untrusted):
        require_witnesses(data, [WITNESS.key, WITNESS.key], 2)
    with pytest.raises(Untrusted):
        require_witnesses(first.note, [WITNESS.key], 1)
    ledger.add([entry(10)])
    ledger.publish()
    again = Witness(memory, SIGNER.key, WITNESS)
    second = reader(tmp_path)
    again.add(second.note, second.consistency(10), 1_800_000_001)
    with pytest.raises(Untrusted, match="shrunk"):
        again.add(first.note, [], 1_800_000_002)


def test_a_witness_refuses_a_fork_that_the_ledgers_own_key_has_signed(tmp_path: Path) -> None:
    writer(tmp_path, entries(10))
    writer(tmp_path / "forked", [*entries(9), b"another", entry(10)])
    honest, forked = reader(tmp_path), reader(tmp_path / "forked")
    forked.verify()
    witness = Witness(tmp_path / "seen", SIGNER.key, WITNESS)
    witness.add(honest.note, (), 1)
    before = (tmp_path / "seen").read_bytes()
    with pytest.raises(Untrusted, match="forked"):
        witness.add(forked.note, forked.consistency(10), 2)
    assert (tmp_path / "seen").read_bytes() == before


def test_a_witness_needs_a_key_of_its_own_kind() -> None:
    note = sign_checkpoint(Checkpoint(ORIGIN, 0, EMPTY_ROOT), SIGNER)
    with pytest.raises(BadInput):
        cosign(note, OTHER, 1)


def test_entries_are_taken_up_while_the_ledger_is_written(tmp_path: Path) -> None:
    made, some, seen = writer(tmp_path, []), entries(3000), dict[int, bytes]()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def add() -> None:
        for number, one in enumerate(some):
            made.add([one])
            time.sleep(0.01 if number % 100 == 0 else 0)

    adding = threading.Thread(target=add)
    try:
        adding.start()
        while adding.is_alive() or made.waiting:
            made.publish()
            seen[made.checkpoint.size] = reader(tmp_path).checkpoint.root
    finally:
        sys.setswitchinterval(interval)
        adding.join()
    assert len(seen) > 3
    assert seen == {size: naive_root(some[:size]) for size in seen}
    assert [one for _, one in TileReader(directory_fetch(tmp_path / "ledger"), 3000).entries()] == some
