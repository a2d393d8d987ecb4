"""What the signed targets say of the ledger: who may change it, how devices learn it, and what it binds."""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.unit.trust.conftest import COMPONENT, NOW, House
from tuf.api.metadata import Targets

from tidegate.agent.inclusion import Inclusion
from tidegate.core.errors import BadInput, Refused, Untrusted
from tidegate.core.model import Candidate
from tidegate.core.speed import not_before
from tidegate.core.wire import canonical, plain
from tidegate.trust.ceremony import Bundle, begin_change, metadata_of, sign_bundle
from tidegate.trust.ceremony_accept import accept_bundle
from tidegate.trust.ceremony_words import describe
from tidegate.trust.checkpoint import Checkpoint, sign_checkpoint
from tidegate.trust.keys import create_key, ledger_publics, load_signers, online_ids
from tidegate.trust.ledger_policy import LedgerPolicy, NamedWitness, policy_of
from tidegate.trust.ledger_proof import EntryProof
from tidegate.trust.merkle import Tree, leaf_hash
from tidegate.trust.metadata import latest_bytes, parse, sign
from tidegate.trust.note import COSIGNATURE, NoteKey, NoteSigner
from tidegate.trust.repository import init_repository
from tidegate.trust.witness import cosign

LEDGER = NoteSigner("ledger.example/one", Ed25519PrivateKey.generate())
WITNESSES = [NoteSigner(f"w{n}.example", Ed25519PrivateKey.generate(), COSIGNATURE) for n in (1, 2, 3)]
NAMED = tuple(NamedWitness(witness.key.text(), "https://w.example") for witness in WITNESSES)
CANDIDATE = Candidate("releases/edr-rules/1.json", "ab" * 32, 100, 1)
ENTRY = canonical({"kind": "release", "component": COMPONENT, "digest": CANDIDATE.sha256, "seq": 1})


def change(house: House, policy: LedgerPolicy) -> Bundle:
    return begin_change(house.repo, house.now, "the ledger", ledger=policy)


def put_in_force(house: House, policy: LedgerPolicy) -> None:
    bundle, _ = sign_bundle(change(house, policy), load_signers(house.offline, "targets")[:2])
    accept_bundle(house.repo, bundle, house.now)
    house.publisher.refresh(house.now + 3000)


def test_the_first_targets_name_the_ledger_and_devices_learn_it(house: House) -> None:
    made = house.directory / "fresh"
    key = create_key(made / "online", "ledger")
    init_repository(made / "repo", made / "offline", made / "online", [COMPONENT], NOW, ledger=key)
    found = policy_of(parse(Targets, latest_bytes(made / "repo", "targets"), "targets").signed)
    assert found is not None and found.demand and not found.witnesses
    assert found.note_key.public == bytes.fromhex(key.keyval["public"])
    assert found.key.startswith("tidegate.local/")


def test_it_changes_by_enough_targets_keys_and_says_so(rolling: House) -> None:
    bundle = change(rolling, LedgerPolicy(LEDGER.key.text(), witnesses=NAMED, quorum=2))
    said = "\n".join(describe(bundle))
    assert f"the ledger is {LEDGER.key.text()}" in said and "2 witnesses must have cosigned" in said
    assert said.count("  witness w") == 3 and "devices take no release without its proof" in said
    one, _ = sign_bundle(bundle, load_signers(rolling.offline, "targets")[:1])
    with pytest.raises(Untrusted, match="1 valid signatures"):
        accept_bundle(rolling.repo, one, rolling.now)
    for wrong in ("release", "root"):
        with pytest.raises(Refused, match="no say"):
            sign_bundle(bundle, load_signers(rolling.offline, wrong)[:2])
    put_in_force(rolling, LedgerPolicy(LEDGER.key.text(), witnesses=NAMED, quorum=2))
    rolling.now += 60
    device, _ = rolling.device()
    device.refresh()
    found = device.ledger_policy()
    assert found is not None and found.quorum == 2 and found.witnesses == NAMED
    loose = "\n".join(describe(change(rolling, replace(found, demand=False, witnesses=NAMED[:1], quorum=1))))
    assert "DEVICES DEMAND NO PROOF" in loose and loose.count("no witness any more") == 2
    with pytest.raises(Refused, match="nothing would change"):
        change(rolling, found)


