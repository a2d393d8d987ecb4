"""How a rollout starts: the roster frozen, the budget taken from its accounts, the looks planned, or a refusal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tidegate.control.acts import Who, find_release
from tidegate.control.state import Release, ServerState
from tidegate.core.assign import rank
from tidegate.core.bounds import halts
from tidegate.core.caps import Cap
from tidegate.core.errors import BadInput, Refused
from tidegate.core.forecast import Forecast, forecast
from tidegate.core.limits import Lanes, Limit
from tidegate.core.looks import LookPlan, certain_ring_count, plan_looks
from tidegate.core.looks_budget import Account, severity_plans
from tidegate.core.model import Budget, Candidate, PlanState
from tidegate.core.reading import log_evidence_of_harm
from tidegate.core.rollout import Rollout, RolloutSpec
from tidegate.core.roster import Roster
from tidegate.core.rounds import rounds
from tidegate.core.scouts import choose_scouts
from tidegate.core.speed import not_before
from tidegate.core.wire import encode, plain
from tidegate.log.events import Act, Event

OBSERVE_PER_SOAK = 3
LEAST_GRACE_S = 60


@dataclass(frozen=True, slots=True)
class StartRequest:
    """What an operator declares to start a rollout.

    `limits` and `lanes` keep services up; `at_risk` names services that could fall all the same, each with the person
    who must approve (or nobody), and `approved_by` who has. `canary` 0 stands for max_harmed, `max_silent` 0 for no
    smaller budget, `observe_s` 0 for a few times the soak.
    `override_halt` goes on with a candidate that was halted, which takes two people.
    """

    component: str
    release: str
    max_harmed: int
    confidence: float = 0.999
    false_halt: float = 0.001
    canary: int = 0
    max_silent: int = 0
    placebo_per_treated: float = 4.0
    silent_rate: float = 0.0
    reverted_bound: float = 1e-6
    late_budget_share: float = 0.2
    observe_s: int = 0
    spread_s: int = 0
    deadline_s: int = 30 * 86_400
    scope: dict[str, str] = field(default_factory=lambda: {})
    caps: dict[str, int] = field(default_factory=lambda: {})
    limits: tuple[Limit, ...] = ()
    lanes: tuple[Lanes, ...] = ()
    at_risk: dict[str, str] = field(default_factory=lambda: {})
    approved_by: tuple[str, ...] = ()
    scouts: tuple[str, ...] = ()
    shadow: bool = False
    allow_hold: bool = False
    override_halt: bool = False


def start_rollout(
    state: ServerState,
    now_ms: int,
    by: Who,
    said: StartRequest,
    *,
    rollout: str,
    arm_secret: bytes,
    evidence: dict[str, Any] | None = None,
    witnessed_s: int = 0,
) -> tuple[list[Event], str]:
    """Freeze the roster and begin a rollout; its first ring opens at the next look at the evidence.

    `witnessed_s` is when the witnesses that devices demand saw the release in the ledger: for them it is no older.

    Raises:
        NotFound: for an unknown release.
        BadInput: for a budget or times that cannot be.
        Refused: while another rollout of the component is active; while an approver is missing; where no device is in
            scope; for a candidate that was halted, or has used up its budget; for a budget that the component's month
            does not hold; and for one that cannot reach everyone, unless `allow_hold`.
    """
    release = find_release(state, said.component, said.release)
    if release.digest in state.withdrawn:
        why = state.withdrawn[release.digest] or "no reason was given"
        raise Refused(f"release {release.manifest.seq} of {said.component} was withdrawn by its keys: {why}")
    _approved(said)
    roster = roster_of(state, release, said)
    observe_s = said.observe_s or max(OBSERVE_PER_SOAK * release.manifest.health.soak_s, LEAST_GRACE_S)
    try:
        account = _account(state, release, said)
        budget = _budget(said, account)
        outlook = _outlook(len(roster), budget, said, observe_s)
        looks, looks_silent = _looks(len(roster), budget, said, account, outlook)
        caps = tuple(Cap(label, most) for label, most in sorted(said.caps.items()))
        waits = rounds(caps, state.devices.kinds(roster.array), said.limits, said.lanes)
        certain = certain_ring_count(len(roster), budget.max_harmed, budget.first_ring)
        spec = RolloutSpec(
            rollout=rollout,
            component=said.component,
            candidate=_candidate(release),
            replaces=release.manifest.replaces,
            order_salt=release.terms.order_salt,
            arm_secret=arm_secret.hex(),
            budget=budget,
            planned_rings=1 if said.shadow else looks.rings if looks else certain,
            looks=looks,
            looks_silent=looks_silent,
            roster=roster,
            scouts=_scouts(state, release, roster, said),
            shadow=said.shadow,
            observe_s=observe_s,
            soak_s=release.manifest.health.soak_s,
            lease_ttl_s=max(LEAST_GRACE_S, observe_s),
            spread_s=said.spread_s,
            limits=said.limits,
            lanes=said.lanes,
            caps=caps,
            cap_rounds=waits.slowest,
            usual_rounds=waits.usual,
            speed=not_before(release.terms, witnessed_s).speed,
            scope=tuple(f"{name}={value}" for name, value in sorted(said.scope.items())),
        )
    except ValueError as error:
        raise BadInput(str(error)) from error
    if not said.shadow and said.component in state.rolling:
        state.rolling[said.component].reserved(now_ms / 1000, release.digest, account.max_harmed)
    body: dict[str, Any] = {"rollout": rollout, "spec": plain(spec)}
    if said.at_risk:
        body["at_risk"], body["approved_by"] = said.at_risk, list(said.approved_by)
    if evidence is not None:  # what the policy demanded, and which attestations it was given
        body["evidence"] = evidence
    return [Act(at_ms=now_ms, what="rollout_started", who=by.who, why=by.why, body=body)], rollout


def _approved(said: StartRequest) -> None:
    """Refuse while somebody must approve whose service could fall, and has not."""
    for service, approver in sorted(said.at_risk.items()):
        if approver and approver not in said.approved_by:
            raise Refused(f"service {service} could fall, and that needs the word of {approver} (--approved-by)")


def roster_of(state: ServerState, release: Release, said: StartRequest) -> Roster:
    """Give the devices in scope. Raises Refused, BadInput as `start_rollout`."""
    component = release.manifest.component
    active = state.active.get(component)
    if active is not None:
        raise Refused(f"rollout {active} of {component} is active; abort it or wait until it ends")
    spent = [r for r in state.rollouts.values() if r.spec.candidate.sha256 == release.digest]
    _halted(spent, said)
    fleet = state.devices
    wanted = fleet.labelled(said.scope) & (fleet.enrolled_ms[: len(fleet)] <= release.logged_ms)
    wanted &= ~fleet.runs(component, release.digest)
    wanted[state.identities.all_barred()] = False
    roster = Roster(np.flatnonzero(wanted))
    if not roster:
        raise Refused(
            "no device is in scope: devices count that were enrolled before the release was logged and do not run it"
        )
    return roster


def _halted(spent: list[Rollout], said: StartRequest) -> None:
    """Keep a candidate that its evidence halted for two people, and let nobody override what is no such halt.

    A rollout that a person ended says nothing of the candidate: a halt before it stands as it did.
    """
    aborted = [one for one in spent if one.phase is PlanState.HALTED and one.verdict != "halt"]
    judged = [one for one in spent if one not in aborted][-1:]
    halted = [one for one in judged if one.phase is PlanState.HALTED and _still_halts(one)]
    if halted and not said.override_halt:
        raise Refused(
            f"this candidate was halted in rollout {halted[0].spec.rollout}: {halted[0].sentence}. "
            "Two people may go on with it, within what is left of its budget: --override-halt"
        )
    if said.override_halt and not halted:
        how = f" (rollout {aborted[-1].spec.rollout} was {aborted[-1].sentence})" if aborted else ""
        raise BadInput(
            f"--override-halt is for a candidate that its evidence halted, and this one was not{how}: "
            "start it without; it has what is left of its budget"
        )


def _still_halts(rollout: Rollout) -> bool:
    """Say whether a halt still stands: not if it rested on reports that have been set aside since."""
    return not rollout.evidence.aside or bool(halts(log_evidence_of_harm(rollout), rollout.spec.budget.false_halt))


def _account(state: ServerState, release: Release, said: StartRequest) -> Account:
    """Take up the candidate's account: a restart has what is left of its budget, and no alpha that was spent."""
    known = state.accounts.get(release.digest)
    if known is None or said.shadow:
        return Account(release.digest, said.max_harmed, said.confidence)
    renewed = known.renewed(release.digest, said.max_harmed, said.confidence)
    if renewed.max_harmed_left == 0:
        raise Refused(
            f"the budget of this candidate is used up: {known.exposed - known.confirmed} devices of earlier rollouts"
            " never confirmed; release a new version"
        )
    return renewed


