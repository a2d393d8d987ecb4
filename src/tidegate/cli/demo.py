"""`tidegate demo`: the main job in a minute. A good release reaches everyone; a faulty one is stopped and contained."""

from __future__ import annotations

import json as jsonlib
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

from rich.live import Live

from tidegate.cli.demo_content.releases import (
    FAULTS,
    demo_manifest_parts,
    faulty_release,
    good_release,
    validator_passes,
)
from tidegate.cli.demo_gate import DemoGate, Tried
from tidegate.cli.demo_stage import COMPONENT, DemoDevice, Stage
from tidegate.cli.office import OfficeClient
from tidegate.cli.options import OnOff
from tidegate.cli.release_files import SpeedOptions, create_draft
from tidegate.cli.releases import sign_with, submit
from tidegate.cli.rollout_view import rollout_panel
from tidegate.cli.show import coloured, console, out, table
from tidegate.core.errors import BadInput, Refused

MAX_HARMED = 3
OBSERVE_S = 10
LEAST_DEVICES = 4
MOST_DEVICES = 200
PATIENCE_S = 300.0
LOOK_S = 0.2


def demo(
    *,
    devices: int = 24,
    json: bool = False,
    fault: str = "both",
    let_through: OnOff = True,
    keep: Path | None = None,
) -> int:
    """Show the main job on this machine: a control plane and real agents, a good release, then a faulty one.

    The gate stops the faulty release. Then it is let through all the same, on record, to show what else would have
    stopped it. The fleet is small, so the certain rule carries it: at most 3 devices may be harmed, whatever happens.

    Args:
        devices: How many agents, each a process of its own.
        json: End with one JSON object on the last line.
        fault: What is wrong with the faulty release: both, false-positive or crash.
        let_through: Let the faulty release through after the gate has refused it; --no-let-through ends there.
        keep: Leave everything in this directory (logs, keys, devices) instead of a temporary one.
    """
    if not LEAST_DEVICES <= devices <= MOST_DEVICES:
        raise BadInput(f"--devices must be {LEAST_DEVICES} to {MOST_DEVICES}, not {devices}")
    if fault not in FAULTS:
        raise BadInput(f"--fault must be one of {', '.join(FAULTS)}, not {fault!r}")
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise BadInput(f"{keep} is not empty; name a new directory")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    with Stage(keep) as stage:
        result = _play(stage, devices, fault, let_through)
    if keep is not None:
        out(f"Everything is left in {keep}.")
    if json:
        print(jsonlib.dumps(result), flush=True)
    return 0 if result["ok"] else 1


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _play(stage: Stage, count: int, fault: str, let_through: bool) -> dict[str, Any]:
    out("1. A control plane with fresh keys (offline ones in a directory of their own), and its log.")
    office = stage.start_server()
    out(f"2. {count} devices enrol; each runs an agent of its own that protects a check-in desk with a YARA-X scanner.")
    stage.enrol_devices(count, office)
    stage.start_agents()
    gate = DemoGate(stage)
    out("3. A good release: past the gate, then canary, opening windows, everyone, with a placebo arm beside it.")
    if gate.why_not:
        out(f"   No gate in this demo: {gate.why_not}.")
    good_digest, good_tried = _release(stage, office, gate, 1, "2026.1", good_release(stage.path / "good"))
    good = _roll_out(stage, office, 1, "the good release")
    good_result = {"covered": good["confirmed"], "devices": good["devices"], "seconds": _seconds(good)}
    payload = faulty_release(stage.path / "faulty", fault)
    out(f"4. A faulty release. {validator_passes(payload).sentence.capitalize()}.")
    _, tried = _release(stage, office, gate, 2, "2026.2", payload)
    said = {"good": _gate_result(good_tried), "faulty": _gate_result(tried)}
    if tried is not None and not tried.passed:
        _refused(office)
        if not let_through:
            return _stopped(good_result, count, said)
        out("5. Let through all the same, on record, to show what stands behind the gate.")
    faulty = _roll_out(stage, office, 2, "the faulty release", let_through=True)
    harmed = [_device(stage, entry) for entry in faulty["where"] if entry["standing"] in ("reverted", "silent")]
    recovered, whole = _wait_for_recovery(stage, harmed, good_digest, faulty["confirmed"])
    faulty_result = {
        "harmed": faulty["reverted"] + faulty["silent"],
        "devices": faulty["devices"],
        "verdict": faulty["verdict"],
        "recovered": recovered,
        "exposed": faulty["exposed"],
        "never_exposed": faulty["never_exposed"],
        "seconds": _seconds(faulty),
    }
    ok = (
        good_result["covered"] == count
        and faulty["verdict"] == "halt"
        and 0 < faulty_result["harmed"] <= MAX_HARMED
        and recovered == faulty_result["harmed"]
    )
    result: dict[str, Any] = {"good": good_result, "faulty": faulty_result, "max_harmed": MAX_HARMED, "ok": ok}
    result["gate"] = said
    _show_end(result, good, faulty, whole)
    return result