def test_a_key_that_the_server_does_not_hold_is_not_put_in_force(rolling: House) -> None:
    create_key(rolling.online, "ledger")
    bundle, _ = sign_bundle(change(rolling, LedgerPolicy(LEDGER.key.text())), load_signers(rolling.offline, "targets"))
    held = {"online": online_ids(rolling.online), "ledger": ledger_publics(rolling.online)}
    with pytest.raises(Refused, match="does not hold the ledger key"):
        accept_bundle(rolling.repo, bundle, rolling.now, **held)  # pyright: ignore[reportArgumentType]
    (public,) = ledger_publics(rolling.online)
    mine = LedgerPolicy(NoteKey("own.example", public).text())
    bundle, _ = sign_bundle(change(rolling, mine), load_signers(rolling.offline, "targets"))
    assert accept_bundle(rolling.repo, bundle, rolling.now, **held) == ["targets"]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("wrong", [{"v": 2}, {"key": "nonsense"}, {"quorum": 4}, {"more": 1}, "nothing", []])
def test_a_policy_that_cannot_be_read_is_signed_by_nobody_and_stops_devices(rolling: House, wrong: Any) -> None:
    bundle = change(rolling, LedgerPolicy(LEDGER.key.text()))
    metadata = metadata_of("targets", bundle.following["targets"])
    value = {**plain(LedgerPolicy(LEDGER.key.text())), **wrong} if isinstance(wrong, dict) else wrong
    metadata.signed.unrecognized_fields["tidegate"] = {"ledger": value}
    odd = replace(bundle, following={"targets": metadata.to_bytes().decode()})
    with pytest.raises(BadInput):
        describe(odd)
    with pytest.raises(BadInput):
        sign_bundle(odd, load_signers(rolling.offline, "targets"))
    signed = sign(metadata, load_signers(rolling.offline, "targets"))
    with pytest.raises(BadInput):
        accept_bundle(rolling.repo, replace(odd, following={"targets": signed.decode()}), rolling.now)
    (rolling.repo / "metadata" / "2.targets.json").write_bytes(signed)
    rolling.publisher.refresh(rolling.now + 3000)
    rolling.now += 60
    device, _ = rolling.device()
    device.refresh()
    with pytest.raises(Untrusted, match="cannot be read"):
        device.ledger_policy()


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": WITNESSES[0].key.text()},
        {"witnesses": (NamedWitness(WITNESSES[0].key.text()),) * 2},
        {"witnesses": NAMED, "quorum": 4},
        {"quorum": 1},
        {"quorum": -1},
        {"witnesses": (NAMED[0], NamedWitness(NoteKey("other", WITNESSES[0].key.public, COSIGNATURE).text()))},
    ],
)
def test_a_policy_that_promises_what_cannot_be_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError):
        LedgerPolicy(**{"key": LEDGER.key.text(), **wrong})


