"""What one device of the message fidelity knows: its plan, its lease, its outbox, and what it has tried."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidegate.control.devices import Report
from tidegate.core.device import State
from tidegate.core.model import Plan, PlanState
from tidegate.sim.messages_fate import Fate, Lease

if TYPE_CHECKING:
    from tidegate.sim.messages_world import World

READ_BY = {PlanState.HALTED, PlanState.CLOSED}
"""Plans that a device reads whatever it is doing."""


class Known:
    """What a device has read and been told, and where it stands."""

    __slots__ = (
        "ask_at_ms",
        "asked_ring",
        "attempt",
        "condemned",
        "device_id",
        "errors",
        "fate",
        "index",
        "installed",
        "lease",
        "off_ms",
        "outbox",
        "plan",
        "rank",
        "refused",
        "request",
        "sending",
        "seq",
        "state",
        "turn",
        "version",
        "world",
    )

    def __init__(self, world: World, index: int, device_id: str, rank: int, fate: Fate) -> None:
        self.world, self.index, self.device_id, self.rank, self.fate = world, index, device_id, rank, fate
        self.state = State.IDLE
        self.plan: Plan | None = None
        self.version = self.seq = self.attempt = self.errors = self.turn = self.request = 0
        self.lease: Lease | None = None
        self.outbox: list[Report] = []
        self.ask_at_ms = self.off_ms = 0
        self.asked_ring = -1
        self.installed = self.condemned = self.refused = self.sending = False

    @property
    def finished(self) -> bool:
        """Whether nothing that a plan of this rollout says could move it."""
        done = self.fate.dead or self.installed or self.condemned or self.refused
        return self.fate.dead or (done and self.state is State.IDLE)

    def concerned(self, plan: Plan) -> bool:
        """Say whether a plan that was just published gives this device something to do."""
        if plan.state in READ_BY:
            return self.state is not State.IDLE
        waits = self.state in (State.IDLE, State.READY, State.ANNOUNCED)
        return waits and plan.state is PlanState.OPEN and plan.announces(self.rank)
