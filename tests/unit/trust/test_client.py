"""What a device believes over time: fresh plans only, never older ones, through power cuts, clocks and key rotation."""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tuf.api.metadata import Metadata, Targets

from tidegate.core.errors import NotFound, Untrusted
from tidegate.core.model import PlanState
from tidegate.core.wire import canonical, encode, plain
from tidegate.trust.client import TrustClient
from tidegate.trust.errors import DiskFull, Unreachable
from tidegate.trust.keys import load_signers
from tidegate.trust.metadata import latest_bytes, sign
from tidegate.trust.release import accept_release
from tidegate.trust.repository import accept_targets

if TYPE_CHECKING:
    from .conftest import House


def test_a_first_contact_then_nothing_new_then_a_new_plan(rolling: House) -> None:
    device, wire = rolling.device()
    assert device.refresh()
    plan, version = device.plan(rolling.component)
    manifest, terms = device.release(rolling.component, plan.candidate)
    assert (manifest.seq, terms, plan.state) == (1, rolling.terms(1), PlanState.OPEN)
    assert (version, device.components(), device.high_water_s) == (
        rolling.publisher.version,
        ("edr-rules",),
        rolling.now,
    )

    wire.asked.clear()
    assert not device.refresh()
    assert device.plan(rolling.component) == (plan, version)
    assert wire.asked == ["metadata/2.root.json", "metadata/timestamp.json"]

    wire.asked.clear()
    rolling.publish(replace(plan, ring=2))
    assert device.refresh()
    assert device.plan(rolling.component)[0].ring == 2
    assert len(wire.asked) == 5
    assert sum(len((rolling.repo / path).read_bytes()) for path in wire.asked[1:]) < 2700


def test_a_restart_reads_nothing_again_but_the_two(rolling: House) -> None:
    device, _ = rolling.device()
    device.refresh()
    plan, _ = device.plan(rolling.component)
    device.release(rolling.component, plan.candidate)
    again, wire = rolling.device()
    with pytest.raises(Untrusted, match="refresh first"):
        again.plan(rolling.component)
    again.refresh()
    assert again.release(rolling.component, again.plan(rolling.component)[0].candidate)[0].seq == 1
    assert len(wire.asked) == 2


def test_a_device_without_a_line_keeps_its_plan_until_it_expires(rolling: House) -> None:
    device, wire = rolling.device()
    device.refresh()
    wire.answers["metadata/timestamp.json"] = ConnectionRefusedError("no server")
    for _ in range(2):
        with pytest.raises(Unreachable, match="ask again later"):
            device.refresh()
        assert device.plan(rolling.component)[0].ring == 1
    rolling.now += 600
    with pytest.raises(Untrusted, match="has expired"):
        device.plan(rolling.component)
    rolling.now += 3600
    with pytest.raises(Untrusted, match="metadata has expired"):
        device.components()


def test_an_expired_list_of_releases_stops_its_component_alone(rolling: House) -> None:
    device, candidate = rolling.device()[0], rolling.planned()
    rolling.now += 31 * 86_400
    rolling.publish(rolling.plan(candidate))
    device.refresh()
    plan, _ = device.plan(rolling.component)
    with pytest.raises(Untrusted, match="expired"):
        device.release(rolling.component, plan.candidate)


def test_a_list_of_releases_that_expires_between_two_refreshes(rolling: House) -> None:
    manifest = rolling.manifest(2)
    accepted = accept_release(
        rolling.repo, rolling.component, rolling.sign(manifest, lifetime_s=500), encode(manifest), rolling.now
    )
    rolling.publish(rolling.plan(rolling.candidate(accepted)))
    device, _ = rolling.device()
    device.refresh()
    plan, _ = device.plan(rolling.component)
    assert device.release(rolling.component, plan.candidate)[0].seq == 2
    rolling.now += 500
    assert device.plan(rolling.component)[0] == plan
    for client in (device, rolling.device("other")[0]):
        client.refresh()
        with pytest.raises(Untrusted, match="expired"):
            client.release(rolling.component, plan.candidate)


