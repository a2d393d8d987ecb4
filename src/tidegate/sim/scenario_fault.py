"""A scenario's faults: their kinds and their keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tidegate.core.errors import BadInput
from tidegate.sim.allowed import COUNT, MOST_SECONDS, SECONDS, SHARE, Range, optional

FAULTS = (
    "telemetry_outage",
    "partition",
    "site_down",
    "clock_skew",
    "byzantine",
    "bad_network",
    "server_crash",
    "interference",
)
LIES = ("healthy", "sick", "announce")
ALWAYS = ("byzantine", "clock_skew", "bad_network")
"""Faults that last from the start to the end unless told otherwise."""
MOST_LOST = 0.5
OF_ONE_KIND = {"offset_s": "clock_skew", "lie": "byzantine", "site_devices": "interference"}
"""Keys that mean something for one kind alone: elsewhere they are refused, since whoever wrote them meant another."""


@dataclass(frozen=True, slots=True)
class Fault:
    """`[[fault]]`: one thing that goes wrong in the world, from `start_s` after the rollout's start.

    `offset_s` belongs to clock_skew (with a `start_s` the clocks jump), `lie` to byzantine. bad_network loses this
    share of all messages, brings as many twice, and lets later ones overtake as many. server_crash ends the server in
    the middle of a batch, for `duration_s`. With interference a harmed device that falls silent takes its site down for
    `duration_s`; of the sites (`site_devices` each) this `share` can be taken down. byzantine, clock_skew and
    bad_network last from start to end unless told otherwise.
    """

    kind: str = optional("telemetry_outage", FAULTS)
    start_s: float = optional(600.0, SECONDS)
    duration_s: float = optional(900.0, SECONDS)
    share: float = optional(1.0, SHARE)
    offset_s: float = optional(0.0, Range(-MOST_SECONDS, MOST_SECONDS))
    lie: str = optional("healthy", LIES)
    site_devices: int = optional(50, COUNT)

    @property
    def end_s(self) -> float:
        """When it is over."""
        return self.start_s + self.duration_s


def checked_fault(where: str, values: dict[str, Any]) -> Fault:
    """Make a fault of its checked values. Raises BadInput naming a key that its kind excludes."""
    kind = values.get("kind", FAULTS[0])
    for key, owner in OF_ONE_KIND.items():
        if key in values and kind != owner:
            raise BadInput(f"{where}.{key}: belongs to {owner}, not to {kind}")
    if kind in ALWAYS:
        values = {"start_s": 0.0, "duration_s": MOST_SECONDS, **values}
    fault = Fault(**values)
    if fault.kind == "bad_network" and fault.share > MOST_LOST:
        raise BadInput(f"{where}.share: of bad_network must be at most {MOST_LOST}, not {fault.share:g}")
    return fault
