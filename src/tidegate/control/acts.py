"""What an operator asks for, decided: tokens, releases, rollouts. Each gives the events to append and the answer."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from tidegate.control.labelling import check_value
from tidegate.control.state import DeviceRow, Release, ServerState
from tidegate.core.errors import BadInput, NotFound, Refused
from tidegate.core.model import Manifest, ReleaseTerms, check_name
from tidegate.core.phases import ENDED, Happening, step
from tidegate.core.rollout import Rollout
from tidegate.core.wire import plain
from tidegate.log.events import Act, Event
from tidegate.trust.withdrawal import Withdrawn

OBSERVE_PER_SOAK = 3


@dataclass(frozen=True, slots=True)
class Who:
    """A named person or system, the reason given, and the account that it came from: `who` may be its own word."""

    who: str
    why: str = ""
    account: str = "local"

    def because(self, why: str) -> Who:
        """Give the same with this reason, if none was given."""
        return self if self.why.strip() else replace(self, why=why)


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
        check_value(name, value)
    body = {
        "token_id": token_id,
        "hash": token_hash,
        "labels": labels,
        "uses": uses,
        "expires_ms": now_ms + expires_s * 1000,
    }
    return [Act(at_ms=now_ms, what="token_created", who=by.who, why=by.why, body=body)], None


def revoke_token(state: ServerState, now_ms: int, by: Who, token_id: str) -> tuple[list[Event], None]:
    """Let a token enrol nobody any more; the devices that it enrolled stay. Raises NotFound, Refused if it is over."""
    if token_id not in state.tokens:
        raise NotFound(f"there is no token {token_id!r}; list them: tidegate token list")
    if now_ms >= state.tokens[token_id].expires_ms:
        raise Refused(f"token {token_id} is over already")
    return [Act(at_ms=now_ms, what="token_revoked", who=by.who, why=by.why, body={"token_id": token_id})], None


def log_release(
    state: ServerState,
    now_ms: int,
    by: Who,
    *,
    digest: str,
    manifest: Manifest,
    terms: ReleaseTerms,
    emergency: bool = False,
) -> tuple[list[Event], bool]:
    """Record a release that the repository has accepted; give whether it was news."""
    if digest in state.releases:
        return [], False
    body = {"digest": digest, "manifest": plain(manifest), "terms": plain(terms)}
    if emergency:
        body["emergency"] = True
    return [Act(at_ms=now_ms, what="release_logged", who=by.who, why=by.why, body=body)], True


def log_evidence(
    state: ServerState,
    now_ms: int,
    by: Who,
    *,
    release: str,
    envelope: str,
    predicate: str,
    result: str,
    checks: list[str],
    keyids: list[str],
) -> tuple[list[Event], bool]:
    """Record that an attestation of a release was handed in; give whether it was news."""
    if envelope in state.evidence.get(release, ()):
        return [], False
    body: dict[str, Any] = {
        "release": release,
        "envelope": envelope,
        "predicate": predicate,
        "result": result,
        "checks": checks,
        "keyids": keyids,
    }
    return [Act(at_ms=now_ms, what="evidence_logged", who=by.who, why=by.why, body=body)], True


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


def steer_rollout(state: ServerState, now_ms: int, by: Who, *, rollout: str, verb: str) -> tuple[list[Event], str]:
    """Pause, resume or abort a rollout.

    Raises:
        NotFound: for an unknown rollout.
        BadInput: if it is to be aborted and no reason is given.
        Refused: where the rollout's phase has no place for it.
    """
    if verb not in _VERBS:
        raise NotFound(f"a rollout can be {', '.join(_VERBS)}, not {verb!r}")
    if verb == "abort" and not by.why.strip():
        raise BadInput(
            "say why (--why): devices that have not confirmed go back, and whoever asks later reads the reason"
        )
    found = find_rollout(state, rollout)
    what, happening = _VERBS[verb]
    if step(found.phase, happening) is None:
        raise Refused(f"rollout {found.spec.rollout} is {found.phase.value}: it cannot be {what.split('_')[1]}")
    body: dict[str, Any] = {"rollout": found.spec.rollout}
    return [Act(at_ms=now_ms, what=what, who=by.who, why=by.why, body=body)], found.spec.rollout


def withdraw_releases(
    state: ServerState, now_ms: int, by: Who, found: Collection[Withdrawn]
) -> tuple[list[Event], list[str]]:
    """Record what release keys have withdrawn, once, and end the rollouts of it; give their names."""
    made: list[Event] = []
    ended: list[str] = []
    for each in found:
        if each.digest in state.withdrawn:
            continue
        made.append(Act(at_ms=now_ms, what="release_withdrawn", who=by.who, why=by.why, body=plain(each)))
        rollout = state.rollouts.get(state.active.get(each.component, ""))
        if rollout is not None and rollout.spec.candidate.sha256 == each.digest and rollout.phase not in ENDED:
            because = by.because(f"its keys withdrew the release: {each.reason or '-'}")
            events, name = steer_rollout(state, now_ms, because, rollout=rollout.spec.rollout, verb="abort")
            made += events
            ended.append(name)
    return made, ended


def retire_device(state: ServerState, now_ms: int, by: Who, row: DeviceRow) -> tuple[list[Event], int]:
    """Take a device out of the caps that it uses: it will not come back, or has been set right by hand."""
    index = row.device.index
    return [Act(at_ms=now_ms, what="device_retired", who=by.who, why=by.why, body={"index": index})], index


def signal_device(state: ServerState, now_ms: int, by: Who, row: DeviceRow) -> tuple[list[Event], list[str]]:
    """Record somebody's word that a device is down; give the active rollouts in which that counts as harm.

    Raises:
        BadInput: if no reason is given: a signal can halt a rollout.
    """
    if not by.why:
        raise BadInput("say why: a signal counts as harm, and can halt a rollout")
    index = row.device.index
    counted = [
        name
        for name in state.active.values()
        if index in state.rollouts[name].position
        and state.rollouts[name].evidence.treated_lease[state.rollouts[name].position[index]]
    ]
    body: dict[str, Any] = {"index": index, "rollouts": counted}
    return [Act(at_ms=now_ms, what="device_signalled", who=by.who, why=by.why, body=body)], counted


def set_budget(now_ms: int, by: Who, *, component: str, max_harmed_30d: int) -> tuple[list[Event], None]:
    """Limit the devices that all releases of a component together may harm in 30 days. Raises BadInput."""
    _name("component", component)
    if max_harmed_30d < 1:
        raise BadInput("max_harmed_30d must be at least 1")
    body: dict[str, Any] = {"component": component, "max_harmed_30d": max_harmed_30d}
    return [Act(at_ms=now_ms, what="budget_set", who=by.who, why=by.why, body=body)], None


def find_rollout(state: ServerState, name: str) -> Rollout:
    """Find a rollout by its name, or the only active one of a component. Raises NotFound."""
    found = state.rollouts.get(name) or state.newest_rollout(name)
    if found is None:
        known = ", ".join(state.rollouts) or "none"
        raise NotFound(f"there is no rollout {name!r}; there are {known}")
    return found


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
