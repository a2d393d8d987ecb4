"""What drills do to a real fleet, each from the failure that is put in until all devices serve again."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tidegate.cli.demo_content.releases import faulty_release, good_release
from tidegate.cli.drill_fleet import LOOK_S, MAX_HARMED, Fleet
from tidegate.cli.office import OfficeClient
from tidegate.core.errors import BadInput, Refused, TidegateError

OUTAGE_S = 4.0
SETTLE_S = 0.5
"""What operators are shown may be a moment ahead of what is durable; what a device was told never is."""


def faulty(fleet: Fleet) -> None:
    """A faulty release on the drill component."""
    drill, good = fleet.drill, fleet.stage.devices[0].installed() or ""
    fleet.release(faulty_release(fleet.stage.path / "faulty", "both"), "2026.2")
    drill.inject_now("a faulty release is rolled out; its vendor's validator passes it")
    rollout = fleet.roll_out()

    def seen() -> bool:
        view = fleet.look(rollout)
        return view["reverted"] + view["silent"] > 0 or view["phase"] == "halted"

    fleet.wait("a device failed", seen)
    drill.reached("detect_s", "the first device says that it had to go back")
    view = fleet.finish(rollout)
    drill.expect(view["phase"] == "halted", f"it was not halted: {view['sentence']}")
    drill.reached("halt_s", f"halted: {view['sentence']}")

    def reverted() -> bool:
        return all(one["standing"] not in ("applying", "silent") for one in fleet.look(rollout)["where"])

    fleet.wait("every exposed device went back", reverted)
    view = fleet.look(rollout)
    drill.reached("revert_s", f"{view['reverted']} of {view['exposed']} exposed devices went back by themselves")
    drill.expect(view["reverted"] + view["silent"] <= MAX_HARMED, f"more than {MAX_HARMED} devices were harmed")
    drill.expect(fleet.returned(rollout, good), "a device that went back does not run its last known good release")
    fleet.wait("all devices serve", lambda: fleet.serving() == fleet.devices)
    drill.reached(
        "restore_s", f"all {fleet.devices} devices serve; {fleet.running(good)} run the last known good release"
    )


def outage(fleet: Fleet) -> None:
    """No word from devices for a while, in the middle of a rollout."""
    drill, pipe = fleet.drill, fleet.pipe
    assert pipe is not None
    digest = fleet.release(good_release(fleet.stage.path / "good-2"), "2026.2")
    rollout = fleet.roll_out()
    fleet.wait("devices were exposed", lambda: fleet.look(rollout)["exposed"] > 0)
    drill.inject_now("devices cannot reach the control plane any more")
    pipe.cut()
    time.sleep(SETTLE_S)  # what was on its way in is decided by then
    before = fleet.look(rollout)
    deadline = time.monotonic() + OUTAGE_S
    while time.monotonic() < deadline:
        time.sleep(LOOK_S)
    view = fleet.look(rollout)
    drill.reached("detect_s", f"no word for {OUTAGE_S:.0f} s; {view['pending']} leases are open")
    drill.expect(view["exposed"] == before["exposed"], "devices were exposed during the outage")
    drill.reached("halt_s", f"nothing advanced: {view['exposed']} exposed, as before")
    drill.expect(fleet.serving() == fleet.devices, "a device stopped serving")
    pipe.mend()
    drill.step("devices can speak again")
    view = fleet.finish(rollout)
    drill.expect(view["verdict"] != "halt", f"an outage was taken for harm: {view['sentence']}")
    fleet.wait("all devices have the release", lambda: fleet.running(digest) == fleet.devices)
    drill.reached("restore_s", f"the rollout went on by itself, and all {fleet.devices} devices have the release")


def controller(fleet: Fleet) -> None:
    """The control plane is killed in the middle of a rollout."""
    drill, stage = fleet.drill, fleet.stage
    digest = fleet.release(good_release(stage.path / "good-2"), "2026.2")
    rollout = fleet.roll_out()
    fleet.wait("devices were exposed", lambda: fleet.look(rollout)["exposed"] > 0)
    before = fleet.look(rollout)
    time.sleep(SETTLE_S)
    drill.inject_now("the control plane is killed (SIGKILL)")
    stage.kill_server()
    fleet.wait("it does not answer", lambda: not _answers(fleet.office), 5.0)
    drill.reached("detect_s", "it does not answer")
    drill.expect(fleet.serving() == fleet.devices, "a device stopped serving without the control plane")
    drill.reached("halt_s", f"nothing can advance; all {fleet.devices} devices serve meanwhile")
    fleet.office = stage.start_server()
    after = fleet.look(rollout)
    drill.expect(after["exposed"] >= before["exposed"], "leases were lost")
    drill.expect(after["confirmed"] >= before["confirmed"], "confirmations were lost")
    drill.step(f"started again: it knows of {after['exposed']} exposed devices ({before['exposed']} before)")
    fleet.finish(rollout)
    fleet.wait("all devices have the release", lambda: fleet.running(digest) == fleet.devices)
    drill.reached("restore_s", f"the rollout went on, and all {fleet.devices} devices have the release")


def _answers(office: OfficeClient) -> bool:
    try:
        office.get("/healthz")
    except TidegateError:
        return False
    return True


def feed(fleet: Fleet) -> None:
    """The vendor's feed is gone; a release that was taken in before still goes out."""
    drill, stage = fleet.drill, fleet.stage
    source = good_release(stage.path / "good-2")
    digest = fleet.release(source, "2026.2")
    drill.inject_now("the vendor's feed is gone, and all that was fetched from it outside the repository")
    for path in (source, stage.path / "good", stage.path / "release-1", stage.path / "release-2"):
        shutil.rmtree(path)
    try:
        fleet.release(source, "2026.3")
        drill.expect(False, "a release was made of nothing")
    except (BadInput, OSError) as error:
        drill.reached("detect_s", f"the next release is refused: {error}")
    drill.expect(fleet.serving() == fleet.devices, "a device stopped serving")
    drill.reached("halt_s", f"all {fleet.devices} devices keep serving what they have")
    fleet.seq = 2
    fleet.finish(fleet.roll_out())
    fleet.wait("all devices have the release", lambda: fleet.running(digest) == fleet.devices)
    drill.reached(
        "restore_s", f"the release at hand reached all {fleet.devices} devices from Tidegate's own repository"
    )


