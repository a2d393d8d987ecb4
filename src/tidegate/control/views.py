"""The state as people and scripts see it: plain values for the API, the CLI and the console."""

from __future__ import annotations

from typing import Any

import numpy as np

from tidegate.control.neighbours import NAMED_BELOW, spill_of
from tidegate.control.quarantine import clusters_of
from tidegate.control.state import DeviceRow, Release, ServerState
from tidegate.core.admission import main_room
from tidegate.core.assign import SHARE_ONE
from tidegate.core.course import limited
from tidegate.core.evidence import LeaseState
from tidegate.core.pacing import rings_to_come
from tidegate.core.phases import ENDED
from tidegate.core.rollout import Rollout
from tidegate.core.speed import outlook
from tidegate.core.timetable import RingTime
from tidegate.core.wire import plain

Json = dict[str, Any]


def rollout_view(state: ServerState, rollout: Rollout, now_ms: int, *, devices: bool = False) -> Json:
    """Show one rollout; with `devices` also where each device of the roster stands."""
    spec, evidence = rollout.spec, rollout.evidence
    silent = evidence.silent(now_ms, rollout.observe_ms)
    release = state.releases.get(spec.candidate.sha256)
    view: Json = {
        "rollout": spec.rollout,
        "component": spec.component,
        "release": {
            "digest": spec.candidate.sha256,
            "seq": spec.candidate.seq,
            "version": release.manifest.version if release else "",
        },
        "phase": rollout.phase.value,
        "verdict": rollout.verdict,
        "sentence": rollout.sentence,
        "devices": rollout.devices,
        "exposed": evidence.exposed,
        "confirmed": evidence.confirmed,
        "reverted": evidence.reverted,
        "silent": silent,
        "pending": evidence.exposed - evidence.confirmed - evidence.reverted - silent,
        "never_exposed": rollout.devices - evidence.exposed,
        "budget": {
            "max_harmed": spec.budget.max_harmed,
            "confidence": spec.budget.confidence,
            "used": evidence.reverted + silent,
            "at_risk": evidence.exposed - evidence.confirmed,
            "room": main_room(rollout),
        },
        "rule": "statistical" if rollout.statistical else "certain",
        "ring": rollout.ring_open,
        "rings": max(rollout.spec.planned_rings, rollout.ring_open),
        "placebo": _placebo(rollout),
        "started_ms": rollout.started_ms,
        "ended_ms": rollout.ended_ms,
        "observe_s": spec.observe_s,
        "caps": {cap.label: cap.at_most for cap in spec.caps},
        "limits": {limit.name: limit.at_most for limit in spec.limits},
        "lanes": {one.service: [lane.name for lane in one.lanes] for one in spec.lanes},
        "set_aside": len(evidence.aside),
        "spill": _spill(state, rollout, now_ms),
        "clusters": _clusters(state, rollout, now_ms),
        "speed": _speed(state, release, now_ms, rollout) if release else None,
    }
    if devices:
        view["where"] = [_standing(state, rollout, position, now_ms) for position in range(rollout.devices)]
    return view


def _spill(state: ServerState, rollout: Rollout, now_ms: int) -> Json | None:
    """Show signs of interference, where it can still matter."""
    if rollout is not state.newest_rollout(rollout.spec.component):
        return None
    found = spill_of(state, rollout, now_ms)
    return {**plain(found), "sentence": found.sentence} if found and found.chance < NAMED_BELOW else None


def _clusters(state: ServerState, rollout: Rollout, now_ms: int) -> list[Json]:
    """Show the groups whose reports cluster, where it can still matter: in the component's newest rollout."""
    if rollout is not state.newest_rollout(rollout.spec.component):
        return []
    found = clusters_of(state, rollout, now_ms)
    return [{**plain(one), "group": "=".join(one.group), "sentence": one.sentence} for one in found]


