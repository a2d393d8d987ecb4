"""What faults do to outcomes, in every fidelity: who cannot ask, whose report comes when, who lies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tidegate.core.errors import BadInput
from tidegate.core.model import PLAN_LIFETIME_LIMIT_S
from tidegate.sim.outcome import Floats
from tidegate.sim.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Delay:
    """A report that falls due in [start_s, end_s) comes, for this share of devices, at arrive_s instead."""

    start_s: float
    end_s: float
    share: float
    arrive_s: float


@dataclass(frozen=True, slots=True)
class Absence:
    """This share of devices cannot ask for a lease in [start_s, end_s)."""

    start_s: float
    end_s: float
    share: float


@dataclass(frozen=True, slots=True)
class Lie:
    """Of the devices leased in [start_s, end_s) this share says `kind`: "healthy" when harmed, "sick" when treated."""

    start_s: float
    end_s: float
    share: float
    kind: str


@dataclass(frozen=True, slots=True)
class Effects:
    """What all faults of a scenario come to.

    - telemetry_outage: reports wait in the devices' spools and all come when it ends.
    - partition: the same, and the devices cannot ask for leases either; who misses a ring is late.
    - site_down: devices lose power; they soak again when it is back, so that they confirm one observation time later.
    - clock_skew: soak, lease and dwell run on the monotonic clock and expiry on signed times, so that nothing changes,
      until a clock is so far ahead that every plan looks expired: such a device fails closed and does not ask.
    - server_crash: nobody can ask or report until the server is back.
    - bad_network: devices repeat what was not acknowledged, and what comes twice counts once: nothing but seconds.
    - byzantine: lies, "announce" being refused by the repeated lease and without effect on outcomes.
    """

    delays: tuple[Delay, ...] = ()
    absences: tuple[Absence, ...] = ()
    lies: tuple[Lie, ...] = ()

    def lie_share(self, kind: str, lease_s: Floats) -> Floats:
        """Share of devices leased at these moments that tells this lie; any shape."""
        truthful = np.ones_like(lease_s)
        for lie in self.lies:
            told = (lie.kind == kind) & (lie.start_s <= lease_s) & (lease_s < lie.end_s)
            truthful = truthful * np.where(told, 1.0 - lie.share, 1.0)
        return 1.0 - truthful


def effects_of(scenario: Scenario) -> Effects:
    """Translate the faults of a scenario. Raises BadInput for one that only messages can play."""
    observe_s = scenario.rollout.observe_s
    delays: list[Delay] = []
    absences: list[Absence] = []
    lies: list[Lie] = []
    for place, fault in enumerate(scenario.faults):
        start_s, end_s, share = fault.start_s, fault.end_s, fault.share
        if share == 0 or fault.duration_s == 0:
            continue
        if fault.kind == "interference":
            raise BadInput(
                f"fault[{place}].kind: interference is played message by message; use --fidelity messages"
                " and at most 20,000 devices"
            )
        if fault.kind == "byzantine":
            lies.append(Lie(start_s, end_s, share, fault.lie))
        elif fault.kind == "clock_skew":
            if fault.offset_s > PLAN_LIFETIME_LIMIT_S:
                absences.append(Absence(start_s, end_s, share))
        elif fault.kind == "site_down":
            delays.append(Delay(start_s, end_s + observe_s, share, end_s + observe_s))
            absences.append(Absence(start_s, end_s, share))
        elif fault.kind != "bad_network":
            share = 1.0 if fault.kind == "server_crash" else share
            delays.append(Delay(start_s, end_s, share, end_s))
            if fault.kind != "telemetry_outage":
                absences.append(Absence(start_s, end_s, share))
    delays.sort(key=lambda delay: delay.start_s)
    absences.sort(key=lambda absence: absence.start_s)
    return Effects(tuple(delays), tuple(absences), tuple(lies))
