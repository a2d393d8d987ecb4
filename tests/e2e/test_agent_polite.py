"""Polite against a real server: windows, hints and spreads before the announcement, slow downloads, a full outbox."""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tidegate.agent.conditions import look_around
from tidegate.agent.config import Home, Settings
from tidegate.agent.enrol import enrol
from tidegate.core.device import State

from .agent_device import Device
from .agent_server import COMPONENT, World


def settle(device: Device, **changes: Any) -> None:
    """Change the owner's settings, and start the agent anew."""
    device.home.save_settings(replace(device.home.load_settings(), **changes))
    device.restart().begin()


def hint(device: Device, **hints: Any) -> None:
    device.home.hints_file.write_text(json.dumps(hints))


def hour(wall_s: float) -> str:
    return time.strftime("%H:%M", time.localtime(wall_s))


def test_a_window_is_waited_for_with_the_release_at_hand(world: World, device: Device) -> None:
    device.install()
    opens_s = device.clock.wall() + 2 * 3600
    settle(device, windows=(f"{hour(opens_s)}-{hour(opens_s + 3600)}",))
    candidate = world.release(2, {"rules": "good 2"})
    world.publish(candidate)
    device.turns(2)
    assert device.state() is State.READY and "its next maintenance window opens" in device.status()["sentence"]
    assert device.machine.slots.has(candidate.sha256) and len(world.announced) == 1
    while device.clock.wall() < opens_s - 600:
        device.clock.sleep(500)
        world.publish(candidate)
        device.turns(1)
    assert len(world.announced) == 1
    device.clock.sleep(opens_s - device.clock.wall() + 30)
    world.publish(candidate)
    device.run(lambda: "r2" in device.confirmed())
    assert sum(path.startswith("payloads/") for path in world.asked) == 2


def test_a_metered_line_fetches_nothing_until_it_is_free(world: World, device: Device) -> None:
    device.install()
    hint(device, metered=True)
    world.publish(world.release(2, {"rules": "good 2"}))
    device.turns(4)
    assert "the line is metered" in device.status()["sentence"] and len(world.announced) == 1
    assert sum(path.startswith("payloads/") for path in world.asked) == 1
    hint(device, metered=False)
    device.run(lambda: "r2" in device.confirmed())


@pytest.mark.parametrize(
    ("hints", "says"),
    [
        ({"not_now": "an operation is under way"}, "not now: an operation is under way"),
        ({"battery_percent": 9, "on_mains": False}, "the battery has 9 %"),
    ],
    ids=["wish", "battery"],
)
def test_a_hint_counts_before_the_announcement_alone(
    world: World, device: Device, hints: dict[str, Any], says: str
) -> None:
    device.install()
    candidate = world.release(2, {"rules": "good 2"}, soak_s=20)
    world.publish(candidate)
    fetched = device.agent.tools
    hint(device, **hints)
    device.turns(4)
    assert says in device.status()["sentence"] and len(world.announced) == 1
    fetched.home.hints_file.unlink()
    device.run(lambda: device.state() is State.PROBING)
    hint(device, **hints)  # too late: what is leased is seen through, or it would count as harm
    device.run(lambda: "r2" in device.confirmed())


def test_announcements_wait_for_their_place_in_the_spread(world: World, device: Device) -> None:
    device.install()
    world.publish(world.release(2, {"rules": "good 2"}), spread_s=500)
    device.turns(1)
    began_s = device.clock.boot_s()
    place_s = device.machine.ask_at_s
    assert place_s is not None and began_s < place_s <= began_s + 501
    device.run(lambda: len(world.announced) == 2)
    assert device.clock.boot_s() >= place_s


def test_a_full_outbox_keeps_its_evidence_and_asks_for_no_more(
    world: World, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.agent.outbox.LIMIT", 100)
    world.on_report = lambda report: (503, {"title": "Busy"})
    world.publish(world.release(1, {"rules": "good 1"}))
    device.run(lambda: device.state() is State.IDLE and bool(device.agent.tools.outbox.waiting()), begin=True)
    world.publish(world.release(2, {"rules": "good 2"}))
    device.turns(5)
    assert "report has not arrived" in device.status()["sentence"] and len(world.announced) == 1
    world.on_report = lambda report: None
    device.run(lambda: "r2" in device.confirmed())
    assert [kind for _, kind in world.kinds()] == ["confirmed", "confirmed"]


LARGE = 1_500_000


def test_a_slow_download_that_is_killed_goes_on_where_it_was(place: Path) -> None:
    """A real process, kill -9: what was fetched is not fetched again, and the owner's limit on bytes is kept."""
    world = World(place / "server", lambda: int(time.time()))
    home = Home(place / "home")
    enrol(home.path, world.address, world.token, {}, {}, (), {}, 0.1)
    home.save_settings(Settings(world.address, poll_s=0.1, max_bytes_per_s=200_000))
    world.publish(world.release(1, {"rules": "good 1", "large": secrets.token_hex(LARGE // 2)}, soak_s=1))
    command = [sys.executable, "-m", "tidegate.agent", "--home", str(home.path)]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def fetched() -> int:
        return sum(part.stat().st_size for part in (home.component(COMPONENT) / "fetch").glob("*.part"))

    def until(holds: Callable[[], bool]) -> None:
        give_up = time.monotonic() + 60
        while not holds():
            assert time.monotonic() < give_up, home.status_file.read_text()
            time.sleep(0.02)

    agent = start()
    try:
        until(lambda: fetched() > 0)
        began_s = time.monotonic()
        until(lambda: fetched() >= 700_000)
        assert time.monotonic() - began_s > 0.6, "two seconds' worth comes at once, the rest at 200 kB a second"
        agent.send_signal(signal.SIGKILL)
        agent.wait(60)
        here = fetched()
        assert here < LARGE
        home.save_settings(Settings(world.address, poll_s=0.1))
        agent = start()
        until(lambda: world.kinds() == [("r1:1:0", "confirmed")])
        assert [h["Range"] for h in world.headers if "Range" in h] == [f"bytes={here}-"]
    finally:
        agent.kill()
        agent.wait()
        world.close()


def test_networkmanagers_word_becomes_a_hint(tmp_path: Path) -> None:
    """The dispatcher script, with an nmcli that answers as the real one does."""
    script = Path(__file__).resolve().parents[2] / "packaging" / "networkmanager-metered.sh"
    nmcli = tmp_path / "nmcli"
    for answer, hinted in (("yes (guessed)", True), ("no", False), ("unknown", False), ("yes", True)):
        nmcli.write_text(f"#!/bin/sh\necho '{answer}'\n")
        nmcli.chmod(0o755)
        around = {"TIDEGATE_HOME": str(tmp_path), "PATH": f"{tmp_path}:/usr/bin:/bin"}
        subprocess.run(["sh", str(script), "wlan0", "up"], env=around, check=True)
        assert look_around(0.0, tmp_path / "hints.json", tmp_path / "none").metered is hinted
