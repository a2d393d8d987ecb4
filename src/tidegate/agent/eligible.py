"""May this device take the candidate now? Every reason against it is a sentence that `agent status` shows."""

from __future__ import annotations

from dataclasses import dataclass

from tidegate.agent.plans import Seen
from tidegate.core.assign import device_key, rank
from tidegate.core.model import Manifest, Plan, PlanState, ReleaseTerms
from tidegate.core.speed import speed_permits

_STATES = {
    PlanState.HOLD: "rollout {} is on hold: nothing new starts until evidence and speed limit allow it",
    PlanState.PAUSED: "rollout {} is paused by an operator",
    PlanState.HALTED: "rollout {} was halted: its candidate is not taken",
    PlanState.CLOSED: "rollout {} is closed",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether, why not, and after how many seconds it is worth asking again (None: at the next plan)."""

    yes: bool
    sentence: str
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """The device's own side: what runs (digest and sequence number), why it refuses the candidate, and its clocks.

    `since_change_s` is the time since its last change, as far as is known for certain; None if it never changed.
    """

    device_id: str
    installed: str | None
    installed_seq: int
    condemned: str
    wall_s: float
    high_water_s: int
    since_change_s: float | None


def before_reading(seen: Seen, standing: Standing) -> Answer | None:
    """Answer no where the plan alone says so; None if the release must be read for an answer."""
    plan = seen.plan
    if plan is None:
        return Answer(False, seen.sentence or "there is no plan")
    if standing.installed == plan.candidate.sha256:
        return Answer(False, _runs_it(seen, plan))
    if seen.stop and seen.stop.names(plan.candidate.sha256):
        return Answer(False, seen.stop.sentence)
    if standing.condemned:
        return Answer(False, standing.condemned)
    if plan.state is not PlanState.OPEN:
        return Answer(False, _STATES[plan.state].format(plan.rollout))
    return None


def _runs_it(seen: Seen, plan: Plan) -> str:
    """Say that the candidate runs here, and what has become of it since it was confirmed: that takes nothing back."""
    runs = plan.candidate.sha256[:16]
    if seen.stop and seen.stop.names(plan.candidate.sha256):
        return f"keeps {runs}, which it has confirmed, though it is stopped since: {seen.stop.sentence}"
    if plan.state is PlanState.HALTED:
        return f"keeps {runs}, which it has confirmed, though rollout {plan.rollout} was halted"
    return f"up to date: runs {runs}"


def eligible(plan: Plan, manifest: Manifest, terms: ReleaseTerms, standing: Standing) -> Answer:
    """Answer for an open plan and its release.

    Downgrades are refused here whatever a plan says: plans are signed by an online key, sequence numbers offline.
    """
    installed = standing.installed
    name = installed[:16] if installed else "nothing"
    if not manifest.may_replace(installed) or not _named(plan.replaces, installed):
        return Answer(False, f"the release does not replace what runs here ({name})")
    if installed and terms.seq <= standing.installed_seq:
        return Answer(
            False, f"the candidate, seq {terms.seq}, is not newer than what runs, seq {standing.installed_seq}"
        )
    place = rank(bytes.fromhex(terms.order_salt), device_key(standing.device_id))
    permitted, sentence, retry_after_s = speed_permits(terms.speed, place, int(standing.wall_s), standing.high_water_s)
    if not permitted:
        return Answer(False, sentence, retry_after_s)
    if not plan.announces(place):
        return Answer(False, f"this device's turn has not come: rollout {plan.rollout} is at ring {plan.ring}")
    if standing.since_change_s is not None and standing.since_change_s < terms.speed.dwell_s:
        wait_s = terms.speed.dwell_s - standing.since_change_s
        return Answer(False, f"the last change is too young: {wait_s:.0f} s of the signed dwell are left", wait_s)
    return Answer(True, "the plan reaches this device")


def _named(replaces: tuple[str, ...], installed: str | None) -> bool:
    if not replaces:
        return True
    return "absent" in replaces if installed is None else "any" in replaces or installed in replaces
