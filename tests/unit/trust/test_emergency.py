"""The stop that needs no server: who can give it, who cannot, and what a device makes of it when all else is down."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.e2e.agent_device import CALM, HEALTHY, Device, HandClock
from tests.e2e.agent_device import quick_directory as quick_directory
from tests.e2e.agent_server import World

from tidegate.core.assign import SHARE_ONE
from tidegate.core.device import State
from tidegate.core.errors import BadInput, Untrusted
from tidegate.core.model import Candidate, Manifest, PlanState, ReleaseTerms, SpeedLimit
from tidegate.core.wire import canonical, decode, encode
from tidegate.trust.emergency import ALL, STOP_LIMIT, Stop, sign_stop, verify_stop
from tidegate.trust.keys import create_key, key_path, load_signer, load_signers
from tidegate.trust.layout import emergency_path, hashed_path, stop_path
from tidegate.trust.metadata import latest_bytes, versioned
from tidegate.trust.release import accept_release, sign_release

from .conftest import COMPONENT, NOW, ROLE

if TYPE_CHECKING:
    from .conftest import House, Thief

STOP = Stop(COMPONENT, (ALL,), NOW + 10, "it eats disks")


def put(house: House, data: bytes) -> None:
    path = house.repo / stop_path(COMPONENT)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def signed(house: House, stop: Stop = STOP, keys: int = 2) -> bytes:
    return sign_stop(stop, load_signers(house.offline, "release")[:keys])


def test_two_holders_sign_on_machines_of_their_own_and_a_device_believes_it_for_good(rolling: House) -> None:
    one, two, _ = load_signers(rolling.offline, "release")
    put(rolling, sign_stop(STOP, [two], sign_stop(STOP, [one])))
    device, _ = rolling.device()
    device.refresh()
    assert device.stop(COMPONENT) is None
    device.refresh_stop(COMPONENT)
    assert device.stop(COMPONENT) == STOP
    (rolling.repo / stop_path(COMPONENT)).unlink()
    again, wire = rolling.device()
    wire.answers["metadata/timestamp.json"] = OSError("the server is down")
    assert again.stop(COMPONENT) == STOP  # before any refresh, from what was kept
    again.refresh_stop(COMPONENT)
    assert again.stop(COMPONENT) == STOP


def test_a_stop_holds_when_every_online_signature_has_expired(rolling: House) -> None:
    rolling.device()[0].refresh()
    rolling.now += 100 * 86_400
    put(rolling, signed(rolling, replace(STOP, issued=rolling.now)))
    device, _ = rolling.device()
    with pytest.raises(Untrusted, match="expired"):
        device.refresh()
    device.refresh_stop(COMPONENT)
    assert device.stop(COMPONENT)


def test_a_newer_stop_replaces_an_older_and_an_older_never_comes_back(rolling: House) -> None:
    device, _ = rolling.device()
    device.refresh()
    lift = replace(STOP, stopped=(), issued=STOP.issued + 1)
    for served, believed in ((STOP, STOP), (lift, lift), (STOP, lift)):
        put(rolling, signed(rolling, served))
        device.refresh_stop(COMPONENT)
        assert device.stop(COMPONENT) == believed
    assert not lift.names("a" * 64) and STOP.names("a" * 64)


def test_a_stop_that_an_administrator_puts_there_by_hand_counts_and_a_forged_one_does_not(rolling: House) -> None:
    device, wire = rolling.device()
    device.refresh()
    place = rolling.directory / "device" / "stops"
    place.mkdir()
    asked = len(wire.asked)
    (place / f"{COMPONENT}.json").write_bytes(signed(rolling, keys=1))
    assert device.stop(COMPONENT) is None
    (place / f"{COMPONENT}.json").write_bytes(signed(rolling))
    assert device.stop(COMPONENT) == STOP and len(wire.asked) == asked


def _one_key(house: House) -> bytes:
    return signed(house, keys=1)


def _one_key_twice(house: House) -> bytes:
    value = json.loads(signed(house, keys=1))
    value["signatures"] *= 3
    return canonical(value)


def _online_keys(house: House) -> bytes:
    return sign_stop(STOP, [load_signer(key_path(house.online, role)) for role in ("plans", "snapshot", "timestamp")])


def _own_keys(house: House) -> bytes:
    for number in (1, 2):
        create_key(house.directory / "mallory", f"release-{number}")
    return sign_stop(STOP, load_signers(house.directory / "mallory", "release"))


def _changed(house: House) -> bytes:
    return signed(house).replace(b"disks", b"cards")


def _of_another_component(house: House) -> bytes:
    return signed(house, replace(STOP, component="dns-filter"))


def _list_of_releases(house: House) -> bytes:
    return latest_bytes(house.repo, ROLE)


@pytest.mark.parametrize(
    ("forge", "words"),
    [
        (_one_key, "1 valid signatures, 2 are needed"),
        (_one_key_twice, "1 valid signatures"),
        (_online_keys, "0 valid signatures"),
        (_own_keys, "0 valid signatures"),
        (_changed, "0 valid signatures"),
        (_of_another_component, "speaks of dns-filter"),
        (_list_of_releases, "has no field"),
        (lambda house: b"{}", "is none"),
        (lambda house: b" " * (STOP_LIMIT + 1), "endless data"),
    ],
)
def test_a_stop_that_does_not_hold_stops_nothing(rolling: House, forge: Callable[[House], bytes], words: str) -> None:
    device, _ = rolling.device()
    device.refresh()
    put(rolling, forge(rolling))
    with pytest.raises((Untrusted, BadInput), match=words):
        device.refresh_stop(COMPONENT)
    assert device.stop(COMPONENT) is None


def test_a_stop_cannot_be_passed_off_as_a_list_of_releases(rolling: House, thief: Thief) -> None:
    device, _ = rolling.device()
    device.refresh()
    versioned(rolling.repo, ROLE, 3).write_bytes(signed(rolling))
    thief.publish({"plans/edr-rules.json": encode(rolling.plan(rolling.planned()))}, {ROLE: 3})
    device.refresh()
    with pytest.raises(Untrusted):
        rolling.believed(device)


def test_what_is_no_stop_is_not_signed(rolling: House) -> None:
    for wrong in (
        {"stopped": ("short",)},
        {"stopped": (ALL, "a" * 64)},
        {"component": "../x"},
        {"reason": "x" * 501},
        {"v": 2},
    ):
        with pytest.raises(ValueError):
            replace(STOP, **wrong)  # pyright: ignore[reportArgumentType]
    with pytest.raises(BadInput, match="says something else"):
        sign_stop(replace(STOP, stopped=()), load_signers(rolling.offline, "release"), signed(rolling))


# --- the agent, with its server dead ---------------------------------------------------------------------------------


def serve_stop(world: World, stop: Stop) -> None:
    path = world.repo / stop_path(COMPONENT)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(sign_stop(stop, load_signers(world.offline, "release")))


@pytest.fixture
def world_and_device(tmp_path: Path) -> object:
    clock = HandClock()
    with quick_directory() as place:
        world = World(place / "server", lambda: int(clock.wall()))
        yield world, Device(world, place / "device", clock)
        world.close()


def test_the_emergency_stop_takes_back_what_is_unconfirmed_and_nothing_of_it_begins_again(
    world_and_device: tuple[World, Device],
) -> None:
    """The server signs nothing any more; a mirror with the stop beside old files is enough."""
    world, device = world_and_device
    installed = device.install()
    bad = world.release(2, {"rules": "r"}, probes=(HEALTHY, CALM), soak_s=3000)
    world.publish(bad)
    device.run(lambda: device.state() is State.PROBING)
    assert device.installed() == bad.sha256
    device.clock.sleep(1500)  # plan and timestamp run out: what runs keeps running
    device.turns(5)
    assert device.state() is State.PROBING
    serve_stop(world, Stop(COMPONENT, (bad.sha256,), int(device.clock.wall()), "it eats disks"))
    device.run(lambda: device.state() is State.IDLE)
    assert device.installed() == device.good() == installed
    world.publish(bad, rollout="again")
    device.turns(5)
    assert "stopped by the release holders: it eats disks" in device.status()["sentence"]
    device.restart().begin()
    device.turns(5)
    assert device.installed() == installed
    device.install(3)  # another release is not stopped


def test_an_urgent_release_goes_all_the_way_and_what_is_older_goes_nowhere(
    world_and_device: tuple[World, Device],
) -> None:
    """The drill: signed by all holders, taken in, planned, and run by a real agent to its confirmation."""
    world, device = world_and_device
    device.install()
    usual = world.release(2, {"rules": "r"}, probes=(HEALTHY,))
    file = world.repo / "targets" / hashed_path(usual.path, usual.sha256)
    manifest = replace(decode(Manifest, file.read_bytes(), "manifest"), seq=3, version="urgent")
    now, data = world.now(), encode(manifest)
    limit = SpeedLimit(((0, SHARE_ONE),), now - 10, now + 86_400, clock_slack_s=0)
    lists = sign_release(
        latest_bytes(world.repo, "emergency"),
        manifest,
        ReleaseTerms(3, "0" * 32, limit),
        load_signers(world.offline, "release"),
        now,
        emergency=True,
    )
    with pytest.raises(BadInput):
        accept_release(world.repo, COMPONENT, lists, data, now)
    accepted = accept_release(world.repo, COMPONENT, lists, data, now, emergency=True)
    assert accept_release(world.repo, COMPONENT, lists, data, now, emergency=True) == accepted
    world.publish(Candidate(emergency_path(COMPONENT, 3), accepted.digest, len(data), 3))
    device.run(lambda: "r3" in device.confirmed())
    assert device.installed() == accepted.digest
    world.publish(usual)  # and the usual one, which is older now, goes nowhere
    device.turns(5)
    assert device.installed() == accepted.digest
    with pytest.raises(Untrusted, match="seq 3 is not higher than 3"):
        relabelled = sign_release(
            latest_bytes(world.repo, ROLE), manifest, ReleaseTerms(3, "0" * 32, limit),
            load_signers(world.offline, "release"), now,
        )  # fmt: skip
        accept_release(world.repo, COMPONENT, relabelled, data, now)


def test_plan_expiry_is_a_stop_that_needs_nobody(world_and_device: tuple[World, Device]) -> None:
    world, device = world_and_device
    installed = device.install()
    candidate = world.release(2, {"rules": "r"}, probes=(HEALTHY,), soak_s=5)
    world.publish(candidate, state=PlanState.OPEN)
    world.on_announce = lambda message: (200, {"retry_after_s": 30.0, "reason": "window"})
    device.run(lambda: bool(world.announced) and world.announced[-1]["rollout"] == "r2")
    device.clock.sleep(700)
    asked = len(world.announced)
    world.on_announce = lambda message: None
    device.turns(20)
    assert len(world.announced) == asked and device.installed() == installed
    assert "expired" in device.status()["sentence"]


def test_an_idle_device_asks_for_no_stop(world_and_device: tuple[World, Device]) -> None:
    world, device = world_and_device
    device.install()
    world.asked.clear()
    device.turns(10)
    assert not [path for path in world.asked if "stop" in path]
    assert verify_stop and world.asked
