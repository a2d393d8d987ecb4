"""Who may hand trust on: nobody but the targets, whose offline keys do it. By a real server, in front of a device."""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Targets

from tidegate.agent.transport import Server
from tidegate.core.errors import Untrusted
from tidegate.core.model import Candidate
from tidegate.core.wire import encode, plain
from tidegate.trust import layout
from tidegate.trust.client import TrustClient
from tidegate.trust.keys import key_path, load_signer, load_signers
from tidegate.trust.metadata import latest_bytes, latest_versions, parse, sign, target, versioned
from tidegate.trust.release import accept_release

if TYPE_CHECKING:
    from .conftest import House, Thief

pytestmark = pytest.mark.room("trust")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def device(rolling: House) -> Iterator[TrustClient]:
    """A device that reads the repository by the agent's own HTTP."""
    web = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=rolling.repo))
    threading.Thread(target=web.serve_forever, args=(0.01,), daemon=True).start()
    address = f"http://127.0.0.1:{web.server_port}"
    server = Server(address, address, lambda path, body: "")
    yield TrustClient(rolling.directory / "device", rolling.root, server.fetch, lambda: rolling.now)
    server.close()
    web.shutdown()
    web.server_close()


def _handing_on(found: Targets, signer: CryptoSigner, name: str, paths: list[str], *, terminating: bool) -> None:
    """Let a role hand all of these paths on to a key."""
    key = signer.public_key
    role = DelegatedRole(name, [key.keyid], 1, terminating, paths)
    found.delegations = Delegations({key.keyid: key}, {name: role})


def _made_up(house: House) -> tuple[Candidate, dict[str, object], bytes]:
    """A release of the thief's own making, as its list would name it."""
    manifest = encode(house.manifest(7))
    path = layout.release_path(house.component, 7)
    described = target(path, manifest, plain(house.terms(7)))
    place = house.repo / "targets" / layout.hashed_path(path, described.hashes["sha256"])
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(manifest)
    return Candidate(path, described.hashes["sha256"], len(manifest), 7), {path: described}, manifest


@pytest.mark.parametrize("terminating", [True, False])
@pytest.mark.parametrize("name", ["releases-own", "releases-edr-rules", "emergency"])
def test_the_plans_key_hands_no_trust_on(
    rolling: House, thief: Thief, device: TrustClient, name: str, terminating: bool
) -> None:
    """It delegates releases to itself, under a name of its own or that of another role, and signs what it likes."""
    device.refresh()
    candidate, listed, _ = _made_up(rolling)
    signer = thief.signers["plans"]
    forged = Metadata(Targets(2**20, None, parse(Targets, latest_bytes(rolling.repo, "plans"), "p").signed.expires))
    forged.signed.targets.update(listed)  # pyright: ignore[reportArgumentType, reportCallIssue]
    versioned(rolling.repo, name, 2**20).write_bytes(sign(forged, [signer]))
    standing = latest_versions(rolling.repo)["plans"]
    thief.publish({layout.plan_path(rolling.component): encode(rolling.plan(candidate))}, roles={name: 2**20})
    plans = parse(Targets, versioned(rolling.repo, "plans", standing + 1).read_bytes(), "plans")
    _handing_on(plans.signed, signer, name, ["releases/*/*", "emergency/*/*"], terminating=terminating)
    plans.signatures.clear()
    versioned(rolling.repo, "plans", standing + 1).write_bytes(sign(plans, [signer]))
    with pytest.raises(Untrusted):
        device.refresh()
        device.release(rolling.component, candidate)
    assert rolling.component in device.components()


def test_release_keys_hand_no_trust_on_either(rolling: House, device: TrustClient) -> None:
    """Two holders sign a list that lets one key of theirs sign more: the server refuses it, and so does a device."""
    device.refresh()
    candidate, listed, manifest = _made_up(rolling)
    holders = load_signers(rolling.offline, "release")
    found = parse(Targets, rolling.sign(rolling.manifest(2)), "the list")
    _handing_on(found.signed, holders[0], "releases-more", ["releases/edr-rules/*"], terminating=True)
    found.signatures.clear()
    data = sign(found, holders[:2])
    with pytest.raises(Untrusted, match="hands its trust on"):
        accept_release(rolling.repo, rolling.component, data, encode(rolling.manifest(2)), rolling.now)
    versioned(rolling.repo, rolling.role, found.signed.version).write_bytes(data)  # by whoever has the server
    more = copy.deepcopy(found)
    more.signed.delegations = None
    more.signed.targets = listed  # pyright: ignore[reportAttributeAccessIssue]
    more.signatures.clear()
    versioned(rolling.repo, "releases-more", 1).write_bytes(sign(more, holders[:1]))
    rolling.publish(rolling.plan(candidate))
    device.refresh()
    with pytest.raises(Untrusted, match="have not signed or have withdrawn"):
        device.release(rolling.component, candidate)
    assert manifest


def test_one_components_keys_sign_nothing_of_anothers_by_any_spelling(rolling: House, device: TrustClient) -> None:
    device.refresh()
    _, listed, _ = _made_up(rolling)
    (described,) = listed.values()
    for path in ("releases/edr-rules/x/7.json", "releases/*/7.json", "releases/edr-rules", "releases//7.json", "*"):
        candidate = Candidate(path, described.hashes["sha256"], described.length, 7)  # pyright: ignore
        with pytest.raises(Untrusted, match="no release of its own"):
            device.release(rolling.component, candidate)
    with pytest.raises(Untrusted, match="no release of its own"):
        device.release("dns-filter", Candidate(layout.release_path("dns-filter", 7), "ab" * 32, 10, 7))
    assert load_signer(key_path(rolling.online, "plans"))
