"""What an operator asks for, decided: tokens, releases, rollouts. Each gives the events to append and the answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tidegate.control.state import DeviceRow, Release, ServerState
from tidegate.core.caps import Cap
from tidegate.core.errors import BadInput, NotFound, Refused
from tidegate.core.looks import LookPlan, certain_ring_count, plan_looks
from tidegate.core.model import Budget, Candidate, Manifest, PlanState, ReleaseTerms, check_name
from tidegate.core.rollout import Happening, Rollout, RolloutSpec, step
from tidegate.core.wire import encode, plain
from tidegate.log.events import Act, Event

OBSERVE_PER_SOAK = 3


@dataclass(frozen=True, slots=True)
class Who:
    """A named person or system, and the reason given."""

    who: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class StartRequest:
    """What an operator declares to start a rollout. `observe_s` 0 stands for a few times the soak."""

    component: str
    release: str
    max_harmed: int
    confidence: float = 0.999
    false_halt: float = 0.001
    canary: int = 0
    placebo_per_treated: float = 4.0
    silent_rate: float = 0.0
    observe_s: int = 0
    spread_s: int = 0
    scope: dict[str, str] = field(default_factory=lambda: {})
    caps: dict[str, int] = field(default_factory=lambda: {})


def create_token(
    now_ms: int, by: Who, *, token_id: str, token_hash: str, labels: dict[str, str], uses: int, expires_s: int
) -> tuple[list[Event], None]:
    """Record an enrolment token by its hash. Raises BadInput for counts or labels that cannot be."""
    if not 1 <= uses <= 100_000_000:
        raise BadInput("uses must be 1 to 100,000,000")
    if not 1 <= expires_s <= 366 * 86_400:
        raise BadInput("a token must expire within 1 second to 366 days")
    for name, value in labels.items():
        _name("label", name)
        if not value or len(value) > 100:
            raise BadInput(f"label {name}: the value must have 1 to 100 characters")
    body = {
        "token_id": token_id,
        "hash": token_hash,
        "labels": labels,
        "uses": uses,
        "expires_ms": now_ms + expires_s * 1000,
    }
    return [Act(at_ms=now_ms, what="token_created", who=by.who, why=by.why, body=body)], None


def log_release(
    state: ServerState, now_ms: int, by: Who, *, digest: str, manifest: Manifest, terms: ReleaseTerms
) -> tuple[list[Event], bool]:
    """Record a release that the repository has accepted; give whether it was news."""
    if digest in state.releases:
        return [], False
    body = {"digest": digest, "manifest": plain(manifest), "terms": plain(terms)}
    return [Act(at_ms=now_ms, what="release_logged", who=by.who, why=by.why, body=body)], True


def find_release(state: ServerState, component: str, name: str) -> Release:
    """Find a release by digest (or its first 8 digits and more), sequence number, or version.

    Raises:
        NotFound: naming what there is.
        BadInput: if the name fits several.
    """
    mine = [release for release in state.releases.values() if release.manifest.component == component]
    found = [
        release
        for release in mine
        if name in (str(release.manifest.seq), release.manifest.version)
        or (len(name) >= 8 and release.digest.startswith(name))
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise BadInput(f"{name!r} fits {len(found)} releases of {component}; give the sequence number or the digest")
    known = ", ".join(f"{release.manifest.seq} ({release.manifest.version})" for release in mine) or "none"
    raise NotFound(f"there is no release {name!r} of {component}; there are {known}")


def start_rollout(
    state: ServerState, now_ms: int, by: Who, said: StartRequest, *, rollout: str, arm_secret: bytes
) -> tuple[list[Event], str]:
    """Freeze the roster and begin a rollout; its first ring opens at the next look at the evidence.

    Raises:
        NotFound: for an unknown release.
        BadInput: for a budget or times that cannot be.
        Refused: while another rollout of the component is active, or where no device is in scope.
    """
    release = find_release(state, said.component, said.release)
    active = state.active.get(said.component)
    if active is not None:
        raise Refused(f"rollout {active} of {said.component} is active; abort it or wait until it ends")
    spent = [r for r in state.rollouts.values() if r.spec.candidate.sha256 == release.digest]
    if spent and spent[-1].phase is PlanState.HALTED and spent[-1].verdict == "halt":
        raise Refused(f"this candidate was halted in rollout {spent[-1].spec.rollout}: {spent[-1].sentence}")
    roster = tuple(_in_scope(state, release, said.scope))
    if not roster:
        raise Refused(
            "no device is in scope: devices count that were enrolled before the release was logged and do not run it"
        )
    health = release.manifest.health
    try:
        budget = Budget(
            max_harmed=said.max_harmed,
            confidence=said.confidence,
            false_halt=said.false_halt,
            canary=said.canary,
            placebo_per_treated=said.placebo_per_treated,
        )
        certain = certain_ring_count(len(roster), budget.max_harmed, budget.first_ring)
        looks = _looks(len(roster), budget, said.silent_rate)
        spec = RolloutSpec(
            rollout=rollout,
            component=said.component,
            candidate=Candidate(
                path=f"releases/{said.component}/{release.manifest.seq}.json",
                sha256=release.digest,
                length=len(encode(release.manifest)),
                seq=release.manifest.seq,
            ),
            replaces=release.manifest.replaces,
            order_salt=release.terms.order_salt,
            arm_secret=arm_secret.hex(),
            budget=budget,
            planned_rings=looks.rings if looks else certain,
            looks=looks,
            roster=roster,
            observe_s=said.observe_s or max(OBSERVE_PER_SOAK * health.soak_s, health.soak_s + 60),
            soak_s=health.soak_s,
            lease_ttl_s=max(60, said.observe_s),
            spread_s=said.spread_s,
            caps=tuple(Cap(label, most) for label, most in sorted(said.caps.items())),
            scope=tuple(f"{name}={value}" for name, value in sorted(said.scope.items())),
        )
    except ValueError as error:
        raise BadInput(str(error)) from error
    body = {"rollout": rollout, "spec": plain(spec)}
    return [Act(at_ms=now_ms, what="rollout_started", who=by.who, why=by.why, body=body)], rollout


def steer_rollout(state: ServerState, now_ms: int, by: Who, *, rollout: str, verb: str) -> tuple[list[Event], str]:
    """Pause, resume or abort a rollout.

    Raises:
        NotFound: for an unknown rollout.
        Refused: where the rollout's phase has no place for it.
    """
    if verb not in _VERBS:
        raise NotFound(f"a rollout can be {', '.join(_VERBS)}, not {verb!r}")
    found = find_rollout(state, rollout)
    what, happening = _VERBS[verb]
    if step(found.phase, happening) is None:
        raise Refused(f"rollout {found.spec.rollout} is {found.phase.value}: it cannot be {what.split('_')[1]}")
    body: dict[str, Any] = {"rollout": found.spec.rollout}
    return [Act(at_ms=now_ms, what=what, who=by.who, why=by.why, body=body)], found.spec.rollout


def retire_device(state: ServerState, now_ms: int, by: Who, row: DeviceRow) -> tuple[list[Event], int]:
    """Take a device out of the caps that it uses: it will not come back, or has been set right by hand."""
    index = row.device.index
    return [Act(at_ms=now_ms, what="device_retired", who=by.who, why=by.why, body={"index": index})], index


def find_rollout(state: ServerState, name: str) -> Rollout:
    """Find a rollout by its name, or the only active one of a component. Raises NotFound."""
    found = state.rollouts.get(name) or state.newest_rollout(name)
    if found is None:
        known = ", ".join(state.rollouts) or "none"
        raise NotFound(f"there is no rollout {name!r}; there are {known}")
    return found


def _looks(devices: int, budget: Budget, silent_rate: float) -> LookPlan | None:
    """Plan the looks of the statistical rule, or give None where the certain rule is as fast or the only one."""
    main = budget.max_harmed - int(budget.max_harmed * budget.late_budget_share)
    looks = plan_looks(
        devices,
        main,
        budget.confidence,
        budget.placebo_per_treated,
        silent_rate,
        budget.q_gate,
        min(budget.first_ring, main),
    )
    certain = certain_ring_count(devices, budget.max_harmed, budget.first_ring)
    return looks if looks.feasible and looks.rings < certain else None


def _in_scope(state: ServerState, release: Release, scope: dict[str, str]) -> list[int]:
    component = release.manifest.component
    return [
        row.device.index
        for row in state.devices
        if row.enrolled_ms <= release.logged_ms
        and row.installed.get(component) != release.digest
        and all(row.device.labels.get(name) == value for name, value in scope.items())
    ]


def _name(what: str, value: str) -> None:
    try:
        check_name(what, value)
    except ValueError as error:
        raise BadInput(str(error)) from error


_VERBS = {
    "pause": ("rollout_paused", Happening.PAUSE),
    "resume": ("rollout_resumed", Happening.RESUME),
    "abort": ("rollout_aborted", Happening.ABORT),
}
