"""The attacks of the TUF specification, and of a server with stolen online keys, by a real server that misbehaves."""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, Targets

from tidegate.core.errors import Untrusted
from tidegate.core.model import Candidate
from tidegate.core.wire import encode, plain
from tidegate.trust.client import TrustClient
from tidegate.trust.errors import Unreachable
from tidegate.trust.keys import create_key, key_path, load_signer, load_signers
from tidegate.trust.layout import hashed_path, release_path
from tidegate.trust.metadata import latest_bytes, latest_versions, sign, target, versioned
from tidegate.trust.payload import verify_payload

if TYPE_CHECKING:
    from .conftest import House

SERVED_LIMIT = 8 << 20


class Mirror:
    """A static file server on loopback; `files` replaces what it serves, `endless` names what never ends."""

    def __init__(self, repo: Path) -> None:
        mirror, self.repo = self, repo
        self.files: dict[str, bytes] = {}
        self.endless: set[str] = set()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mirror.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.lstrip("/")
        file = self.repo / path
        if path in self.endless:
            request.send_response(200)
            request.end_headers()
            for _ in range(SERVED_LIMIT // 65_536):
                try:
                    request.wfile.write(b" " * 65_536)
                except OSError:
                    return
        elif path in self.files or file.is_file():
            request.send_response(200)
            request.end_headers()
            request.wfile.write(self.files.get(path) or file.read_bytes())
        else:
            request.send_error(404)

    def fetch(self, path: str, limit: int) -> bytes:
        """As a plain agent would: at most one byte more than allowed is read."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.server.server_port}/{path}", timeout=60) as response:
                return response.read(limit + 1)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 404:
                raise FileNotFoundError(path) from None
            raise


@pytest.fixture
def mirror(rolling: House) -> Iterator[Mirror]:
    made = Mirror(rolling.repo)
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def device(rolling: House, mirror: Mirror) -> TrustClient:
    return TrustClient(rolling.directory / "device", rolling.root, mirror.fetch, lambda: rolling.now)


def test_an_honest_mirror_is_believed(rolling: House, device: TrustClient) -> None:
    device.refresh()
    assert rolling.believed(device) == 1


@pytest.mark.parametrize(
    "name", ["metadata/2.root.json", "metadata/timestamp.json", "snapshot", "plans", "releases-edr-rules"]
)
def test_endless_data(rolling: House, mirror: Mirror, device: TrustClient, name: str) -> None:
    number = latest_versions(rolling.repo).get(name)
    mirror.endless.add(name if number is None else f"metadata/{number}.{name}.json")
    with pytest.raises(Untrusted, match="endless data"):
        device.refresh()
        rolling.believed(device)


def test_endless_targets(rolling: House, mirror: Mirror, device: TrustClient) -> None:
    device.refresh()
    for path in (rolling.repo / "targets").rglob("*.json"):
        mirror.endless.add(str(path.relative_to(rolling.repo)))
    with pytest.raises(Untrusted, match="endless data"):
        device.plan(rolling.component)


def test_arbitrary_installation(rolling: House, mirror: Mirror, device: TrustClient) -> None:
    device.refresh()
    plan, _ = device.plan(rolling.component)
    evil = encode(replace(rolling.manifest(9), seq=1))
    mirror.files[f"targets/releases/edr-rules/{plan.candidate.sha256}.1.json"] = evil.ljust(plan.candidate.length)
    with pytest.raises(Untrusted):
        device.release(rolling.component, plan.candidate)


def test_a_tampered_payload(rolling: House, mirror: Mirror, device: TrustClient, tmp_path: Path) -> None:
    device.refresh()
    manifest, _ = device.release(rolling.component, device.plan(rolling.component)[0].candidate)
    url = f"payloads/{manifest.payload.sha256}.tar"
    honest = mirror.fetch(url, manifest.payload.length)
    for data in (honest[:-1], honest + b"x", honest.replace(b"true", b"fals")):
        mirror.files[url] = data
        (tmp_path / "payload.tar").write_bytes(mirror.fetch(url, manifest.payload.length))
        with pytest.raises(Untrusted):
            verify_payload(tmp_path / "payload.tar", manifest.payload)
    (tmp_path / "payload.tar").write_bytes(honest)
    verify_payload(tmp_path / "payload.tar", manifest.payload)


def test_indefinite_freeze(rolling: House, mirror: Mirror, device: TrustClient) -> None:
    """A mirror that goes on serving old files is only believed for as long as these were signed for."""
    device.refresh()
    frozen, candidate = rolling.now, rolling.planned()
    mirror.files["metadata/timestamp.json"] = (rolling.repo / "metadata/timestamp.json").read_bytes()
    rolling.now = frozen + 601
    rolling.publish(rolling.plan(candidate, ring=2))
    device.refresh()
    with pytest.raises(Untrusted, match="the plan of edr-rules has expired"):
        device.plan(rolling.component)
    rolling.now = frozen + 3601
    with pytest.raises(Untrusted, match="expired"):
        device.refresh()


def test_rollback(rolling: House, mirror: Mirror, device: TrustClient) -> None:
    old = (rolling.repo / "metadata/timestamp.json").read_bytes()
    rolling.publish(rolling.plan(rolling.candidate(rolling.release(2))))
    device.refresh()
    mirror.files["metadata/timestamp.json"] = old
    with pytest.raises(Untrusted, match="must be >="):
        device.refresh()
    assert rolling.believed(device) == 2


def test_mix_and_match_of_snapshot_and_timestamp(rolling: House, mirror: Mirror, device: TrustClient) -> None:
    old_edition = rolling.publisher.version
    rolling.publish(rolling.plan(rolling.candidate(rolling.release(2))))
    old = versioned(rolling.repo, "snapshot", old_edition).read_bytes()
    mirror.files[f"metadata/{old_edition + 1}.snapshot.json"] = old
    with pytest.raises(Untrusted):
        device.refresh()
    mirror.files.clear()
    old = versioned(rolling.repo, "plans", old_edition).read_bytes()
    mirror.files[f"metadata/{old_edition + 1}.plans.json"] = old
    with pytest.raises(Untrusted):
        device.refresh()


def test_wrong_signatures(rolling: House, mirror: Mirror, device: TrustClient) -> None:
    plans = f"metadata/{rolling.publisher.version}.plans.json"
    honest = (rolling.repo / plans).read_bytes()
    stranger = create_key(rolling.directory / "strangers", "plans") and load_signer(
        key_path(rolling.directory / "strangers", "plans")
    )
    found = Metadata[Targets].from_bytes(honest)
    found.signatures.clear()
    for data in (sign(found, [stranger]), honest.replace(b'"length":', b'"length":1'), b"{}", b"", b"[" * 50_000):
        mirror.files[plans] = data or b" "
        with pytest.raises(Untrusted):
            device.refresh()


def test_a_server_that_only_fails(rolling: House, mirror: Mirror, device: TrustClient) -> None:
    device.refresh()
    assert rolling.believed(device) == 1
    mirror.server.shutdown()
    mirror.server.server_close()
    with pytest.raises(Unreachable):
        device.refresh()
    assert rolling.believed(device) == 1


def in_place_of(house: House, mirror: Mirror, role: str, found: Metadata[Targets], signers: Sequence[Signer]) -> None:
    """Serve this as the role's file of the edition that the standing snapshot names."""
    found.signatures.clear()
    mirror.files[f"metadata/{latest_versions(house.repo)[role]}.{role}.json"] = sign(found, signers)


def test_wrong_role(rolling: House, mirror: Mirror, device: TrustClient) -> None:
    """Every key that counts for something else signs a list of releases: none counts for it, nor all together."""
    found = Metadata[Targets].from_bytes(latest_bytes(rolling.repo, rolling.role))
    online = [load_signer(key_path(rolling.online, role)) for role in ("plans", "snapshot", "timestamp")]
    offline = [*load_signers(rolling.offline, "targets"), load_signer(key_path(rolling.offline, "promotions"))]
    device.refresh()
    for signers in ([], online, offline, [*online, *offline]):
        in_place_of(rolling, mirror, rolling.role, found, signers)
        with pytest.raises(Untrusted, match="was signed by 0/2 keys"):
            rolling.believed(device)
    in_place_of(rolling, mirror, rolling.role, found, load_signers(rolling.offline, "release"))
    assert rolling.believed(device) == 1


def test_a_role_signs_what_is_another_roles(rolling: House, mirror: Mirror, device: TrustClient) -> None:
    """The plans key lists a release of its own making: no device looks for a release there."""
    manifest = encode(replace(rolling.manifest(7), version="6.6"))
    path = release_path(rolling.component, 7)
    described = target(path, manifest, plain(rolling.terms(7)))
    candidate = Candidate(path, described.hashes["sha256"], len(manifest), 7)
    rolling.publish(rolling.plan(candidate))
    found = Metadata[Targets].from_bytes(latest_bytes(rolling.repo, "plans"))
    found.signed.targets[path] = described
    in_place_of(rolling, mirror, "plans", found, [load_signer(key_path(rolling.online, "plans"))])
    mirror.files[f"targets/{hashed_path(path, candidate.sha256)}"] = manifest
    device.refresh()
    with pytest.raises(Untrusted, match="have not signed or have withdrawn"):
        rolling.believed(device)


def test_key_compromise_below_threshold(rolling: House, mirror: Mirror, device: TrustClient) -> None:
    """One of three release keys is stolen: the thief signs, twice over if need be, and is not believed."""
    (stolen,) = load_signers(rolling.offline, "release")[:1]
    found = Metadata[Targets].from_bytes(rolling.sign(rolling.manifest(2), keys=1))
    found.signed.version = latest_versions(rolling.repo)[rolling.role]
    in_place_of(rolling, mirror, rolling.role, found, [stolen])
    device.refresh()
    with pytest.raises(Untrusted, match="was signed by 1/2 keys"):
        rolling.believed(device)
    name = f"metadata/{found.signed.version}.{rolling.role}.json"
    twice = json.loads(mirror.files[name])
    twice["signatures"] *= 2
    mirror.files[name] = json.dumps(twice).encode()
    with pytest.raises(Untrusted):
        rolling.believed(device)


@pytest.mark.parametrize("role", ["root", "targets"])
def test_compromise_of_one_root_or_targets_key(rolling: House, mirror: Mirror, device: TrustClient, role: str) -> None:
    """One of three holders signs a trunk in which her own key is enough for everything."""
    signer = load_signers(rolling.offline, role)[0]
    device.refresh()
    version = latest_versions(rolling.repo)[role]
    found: Metadata[Any] = Metadata.from_bytes(latest_bytes(rolling.repo, role))
    found.signatures.clear()
    if role == "root":
        found.signed.version = version = version + 1
        for held in found.signed.roles.values():
            held.threshold, held.keyids = 1, [signer.public_key.keyid]
        found.signed.keys[signer.public_key.keyid] = signer.public_key
    else:
        found.signed.expires += timedelta(days=3650)
    mirror.files[f"metadata/{version}.{role}.json"] = sign(found, [signer])
    fresh = TrustClient(rolling.directory / "fresh", rolling.root, mirror.fetch, lambda: rolling.now)
    with pytest.raises(Untrusted, match="was signed by 1/2 keys"):
        fresh.refresh()


def test_fast_forward_by_whoever_has_no_key(rolling: House, mirror: Mirror, device: TrustClient) -> None:
    """A higher number that nobody signed moves nothing, and the honest edition goes on being believed."""
    honest = (rolling.repo / "metadata/timestamp.json").read_bytes()
    value = json.loads(honest)
    value["signed"]["version"] = 2**31
    mirror.files["metadata/timestamp.json"] = json.dumps(value).encode()
    with pytest.raises(Untrusted, match="was signed by 0/1 keys"):
        device.refresh()
    mirror.files.clear()
    device.refresh()
    assert rolling.believed(device) == 1


def test_mix_and_match_of_a_plan_and_another_editions_release(
    rolling: House, mirror: Mirror, device: TrustClient
) -> None:
    """Each file is well signed, and they never stood together: the new plan with the release list before it."""
    old = latest_bytes(rolling.repo, rolling.role)
    rolling.publish(rolling.plan(rolling.candidate(rolling.release(2))))
    version = latest_versions(rolling.repo)[rolling.role]
    mirror.files[f"metadata/{version}.{rolling.role}.json"] = old
    device.refresh()
    with pytest.raises(Untrusted):
        rolling.believed(device)
    mirror.files.clear()
    assert rolling.believed(device) == 2
