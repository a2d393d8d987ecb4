"""Who may do what: named accounts and their roles, folded from the log. Passwords are elsewhere, and never in it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tidegate.core.errors import BadInput, NotFound, Refused, TidegateError
from tidegate.log.events import Act, Event

if TYPE_CHECKING:
    from tidegate.control.acts import Who
    from tidegate.control.state import ServerState

ROLES = ("viewer", "operator", "approver", "admin")
"""Each may do what those before it may: look; start, pause and stop; approve what another asked for; keep accounts."""
LOCAL = "local"
"""The account of whoever can read the operators' token on the control plane's own machine."""
_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,62}\Z")


class Forbidden(TidegateError):
    """This account may not do that: HTTP 403."""


@dataclass(slots=True)
class Operator:
    """One account."""

    name: str
    role: str
    created_ms: int
    disabled: bool = False


@dataclass(slots=True)
class Operators:
    """The fold of all acts about accounts."""

    accounts: dict[str, Operator] = field(default_factory=lambda: {})

    def act(self, event: Act) -> None:
        """Fold an act; those that are not about accounts change nothing here."""
        body = event.body
        match event.what:
            case "operator_created":
                self.accounts[body["name"]] = Operator(body["name"], body["role"], event.at_ms)
            case "operator_role":
                self.accounts[body["name"]].role = body["role"]
            case "operator_disabled":
                self.accounts[body["name"]].disabled = True
            case "operator_enabled":
                self.accounts[body["name"]].disabled = False
            case _:
                pass

    def role(self, name: str) -> str:
        """Give the role of an account that may act; nothing for one that may not, or is not there."""
        if name == LOCAL:
            return ROLES[-1]
        found = self.accounts.get(name)
        return found.role if found and not found.disabled else ""

    def find(self, name: str) -> Operator:
        """Find an account. Raises NotFound."""
        if name not in self.accounts:
            raise NotFound(f"there is no operator {name!r}; there are {', '.join(sorted(self.accounts)) or 'none'}")
        return self.accounts[name]


def reaches(role: str, needed: str) -> bool:
    """Say whether a role may do what another needs."""
    return role in ROLES and ROLES.index(role) >= ROLES.index(needed)


def create_operator(state: ServerState, now_ms: int, by: Who, *, name: str, role: str) -> tuple[list[Event], Operator]:
    """Open an account.

    Raises:
        BadInput: for a name or role that cannot be.
        Refused: if there is one of that name, or ever was: what it did is on record under it.
    """
    if not _NAME.match(name) or name == LOCAL:
        raise BadInput(f"an operator's name is 1 to 63 of a-z 0-9 . _ @ -, and not {LOCAL!r}; this is {name!r}")
    _check_role(role)
    if name in state.operators.accounts:
        raise Refused(f"there is an operator {name!r} already")
    return _act(now_ms, "operator_created", by, {"name": name, "role": role}), Operator(name, role, now_ms)


def set_role(state: ServerState, now_ms: int, by: Who, *, name: str, role: str) -> tuple[list[Event], str]:
    """Give an account another role. Raises NotFound, BadInput, Refused if it has it already."""
    _check_role(role)
    if state.operators.find(name).role == role:
        raise Refused(f"{name} is {role} already")
    return _act(now_ms, "operator_role", by, {"name": name, "role": role}), role


def set_disabled(state: ServerState, now_ms: int, by: Who, *, name: str, disabled: bool) -> tuple[list[Event], str]:
    """Shut an account, or open it again. Raises NotFound, Refused if it is so already."""
    word = "disabled" if disabled else "enabled"
    if state.operators.find(name).disabled == disabled:
        raise Refused(f"{name} is {word} already")
    return _act(now_ms, f"operator_{word}", by, {"name": name}), word


def note_password(state: ServerState, now_ms: int, by: Who, *, name: str) -> tuple[list[Event], None]:
    """Put on record that a password was set. One that somebody else sets takes the account down to viewer, where two
    people are asked for: else whoever sets passwords could be both of them."""
    operator = state.operators.find(name)
    events = _act(now_ms, "operator_password", by, {"name": name})
    if by.account != name and state.identities.policy.takes_two and reaches(operator.role, "operator"):
        events += _act(now_ms, "operator_role", by, {"name": name, "role": "viewer"})
    return events, None


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise BadInput(f"a role is {', '.join(ROLES)}, not {role!r}")


def _act(now_ms: int, what: str, by: Who, body: dict[str, Any]) -> list[Event]:
    return [Act(at_ms=now_ms, what=what, who=by.who, why=by.why, body=body)]
