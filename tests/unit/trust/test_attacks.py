"""The attacks of the TUF specification, and of a server with stolen online keys, by a real server that misbehaves."""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tuf.api.metadata import Metadata, MetaFile, Snapshot, Targets, Timestamp

from tidegate.core.errors import Untrusted
from tidegate.core.wire import encode, plain
from tidegate.trust.client import TrustClient
from tidegate.trust.errors import Unreachable
from tidegate.trust.keys import create_key, key_path, load_signer, load_signers
from tidegate.trust.metadata import latest_bytes, latest_versions, moment, sign, target, versioned
from tidegate.trust.payload import verify_payload
from tidegate.trust.release import accept_release
from tidegate.trust.repository import add_component

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
            with urllib.request.urlopen(f"http://127.0.0.1:{self.server.server_port}/{path}", timeout=5) as response:
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


class Thief:
    """Whoever holds every online key: writes whatever editions it likes into the repository."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.signers = {role: load_signer(key_path(house.online, role)) for role in ("plans", "snapshot", "timestamp")}

    def publish(self, plans: dict[str, bytes], roles: dict[str, int] | None = None, *, plans_by: str = "plans") -> None:
        repo, now = self.house.repo, self.house.now
        known = latest_versions(repo)
        edition = known["plans"] + 1
        described = {path: target(path, data) for path, data in plans.items()}
        for path, data in plans.items():
            directory, _, name = path.rpartition("/")
            place = repo / "targets" / directory
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{described[path].hashes['sha256']}.{name}").write_bytes(data)
        versions = (
            {r: v for r, v in known.items() if r not in ("root", "snapshot")} | {"plans": edition} | (roles or {})
        )
        meta = {f"{role}.json": MetaFile(version) for role, version in versions.items()}
        parts = {
            "plans": Metadata(Targets(edition, None, moment(now, 3600), described)),
            "snapshot": Metadata(Snapshot(edition, None, moment(now, 3600), meta)),
            "timestamp": Metadata(Timestamp(edition, None, moment(now, 3600), MetaFile(edition))),
        }
        for role, metadata in parts.items():
            signer = self.signers[plans_by if role == "plans" else role]
            path = repo / "metadata" / "timestamp.json" if role == "timestamp" else versioned(repo, role, edition)
            path.write_bytes(sign(metadata, [signer]))


def believed(house: House, device: TrustClient) -> int:
    plan, _ = device.plan(house.component)
    return device.release(house.component, plan.candidate)[0].seq


def test_an_honest_mirror_is_believed(rolling: House, device: TrustClient) -> None:
    device.refresh()
    assert believed(rolling, device) == 1


@pytest.mark.parametrize(
    "name", ["metadata/2.root.json", "metadata/timestamp.json", "snapshot", "plans", "releases-edr-rules"]
)
def test_endless_data(rolling: House, mirror: Mirror, device: TrustClient, name: str) -> None:
    number = latest_versions(rolling.repo).get(name)
    mirror.endless.add(name if number is None else f"metadata/{number}.{name}.json")
    with pytest.raises(Untrusted, match="endless data"):
        device.refresh()
        believed(rolling, device)


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
    frozen, candidate = rolling.now, device_candidate(rolling)
    mirror.files["metadata/timestamp.json"] = (rolling.repo / "metadata/timestamp.json").read_bytes()
    rolling.now = frozen + 601
    rolling.publish(rolling.plan(candidate, ring=2))
    device.refresh()
    with pytest.raises(Untrusted, match="the plan of edr-rules has expired"):
        device.plan(rolling.component)
    rolling.now = frozen + 3601
    with pytest.raises(Untrusted, match="expired"):
        device.refresh()


def device_candidate(house: House):
    probe, _ = house.device("probe")
    probe.refresh()
    return probe.plan(house.component)[0].candidate


def test_rollback(rolling: House, mirror: Mirror, device: TrustClient) -> None:
    old = (rolling.repo / "metadata/timestamp.json").read_bytes()
    rolling.publish(rolling.plan(rolling.candidate(rolling.release(2))))
    device.refresh()
    mirror.files["metadata/timestamp.json"] = old
    with pytest.raises(Untrusted, match="must be >="):
        device.refresh()
    assert believed(rolling, device) == 2


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
    assert believed(rolling, device) == 1
    mirror.server.shutdown()
    mirror.server.server_close()
    with pytest.raises(Unreachable):
        device.refresh()
    assert believed(rolling, device) == 1


# With every online key stolen -----------------------------------------------------------------------------------


def _other_digest(house: House, thief: Thief) -> None:
    """Names a manifest of its own under a release's path, and serves it."""
    candidate = house.candidate(house.release(2))
    evil = encode(house.manifest(2, "rule evil { condition: true }"))
    fake = target(candidate.path, evil)
    plan = house.plan(replace(candidate, sha256=fake.hashes["sha256"], length=len(evil)))
    (house.repo / "targets/releases/edr-rules" / f"{fake.hashes['sha256']}.2.json").write_bytes(evil)
    thief.publish({"plans/edr-rules.json": encode(plan)})


