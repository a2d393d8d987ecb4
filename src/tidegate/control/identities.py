"""Which devices may still speak: revoked ones, copied credentials, what each has condemned; and the acts besides."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from tidegate.control.policy import Policy
from tidegate.core.errors import BadInput, Refused, Untrusted
from tidegate.core.wire import plain, read
from tidegate.log.events import Act, Event

if TYPE_CHECKING:
    from tidegate.control.acts import Who
    from tidegate.control.state import DeviceRow, ServerState

MOST_CONDEMNED = 64
"""Digests kept for one device: more than anything but a device that lies will ever take back."""
WATCH = "tidegate"
"""Who flags a copy: the server by itself."""


class Barred(Untrusted):
    """This device is known and may not speak: HTTP 403."""


class Condemned(NamedTuple):
    """Of which component a digest is, and when its report arrived (unix seconds): a later pardon lifts it."""

    component: str
    at_s: int


@dataclass(slots=True)
class Identities:
    """The fold of all acts about who may speak. Each question is one look into a table."""

    revoked: dict[int, str] = field(default_factory=lambda: {})
    """Index -> by whom and why."""
    copied: dict[int, str] = field(default_factory=lambda: {})
    """Index -> what was seen that one device cannot do."""
    quarantined: dict[int, str] = field(default_factory=lambda: {})
    """Index -> by whom and why its reports were set aside."""
    condemned: dict[int, dict[str, Condemned]] = field(default_factory=lambda: {})
    """Index -> digests that the device took back for good."""
    policy: Policy = field(default_factory=Policy)

    def act(self, event: Act) -> None:
        """Fold an act; those that are not about devices' identities change nothing here."""
        match event.what:
            case "device_revoked":
                self.revoked[event.body["index"]] = f"{event.who}: {event.why}"
            case "device_copied":
                self.copied[event.body["index"]] = event.why
            case "devices_quarantined":
                self.quarantined.update(dict.fromkeys(event.body["indexes"], f"{event.who}: {event.why}"))
            case "device_reinstated":
                self.quarantined.pop(event.body["index"], None)
                self.revoked.pop(event.body["index"], None)
                self.copied.pop(event.body["index"], None)
            case "policy_set":
                self.policy = read(Policy, event.body["policy"], "policy")
            case _:
                pass

    def condemn(self, index: int, component: str, digest: str, at_ms: int) -> None:
        """Remember a digest that a device has condemned."""
        mine = self.condemned.setdefault(index, {})
        if len(mine) < MOST_CONDEMNED:
            mine[digest] = Condemned(component, at_ms // 1000)

    def barred(self, index: int) -> str:
        """Say why a device may not speak, or nothing."""
        if index in self.revoked:
            return f"this device was revoked ({self.revoked[index]})"
        if index in self.copied:
            seen = f"this device's credential was seen in two places ({self.copied[index]})"
            return f"{seen}; it gets no lease until a person has looked"
        if index in self.quarantined:
            return f"this device is quarantined, what it reports is no evidence ({self.quarantined[index]})"
        return ""

    def all_barred(self) -> list[int]:
        """List the devices that may not speak, by index."""
        return sorted({*self.revoked, *self.copied, *self.quarantined})

    def check(self, index: int) -> None:
        """Refuse a device that may not speak. Raises Barred."""
        if (self.revoked or self.copied or self.quarantined) and (why := self.barred(index)):
            raise Barred(why)


def revoke_device(state: ServerState, now_ms: int, by: Who, row: DeviceRow) -> tuple[list[Event], int]:
    """Let a device's credential count no more. What it was exposed to stays in the caps until it is retired.

    Raises:
        BadInput: if no reason is given.
        Refused: if it is revoked already.
    """
    index = row.device.index
    if not by.why:
        raise BadInput("say why: the device gets no lease and is not heard any more")
    if index in state.identities.revoked:
        raise Refused(f"device number {index} is revoked already ({state.identities.revoked[index]})")
    return [_act(now_ms, "device_revoked", by.who, by.why, {"index": index})], index


def reinstate_device(state: ServerState, now_ms: int, by: Who, row: DeviceRow) -> tuple[list[Event], int]:
    """Let a device that was revoked, flagged or quarantined speak again; what was set aside stays so.

    Raises BadInput without a reason, Refused if it may.
    """
    index = row.device.index
    if not by.why:
        raise BadInput("say why: who found the copy, and what became of it")
    if not state.identities.barred(index):
        raise Refused(f"device number {index} is neither revoked nor quarantined nor flagged as copied")
    return [_act(now_ms, "device_reinstated", by.who, by.why, {"index": index})], index


def flag_copy(state: ServerState, now_ms: int, index: int, device_id: str, seen: str) -> tuple[list[Event], None]:
    """Put on record that a credential is in use in two places; said once, until a person reinstates the device."""
    known = index < len(state.devices) and state.devices[index].device.device_id == device_id
    if not known or state.identities.barred(index):
        return [], None
    return [_act(now_ms, "device_copied", WATCH, seen, {"index": index})], None


def set_policy(state: ServerState, now_ms: int, by: Who, policy: Policy) -> tuple[list[Event], Policy]:
    """Set what one person may not do alone, and what devices must prove. Raises BadInput for numbers that cannot be."""
    policy.check()
    return [_act(now_ms, "policy_set", by.who, by.why, {"policy": plain(policy)})], policy


def identity_view(identities: Identities, index: int) -> dict[str, Any]:
    """Show what is known of one device's identity; nothing for the many of which there is nothing to say."""
    return {
        "barred": identities.barred(index),
        "condemned": {digest: found.component for digest, found in identities.condemned.get(index, {}).items()},
    }


def barred_view(state: ServerState) -> list[dict[str, Any]]:
    """List the devices that may not speak."""
    found = state.identities.all_barred()
    return [{"index": i, "device_id": state.devices.device_id(i), "why": state.identities.barred(i)} for i in found]


def _act(now_ms: int, what: str, who: str, why: str, body: dict[str, Any]) -> Act:
    return Act(at_ms=now_ms, what=what, who=who, why=why, body=body)
