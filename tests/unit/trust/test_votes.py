"""One key, one vote: under two ids, in two signatures, under two names in a policy, or as a key that is everybody's."""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import Metadata, Root, Targets

from tidegate.core.errors import BadInput, Untrusted
from tidegate.core.wire import canonical
from tidegate.trust import layout
from tidegate.trust.ceremony import begin_change, read_bundle, sign_bundle
from tidegate.trust.ceremony_accept import accept_bundle
from tidegate.trust.dsse import ed25519_key
from tidegate.trust.emergency import Stop, sign_stop, verify_stop
from tidegate.trust.evidence_policy import read_policy
from tidegate.trust.keys import load_signers, read_public
from tidegate.trust.metadata import latest_bytes, parse, sign, verify, versioned
from tidegate.trust.note import NoteKey, parse_key
from tidegate.trust.votes import check_all_votes, is_weak

if TYPE_CHECKING:
    from .conftest import House

pytestmark = pytest.mark.room("trust")
P = (1 << 255) - 19
D = -121665 * pow(121666, P - 2, P) % P


def _twin(signer: CryptoSigner) -> SSlibKey:
    """The same public key under an id of its own: what a stranger writes beside it makes another digest."""
    key = signer.public_key
    return SSlibKey("f" * 64, key.keytype, key.scheme, dict(key.keyval))


def _doubled(house: House) -> tuple[Metadata[Targets], list[CryptoSigner]]:
    """Targets, rightly signed, in which one release holder has two ids and another is gone."""
    targets = parse(Targets, latest_bytes(house.repo, layout.TARGETS), "targets")
    holders = load_signers(house.offline, "release")
    delegations = targets.signed.delegations
    assert delegations is not None and delegations.roles is not None
    role = delegations.roles[house.role]
    role.keyids = [holders[0].public_key.keyid]
    targets.signed.add_key(_twin(holders[0]), house.role)
    targets.signed.version += 1
    targets.signatures.clear()
    sign(targets, load_signers(house.offline, "targets"))
    return targets, [holders[0], CryptoSigner(holders[0]._private_key, _twin(holders[0]))]  # pyright: ignore


def test_one_release_key_under_two_ids_is_no_threshold_of_two(house: House) -> None:
    targets, both = _doubled(house)
    stop = sign_stop(Stop(house.component, ("all",), house.now), both)
    assert len(json.loads(stop)["signatures"]) == 2
    with pytest.raises(Untrusted, match="one key under two ids"):
        verify_stop(stop, house.component, targets.signed)
    found = parse(Targets, latest_bytes(house.repo, house.role), "the list")
    found.signatures.clear()
    sign(found, both)
    assert targets.signed.get_verification_result(house.role, found.signed_bytes, found.signatures), "the library does"
    with pytest.raises(Untrusted, match="one key under two ids"):
        verify(targets.signed, house.role, found, "the list")


def test_a_device_believes_no_targets_that_count_a_key_twice(rolling: House) -> None:
    device, _ = rolling.device()
    device.refresh()
    targets, _ = _doubled(rolling)
    versioned(rolling.repo, layout.TARGETS, targets.signed.version).write_bytes(targets.to_bytes())
    rolling.publisher.publish({}, rolling.now)
    for _ in range(2):  # nor at the next try
        with pytest.raises(Untrusted, match="one key under two ids"):
            device.refresh()
    fresh, _ = rolling.device("fresh")
    with pytest.raises(Untrusted, match="one key under two ids"):
        fresh.refresh()


def test_a_root_on_the_way_may_not_count_a_key_twice_either(rolling: House) -> None:
    """Root 2 gives one holder both votes, and root 3, which that holder alone has signed, looks as it should."""
    root = parse(Root, rolling.root, "root")
    holders = load_signers(rolling.offline, "root")
    root.signed.roles["root"].keyids = [holders[0].public_key.keyid]
    root.signed.add_key(_twin(holders[0]), "root")
    both = [holders[0], CryptoSigner(holders[0]._private_key, _twin(holders[0]))]  # pyright: ignore
    root.signatures.clear()
    for version in (2, 3):
        root.signed.version = version
        data = sign(root, [*holders, *both])
        versioned(rolling.repo, "root", version).write_bytes(data)
        root.signatures.clear()
        if version == 2:
            root.signed.revoke_key(_twin(holders[0]).keyid, "root")
            root.signed.roles["root"].threshold = 1
    device, _ = rolling.device()
    with pytest.raises(Untrusted, match="one key under two ids"):
        device.refresh()


@pytest.mark.parametrize("role", ["root", "targets", "releases-edr-rules"])
def test_no_ceremony_gives_a_holder_two_votes(house: House, role: str) -> None:
    prefix = "release" if role.startswith("releases") else role
    holder = load_signers(house.offline, prefix)[0]
    bundle = begin_change(house.repo, house.now, "a second key for zoe", add={role: [_twin(holder)]})
    with pytest.raises(Untrusted, match="one key under two ids"):  # on the holder's own machine
        sign_bundle(bundle, [holder])
    bundle = read_bundle(bundle.text())
    with pytest.raises(Untrusted, match="one key under two ids"):
        accept_bundle(house.repo, bundle, house.now)