def _own_target(house: House, thief: Thief) -> None:
    """Signs the release itself, with the plans key."""
    evil = encode(house.manifest(2, "rule evil { condition: true }"))
    fake = target("releases/edr-rules/2.json", evil, plain(house.terms(2)))
    plan = house.plan(
        replace(device_candidate(house), path=fake.path, sha256=fake.hashes["sha256"], length=len(evil), seq=2)
    )
    thief.publish({"plans/edr-rules.json": encode(plan), fake.path: evil})


def _path_of_another_role(house: House, thief: Thief) -> None:
    """Names a target that the plans key may sign."""
    evil = encode(house.manifest(2, "rule evil { condition: true }"))
    fake = target("plans/evil.json", evil, plain(house.terms(2)))
    plan = house.plan(
        replace(device_candidate(house), path=fake.path, sha256=fake.hashes["sha256"], length=len(evil), seq=2)
    )
    thief.publish({"plans/edr-rules.json": encode(plan), fake.path: evil})


def _other_seq(house: House, thief: Thief) -> None:
    candidate = device_candidate(house)
    thief.publish({"plans/edr-rules.json": encode(house.plan(replace(candidate, seq=2)))})


def _other_length(house: House, thief: Thief) -> None:
    candidate = device_candidate(house)
    thief.publish({"plans/edr-rules.json": encode(house.plan(replace(candidate, length=candidate.length + 1)))})


def _one_release_key(house: House, thief: Thief) -> None:
    """Has stolen one release key besides: a list signed by it alone."""
    manifest = house.manifest(2)
    signed = house.sign(manifest, keys=1)
    versioned(house.repo, house.role, 3).write_bytes(signed)
    candidate = replace(device_candidate(house), path="releases/edr-rules/2.json", seq=2)
    described = Metadata[Targets].from_bytes(signed).signed.targets[candidate.path]
    (house.repo / "targets/releases/edr-rules" / f"{described.hashes['sha256']}.2.json").write_bytes(encode(manifest))
    plan = house.plan(replace(candidate, sha256=described.hashes["sha256"], length=described.length))
    thief.publish({"plans/edr-rules.json": encode(plan)}, {house.role: 3})


def _own_targets(house: House, thief: Thief) -> None:
    """Delegates the releases to a key of its own, in targets metadata that it signs itself."""
    found = Metadata[Targets].from_bytes(latest_bytes(house.repo, "targets"))
    assert found.signed.delegations and found.signed.delegations.roles
    key = thief.signers["plans"].public_key
    found.signed.delegations.roles[house.role].keyids = [key.keyid]
    found.signed.version += 1
    found.signatures.clear()
    versioned(house.repo, "targets", found.signed.version).write_bytes(sign(found, [thief.signers["plans"]]))
    thief.publish({"plans/edr-rules.json": encode(house.plan(device_candidate(house)))})


def _no_plans_key(house: House, thief: Thief) -> None:
    """Has snapshot and timestamp alone."""
    plan = house.plan(device_candidate(house), ring=99)
    thief.publish({"plans/edr-rules.json": encode(plan)}, plans_by="snapshot")


