"""July 19 in a real machine: content panics the kernel in early boot, and the guard in the initramfs heals it."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tidegate.agent.slots import slot_name

from .conftest import After, Trial
from .machine import Parts, Seen, press_power_button, run
from .parts import HOOK, initramfs

pytestmark = [pytest.mark.room("agent"), pytest.mark.xdist_group("vm"), pytest.mark.timeout(600)]

BOOTS = 3
"""Two starts are allowed, the third goes back: `guard.STARTS_ALLOWED`."""
WITHIN_S = 240.0
"""Patience alone: a boot takes three seconds of one core, and a busy machine may give it a tenth of one."""


def healed(trial: Trial, seen: Seen, after: After) -> None:
    """The machine is up on the last known good, by itself, and the files say why."""
    assert seen.ended and seen.boots <= BOOTS and seen.up == trial.good
    assert len(seen.said("vm: rule pipe reads field 21 of 20")) == BOOTS - 1, "each start before went down on the rule"
    digest = trial.candidate.sha256
    assert after.slots.current() == after.slots.good() and after.slots.condemned(digest)
    assert "2 starts did not last; the last known good runs again" in after.slots.note_about(digest)


def reported_and_refused(trial: Trial, after: After) -> None:
    """The agent says what the guard did, and never takes that digest again, whoever announces it."""
    digest = trial.candidate.sha256
    said = after.agent()
    assert [(report["lease_id"].split(":")[0], report["kind"]) for report in said] == [("r2", "reverted")]
    assert f"the guard took {digest[:16]} back: 2 starts did not last" in said[0]["note"]
    asked = len(trial.world.announced)
    trial.world.publish(trial.candidate, rollout="again")
    assert after.agent() == [] and len(trial.world.announced) == asked
    assert slot_name(after.slots.current() or "") == trial.good
    assert "never tried again" in after.home.status_file.read_text()
    trial.world.publish(trial.candidate)


def test_the_device_heals_itself_reports_and_refuses(faulty: Trial, parts: Parts, tmp_path: Path) -> None:
    disk = faulty.disk(tmp_path)
    seen = run(parts, disk, within_s=WITHIN_S)
    after = faulty.after(disk)
    healed(faulty, seen, after)
    reported_and_refused(faulty, after)
    print(f"healed in {seen.boots} boots and {seen.up_s:.1f} s")


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_it_heals_20_times_of_20(faulty: Trial, parts: Parts, tmp_path: Path) -> None:
    took: list[tuple[float, int]] = []
    for _ in range(20):
        disk = faulty.disk(tmp_path)
        seen = run(parts, disk, within_s=WITHIN_S)
        after = faulty.after(disk)
        healed(faulty, seen, after)
        reported_and_refused(faulty, after)
        took.append((seen.up_s, seen.boots))
    seconds = [second for second, _ in took]
    most = max(boots for _, boots in took)
    print(
        f"20 of 20 healed; boots at most {most}; seconds p50 {statistics.median(seconds):.1f}, max {max(seconds):.1f}"
    )


@pytest.mark.slow
def test_without_the_guard_it_loops(faulty: Trial, parts: Parts, tmp_path: Path) -> None:
    """The test of the test: twice the boots that the guard needs, and no end in sight."""
    disk = faulty.disk(tmp_path)
    seen = run(parts, disk, words="vm.guard=off", until=lambda seen: seen.boots > 2 * BOOTS, within_s=2 * WITHIN_S)
    assert seen.boots > 2 * BOOTS and not seen.up and not seen.ended
    assert faulty.after(disk).slots.current() == faulty.candidate.sha256


@pytest.mark.slow
def test_without_its_syncs_the_guard_heals_nothing(faulty: Trial, parts: Parts, tmp_path: Path) -> None:
    """A panic loses what was only in memory: a count that is not synced begins anew each time."""
    whole = HOOK.read_text()
    lazy = whole.replace('then sync "$1" 2>/dev/null; else sync; fi', "then :; else :; fi")
    assert lazy != whole
    changed = Parts(parts.kernel, initramfs(tmp_path / "initramfs.cpio", lazy))
    seen = run(changed, faulty.disk(tmp_path), until=lambda seen: seen.boots > BOOTS + 1, within_s=2 * WITHIN_S)
    assert seen.boots > BOOTS + 1 and not seen.up


@pytest.mark.slow
def test_a_first_install_becomes_absent(first: Trial, parts: Parts, tmp_path: Path) -> None:
    disk = first.disk(tmp_path)
    seen = run(parts, disk, within_s=WITHIN_S)
    assert seen.ended and seen.boots == BOOTS and seen.up == "nothing"
    after = first.after(disk)
    assert [report["kind"] for report in after.agent()] == ["reverted"] and after.slots.current() is None


def cut_at(moment_s: float) -> Callable[[Seen], bool]:
    """Cut the power so long after the early boot has begun, unless the machine is off by then."""

    started_s = time.monotonic()

    def due(seen: Seen) -> bool:
        began_s = [at for at, line in seen.lines if line == "vm: boot"]
        return bool(began_s) and time.monotonic() - started_s - began_s[0] >= moment_s

    return due


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_power_cuts_while_it_heals_change_nothing(faulty: Trial, parts: Parts, tmp_path: Path) -> None:
    """The guest's own memory is lost at each cut; what the guard has synced is not."""
    draw = random.Random(19)
    for _ in range(6):
        disk = faulty.disk(tmp_path)
        boots = cuts = 0
        for _ in range(3):
            seen = run(parts, disk, until=cut_at(draw.uniform(0.0, 0.35)), within_s=WITHIN_S)
            boots, cuts = boots + seen.boots, cuts + (not seen.ended)
        seen = run(parts, disk, within_s=WITHIN_S)
        after = faulty.after(disk)
        assert seen.ended and seen.up == faulty.good
        assert after.slots.condemned(faulty.candidate.sha256) and after.slots.note_about(faulty.candidate.sha256)
        assert boots + seen.boots <= BOOTS + cuts + 1
        reported_and_refused(faulty, after)


@pytest.mark.slow
def test_an_impatient_press_of_the_power_button_is_no_abnormal_end(sound: Trial, parts: Parts, tmp_path: Path) -> None:
    disk = sound.disk(tmp_path)
    trial = slot_name(sound.candidate.sha256)

    def press(line: str, monitor: Path) -> None:
        if line == "vm: waits":
            press_power_button(monitor)

    for _ in range(BOOTS):
        seen = run(parts, disk, words="vm.wait=press", on_line=press, within_s=WITHIN_S)
        assert seen.ended and seen.said("vm: pressed") and seen.up == trial
    assert sound.after(disk).slots.guard_state()["starts"] == 0

    ups = [
        run(parts, disk, words="vm.wait=press", until=lambda seen: bool(seen.said("vm: waits")), within_s=WITHIN_S).up
        for _ in range(BOOTS)
    ]
    assert ups == [trial, trial, sound.good], "power cuts are abnormal ends, and counted"