@pytest.mark.parametrize(
    "url", ["ftp://x", "w.example", "https://", "https://u:p@w.example", "https://w .example", "http://[::1"]
)
def test_a_witness_has_an_address_without_a_password(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        NamedWitness(WITNESSES[0].key.text(), url)


def test_it_is_written_as_a_tlog_policy() -> None:
    text = LedgerPolicy(LEDGER.key.text(), witnesses=NAMED, quorum=2).text()
    assert text.splitlines()[0] == f"log {LEDGER.key.text()}"
    assert text.endswith("group all-witnesses 2 w1 w2 w3\nquorum all-witnesses\n")
    assert LedgerPolicy(LEDGER.key.text()).text().endswith("quorum none\n")


def proof(*times: int) -> bytes:
    tree = Tree([leaf_hash(b"{}"), leaf_hash(ENTRY)])
    note = sign_checkpoint(Checkpoint(LEDGER.key.name, 2, tree.root()), LEDGER)
    for witness, at in zip(WITNESSES, times, strict=False):
        note = cosign(note, witness, at)
    return EntryProof(1, tuple(tree.prove(1)), note).data()


def demanding(data: bytes | None, entry: bytes = ENTRY, **own: Any) -> Inclusion:
    def fetch(path: str, most: int) -> bytes:
        if data is None:
            raise FileNotFoundError(path)
        return entry if path.endswith(".json") else data

    return Inclusion(fetch, **own)


def test_what_a_device_demands_is_what_was_signed_unless_its_owner_pinned_a_key() -> None:
    policy = LedgerPolicy(LEDGER.key.text(), witnesses=NAMED, quorum=2)
    assert demanding(None).check(COMPONENT, CANDIDATE, None, NOW) == 0
    assert demanding(None).check(COMPONENT, CANDIDATE, replace(policy, demand=False), NOW) == 0
    for data, says in ((None, "no proof"), (proof(), "0 of the 2"), (proof(NOW), "1 of the 2")):
        with pytest.raises(Untrusted, match=says):
            demanding(data).check(COMPONENT, CANDIDATE, policy, NOW)
    assert demanding(proof(NOW, NOW + 5, NOW + 9)).check(COMPONENT, CANDIDATE, policy, NOW) == NOW + 5
    other = NoteSigner("other", Ed25519PrivateKey.generate()).key.text()
    with pytest.raises(Untrusted, match="not proved"):
        demanding(proof(NOW, NOW), key=other).check(COMPONENT, CANDIDATE, policy, NOW)
    own = demanding(proof(NOW, NOW), key=LEDGER.key.text())
    assert own.check(COMPONENT, CANDIDATE, replace(policy, demand=False), NOW) == NOW
    with pytest.raises(Untrusted, match="1 of the 2"):
        demanding(proof(NOW), key=LEDGER.key.text()).check(COMPONENT, CANDIDATE, policy, NOW)


def test_a_witness_that_dates_its_word_ahead_holds_nobody_back() -> None:
    policy = LedgerPolicy(LEDGER.key.text(), witnesses=NAMED, quorum=1)
    ahead = NOW + 365 * 86_400
    assert demanding(proof(ahead, NOW + 5)).check(COMPONENT, CANDIDATE, policy, NOW) == NOW + 5
    for times in ((ahead,), (ahead, ahead, ahead)):
        with pytest.raises(Untrusted, match="0 of the 1"):
            demanding(proof(*times)).check(COMPONENT, CANDIDATE, policy, NOW)
    both = replace(policy, quorum=2)
    with pytest.raises(Untrusted, match="1 of the 2"):
        demanding(proof(ahead, NOW)).check(COMPONENT, CANDIDATE, both, NOW)


def test_a_proof_of_another_place_in_the_ledger_proves_nothing() -> None:
    tree = Tree([leaf_hash(b"[]"), leaf_hash(ENTRY), leaf_hash(b"{}")])
    note = sign_checkpoint(Checkpoint(LEDGER.key.name, 3, tree.root()), LEDGER)
    policy = LedgerPolicy(LEDGER.key.text())
    demanding(EntryProof(1, tuple(tree.prove(1)), note).data()).check(COMPONENT, CANDIDATE, policy, NOW)
    for index, way in ((0, 1), (1, 0), (2, 1), (1, 2), (3, 1), (2**62, 1)):
        moved = EntryProof(index, tuple(tree.prove(way)), note).data()
        with pytest.raises(Untrusted, match="not proved"):
            demanding(moved).check(COMPONENT, CANDIDATE, policy, NOW)
    for index in ("-1", "01", "+1", "1 ", "\u0661", "1" * 5000):
        data = EntryProof(1, tuple(tree.prove(1)), note).data().replace(b"index 1", f"index {index}".encode())
        with pytest.raises(Untrusted, match="not proved"):
            demanding(data).check(COMPONENT, CANDIDATE, policy, NOW)


@pytest.mark.parametrize(
    "entry",
    [
        ENTRY.replace(b"{", b'{"digest":"' + b"0" * 64 + b'",', 1),  # whoever reads the first sees another release
        ENTRY.replace(b":", b": ", 1),
        ENTRY + b"\n",
        ENTRY.replace(b'"seq":', b'"seq":NaN,"seq":'),
        ENTRY.replace(b"release", b"rel\\u0065ase", 1),
    ],
    ids=["twice", "space", "line", "NaN", "escape"],
)
def test_an_entry_that_two_readers_could_read_differently_proves_nothing(entry: bytes) -> None:
    tree = Tree([leaf_hash(b"{}"), leaf_hash(entry)])
    note = sign_checkpoint(Checkpoint(LEDGER.key.name, 2, tree.root()), LEDGER)
    data = EntryProof(1, tuple(tree.prove(1)), note).data()
    with pytest.raises(Untrusted, match="of something else"):
        demanding(data, entry).check(COMPONENT, CANDIDATE, LedgerPolicy(LEDGER.key.text()), NOW)


def test_a_release_that_is_dated_back_begins_when_witnesses_saw_it(house: House) -> None:
    terms = house.terms(1)
    assert not_before(terms, 0) is terms
    assert not_before(terms, NOW - 1) is terms
    assert not_before(terms, NOW + 500).speed.logged == NOW + 500
    late = not_before(terms, terms.speed.not_after + 1000).speed
    assert (late.logged, late.not_after) == (terms.speed.not_after - 1, terms.speed.not_after)
