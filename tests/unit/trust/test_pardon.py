"""The pardon: who can give it, who cannot, and that it lifts once what was condemned before it, and nothing else."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.contract.test_guard_contract import HOOK, PYTHON
from tests.e2e.agent_device import CALM, HEALTHY, Device, HandClock, quick_directory
from tests.e2e.agent_server import World

from tidegate.agent import guard
from tidegate.agent.marks import Marks
from tidegate.core.errors import BadInput, Untrusted
from tidegate.core.model import Candidate
from tidegate.core.wire import canonical, plain
from tidegate.trust.emergency import STOP, Stop
from tidegate.trust.keys import create_key, key_path, load_signer, load_signers
from tidegate.trust.layout import pardon_path
from tidegate.trust.pardon import PARDON, Pardon

from .conftest import COMPONENT, NOW

if TYPE_CHECKING:
    from .conftest import House

DIGEST, OTHER = "a" * 64, "b" * 64
SAID = Pardon(COMPONENT, (DIGEST,), NOW + 10, "the disks were full")


def put(repo: Path, data: bytes) -> None:
    path = repo / pardon_path(COMPONENT)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def signed(house: House, said: Pardon = SAID, keys: int = 2) -> bytes:
    return PARDON.sign(said, load_signers(house.offline, "release")[:keys])


def _online_keys(house: House) -> bytes:
    return PARDON.sign(SAID, [load_signer(key_path(house.online, role)) for role in ("plans", "snapshot", "timestamp")])


def _own_keys(house: House) -> bytes:
    for number in (1, 2):
        create_key(house.directory / "mallory", f"release-{number}")
    return PARDON.sign(SAID, load_signers(house.directory / "mallory", "release"))


def _signatures_of_a_stop(house: House) -> bytes:
    """Whoever holds a signed stop cannot turn it into a pardon of the same release."""
    import json

    stop = json.loads(STOP.sign(Stop(COMPONENT, (DIGEST,), SAID.issued), load_signers(house.offline, "release")))
    return canonical({"signatures": stop["signatures"], "signed": plain(SAID)})


@pytest.mark.parametrize(
    ("forge", "words"),
    [
        (lambda house: signed(house, keys=1), "1 valid signatures, 2 are needed"),
        (_online_keys, "0 valid signatures"),
        (_own_keys, "0 valid signatures"),
        (_signatures_of_a_stop, "0 valid signatures"),
        (lambda house: signed(house).replace(b"a" * 64, b"b" * 64), "0 valid signatures"),
        (lambda house: signed(house).replace(b"1800000010", b"1900000010"), "0 valid signatures"),
        (lambda house: signed(house, replace(SAID, component="dns-filter")), "speaks of dns-filter"),
        (lambda house: b"{}", "is none"),
    ],
)
def test_a_pardon_that_does_not_hold_is_not_kept(rolling: House, forge: Callable[[House], bytes], words: str) -> None:
    device, _ = rolling.device()
    device.refresh()
    put(rolling.repo, forge(rolling))
    with pytest.raises((Untrusted, BadInput), match=words):
        device.pardons.refresh(COMPONENT)
    assert device.pardons.get(COMPONENT) is None


def test_holders_sign_one_after_the_other_and_the_device_keeps_the_newest(rolling: House) -> None:
    one, two, _ = load_signers(rolling.offline, "release")
    put(rolling.repo, PARDON.sign(SAID, [two], PARDON.sign(SAID, [one])))
    device, _ = rolling.device()
    device.refresh()
    device.pardons.refresh(COMPONENT)
    put(rolling.repo, signed(rolling, replace(SAID, issued=NOW, pardoned=(OTHER,))))
    device.pardons.refresh(COMPONENT)
    assert device.pardons.get(COMPONENT) == SAID and rolling.device()[0].pardons.get(COMPONENT) == SAID


def test_what_is_no_pardon_is_not_signed() -> None:
    for wrong in ({"pardoned": ()}, {"pardoned": ("all",)}, {"issued": 0}, {"component": "../x"}, {"v": 2}):
        with pytest.raises(ValueError):
            replace(SAID, **wrong)  # pyright: ignore[reportArgumentType]


# --- the marks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [DIGEST, DIGEST[:16]])
def test_a_mark_is_lifted_once_and_only_by_what_was_issued_after_it(tmp_path: Path, name: str) -> None:
    marks = Marks(tmp_path)
    guard.condemn(tmp_path, name, "the guard took it back")
    assert marks.has(DIGEST) and "before it was taken back" in marks.lift(DIGEST, 5)  # nobody knows when
    marks.make(DIGEST, "it was sick", 100)
    assert "before it was taken back" in marks.lift(DIGEST, 100) and marks.has(DIGEST)
    assert marks.lift(DIGEST, 101) == "" and not marks.has(DIGEST)
    marks.make(DIGEST, "again", 50)
    assert "used already" in marks.lift(DIGEST, 101) and marks.has(DIGEST)
    assert marks.lift(DIGEST, 102) == "" and not marks.has(DIGEST)


def test_a_mark_is_stamped_once_and_a_damaged_one_anew(tmp_path: Path) -> None:
    marks = Marks(tmp_path)
    for name in (DIGEST, OTHER):
        guard.condemn(tmp_path, name, "x")
    marks.stamp(7)
    (marks.directory / OTHER).write_text("")
    marks.stamp(9)
    assert [(guard.read(marks.directory / name) or {})["after"] for name in (DIGEST, OTHER)] == [7, 9]
    assert marks.has(OTHER), "an empty mark condemns as well"


@pytest.mark.parametrize("command", [PYTHON, ["sh", str(HOOK)]], ids=["python", "shell"])
def test_a_guard_takes_no_mark_away(tmp_path: Path, command: list[str]) -> None:
    """However often it is started: on another release, on the last known good, with nothing on trial."""
    for slot in ("one", "two"):
        (tmp_path / "slots" / slot).mkdir(parents=True)
    guard.point(tmp_path, "good", "one")
    guard.condemn(tmp_path, DIGEST, "before")
    mark = (tmp_path / "condemned" / DIGEST).read_bytes()
    for slot, starts in (("one", 0), ("two", 0), ("two", 9), ("one", 0)):
        guard.point(tmp_path, "current", slot)
        guard.write(tmp_path / "guard.json", {"armed": True, "digest": OTHER, "slot": "two", "starts": starts})
        subprocess.run(
            [*command, "--component-dir", str(tmp_path), "--", "true"], stderr=subprocess.DEVNULL, check=True
        )
    assert (tmp_path / "condemned" / DIGEST).read_bytes() == mark and Marks(tmp_path).has(OTHER)


# --- the agent -------------------------------------------------------------------------------------------------------


@pytest.fixture
def place() -> Iterator[tuple[World, Device]]:
    clock = HandClock()
    with quick_directory() as directory:
        world = World(directory / "server", lambda: int(clock.wall()))
        device = Device(world, directory / "device", clock)
        yield world, device
        device.agent.tools.server.close()
        world.close()


def fails_here(world: World, device: Device) -> Candidate:
    """A release that only this device's surroundings broke: taken back, and condemned."""
    device.install()
    wall = device.home.path / "wall"
    wall.touch()
    candidate = world.release(2, {"rules": "r"}, probes=(HEALTHY, CALM, ("test", "!", "-e", str(wall))))
    world.publish(candidate)
    device.run(device.reported("reverted"))
    device.run(lambda: device.machine.slots.condemned(candidate.sha256), turns=5)
    wall.unlink()
    return candidate


