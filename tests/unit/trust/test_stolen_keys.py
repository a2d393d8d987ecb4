"""A server with every online key stolen: what it can still do, and what no device lets it do."""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tuf.api.metadata import Metadata, TargetFile, Targets

from tidegate.core.errors import Untrusted
from tidegate.core.model import Candidate
from tidegate.core.wire import encode, plain
from tidegate.trust.client import TrustClient
from tidegate.trust.keys import load_signers
from tidegate.trust.metadata import latest_bytes, sign, target, versioned
from tidegate.trust.release import accept_release
from tidegate.trust.repository import add_component

if TYPE_CHECKING:
    from .conftest import House, Thief


@pytest.fixture
def device(rolling: House) -> TrustClient:
    return rolling.device()[0]


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
    plan = house.plan(replace(house.planned(), path=fake.path, sha256=fake.hashes["sha256"], length=len(evil), seq=2))
    thief.publish({"plans/edr-rules.json": encode(plan), fake.path: evil})


def _path_of_another_role(house: House, thief: Thief) -> None:
    """Names a target that the plans key may sign."""
    evil = encode(house.manifest(2, "rule evil { condition: true }"))
    fake = target("plans/evil.json", evil, plain(house.terms(2)))
    plan = house.plan(replace(house.planned(), path=fake.path, sha256=fake.hashes["sha256"], length=len(evil), seq=2))
    thief.publish({"plans/edr-rules.json": encode(plan), fake.path: evil})


def _other_seq(house: House, thief: Thief) -> None:
    candidate = house.planned()
    thief.publish({"plans/edr-rules.json": encode(house.plan(replace(candidate, seq=2)))})


def _other_length(house: House, thief: Thief) -> None:
    candidate = house.planned()
    thief.publish({"plans/edr-rules.json": encode(house.plan(replace(candidate, length=candidate.length + 1)))})


def _one_release_key(house: House, thief: Thief) -> None:
    """Has stolen one release key besides: a list signed by it alone."""
    manifest = house.manifest(2)
    signed = house.sign(manifest, keys=1)
    versioned(house.repo, house.role, 3).write_bytes(signed)
    candidate = replace(house.planned(), path="releases/edr-rules/2.json", seq=2)
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
    thief.publish({"plans/edr-rules.json": encode(house.plan(house.planned()))})


def _no_plans_key(house: House, thief: Thief) -> None:
    """Has snapshot and timestamp alone."""
    plan = house.plan(house.planned(), ring=99)
    thief.publish({"plans/edr-rules.json": encode(plan)}, plans_by="snapshot")


def _component_of_another(house: House, thief: Thief) -> None:
    """Gives a component the release of another one."""
    add_component(house.repo, house.offline, "dns-filter", house.now)
    candidate = house.planned()
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
    rolling: House, thief: Thief, device: TrustClient, attack: Callable[[House, Thief], None], words: str
) -> None:
    """Whatever the thief publishes, no manifest is given out but the one that two release keys signed."""
    device.refresh()
    assert rolling.believed(device) == 1
    attack(rolling, thief)
    for client in (device, rolling.device("fresh")[0]):
        with pytest.raises(Untrusted, match=words):
            client.refresh()
            for component in client.components():
                client.release(component, client.plan(component)[0].candidate)


@pytest.mark.parametrize("hashes", [{"sha256": "../../../etc/passwd"}, {"sha512": "0" * 128}, {"sha256": ""}])
def test_a_plan_whose_digest_is_no_digest(
    rolling: House, thief: Thief, device: TrustClient, hashes: dict[str, str]
) -> None:
    thief.loose["plans/edr-rules.json"] = TargetFile(100, hashes, "plans/edr-rules.json")
    thief.publish({})
    device.refresh()
    with pytest.raises(Untrusted, match="must be named by SHA-256"):
        device.plan(rolling.component)


