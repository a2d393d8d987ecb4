"""What if devices moved from one component to another: `move 30% of service=check-in to V2`, applied to an estate."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction

from tidegate.core.errors import BadInput
from tidegate.exposure.estate import Component, DeviceClass, Estate, Group

_MOVE = re.compile(
    r"\s*move\s+(?P<amount>\d+(?:\.\d+)?%|\d+|all)\s+of\s+(?P<what>.+?)"
    r"(?:\s+from\s+(?P<origin>\S+))?\s+to\s+(?P<target>\S+)\s*",
    re.IGNORECASE,
)
HOW = 'say "move 30% of service=check-in to V2", or "move 5 of GROUP from edr to edr2"'


@dataclass(frozen=True, slots=True)
class Move:
    """Devices that change from one component to another.

    `what` is a group's name or LABEL=VALUE with commas; `origin` a component or vendor, or empty; `target` likewise.
    """

    amount: Fraction | int
    what: str
    origin: str
    target: str

    @property
    def sentence(self) -> str:
        """Write it as it is read."""
        amount = f"{float(self.amount * 100):g}%" if isinstance(self.amount, Fraction) else str(self.amount)
        origin = f" from {self.origin}" if self.origin else ""
        return f"move {amount} of {self.what}{origin} to {self.target}"


def read_move(text: str) -> Move:
    """Read a move. Raises BadInput saying how it is written."""
    found = _MOVE.fullmatch(text)
    if not found:
        raise BadInput(f"{text!r} is no move: {HOW}")
    said = found["amount"]
    amount: Fraction | int
    if said.lower() == "all":
        amount = Fraction(1)
    else:
        amount = Fraction(said[:-1]) / 100 if said.endswith("%") else int(said)
    if isinstance(amount, Fraction) and amount > 1:
        raise BadInput(f"{text!r}: more than 100%")
    return Move(amount, found["what"].strip(), found["origin"] or "", found["target"])


def apply_moves(estate: Estate, moves: Iterable[Move]) -> tuple[Estate, int]:
    """Give the estate after moves, and how many devices have changed.

    Raises:
        BadInput: for unknown names, no devices that fit, fewer than asked for, or more than one thing it could mean.
    """
    moved = 0
    for move in moves:
        estate, count = _apply(estate, move)
        moved += count
    return estate, moved


def _apply(estate: Estate, move: Move) -> tuple[Estate, int]:
    rows = _chosen(estate, move)
    wanted = sum(estate.classes[row].count for row in rows)
    asked = math.ceil(move.amount * wanted) if isinstance(move.amount, Fraction) else move.amount
    swaps = [(row, *swap) for row in rows if (swap := _swap(estate, estate.classes[row], move)) is not None]
    able = sum(estate.classes[row].count for row, _, _ in swaps)
    if asked > able:
        raise BadInput(f"{move.sentence!r}: of {wanted:,} devices {able:,} can move, and not {asked:,}")
    left, changed = asked, estate
    for place, (row, old, new) in enumerate(swaps):
        later = sum(estate.classes[r].count for r, _, _ in swaps[place:])
        count = min(estate.classes[row].count, math.ceil(Fraction(left * estate.classes[row].count, later or 1)))
        changed = swap_devices(changed, row, count, old, new)
        left -= count
    return changed, asked


def _chosen(estate: Estate, move: Move) -> list[int]:
    if move.what in estate.groups:
        return list(estate.groups[move.what].members)
    pairs = [part.partition("=") for part in move.what.split(",")]
    if not all(sign and label.strip() and value.strip() for label, sign, value in pairs):
        raise BadInput(f"{move.what!r} is no group, and not LABEL=VALUE")
    wanted = {label.strip(): value.strip() for label, _, value in pairs}
    rows = [
        row
        for row, devices in enumerate(estate.classes)
        if devices.count and all(devices.labels.get(label) == value for label, value in wanted.items())
    ]
    if not rows:
        raise BadInput(f"no device has {move.what}")
    return rows


def _swap(estate: Estate, devices: DeviceClass, move: Move) -> tuple[str, str] | None:
    """Find what a device gives up and gets; None where it has the target already, or nothing to give."""
    targets = _of(estate, move.target)
    if not targets:
        raise BadInput(f"{move.target!r} is no component, and no vendor with one")
    if move.origin and not _of(estate, move.origin):
        raise BadInput(f"{move.origin!r} is no component, and no vendor with one")
    if set(devices.components) & {part.name for part in targets}:
        return None
    leaving = [estate.components[name] for name in devices.components]
    if move.origin:
        leaving = [part for part in leaving if move.origin in (part.name, part.vendor)]
    fitting = [(old, new) for old in leaving for new in targets if can_replace(old, new)]
    if not fitting and len(leaving) == 1 and len(targets) == 1:
        fitting = [(leaving[0], targets[0])]
    if len(fitting) > 1:
        names = ", ".join(f"from {old.name} to {new.name}" for old, new in fitting)
        raise BadInput(f"{move.sentence!r} could mean {names}: say which, or give components a role")
    return (fitting[0][0].name, fitting[0][1].name) if fitting else None


def _of(estate: Estate, name: str) -> list[Component]:
    if name in estate.components:
        return [estate.components[name]]
    return [part for part in estate.components.values() if part.vendor == name]


def can_replace(old: Component, new: Component) -> bool:
    """Say whether one component can stand in for another: the same role; without roles the same privilege and kind."""
    if old.role or new.role:
        return old.role == new.role
    return (old.privilege, old.kind) == (new.privilege, new.kind)


def swap_devices(estate: Estate, row: int, count: int, old: str, new: str) -> Estate:
    """Give an estate in which some devices of a class have one component for another."""
    if count == 0:
        return estate
    devices = estate.classes[row]
    components = tuple(sorted({*devices.components, new} - {old}))
    rest = replace(devices, count=devices.count - count)
    classes = [
        *estate.classes[:row],
        rest,
        *estate.classes[row + 1 :],
        replace(devices, count=count, components=components),
    ]
    added = len(classes) - 1

    def with_it(group: Group) -> Group:
        if row not in group.members:
            return group
        function = tuple(sorted({*group.function, new})) if old in group.function else group.function
        return replace(group, members=(*group.members, added), function=function)

    groups = {name: with_it(group) for name, group in estate.groups.items()}
    return replace(estate, classes=tuple(classes), groups=groups)