def test_a_list_that_was_read_already_expires_all_the_same(rolling: House) -> None:
    manifest = rolling.manifest(2)
    signed = rolling.sign(manifest, lifetime_s=500)
    accepted = accept_release(rolling.repo, rolling.component, signed, encode(manifest), rolling.now)
    rolling.publish(rolling.plan(rolling.candidate(accepted)))
    device, _ = rolling.device()
    device.refresh()
    device.release(rolling.component, rolling.candidate(accepted))
    rolling.now += 500
    with pytest.raises(Untrusted, match="list of releases of edr-rules has expired"):
        device.release(rolling.component, rolling.candidate(accepted))


def test_a_damaged_cache_is_fetched_again(rolling: House) -> None:
    device, wire = rolling.device()
    device.refresh()
    plan, _ = device.plan(rolling.component)
    for path in (rolling.directory / "device" / "targets").iterdir():
        path.write_bytes(path.read_bytes().replace(b'"ring":1', b'"ring":7'))
    wire.asked.clear()
    assert device.plan(rolling.component)[0] == plan
    assert len(wire.asked) == 1


def test_the_plans_role_signs_only_what_the_targets_let_it(rolling: House) -> None:
    found = Metadata[Targets].from_bytes(latest_bytes(rolling.repo, "targets"))
    assert found.signed.delegations and found.signed.delegations.roles
    found.signed.delegations.roles["plans"].paths = ["plans/agent.json"]
    found.signed.version += 1
    found.signatures.clear()
    plan = rolling.plan(rolling.planned())
    accept_targets(rolling.repo, sign(found, load_signers(rolling.offline, "targets")), {}, rolling.now)
    rolling.publish(plan)
    device, _ = rolling.device()
    device.refresh()
    with pytest.raises(Untrusted, match="may not sign plans/edr-rules"):
        device.plan(rolling.component)


PLANS_THAT_DO_NOT_HOLD = {
    "expired": ({"issued": -700, "expires": -100}, "has expired"),
    "lives too long": ({"expires": 1801}, "within 1800 s"),
    "issued in the future": ({"issued": 700, "expires": 1300}, "700 s in the future"),
    "another component": ({"component": "dns-filter"}, "speaks of dns-filter"),
    "another version": ({"v": 2}, "update the agent"),
}


@pytest.mark.parametrize(("change", "words"), PLANS_THAT_DO_NOT_HOLD.values(), ids=PLANS_THAT_DO_NOT_HOLD)
def test_a_signed_plan_that_does_not_hold(rolling: House, change: dict[str, Any], words: str) -> None:
    device, _ = rolling.device()
    device.refresh()
    value = plain(device.plan(rolling.component)[0])
    mark = device.high_water_s
    dates = {name: rolling.now + change[name] for name in ("issued", "expires") if name in change}
    rolling.publisher.publish({rolling.component: canonical({**value, **change, **dates})}, rolling.now)
    device.refresh()
    with pytest.raises(Untrusted, match=words):
        device.plan(rolling.component)
    assert device.high_water_s == mark


def test_a_plan_that_is_no_plan(rolling: House) -> None:
    device, _ = rolling.device()
    for data in (b"", b"{}", b"[" * 100_000, b"\xff"):
        rolling.publisher.publish({rolling.component: data}, rolling.now)
        device.refresh()
        with pytest.raises(Untrusted, match="does not hold"):
            device.plan(rolling.component)


def test_a_full_disk_on_the_device_is_named_and_survived(rolling: House, small_disk: Path) -> None:
    def device() -> TrustClient:
        return TrustClient(
            small_disk, rolling.root, lambda path, _: (rolling.repo / path).read_bytes(), lambda: rolling.now
        )

    client = device()
    client.refresh()
    plan, _ = client.plan(rolling.component)
    free = small_disk / "filler"
    with pytest.raises(OSError), free.open("wb") as file:
        while True:
            file.write(b"x" * 4096)
            file.flush()
    rolling.publish(replace(plan, ring=2))
    with pytest.raises(DiskFull):
        client.refresh()
    assert client.plan(rolling.component)[0].ring == 1
    free.unlink()
    for again in (client, device()):
        again.refresh()
        assert again.plan(rolling.component)[0].ring == 2


def test_a_component_that_does_not_exist_is_not_found(rolling: House) -> None:
    device, _ = rolling.device()
    device.refresh()
    with pytest.raises(NotFound, match="has no plan"):
        device.plan("absent")
