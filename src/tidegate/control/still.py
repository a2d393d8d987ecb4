"""What a request was about when it was asked for, and whether that still stands when somebody grants it.

Between the two lie hours in which labels, accounts and settings change: what is granted is what was asked for, or less.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tidegate.control.acts import find_release
from tidegate.control.asked import Asked
from tidegate.control.operators import reaches
from tidegate.control.starting import StartRequest, roster_of
from tidegate.core.roster import Roster
from tidegate.core.wire import plain, read
from tidegate.core.words import counted

if TYPE_CHECKING:
    from tidegate.control.state import ServerState

Json = dict[str, Any]
ROLE_FOR = {"rollout": "operator", "budget": "operator", "operator_role": "admin", "policy": "admin"}
"""The least role of whoever asks: an account that has lost it has nobody grant what it asked for before."""


def about(state: ServerState, kind: str, body: Json) -> Json:
    """Say what a request is about at this moment, as plain values. Raises as the act does if it cannot be done."""
    return _ABOUT[kind](state, body)


def outdated(state: ServerState, asked: Asked, now: Json) -> str:
    """Say why a request may not be granted as it stands, or nothing; `now` is what it would be about."""
    if not reaches(state.operators.role(asked.account), ROLE_FOR[asked.kind]):
        return f"{asked.account}, who asked for this, may no longer do it"
    if asked.about.keys() != now.keys():
        return "what it was about is not on record: it was asked of an earlier version"
    for name, before in asked.about.items():
        if said := _CHANGED[name](before, now[name], asked):
            return said
    return ""


def shown(asked: Asked) -> Json:
    """Give what people see of it: of a roster, how many devices."""
    found = {name: value for name, value in asked.about.items() if name != "roster"}
    return found | ({"devices": len(_roster(asked.about["roster"]))} if "roster" in asked.about else {})


def _start(state: ServerState, body: Json) -> Json:
    said = read(StartRequest, {name: value for name, value in body.items() if name != "let_through"}, "rollout")
    release = find_release(state, said.component, said.release)
    before = [name for name, r in state.rollouts.items() if r.spec.candidate.sha256 == release.digest]
    roster = plain(roster_of(state, release, said))
    return {"digest": release.digest, "after": before[-1] if before else "", "roster": roster}


def _budget(state: ServerState, body: Json) -> Json:
    old = state.rolling.get(body["component"])
    return {"max_harmed_30d": old.max_harmed_30d if old else None}


def _role(state: ServerState, body: Json) -> Json:
    found = state.operators.find(body["name"])
    return {"role": "none: it is disabled" if found.disabled else found.role}


def _policy(state: ServerState, body: Json) -> Json:
    return {"policy": plain(state.identities.policy)}


def _roster(value: Any) -> Roster:
    return Roster.from_plain(value, "what was asked for")


def _more(before: Any, now: Any, asked: Asked) -> str:
    old, new = _roster(before).array, _roster(now).array
    known = np.zeros(int(max(old.max(initial=0), new.max(initial=0))) + 1, dtype=np.bool_)
    known[old] = True
    more = int(np.count_nonzero(~known[new]))
    devices = counted(more, "device")
    return f"it would reach {devices} more than was asked for: labels or devices have changed since" if more else ""


def _after(before: Any, now: Any, asked: Asked) -> str:
    return f"rollout {now} of this release has run since it was asked for" if before != now else ""


def _digest(before: Any, now: Any, asked: Asked) -> str:
    return f"{asked.body.get('release')} names another release now than when it was asked for" if before != now else ""


def _limit(before: Any, now: Any, asked: Asked) -> str:
    return f"the limit of {asked.body.get('component')} is {now}, and was {before}" if before != now else ""


def _other_role(before: Any, now: Any, asked: Asked) -> str:
    return f"{asked.body.get('name')} is {now}, and was {before}" if before != now else ""


def _settings(before: Any, now: Any, asked: Asked) -> str:
    return "the settings have changed since it was asked for" if before != now else ""


_ABOUT: dict[str, Callable[[ServerState, Json], Json]] = {
    "rollout": _start,
    "budget": _budget,
    "operator_role": _role,
    "policy": _policy,
}
_CHANGED: dict[str, Callable[[Any, Any, Asked], str]] = {
    "digest": _digest,
    "after": _after,
    "roster": _more,
    "max_harmed_30d": _limit,
    "role": _other_role,
    "policy": _settings,
}