def _budget(said: StartRequest, account: Account) -> Budget:
    most = min(said.max_harmed, account.max_harmed_left)
    return Budget(
        max_harmed=most,
        confidence=said.confidence,
        false_halt=said.false_halt,
        canary=min(said.canary, most),
        placebo_per_treated=0.0 if said.shadow else said.placebo_per_treated,
        reverted_bound=said.reverted_bound,
        late_budget_share=said.late_budget_share,
        max_silent=min(said.max_silent, most),
    )


def _outlook(devices: int, budget: Budget, said: StartRequest, observe_s: int) -> Forecast:
    found = forecast(
        devices,
        budget.max_harmed,
        budget.confidence,
        said.placebo_per_treated,
        said.silent_rate,
        budget.q_gate,
        budget.first_ring,
        observe_s,
        late_budget_share=0.0,
        rollout_deadline_s=said.deadline_s,
    )
    if not found.feasible and not said.allow_hold and not said.shadow:
        ways = "; or ".join(way.sentence for way in found.ways_out if way.value is not None)
        raise Refused(f"this cannot reach everyone: {found.reason}. {ways or 'raise max_harmed'} (or --allow-hold)")
    return found


def _looks(
    devices: int, budget: Budget, said: StartRequest, account: Account, outlook: Forecast
) -> tuple[LookPlan | None, LookPlan | None]:
    """Plan the looks of the statistical rule, or none where the certain rule is as fast, or alpha has been spent."""
    if said.shadow or outlook.rule == "certain" or account.alpha_left < 1.0 - budget.confidence - 1e-12:
        return None, None
    main = budget.max_harmed - budget.late_part
    first = min(budget.first_ring, main)
    common = (budget.placebo_per_treated, said.silent_rate)
    if budget.max_silent:
        silent, failed = severity_plans(
            devices,
            main,
            min(budget.max_silent, main),
            budget.confidence,
            budget.placebo_per_treated,
            said.silent_rate,
            said.silent_rate,
            budget.q_gate,
            first,
        )
        return (failed, silent) if failed.feasible and silent.feasible else (None, None)
    looks = plan_looks(devices, main, budget.confidence, *common, budget.q_gate, first)
    faster = looks.rings < certain_ring_count(devices, budget.max_harmed, budget.first_ring)
    return (looks, None) if looks.feasible and faster else (None, None)


def _candidate(release: Release) -> Candidate:
    data = encode(release.manifest)
    component, seq = release.manifest.component, release.manifest.seq
    kind = "emergency" if release.emergency else "releases"
    return Candidate(path=f"{kind}/{component}/{seq}.json", sha256=release.digest, length=len(data), seq=seq)


def _scouts(state: ServerState, release: Release, roster: Roster, said: StartRequest) -> tuple[int, ...]:
    if not said.scouts or said.shadow:
        return ()
    keys = state.devices.keys_of(roster)
    labels = [state.devices.labels_of(index) for index in roster]
    ranks = rank(bytes.fromhex(release.terms.order_salt), keys)
    scouts = choose_scouts(labels, ranks, said.scouts)
    if len(scouts) == len(roster):
        raise BadInput("every device would be a scout; name fewer labels with --scout")
    return scouts