def pardon(world: World, digest: str, issued: float) -> bytes:
    return PARDON.sign(Pardon(COMPONENT, (digest,), int(issued), "mended"), load_signers(world.offline, "release"))


def again(world: World, device: Device, candidate: Candidate, rollout: str) -> str:
    world.publish(candidate, rollout=rollout)
    device.clock.sleep(120)  # signed time moves on
    world.publish(candidate, rollout=rollout)
    device.turns(6)
    return device.status()["sentence"]


def test_a_condemned_release_is_taken_after_a_pardon_and_only_then(place: tuple[World, Device]) -> None:
    world, device = place
    candidate = fails_here(world, device)
    assert "never tried again without a signed pardon" in again(world, device, candidate, "r3")
    assert world.asked.count(pardon_path(COMPONENT)) > 0
    put(world.repo, pardon(world, "c" * 64, device.clock.wall()))  # of another release
    assert "without a signed pardon" in again(world, device, candidate, "r3")
    put(world.repo, pardon(world, candidate.sha256, device.clock.wall()))
    device.run(lambda: "r3" in device.confirmed(), turns=20)
    assert device.installed() == device.good() == candidate.sha256
    assert '"pardoned"' in device.log.getvalue()
    world.asked.clear()
    device.turns(5)
    assert pardon_path(COMPONENT) not in world.asked, "who condemns nothing asks for no pardon"


def test_a_pardon_put_there_by_hand_counts_without_a_server_that_has_it(place: tuple[World, Device]) -> None:
    world, device = place
    candidate = fails_here(world, device)
    device.clock.sleep(120)
    by_hand = device.home.metadata / "pardons"
    by_hand.mkdir()
    (by_hand / f"{COMPONENT}.json").write_bytes(pardon(world, candidate.sha256, device.clock.wall()))
    world.publish(candidate, rollout="r3")
    device.run(lambda: "r3" in device.confirmed(), turns=20)


def test_an_old_pardon_served_again_lifts_nothing_that_comes_later(place: tuple[World, Device]) -> None:
    world, device = place
    early = pardon(world, "0" * 64, device.clock.wall())
    candidate = fails_here(world, device)
    early = pardon(world, candidate.sha256, device.clock.wall() - 100)  # issued before it was taken back here
    put(world.repo, early)
    assert "was issued before it was taken back here" in again(world, device, candidate, "r3")
    put(world.repo, pardon(world, candidate.sha256, device.clock.wall()))
    (device.home.path / "wall").touch()  # pardoned too early: it breaks again
    again(world, device, candidate, "r3")
    device.run(device.reported("reverted", 2))
    device.restart().begin()
    assert device.machine.slots.condemned(candidate.sha256)
    assert "was taken back" in again(world, device, candidate, "r4")
    assert device.machine.slots.condemned(candidate.sha256) and len(world.announced) == 3
