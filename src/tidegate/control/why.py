"""Why a device has or has not been updated, in sentences, from the log alone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tidegate.control.state import DeviceRow, ServerState
from tidegate.control.views import standing
from tidegate.core.errors import BadInput, NotFound
from tidegate.core.model import PlanState
from tidegate.core.phases import ENDED
from tidegate.core.rollout import Rollout
from tidegate.core.speed import speed_permits


def find_device(state: ServerState, name: str) -> DeviceRow:
    """Find a device by its id (or the first digits of it) or by its index.

    Raises:
        NotFound: if there is none.
        BadInput: if the digits fit several.
    """
    if name.isdecimal() and len(name) < 9 and int(name) < len(state.devices):
        return state.devices[int(name)]
    found = state.devices.starting_with(name) if len(name) >= 4 else []
    if len(found) > 1:
        raise BadInput(f"{name!r} fits several devices; give more digits of the device id")
    if not found:
        raise NotFound(f"there is no device {name!r}; list them: tidegate device list")
    return state.devices[found[0]]


def why(state: ServerState, row: DeviceRow, now_ms: int) -> list[dict[str, Any]]:
    """Explain a device's standing in the newest rollout of each component: one entry each, with a sentence."""
    components = dict.fromkeys(rollout.spec.component for rollout in state.rollouts.values())
    found: list[dict[str, Any]] = []
    if barred := state.identities.barred(row.device.index):
        found.append({"component": "", "rollout": "", "standing": "barred", "sentence": barred})
    for component in components:
        rollout = state.newest_rollout(component)
        if rollout is not None:
            found.append(_entry(state, row, rollout, now_ms))
    return found


def _entry(state: ServerState, row: DeviceRow, rollout: Rollout, now_ms: int) -> dict[str, Any]:
    position = rollout.position.get(row.device.index)
    version = state.releases[rollout.spec.candidate.sha256].manifest.version
    head = f"{rollout.spec.component} {version} (rollout {rollout.spec.rollout})"
    if position is None:
        word, sentence = "outside", _outside(state, row, rollout)
    else:
        word = standing(rollout, position, now_ms)
        sentence = _SENTENCES[word](row, rollout, position)
        if rollout.phase in ENDED and word in ("waiting", "late", "placebo"):
            sentence = f"never exposed: the rollout was {rollout.phase.value} before its turn came ({rollout.sentence})"
        elif rollout.phase is PlanState.PAUSED and word in ("waiting", "late"):
            sentence += f"; the rollout is paused ({rollout.sentence})"
        elif rollout.speed is not None and word in ("waiting", "late"):
            answer = speed_permits(rollout.speed, rollout.rings.rank_of(position), now_ms // 1000, 0)
            sentence = sentence if answer.permitted else f"waits: {answer.sentence}"
    return {
        "component": rollout.spec.component,
        "rollout": rollout.spec.rollout,
        "standing": word,
        "sentence": f"{head}: {sentence}",
    }


def _outside(state: ServerState, row: DeviceRow, rollout: Rollout) -> str:
    release = state.releases[rollout.spec.candidate.sha256]
    if row.enrolled_ms > release.logged_ms:
        return "not in the roster: it was enrolled after the release was logged; the next rollout takes it in"
    wanted = (entry.partition("=") for entry in rollout.spec.scope)
    if not all(row.device.labels.get(name) == value for name, _, value in wanted):
        return f"not in the roster: the rollout's scope is {', '.join(rollout.spec.scope)}"
    return "not in the roster: it ran this release already when the rollout started"


def _waiting(row: DeviceRow, rollout: Rollout, position: int) -> str:
    ring = int(rollout.rings.treated[position])
    if position in rollout.spec.scouts:
        return "goes first, as a scout for its labels, but it has not been granted its lease yet"
    leased = bool((rollout.evidence.ring_at_lease == rollout.ring_open).any())
    nobody = "" if leased else "; none of that ring has a lease yet: `tidegate agent status` on one of them says why"
    if ring == 0:
        return f"waits for a later ring; ring {rollout.ring_open} is open ({rollout.sentence}){nobody}"
    return f"ring {ring} is open for it, but it has not been granted a treated lease yet{nobody}"


def _when(rollout: Rollout, position: int) -> str:
    at = datetime.fromtimestamp(rollout.evidence.leased_at(position) / 1000, UTC)
    return at.strftime("%H:%M:%S UTC on %d %B %Y")


def _reverted(row: DeviceRow, rollout: Rollout, position: int) -> str:
    said = row.last_report.note if row.last_report and row.last_report.rollout == rollout.spec.rollout else ""
    return f"exposed at {_when(rollout, position)}, and went back to its last known good" + (
        f": {said}" if said else ""
    )


_SENTENCES = {
    "waiting": _waiting,
    "late": lambda row, rollout, position: (
        f"late: it had no lease when ring {int(rollout.rings.treated[position])} closed;"
        " it may announce when it comes back"
    ),
    "placebo": lambda row, rollout, position: (
        f"goes through the motions as placebo in ring {int(rollout.evidence.ring_at_lease[position])};"
        " nothing changes on it"
    ),
    "applying": lambda row, rollout, position: (
        f"exposed at {_when(rollout, position)} in ring {int(rollout.rings.treated[position])}; its soak is under way"
    ),
    "confirmed": lambda row, rollout, position: (
        f"updated: exposed at {_when(rollout, position)} in ring {int(rollout.rings.treated[position])},"
        " and confirmed healthy after its soak"
    ),
    "reverted": _reverted,
    "silent": lambda row, rollout, position: (
        f"exposed at {_when(rollout, position)} and not heard of within {rollout.spec.observe_s} s: counted as harmed"
    ),
}