def test_a_plan_longer_than_is_ever_read(rolling: House, thief: Thief, device: TrustClient) -> None:
    thief.loose["plans/edr-rules.json"] = TargetFile(1 << 40, {"sha256": "0" * 64}, "plans/edr-rules.json")
    thief.publish({})
    device.refresh()
    with pytest.raises(Untrusted, match="at most 2000000 bytes"):
        device.plan(rolling.component)


@pytest.mark.parametrize("change", [{"component": "dns-filter"}, {"seq": 3}])
def test_release_keys_that_sign_a_manifest_under_a_wrong_path(
    rolling: House, device: TrustClient, change: dict[str, str]
) -> None:
    """The device does not lean on the server having looked."""
    data = encode(replace(rolling.manifest(2), **change))
    found = Metadata[Targets].from_bytes(rolling.sign(rolling.manifest(2)))
    described = found.signed.targets["releases/edr-rules/2.json"] = target(
        "releases/edr-rules/2.json", data, plain(rolling.terms(2))
    )
    found.signatures.clear()
    versioned(rolling.repo, rolling.role, 3).write_bytes(sign(found, load_signers(rolling.offline, "release")))
    digest = described.hashes["sha256"]
    (rolling.repo / "targets/releases/edr-rules" / f"{digest}.2.json").write_bytes(data)
    rolling.publish(rolling.plan(Candidate(described.path, digest, len(data), 2)))
    device.refresh()
    with pytest.raises(Untrusted, match="by its own word"):
        rolling.believed(device)


def test_a_timestamp_counts_by_the_devices_clock(rolling: House, thief: Thief, device: TrustClient) -> None:
    plan = encode(rolling.plan(rolling.planned()))
    thief.publish({"plans/edr-rules.json": plan}, lifetime_s=100)
    rolling.now += 100
    with pytest.raises(Untrusted, match=r"timestamp\.json is expired"):
        device.refresh()


def test_two_release_keys_are_enough_and_one_is_not_even_countersigned_by_itself(rolling: House) -> None:
    manifest = rolling.manifest(2)
    once = Metadata[Targets].from_bytes(rolling.sign(manifest, keys=1))
    twice = sign(once, load_signers(rolling.offline, "release")[:1])
    assert len(Metadata[Targets].from_bytes(twice).signatures) == 1


def withdraw_first(house: House) -> bytes:
    """Withdraw release 1 offline and publish that; gives the plan file that still named it."""
    plan = encode(house.plan(house.planned()))
    manifest = house.manifest(2)
    signed = house.sign(manifest, drop=["releases/edr-rules/1.json"])
    accept_release(house.repo, house.component, signed, encode(manifest), house.now)
    house.publisher.publish({house.component: plan}, house.now)
    return plan


@pytest.mark.parametrize("lost", [[], ["timestamp", "snapshot", "releases-edr-rules"]])
def test_a_withdrawn_release_is_not_brought_back_by_online_keys(rolling: House, thief: Thief, lost: list[str]) -> None:
    """Also when a power cut has emptied all that the library remembers."""
    plan = withdraw_first(rolling)
    rolling.device()[0].refresh()
    for role in lost:
        (rolling.directory / "device" / "metadata" / f"{role}.json").write_bytes(b"")
    thief.publish({"plans/edr-rules.json": plan}, {rolling.role: 2})
    with pytest.raises(Untrusted):
        rolling.device()[0].refresh()


def test_a_device_that_never_saw_the_withdrawal_can_be_shown_the_older_list_until_that_expires(
    rolling: House, thief: Thief
) -> None:
    """A known limit, bounded by the list's expiry, by not_after and by the speed limit."""
    plan = withdraw_first(rolling)
    thief.publish({"plans/edr-rules.json": plan}, {rolling.role: 2})
    fresh, _ = rolling.device("fresh")
    fresh.refresh()
    assert rolling.believed(fresh) == 1
    candidate = fresh.plan(rolling.component)[0].candidate
    rolling.now += 31 * 86_400
    thief.publish({"plans/edr-rules.json": encode(rolling.plan(candidate))}, {rolling.role: 2})
    fresh.refresh()
    with pytest.raises(Untrusted, match="expired"):
        rolling.believed(fresh)