def _speed(state: ServerState, release: Release, now_ms: int, rollout: Rollout) -> Json:
    """Show what the signed speed limit allows now and when it allows more; devices are counted in expectation."""
    devices, waits = rollout.devices, limited(rollout, now_ms)
    found = outlook(release.terms.speed, now_ms // 1000, state.promoted.get(release.digest, 0))
    return {
        "share_now": found.share_2p32 / SHARE_ONE,
        "devices_now": devices * found.share_2p32 // SHARE_ONE,
        "next": [{"at_s": at_s, "share": share / SHARE_ONE} for at_s, share in found.steps],
        "ceiling": found.ceiling_2p32 / SHARE_ONE,
        "promoted": release.digest in state.promoted,
        "emergency": release.emergency,
        "sentence": found.sentence,
        "waits": plain(waits),
        "rings": [] if rollout.phase in ENDED else [_ring_time(one) for one in rings_to_come(rollout, now_ms)],
    }


def _ring_time(one: RingTime) -> Json:
    times = {"by_statistics_s": one.statistics_s, "by_limit_s": one.limit_s, "opens_s": one.opens_s}
    return {"ring": one.ring, "share": one.share_2p32 / SHARE_ONE, **times, "binds": one.binds}


def _placebo(rollout: Rollout) -> Json:
    evidence = rollout.evidence
    newest = ~evidence.treated_lease & (evidence.state != LeaseState.NONE)
    running = newest & (evidence.state == LeaseState.PENDING)
    return {"devices": int(np.count_nonzero(newest)), "pending": int(np.count_nonzero(running))}


def _standing(state: ServerState, rollout: Rollout, position: int, now_ms: int) -> Json:
    index = rollout.spec.roster[position]
    return {
        "index": index,
        "device_id": state.devices.device_id(index),
        "ring": int(rollout.rings.treated[position]),
        "standing": standing(rollout, position, now_ms),
    }


def standing(rollout: Rollout, position: int, now_ms: int) -> str:
    """Say in one word where a device stands: waiting, placebo, applying, confirmed, reverted, silent, late."""
    evidence = rollout.evidence
    lease = LeaseState(int(evidence.state[position]))
    treated = bool(evidence.treated_lease[position])
    if lease is LeaseState.PENDING:
        in_time = evidence.leased_at(position) + rollout.observe_ms > now_ms
        if treated:
            return "applying" if in_time else "silent"
        return "placebo" if in_time else "waiting"
    if treated:
        return "confirmed" if lease is LeaseState.CONFIRMED else "reverted"
    return "late" if position in rollout.overdue else "waiting"


def device_view(row: DeviceRow) -> Json:
    """Show one device."""
    return {
        "device_id": row.device.device_id,
        "index": row.device.index,
        "labels": row.device.labels,
        "facts": row.facts,
        "installed": row.installed,
        "took_back": plain(row.last_report),
        "enrolled_ms": row.enrolled_ms,
        "last_heard_ms": row.last_heard_ms,
    }


def release_view(state: ServerState, release: Release) -> Json:
    """Show one release, with the ceiling that a promotion has given it (0 for none), and whether it was withdrawn."""
    return {
        "component": release.manifest.component,
        "seq": release.manifest.seq,
        "version": release.manifest.version,
        "digest": release.digest,
        "driver": release.manifest.driver,
        "logged_ms": release.logged_ms,
        "not_after": release.terms.speed.not_after,
        "speed": plain(release.terms.speed),
        "notes": release.manifest.notes,
        "emergency": release.emergency,
        "promoted_2p32": state.promoted.get(release.digest, 0),
        "withdrawn": release.digest in state.withdrawn,
        "withdrawn_why": state.withdrawn.get(release.digest, ""),
    }


def status_view(state: ServerState, now_ms: int, trouble: str) -> Json:
    """Show the whole at a glance."""
    return {
        "devices": len(state.devices),
        "releases": len(state.releases),
        "withdrawn": [
            release_view(state, release) for digest, release in state.releases.items() if digest in state.withdrawn
        ],
        "trouble": trouble,
        "now_ms": now_ms,
        "rollouts": [rollout_view(state, rollout, now_ms) for rollout in state.rollouts.values()],
    }