def test_one_signature_twice_counts_once(house: House) -> None:
    found = parse(Targets, latest_bytes(house.repo, house.role), "the list")
    found.signatures.clear()
    signed = json.loads(sign(found, load_signers(house.offline, "release")[:1]))
    signed["signatures"] *= 2
    with pytest.raises(BadInput, match="no TUF metadata"):
        parse(Targets, json.dumps(signed).encode(), "the list")
    stop = json.loads(sign_stop(Stop(house.component, ("all",), house.now), load_signers(house.offline, "release")[:1]))
    stop["signatures"] *= 2
    trunk = parse(Targets, latest_bytes(house.repo, layout.TARGETS), "targets").signed
    with pytest.raises(Untrusted, match="1 valid signatures, 2 are needed"):
        verify_stop(canonical(stop), house.component, trunk)


def test_a_policy_that_names_one_key_twice_is_refused() -> None:
    key = NoteKey("x", bytes(range(32))).public.hex()
    demand = '[[require]]\npredicate = "review"\nkeys = ["eve", "zoe"]\nsigners = 2\n'
    for again in (key, key.upper()):
        with pytest.raises(BadInput, match="eve and zoe are one key"):
            read_policy(f'[keys]\neve = "{key}"\nzoe = "{again}"\n{demand}'.encode(), "policy.toml")


# --- keys that are everybody's --------------------------------------------------------------------------------------


def _double(x: int, y: int) -> tuple[int, int]:
    t = D * x * x * y * y % P
    return 2 * x * y * pow(1 + t, P - 2, P) % P, (y * y + x * x) * pow(1 - t, P - 2, P) % P


def _x_of(y: int) -> int | None:
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    root = pow(square, (P + 3) // 8, P)
    for x in (root, root * pow(2, (P - 1) // 4, P) % P):
        if x * x % P == square:
            return x
    return None


def _order_divides_8(y: int) -> bool:
    x = _x_of(y)
    if x is None:
        return False
    point = (x, y)
    for _ in range(3):
        point = _double(*point)
    return point == (0, 1)


WEAK_Y = [
    0,
    1,
    P - 1,
    2707385501144840649318225287225658788936804267575313519463743609750303402022,
    P - 2707385501144840649318225287225658788936804267575313519463743609750303402022,
]


def _raw(y: int, sign: int = 0) -> bytes:
    return (y | sign << 255).to_bytes(32, "little")


def test_the_weak_keys_are_those_of_small_order_and_those_in_another_form() -> None:
    # The eight points of small order have five different y: 1, -1, 0 (two points), and two pairs of order 8.
    assert all(_order_divides_8(y) for y in WEAK_Y) and len(set(WEAK_Y)) == 5
    for half in (0, 1):
        assert all(is_weak(_raw(y, half)) for y in WEAK_Y)
        assert all(is_weak(_raw(y, half)) for y in range(P, P + 19))
    assert not any(is_weak(_raw(y)) for y in range(2, 200) if not _order_divides_8(y))
    assert is_weak(b"") and is_weak(bytes(31)) and not is_weak(bytes(range(32)))


def test_anybody_signs_under_a_key_of_small_order_so_none_is_taken() -> None:
    identity, forged = _raw(1), _raw(1) + bytes(32)  # R = the neutral point, S = 0: holds for any message
    Ed25519PublicKey.from_public_bytes(identity).verify(forged, b"whatever you like")
    with pytest.raises(BadInput, match="anybody can own"):
        ed25519_key(identity.hex(), "keys.eve")
    with pytest.raises(BadInput, match="anybody can own"):
        parse_key(NoteKey("w.example", identity, 4).text())
    key = SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(identity))
    with pytest.raises(BadInput, match="anybody can own"):
        read_public(canonical({**key.to_dict(), "keyid": key.keyid, "name": "eve"}))


def test_targets_that_name_a_key_of_small_order_are_believed_by_nobody(house: House) -> None:
    targets = parse(Targets, latest_bytes(house.repo, layout.TARGETS), "targets").signed
    check_all_votes(targets)
    targets.add_key(SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(_raw(P - 1))), house.role)
    with pytest.raises(Untrusted, match="anybody can sign"):
        check_all_votes(targets)


def test_a_signature_whose_number_is_not_the_least_is_refused(house: House) -> None:
    """S and S + L verify alike where nobody looks: then one signature has two forms, and digests of files differ."""
    signer = load_signers(house.offline, "release")[0]
    raw = bytes.fromhex(signer.sign(b"message").signature)
    order = (1 << 252) + 27742317777372353535851937790883648493
    other = raw[:32] + (int.from_bytes(raw[32:], "little") + order).to_bytes(32, "little")
    key = NoteKey("x", bytes.fromhex(signer.public_key.keyval["public"]))
    assert key.holds(b"message", raw) and not key.holds(b"message", other)