def _release(
    stage: Stage, office: OfficeClient, gate: DemoGate, seq: int, version: str, payload: Path
) -> tuple[str, Tried | None]:
    """Make a release, put it through the gate, sign it all the same and hand in what there is."""
    parts = demo_manifest_parts()
    directory = stage.path / f"release-{seq}"
    draft = create_draft(
        payload,
        directory,
        component=COMPONENT,
        version=version,
        seq=seq,
        driver=parts.driver,
        health=parts.health,
        notes=parts.notes,
    )
    tried = None if gate.why_not else gate.try_release(directory, stage.path / "release-1" if seq > 1 else None)
    if tried is not None:
        _say_tried(tried)
    sign_with(office, draft, directory, stage.offline, SpeedOptions.for_trial(3600))
    digest = str(submit(office, draft, directory, "demo")["digest"])
    if tried is not None:
        gate.hand_in(office, directory, digest)
    return digest, tried


def _say_tried(tried: Tried) -> None:
    if tried.passed:
        out(f"   The gate: {tried.checks} checks in the sandbox have nothing against it ({tried.seconds} s).")
        return
    out(f"   The gate refuses it ({tried.seconds} s), which no device has felt:")
    for line in tried.lines[:4]:
        out(f"     {line}")


def _refused(office: OfficeClient) -> None:
    """Ask for the rollout as anyone might, to show that the control plane says no."""
    try:
        office.post("/api/v1/rollouts", _asked(2), "demo")
    except Refused as error:
        out(f"   The control plane: {str(error).split(': vsa')[0]}.")
        return
    raise Refused("the control plane has started a rollout that its policy forbids")


def _gate_result(tried: Tried | None) -> dict[str, Any] | None:
    if tried is None:
        return None
    return {"passed": tried.passed, "seconds": tried.seconds, "refused_by": tried.refused_by}


def _stopped(good: dict[str, Any], count: int, said: dict[str, Any]) -> dict[str, Any]:
    out("No device was exposed to it.")
    faulty = {"harmed": 0, "devices": count, "verdict": "refused", "recovered": 0, "exposed": 0, "seconds": 0.0}
    faulty["never_exposed"] = count
    ok = good["covered"] == count
    return {"good": good, "faulty": faulty, "max_harmed": MAX_HARMED, "ok": ok, "gate": said}


def _asked(seq: int) -> dict[str, Any]:
    return {
        "component": COMPONENT,
        "release": str(seq),
        "max_harmed": MAX_HARMED,
        "placebo_per_treated": 1.0,
        "observe_s": OBSERVE_S,
    }


def _roll_out(stage: Stage, office: OfficeClient, seq: int, title: str, *, let_through: bool = False) -> dict[str, Any]:
    body = {**_asked(seq), "let_through": let_through}
    name = office.post("/api/v1/rollouts", body, "demo")["rollout"]
    deadline = time.monotonic() + PATIENCE_S
    said: set[str] = set()
    with Live(console=console, refresh_per_second=8, transient=False) as live:
        while True:
            found = office.get(f"/api/v1/rollouts/{name}", devices=1)
            if console.is_terminal:
                live.update(rollout_panel(found, title))
            elif found["sentence"] not in said:
                said.add(found["sentence"])
                out(f"   {found['phase']}: {found['sentence']}")
            if found["phase"] in ("halted", "closed"):
                return found
            if time.monotonic() > deadline:
                raise Refused(f"{title} did not come to an end in {PATIENCE_S:.0f} s: {found['sentence']}")
            time.sleep(LOOK_S)


def _seconds(found: dict[str, Any]) -> float:
    return round((found["ended_ms"] - found["started_ms"]) / 1000, 1)


def _device(stage: Stage, entry: dict[str, Any]) -> DemoDevice:
    return next(device for device in stage.devices if device.device_id == entry["device_id"])


def _wait_for_recovery(stage: Stage, harmed: list[DemoDevice], good_digest: str, keep: int) -> tuple[int, int]:
    """Look on the devices themselves: how many of the harmed run the good release and serve again, and of all.

    So many `keep` the faulty one: it did not break them, they had confirmed before the halt.
    """
    deadline = time.monotonic() + OBSERVE_S
    while True:
        back = [device for device in stage.devices if _is_well(device, good_digest)]
        if len(back) + keep >= len(stage.devices) or time.monotonic() > deadline:
            return sum(device in back for device in harmed), len(back)
        time.sleep(LOOK_S)


def _is_well(device: DemoDevice, good_digest: str) -> bool:
    installed = device.installed()
    return installed is not None and good_digest.startswith(installed) and device.serves()


def _show_end(result: dict[str, Any], good: dict[str, Any], faulty: dict[str, Any], whole: int) -> None:
    kept = f"; {faulty['confirmed']} that it did not break had confirmed" if faulty["confirmed"] else ""
    rows = [
        _row("good", good, f"{good['confirmed']} of {good['devices']} updated"),
        _row("faulty", faulty, f"{whole} of {faulty['devices']} run the good release and serve{kept}"),
    ]
    columns = ("release", "verdict", "exposed", "harmed", "never exposed", "seconds", "in the end")
    table("What happened", columns, rows, empty="")
    out(f"Why it was halted: {faulty['sentence']}")
    harmed, back = result["faulty"]["harmed"], result["faulty"]["recovered"]
    out(f"{harmed} of at most {MAX_HARMED} devices were harmed, and {back} came back by themselves, without hands.")


def _row(name: str, found: dict[str, Any], end: str) -> tuple[Any, ...]:
    harmed = found["reverted"] + found["silent"]
    verdict = coloured("halt" if found["verdict"] == "halt" else "advance")
    return (name, verdict, found["exposed"], harmed, found["never_exposed"], _seconds(found), end)
