"""All that the server knows: a fold over the log's events, and nothing else."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from msgspec import structs

from tidegate.control.asked import Approvals, without_roster
from tidegate.control.device_row import DeviceRow, Reverted
from tidegate.control.fleet import Fleet
from tidegate.control.identities import Identities
from tidegate.control.labelling import fold_labels
from tidegate.control.operators import Operators
from tidegate.core.aside import set_aside
from tidegate.core.caps import InFlight
from tidegate.core.dwell import dwells_ms
from tidegate.core.looks_budget import Account, Rolling
from tidegate.core.model import Arm, Manifest, Outcome, ReleaseTerms
from tidegate.core.phases import ENDED, Happening
from tidegate.core.rollout import Rollout, RolloutSpec
from tidegate.core.wire import read
from tidegate.log.events import (
    Act,
    Enrolled,
    Event,
    Labelled,
    Leased,
    PlanPublished,
    Reported,
    RingClosed,
    VerdictTaken,
)

__all__ = ["DeviceRow", "Published", "Release", "ServerState", "Token", "fold"]
RECENT = 500


@dataclass(slots=True)
class Token:
    """An enrolment token: its hash, what it may grant, and how often it has been used."""

    token_id: str
    token_hash: str
    labels: dict[str, str]
    uses: int
    expires_ms: int
    used: int = 0


@dataclass(frozen=True, slots=True)
class Release:
    """A release that the log holds."""

    digest: str
    manifest: Manifest
    terms: ReleaseTerms
    logged_ms: int
    emergency: bool = False


@dataclass(slots=True)
class Published:
    """The plan that stands in the repository for one component."""

    version: int
    plan: dict[str, Any]


class ServerState:
    """The fold. `apply` is total over the closed set of events; it decides nothing and refuses nothing."""

    def __init__(self, directory: str = "") -> None:
        """Begin before the first event; what is seldom looked at lies in files in `directory`, if there is one."""
        self.devices = Fleet(directory)
        self.tokens: dict[str, Token] = {}
        self.identities = Identities()
        self.operators = Operators()
        self.approvals = Approvals()
        self.releases: dict[str, Release] = {}
        self.promoted: dict[str, int] = {}
        """Digest -> the ceiling that a promotion has given it, in parts of 2**32."""
        self.withdrawn: dict[str, str] = {}
        """Digest -> why its release keys took it back."""
        self.evidence: dict[str, list[str]] = {}
        """Release -> digests of the attestations that were handed in for it."""
        self.rollouts: dict[str, Rollout] = {}
        self.active: dict[str, str] = {}
        self.in_flight = InFlight()
        self.accounts: dict[str, Account] = {}
        self.rolling: dict[str, Rolling] = {}
        self.published: dict[str, Published] = {}
        self.acts: deque[Act] = deque(maxlen=RECENT)
        self.verdicts: dict[str, list[VerdictTaken]] = {}
        self.last_ms = 0

    def apply(self, event: Event) -> None:
        """Fold one event."""
        self.last_ms = max(self.last_ms, event.at_ms)
        match event:
            case Leased():
                self._leased(event)
            case Reported():
                self._reported(event)
            case Enrolled():
                self._enrolled(event)
            case Labelled():
                self.devices.relabel(event.index, event.labels)
            case RingClosed():
                self.rollouts[event.rollout].close_ring(event.closed)
            case VerdictTaken():
                self._verdict(event)
            case PlanPublished():
                self.published[event.component] = Published(event.version, event.plan)
            case Act():
                self._act(event)

    def _enrolled(self, event: Enrolled) -> None:
        self.devices.add(event)
        self.tokens[event.token_id].used += 1

    def _leased(self, event: Leased) -> None:
        rollout = self.rollouts[event.rollout]
        self.devices.heard(event.index, event.seq, event.at_ms)
        self.devices.run(event.index, rollout.spec.component, event.installed)
        rollout.lease(event.position, event.ring, event.arm, event.at_ms, late=event.late)
        if event.arm is Arm.TREATED:
            self.in_flight.enter(event.index, rollout.spec.component, event.labels)

    def _reported(self, event: Reported) -> None:
        rollout = self.rollouts[event.rollout]
        self.devices.heard(event.index, event.seq, event.at_ms)
        back = event.outcome is Outcome.REVERTED
        self.devices.said(event.index, Reverted(event.rollout, event.note) if back else None)
        if event.condemned:
            self.identities.condemn(event.index, rollout.spec.component, rollout.spec.candidate.sha256, event.at_ms)
        treated = bool(rollout.evidence.treated_lease[event.position])
        news = rollout.report(event.position, event.ring, event.outcome)
        if news and treated and event.outcome is Outcome.CONFIRMED:
            self.in_flight.leave(event.index, rollout.spec.component)
            self.devices.run(event.index, rollout.spec.component, rollout.spec.candidate.sha256)

    def _verdict(self, event: VerdictTaken) -> None:
        rollout = self.rollouts[event.rollout]
        verdict = event.verdict
        self.verdicts.setdefault(event.rollout, []).append(event)
        rollout.verdict = verdict.kind.value
        rollout.move(verdict.happening, verdict.sentence, event.at_ms)
        if verdict.happening is Happening.OPENED:
            rollout.open_ring(verdict.opens, verdict.opens_placebo, event.at_ms)
        self._settle(rollout)

    def _settle(self, rollout: Rollout) -> None:
        spec, evidence = rollout.spec, rollout.evidence
        if rollout.phase not in ENDED or self.active.get(spec.component) != spec.rollout:
            return
        del self.active[spec.component]
        self.in_flight.standing.withdraw(spec.rollout)
        digest = spec.candidate.sha256
        if digest in self.accounts:
            account = self.accounts[digest] = self.accounts[digest].closed(evidence.exposed, evidence.confirmed)
            if spec.component in self.rolling:
                rolling, open_risk = self.rolling[spec.component], account.exposed - account.confirmed
                self.rolling[spec.component] = rolling.settled(self.last_ms / 1000, digest, open_risk)

    def _act(self, event: Act) -> None:
        self.acts.append(event)
        body = event.body
        match event.what:
            case "token_created" | "token_revoked":
                self._token(event)
            case "release_logged":
                manifest = read(Manifest, body["manifest"], "manifest")
                terms = read(ReleaseTerms, body["terms"], "terms")
                self.releases[body["digest"]] = Release(
                    body["digest"], manifest, terms, event.at_ms, bool(body.get("emergency"))
                )
            case "release_promoted" | "release_withdrawn":
                self._release(event)
            case "evidence_logged":
                self.evidence.setdefault(body["release"], []).append(body["envelope"])
            case "rollout_started":
                self._start(read(RolloutSpec, body["spec"], "rollout"), event.at_ms)
            case "rollout_paused" | "rollout_resumed" | "rollout_aborted":
                rollout = self.rollouts[body["rollout"]]
                sentence = f"{event.what.removeprefix('rollout_')} by {event.who}: {event.why}"
                rollout.move(_OPERATOR[event.what], sentence, event.at_ms)
                self._settle(rollout)
            case "budget_set":
                self._set_rolling(body["component"], body["max_harmed_30d"])
            case "labels_set" | "device_signalled" | "devices_quarantined" | "device_retired":
                self._about_devices(event)
            case "approval_asked":
                self.approvals.act(event)
                self.acts[-1] = without_roster(event)  # a copy of the fleet is in the log
            case _:  # an act that changes no state is on record all the same
                for fold in (self.identities, self.operators, self.approvals):
                    fold.act(event)

    def _about_devices(self, event: Act) -> None:
        body = event.body
        match event.what:
            case "labels_set":
                fold_labels(self.devices, body)
                kept = {"devices": body["devices"], "replace": body["replace"]}  # columns of millions are in the log
                self.acts[-1] = structs.replace(event, body=kept)
            case "device_signalled":
                self._signalled(body["index"])
            case "devices_quarantined":
                self._quarantined(event)
            case _:
                self.in_flight.leave(body["index"])

    def _release(self, event: Act) -> None:
        if event.what == "release_promoted":
            digest, ceiling_2p32 = event.body["digest"], event.body["ceiling_2p32"]
            self.promoted[digest] = ceiling_2p32
            for rollout in self.rollouts.values():
                if rollout.spec.candidate.sha256 == digest:
                    rollout.ceiling_2p32 = ceiling_2p32
        else:
            self.withdrawn[event.body["digest"]] = event.body["reason"]

    def _token(self, event: Act) -> None:
        body = event.body
        if event.what == "token_created":
            token = Token(body["token_id"], body["hash"], body["labels"], body["uses"], body["expires_ms"])
            self.tokens[token.token_id] = token
        else:
            token = self.tokens[body["token_id"]]
            token.expires_ms = min(token.expires_ms, event.at_ms)

    def _quarantined(self, event: Act) -> None:
        """Set aside what devices have reported, in rollouts that have ended too: their halt may have rested on it."""
        self.identities.act(event)
        for rollout in self.rollouts.values():
            for index in event.body["indexes"]:
                if index in rollout.position:
                    set_aside(rollout, rollout.position[index])

    def _signalled(self, index: int) -> None:
        """Count a device that is down as harmed, and as using its groups' caps again, until it is retired."""
        for rollout in (self.rollouts[name] for name in self.active.values()):
            if index in rollout.position and rollout.evidence.signal(rollout.position[index]):
                self.in_flight.enter(index, rollout.spec.component, self.devices.labels_of(index))

    def _start(self, spec: RolloutSpec, at_ms: int) -> None:
        rollout = Rollout(spec, self.devices.keys_of(spec.roster), at_ms)
        rollout.ceiling_2p32 = self.promoted.get(spec.candidate.sha256, 0)
        rollout.dwells_ms = dwells_ms(self.rollouts.values(), spec, at_ms)
        self.rollouts[spec.rollout] = rollout
        self.active[spec.component] = spec.rollout
        self.in_flight.standing.declare(spec.rollout, spec.limits, spec.lanes)
        if not spec.shadow:
            self._charge(spec, at_ms)

    def _charge(self, spec: RolloutSpec, at_ms: int) -> None:
        """Open or take up the candidate's account, and reserve its budget in the component's month."""
        digest = spec.candidate.sha256
        account = self.accounts.get(digest) or Account(digest, spec.budget.max_harmed, spec.budget.confidence)
        self.accounts[digest] = account if spec.looks is None else account.begun(spec.rollout, spec.looks)
        if spec.component in self.rolling:
            rolling = self.rolling[spec.component]
            self.rolling[spec.component] = rolling.reserved(at_ms / 1000, digest, account.max_harmed)

    def _set_rolling(self, component: str, max_harmed_30d: int) -> None:
        held = self.rolling[component].reservations if component in self.rolling else ()
        self.rolling[component] = Rolling(max_harmed_30d, held)

    def newest_rollout(self, component: str) -> Rollout | None:
        """Give the rollout that the component's plan speaks of: the last one started."""
        found = [r for r in self.rollouts.values() if r.spec.component == component]
        return found[-1] if found else None


_OPERATOR = {
    "rollout_paused": Happening.PAUSE,
    "rollout_resumed": Happening.RESUME,
    "rollout_aborted": Happening.ABORT,
}


def fold(events: Iterable[Event]) -> ServerState:
    """Replay events from the beginning."""
    state = ServerState()
    for event in events:
        state.apply(event)
    return state
