"""The requests that wait for a second person, folded from the log."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from msgspec import structs

from tidegate.log.events import Act

KEPT = 1000
"""Requests kept in the state; all of them stay in the log."""
Json = dict[str, Any]


@dataclass(slots=True)
class Asked:
    """One request. `body` is what is done once somebody grants it; `account` is who asked, `who` under which name."""

    number: int
    kind: str
    body: Json
    account: str
    who: str
    why: str
    reason: str
    asked_ms: int
    expires_ms: int
    about: Json = field(default_factory=lambda: {})
    """What it was about at that moment (still.py); the roster in it is kept while it can be granted."""
    state: str = "open"
    by: str = ""
    said: str = ""

    def standing(self, now_ms: int) -> str:
        """Give open, granted, refused or expired."""
        return "expired" if self.state == "open" and now_ms >= self.expires_ms else self.state


@dataclass(slots=True)
class Approvals:
    """The fold of all requests."""

    asked: dict[int, Asked] = field(default_factory=lambda: {})
    newest: int = 0

    def act(self, event: Act) -> None:
        """Fold an act; those that are about no approval change nothing here."""
        body = event.body
        match event.what:
            case "approval_asked":
                number = self.newest = body["number"]
                self.asked[number] = Asked(
                    number,
                    body["kind"],
                    body["body"],
                    body["account"],
                    event.who,
                    event.why,
                    body["reason"],
                    event.at_ms,
                    body["expires_ms"],
                    dict(body.get("about", {})),
                )
                for other in self.asked.values():
                    if other.standing(event.at_ms) == "expired":
                        other.about.pop("roster", None)
                if len(self.asked) > KEPT:
                    del self.asked[min(self.asked)]
            case "approval_granted" | "approval_refused":
                if found := self.asked.get(body["number"]):
                    found.state, found.by, found.said = event.what.removeprefix("approval_"), event.who, event.why
                    found.about.pop("roster", None)
            case _:
                pass


def without_roster(event: Act) -> Act:
    """Give a request's act without the devices that it was about."""
    about = {name: value for name, value in event.body.get("about", {}).items() if name != "roster"}
    body = {**event.body, "about": about}
    return structs.replace(event, body=body)