def _component_of_another(house: House, thief: Thief) -> None:
    """Gives a component the release of another one."""
    add_component(house.repo, house.offline, "dns-filter", house.now)
    candidate = device_candidate(house)
    plan = replace(house.plan(candidate), component="dns-filter")
    thief.publish({"plans/dns-filter.json": encode(plan)})


ATTACKS: dict[Callable[[House, Thief], None], str] = {
    _other_digest: "names another releases/edr-rules/2.json than the release keys signed",
    _own_target: "which the release keys have not signed",
    _path_of_another_role: "which is no release of its own",
    _other_seq: "names releases/edr-rules/1.json, which is no release of its own",
    _other_length: "names another releases/edr-rules/1.json than the release keys signed",
    _one_release_key: "was signed by 1/2 keys",
    _own_targets: "was signed by 0/2 keys",
    _no_plans_key: "was signed by 0/1 keys",
    _component_of_another: "names releases/edr-rules/1.json, which is no release of its own",
}


@pytest.mark.parametrize(("attack", "words"), ATTACKS.items(), ids=[attack.__name__.strip("_") for attack in ATTACKS])
def test_all_online_keys_stolen(
    rolling: House, device: TrustClient, attack: Callable[[House, Thief], None], words: str
) -> None:
    """Whatever the thief publishes, no manifest is given out but the one that two release keys signed."""
    device.refresh()
    assert believed(rolling, device) == 1
    attack(rolling, Thief(rolling))
    for client in (device, rolling.device("fresh")[0]):
        with pytest.raises(Untrusted, match=words):
            client.refresh()
            for component in client.components():
                client.release(component, client.plan(component)[0].candidate)


def test_two_release_keys_are_enough_and_one_is_not_even_countersigned_by_itself(rolling: House) -> None:
    manifest = rolling.manifest(2)
    once = Metadata[Targets].from_bytes(rolling.sign(manifest, keys=1))
    twice = sign(once, load_signers(rolling.offline, "release")[:1])
    assert len(Metadata[Targets].from_bytes(twice).signatures) == 1


def withdraw_first(house: House) -> bytes:
    """Withdraw release 1 offline and publish that; gives the plan file that still named it."""
    plan = encode(house.plan(device_candidate(house)))
    manifest = house.manifest(2)
    signed = house.sign(manifest, drop=["releases/edr-rules/1.json"])
    accept_release(house.repo, house.component, signed, encode(manifest), house.now)
    house.publisher.publish({house.component: plan}, house.now)
    return plan


@pytest.mark.parametrize("lost", [[], ["timestamp", "snapshot", "releases-edr-rules"]])
def test_a_withdrawn_release_is_not_brought_back_by_online_keys(rolling: House, lost: list[str]) -> None:
    """Also when a power cut has emptied all that the library remembers."""
    plan = withdraw_first(rolling)
    rolling.device()[0].refresh()
    for role in lost:
        (rolling.directory / "device" / "metadata" / f"{role}.json").write_bytes(b"")
    Thief(rolling).publish({"plans/edr-rules.json": plan}, {rolling.role: 2})
    with pytest.raises(Untrusted):
        rolling.device()[0].refresh()


def test_a_device_that_never_saw_the_withdrawal_can_be_shown_the_older_list_until_that_expires(rolling: House) -> None:
    """A known limit, bounded by the list's expiry, by not_after and by the speed limit."""
    plan = withdraw_first(rolling)
    Thief(rolling).publish({"plans/edr-rules.json": plan}, {rolling.role: 2})
    fresh, _ = rolling.device("fresh")
    fresh.refresh()
    assert believed(rolling, fresh) == 1
    candidate = fresh.plan(rolling.component)[0].candidate
    rolling.now += 31 * 86_400
    Thief(rolling).publish({"plans/edr-rules.json": encode(rolling.plan(candidate))}, {rolling.role: 2})
    fresh.refresh()
    with pytest.raises(Untrusted, match="expired"):
        believed(rolling, fresh)
