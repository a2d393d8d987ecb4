"""How a simulated rollout begins: the events that a real server's log would hold, and who is harmed, late or struck."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidegate.core.assign import device_key
from tidegate.core.caps import Cap
from tidegate.core.errors import BadInput
from tidegate.core.looks import LookPlan, certain_ring_count
from tidegate.core.model import Budget, Candidate
from tidegate.core.rollout import RolloutSpec
from tidegate.core.roster import Roster
from tidegate.core.rounds import rounds
from tidegate.core.wire import plain
from tidegate.log.events import Act, Enrolled, Event
from tidegate.sim.draws import late_devices, share_of
from tidegate.sim.rule import looks_of
from tidegate.sim.scenario import Scenario

ROLLOUT = "rollout"
COMPONENT = "component"
BEGIN_MS = 1_700_000_000_000
MOST_DEVICES = 20_000
LEAST_TTL_S = 60
GRACE_SHARE = 0.02
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Start:
    """Arrays have shape (devices,); `struck` has one mask for each fault of the scenario."""

    spec: RolloutSpec
    log: list[Event]
    device_ids: list[str]
    keys: npt.NDArray[np.uint64]
    harmed: Mask
    late: Mask
    struck: list[Mask]
    begin_ms: int = BEGIN_MS

    @property
    def ttl_ms(self) -> int:
        return self.spec.lease_ttl_s * 1000


def begin(scenario: Scenario, rng: np.random.Generator) -> Start:
    """Draw a fleet and write the log of a server on which its rollout has just been started.

    Raises:
        BadInput: for a scenario that is too large for messages, or has times below a second.
    """
    devices = scenario.fleet.devices
    if devices > MOST_DEVICES:
        raise BadInput(f"fleet.devices: messages play up to {MOST_DEVICES:,} devices, not {devices:,}; use columns")
    if scenario.rollout.observe_s < 1:
        raise BadInput("rollout.observe_s: messages need at least 1 second; use counts")
    device_ids = [row.tobytes().hex() for row in rng.integers(0, 256, (devices, 16), dtype=np.uint8)]
    keys = np.array([device_key(name) for name in device_ids], dtype=np.uint64)
    labels = _labels(scenario, rng)
    spec = _spec(scenario, rng, labels)
    harmed, late = _fates(scenario, rng)
    struck = [rng.permutation(devices) < int(share_of(rng, devices, fault.share, 1)[0]) for fault in scenario.faults]
    return Start(spec, _log(spec, device_ids, labels), device_ids, keys, harmed, late, struck)


def plan_of_scenario(scenario: Scenario, *, certain: bool) -> tuple[Budget, LookPlan | None]:
    """Give the budget and the looks that this scenario's rollout starts with; no looks for the certain rule alone."""
    terms, late = scenario.rollout, scenario.budgets[1]
    budget = Budget(
        max_harmed=terms.max_harmed,
        confidence=terms.confidence,
        false_halt=terms.false_halt,
        canary=min(terms.canary, terms.max_harmed),
        placebo_per_treated=terms.placebo_per_treated,
        q_gate=terms.q_gate,
        reverted_bound=terms.reverted_bound,
        late_budget_share=(late + 0.5) / terms.max_harmed if late else 0.0,
    )
    if certain:
        return budget, None
    return budget, looks_of(scenario)


def _spec(scenario: Scenario, rng: np.random.Generator, labels: list[dict[str, str]]) -> RolloutSpec:
    terms, devices = scenario.rollout, scenario.fleet.devices
    budget, looks = plan_of_scenario(scenario, certain=terms.policy == "certain")
    observe_s = round(terms.observe_s)
    caps = tuple(Cap(f"cap{place}", cap.at_most) for place, cap in enumerate(scenario.caps))
    certain = certain_ring_count(devices, budget.max_harmed, budget.first_ring)
    return RolloutSpec(
        rollout=ROLLOUT,
        component=COMPONENT,
        candidate=Candidate("releases/component/2.json", hashlib.sha256(b"candidate").hexdigest(), 1, 2),
        replaces=("any", "absent"),
        order_salt=rng.bytes(16).hex(),
        arm_secret=rng.bytes(32).hex(),
        budget=budget,
        planned_rings=looks.rings if looks else certain,
        looks=looks,
        roster=Roster(range(devices)),
        observe_s=observe_s,
        soak_s=observe_s - max(1, round(observe_s * GRACE_SHARE)),
        lease_ttl_s=max(LEAST_TTL_S, observe_s),
        spread_s=round(terms.poll_s),
        speed=scenario.speed_limit(BEGIN_MS // 1000),
        caps=caps,
        cap_rounds=rounds(caps, ((one, 1) for one in labels)).slowest,
    )


def _labels(scenario: Scenario, rng: np.random.Generator) -> list[dict[str, str]]:
    """Let the fleet fall at random into groups of the caps' sizes."""
    devices = scenario.fleet.devices
    places = [rng.permutation(devices) // cap.group_devices for cap in scenario.caps]
    found = [{f"cap{cap}": f"g{place[device]}" for cap, place in enumerate(places)} for device in range(devices)]
    for fault in scenario.faults:
        if fault.kind == "interference":
            for device, labels in enumerate(found):
                labels["site"] = f"s{device // fault.site_devices}"
    return found


def _fates(scenario: Scenario, rng: np.random.Generator) -> tuple[Mask, Mask]:
    """Say whom the candidate harms and who is late: exact shares, rounded at random, as in the other fidelities."""
    devices = scenario.fleet.devices
    harmed = rng.permutation(devices) < int(share_of(rng, devices, scenario.defect.harm_rate, 1)[0])
    late = rng.permutation(devices) < late_devices(scenario)
    if scenario.late is not None and scenario.late.harm_rate > 0:
        unharmed = np.flatnonzero(late & ~harmed)
        more = int(share_of(rng, len(unharmed), scenario.late.harm_rate, 1)[0])
        harmed[rng.permutation(unharmed)[:more]] = True
    return harmed, late


def _log(spec: RolloutSpec, device_ids: list[str], labels: list[dict[str, str]]) -> list[Event]:
    token = {"token_id": "t", "hash": "", "labels": {}, "uses": len(device_ids), "expires_ms": BEGIN_MS + 1}
    log: list[Event] = [Act(at_ms=BEGIN_MS - 1, what="token_created", who="simulation", why="", body=token)]
    log += [
        Enrolled(at_ms=BEGIN_MS - 1, index=index, device_id=name, public_key=name, token_id="t", labels=own, facts={})
        for index, (name, own) in enumerate(zip(device_ids, labels, strict=True))
    ]
    body = {"rollout": spec.rollout, "spec": plain(spec)}
    log.append(Act(at_ms=BEGIN_MS, what="rollout_started", who="simulation", why="", body=body))
    return log