def log_restored(fleet: Fleet) -> None:
    """The log is lost and restored; one that is older than the signed ledger must be refused."""
    drill, stage = fleet.drill, fleet.stage
    log, old, backup = stage.home.log, stage.path / "old", stage.path / "backup"
    fleet.stage.stop_server()
    _copy_log(log, old)
    fleet.office = stage.start_server()
    good = fleet.look(next(iter(fleet.office.get("/api/v1/rollouts")["rollouts"]))["rollout"])
    fleet.office.post("/api/v1/components/edr-rules/budget", {"max_harmed_30d": 50}, "an event that the old one lacks")
    time.sleep(1.5)  # until a checkpoint of the ledger covers it
    stage.stop_server()
    _copy_log(log, backup)
    drill.inject_now("the log is gone")
    for path in log.parent.glob(log.name + "*"):
        path.unlink()
    drill.reached("detect_s", "there is no log any more")
    drill.expect(fleet.serving() == fleet.devices, "a device stopped serving without the control plane")
    drill.reached("halt_s", f"nothing can advance; all {fleet.devices} devices serve meanwhile")
    _restore(old, log)
    try:
        stage.start_server()
        stage.stop_server()
        drill.expect(False, "an older log was accepted, though the ledger was signed beyond it")
    except Refused:
        drill.step("the older backup is refused: the signed ledger goes beyond it")
    _restore(backup, log)
    fleet.office = stage.start_server()
    again = fleet.look(good["rollout"])
    drill.expect(again["confirmed"] == good["confirmed"], "the restored log tells another story")
    drill.reached("restore_s", f"the newest backup is in place, and {again['confirmed']} confirmations are known again")


def _copy_log(log: Path, to: Path) -> None:
    to.mkdir()
    for path in log.parent.glob(log.name + "*"):
        shutil.copy2(path, to / path.name)


def _restore(source: Path, log: Path) -> None:
    for path in log.parent.glob(log.name + "*"):
        path.unlink()
    for path in source.iterdir():
        shutil.copy2(path, log.parent / path.name)


def keys(fleet: Fleet) -> None:
    """The online keys are lost; the holders of the offline keys sign new ones."""
    drill, stage = fleet.drill, fleet.stage
    digest = fleet.release(good_release(stage.path / "good-2"), "2026.2")
    stage.stop_server()
    drill.inject_now("the online keys are lost")
    lost = [path for path in stage.home.keys.glob("*.pem") if path.stem != "ledger"]
    for path in lost:
        path.unlink()
    try:
        stage.start_server()
        stage.stop_server()
        drill.expect(False, f"it started without {len(lost)} keys")
    except Refused:
        drill.reached("detect_s", f"the control plane does not start without its {len(lost)} online keys")
    drill.expect(fleet.serving() == fleet.devices, "a device stopped serving")
    drill.reached("halt_s", f"nothing can advance; all {fleet.devices} devices serve meanwhile")
    bundle, home = str(stage.path / "online.bundle"), str(stage.home.path)
    _tidegate("keys", "rotate", "online", "--output", bundle, "--home", home)
    offline = [str(path) for path in sorted(stage.offline.glob("*.pem")) if path.stem.startswith(("root", "targets"))]
    _tidegate("keys", "sign", bundle, *(word for path in offline for word in ("--key", path)))
    _tidegate("keys", "import", bundle, "--at-rest", "--home", home)
    drill.step("the offline keys' holders signed new online keys")
    fleet.office = stage.start_server()
    fleet.finish(fleet.roll_out())
    fleet.wait("all devices have the release", lambda: fleet.running(digest) == fleet.devices)
    drill.reached("restore_s", f"devices follow the new keys: all {fleet.devices} took a release under them")


def _tidegate(*words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tidegate", *words],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise Refused(f"tidegate {' '.join(words[:2])} failed: {done.stderr.strip()[-300:]}")


PLAYS: dict[str, Callable[[Fleet], None]] = {
    "faulty-release": faulty,
    "telemetry-outage": outage,
    "controller-lost": controller,
    "vendor-feed-gone": feed,
    "log-restored": log_restored,
    "keys-lost": keys,
}
