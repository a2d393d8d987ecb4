"""`tidegate status`: devices, releases and rollouts at a glance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tidegate.cli.office import OfficeClient
from tidegate.cli.rollout_view import CURE
from tidegate.cli.rollouts import rollout_table
from tidegate.cli.show import duration, out, out_json, table
from tidegate.core.words import counted

MOST_BARRED = 10


def status(*, home: Path | None = None, json: bool = False) -> int:
    """Show devices, releases and rollouts at a glance. Exit code 1 if the server is in trouble.

    Args:
        home: The control plane's directory.
        json: Print JSON.
    """
    found: dict[str, Any] = OfficeClient(home).get("/api/v1/status")
    if json:
        out_json(found)
    else:
        out(f"{counted(found['devices'], 'device')} enrolled, {counted(found['releases'], 'release')} in the log.")
        if found["trouble"]:
            out(f"Trouble: {found['trouble']}")
        for warning in found["trust"]["warnings"]:
            out(f"Keys: {warning}")
        _witnesses(found["witnesses"])
        for r in found["withdrawn"]:
            why = f": {r['withdrawn_why']}" if r["withdrawn_why"] else ""
            out(f"Release {r['seq']} of {r['component']} ({r['version']}) was withdrawn by its keys{why}")
        for device in found["barred"][:MOST_BARRED]:
            out(f"Device {device['index']} ({device['device_id'][:12]}): {device['why']}")
        if len(found["barred"]) > MOST_BARRED:
            out(f"... and {counted(len(found['barred']) - MOST_BARRED, 'more device')} that may not speak (--json).")
        for asked in found["waiting"]:
            number = asked["number"]
            out(f"Request {number} of {asked['asked_by']} waits ({asked['reason']}): tidegate approve grant {number}")
        _rollouts(found)
    return 1 if found["trouble"] else 0


def _rollouts(found: dict[str, Any]) -> None:
    """Show the rollouts, and below them what should be seen of each."""
    rollout_table(found["rollouts"])
    for rollout in found["rollouts"]:
        if rollout["spill"]:
            out(f"{rollout['rollout']}: {rollout['spill']['sentence']}.")
        for cluster in rollout["clusters"]:
            out(f"{rollout['rollout']}: {cluster['sentence']}{CURE.format(**cluster)}")
        if rollout["set_aside"]:
            many = counted(rollout["set_aside"], "device")
            out(f"{rollout['rollout']}: what {many} reported is set aside: quarantined, and no evidence.")
        if rollout["speed"] and not rollout["ended_ms"]:
            out(f"{rollout['rollout']}: {rollout['speed']['sentence']}")
            _rings(rollout, found["now_ms"] / 1000)


def _rings(rollout: dict[str, Any], now_s: float) -> None:
    """Show when the rings to come open, where the speed limit is what any of them waits for."""
    rings = rollout["speed"]["rings"]
    if all(one["binds"] == "statistics" for one in rings):
        return
    rows = [
        (
            one["ring"],
            f"{100 * one['share']:.3g} %",
            _in(one["by_statistics_s"], now_s, "after the ring before"),
            _in(one["by_limit_s"], now_s, "not as it is signed"),
            one["binds"],
        )
        for one in rings
    ]
    columns = ("ring", "reaches", "opens by the statistics", "opens by the limit", "binds")
    table(f"Rings to come of {rollout['rollout']}, if all goes well", columns, rows, empty="")
    waits = rollout["speed"]["waits"]
    if waits:
        out(f"Ring {waits['ring']} waits: {waits['sentence']}.")


def _in(at_s: float | None, now_s: float, never: str) -> str:
    return never if at_s is None else "now" if at_s <= now_s else f"in {duration(at_s - now_s)}"


def _witnesses(found: list[dict[str, Any]]) -> None:
    if found:
        done = sum(not witness["behind"] for witness in found)
        out(f"The ledger's newest checkpoint is cosigned by {done} of {counted(len(found), 'witness', 'witnesses')}.")
    for witness in found:
        if witness["trouble"]:
            out(f"Witness {witness['name']}: {witness['trouble']}")
