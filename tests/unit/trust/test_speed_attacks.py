"""A server with every online key stolen against the speed limit: the device's own reading and its own eligibility."""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Targets

from tidegate.agent.clock import SystemClock
from tidegate.agent.eligible import Standing, before_reading, eligible
from tidegate.agent.plans import Plans
from tidegate.core.assign import RANK_END, SHARE_ONE, device_key, rank
from tidegate.core.errors import Untrusted
from tidegate.core.model import Candidate, Plan, PlanState, ReleaseTerms, SpeedLimit
from tidegate.core.wire import canonical, encode, plain
from tidegate.trust import layout
from tidegate.trust.keys import key_path, load_signer, load_signers
from tidegate.trust.metadata import latest_bytes, latest_versions, sign, versioned
from tidegate.trust.promotion import Promotion, accept_promotion, sign_promotion
from tidegate.trust.release import sign_release

from .conftest import COMPONENT, NOW, House, Thief

PERCENT = SHARE_ONE // 100
SLACK_S = 120
LIMIT = SpeedLimit(
    ((0, PERCENT), (900, 4 * PERCENT), (3600, 20 * PERCENT), (86_400, SHARE_ONE)),
    NOW, NOW + 3 * 86_400, ceiling_2p32=5 * PERCENT, dwell_s=3600, clock_slack_s=SLACK_S,
)  # fmt: skip
DEVICES = [hashlib.sha256(b"device %d" % number).hexdigest()[:32] for number in range(800)]
CUSTOMER = DEVICES[100:200]
PLAN = layout.plan_path(COMPONENT)


class SlowHouse(House):
    """Its releases carry a real speed limit: 1 % at once, 4 % after a quarter of an hour, never above 5 %."""

    def terms(self, seq: int) -> ReleaseTerms:
        return ReleaseTerms(seq, f"{seq:032x}", replace(LIMIT, logged=self.now, not_after=self.now + 3 * 86_400))

    def plan(self, candidate: Candidate, **changes: object) -> Plan:
        return replace(super().plan(candidate, **changes), replaces=("any", "absent"))


class Fleet:
    """Eight hundred devices that read the same repository; each asks the agent's own code whether it may go on."""

    def __init__(self, house: House, name: str = "fleet") -> None:
        self.house = house
        self.trust, _ = house.device(name)
        self.clock = HouseClock(house)
        self.plans = Plans(self.trust, self.clock, random.Random(1), 60.0)

    def going(
        self,
        among: list[str] = DEVICES,
        *,
        installed: tuple[str, int] | None = None,
        since_s: float | None = None,
    ) -> set[str]:
        """Read the repository anew, and give the devices that would announce now."""
        self.plans.refresh()
        seen = self.plans.seen(COMPONENT)
        standings = [self.standing(device, installed, since_s) for device in among]
        if before_reading(seen, standings[0]) is not None:
            return set()
        assert seen.plan
        try:
            manifest, terms = self.plans.release(COMPONENT, seen)
        except Untrusted:
            return set()
        return {s.device_id for s in standings if eligible(seen.plan, manifest, terms, s).yes}

    def standing(self, device: str, installed: tuple[str, int] | None, since_s: float | None) -> Standing:
        digest, seq = installed or (None, 0)
        return Standing(device, digest, seq, "", self.house.now, self.plans.high_water_s, since_s)


class HouseClock(SystemClock):
    def __init__(self, house: House) -> None:
        super().__init__()
        self._house = house

    def wall(self) -> float:
        return float(self._house.now)


def within(share_2p32: int, seq: int, among: list[str] = DEVICES) -> set[str]:
    """The devices that the signed order puts within a share: worked out here, from the salt alone."""
    salt = bytes.fromhex(f"{seq:032x}")
    return {d for d in among if rank(salt, device_key(d)) < share_2p32 * (RANK_END // SHARE_ONE)}


@pytest.fixture
def slow(tmp_path: Path, templates: dict[str, Path]) -> Iterator[SlowHouse]:
    shutil.copytree(templates["bare"], tmp_path, dirs_exist_ok=True)
    yield SlowHouse(tmp_path)


@pytest.fixture
def candidate(slow: SlowHouse) -> Candidate:
    found = slow.candidate(slow.release(1))
    slow.publish(slow.plan(found))
    return found


@pytest.fixture
def robber(slow: SlowHouse, candidate: Candidate) -> Thief:
    return Thief(slow)


def show(thief: Thief, plan: Plan) -> None:
    thief.publish({PLAN: encode(plan)})


@pytest.mark.parametrize(
    ("age_s", "percent"), [(0, 0), (SLACK_S, 1), (SLACK_S + 899, 1), (SLACK_S + 900, 4), (7200, 5), (172_800, 5)]
)
def test_a_thief_tries_to_reach_everyone_at_once(
    slow: SlowHouse, candidate: Candidate, robber: Thief, age_s: int, percent: int
) -> None:
    """Opens the whole range, calls everyone late and everyone a scout: no more go than were signed for that age."""
    scouts = tuple(f"{rank(bytes.fromhex(f'{1:032x}'), device_key(d)):016x}" for d in DEVICES)
    slow.now += age_s
    show(robber, slow.plan(candidate, announce_rank="f" * 16, late_open=True, ring=99, scouts=scouts))
    assert Fleet(slow).going() == within(percent * PERCENT, 1)


def test_a_thief_tries_to_re_salt(slow: SlowHouse, candidate: Candidate, robber: Thief) -> None:
    """A new rollout each time, to draw other devices: it is always the same ones, first by the signed order."""
    slow.now += SLACK_S
    fleet, reached = Fleet(slow), set[str]()
    for attempt in range(8):
        show(robber, slow.plan(candidate, rollout=f"r{attempt}", arm_commit=f"{attempt:064x}"))
        reached |= fleet.going()
    assert reached == within(PERCENT, 1)
    salted = {**plain(slow.plan(candidate)), "order_salt": "ab" * 16}
    robber.publish({PLAN: canonical(salted)})
    assert fleet.going() == set()


def test_a_thief_tries_to_write_other_terms_into_the_release(
    slow: SlowHouse, candidate: Candidate, robber: Thief
) -> None:
    """The terms stand in the list that release keys sign; one that the plans key signs is not believed."""
    slow.now += SLACK_S
    fleet = Fleet(slow)
    assert fleet.going()
    found = Metadata[Targets].from_bytes(latest_bytes(slow.repo, slow.role))
    for described in found.signed.targets.values():
        described.custom["tidegate"]["speed"]["steps"] = [[0, SHARE_ONE]]  # pyright: ignore
    found.signed.version += 1
    found.signatures.clear()
    versioned(slow.repo, slow.role, found.signed.version).write_bytes(sign(found, [robber.signers["plans"]]))
    show(robber, slow.plan(candidate))
    assert fleet.going() == set() == Fleet(slow, "fresh").going()


def test_a_thief_tries_to_replay_an_old_plan(slow: SlowHouse, candidate: Candidate, robber: Thief) -> None:
    """An old plan as it was has expired; one that is signed anew names what is older than what runs."""
    old = encode(slow.plan(candidate, announce_rank="f" * 16))
    newer = slow.candidate(slow.release(2))
    slow.now += 1200
    robber.publish({PLAN: old})
    fleet = Fleet(slow)
    assert fleet.going() == set()
    assert "expired" in fleet.plans.seen(COMPONENT).sentence
    show(robber, slow.plan(candidate))
    assert fleet.going(installed=(newer.sha256, 2)) == set()
    assert fleet.going() == within(4 * PERCENT, 1)
    robber.publish({PLAN: encode(slow.plan(candidate)).replace(b'"expires":', b'"expires":1')})
    assert fleet.going() == set()


def test_a_thief_tries_to_freeze(slow: SlowHouse, candidate: Candidate, robber: Thief) -> None:
    """Without new signatures all ends with the plan; with new ones, the signed ceiling and last day still hold."""
    slow.now += SLACK_S
    show(robber, slow.plan(candidate, announce_rank="f" * 16))
    fleet = Fleet(slow)
    assert fleet.going()
    slow.now += 601
    assert fleet.going() == set()
    reached = set[str]()
    for _ in range(8):
        slow.now += 6 * 3600
        show(robber, slow.plan(candidate, announce_rank="f" * 16))
        reached |= fleet.going()
    assert reached == within(5 * PERCENT, 1)
    slow.now = NOW + 3 * 86_400 + 1
    show(robber, slow.plan(candidate, announce_rank="f" * 16))
    assert fleet.going() == set()


def test_a_thief_tries_to_mix_plans_of_two_rollouts(slow: SlowHouse, candidate: Candidate, robber: Thief) -> None:
    """Pieces of two candidates are no candidate; two whole ones in turn reach the first of each order, and dwell."""
    other = slow.candidate(slow.release(2))
    slow.now += SLACK_S
    fleet = Fleet(slow)
    for mixed in (
        replace(candidate, sha256=other.sha256),
        replace(candidate, path=other.path),
        replace(candidate, seq=2),
        replace(other, length=candidate.length + 1),
    ):
        show(robber, slow.plan(mixed, announce_rank="f" * 16))
        assert fleet.going() == set()
    show(robber, slow.plan(other, rollout="r1", announce_rank="f" * 16))
    assert fleet.going() == within(PERCENT, 2)
    assert fleet.going(installed=(candidate.sha256, 1), since_s=60.0) == set()
    assert fleet.going(installed=(candidate.sha256, 1), since_s=3600.0) == within(PERCENT, 2)


def test_a_thief_tries_to_target_one_customer(slow: SlowHouse, candidate: Candidate, robber: Thief) -> None:
    """Names a customer's devices as scouts and nobody else: only those go who were first in any case."""
    slow.now += SLACK_S + 900
    salt = bytes.fromhex(f"{1:032x}")
    scouts = tuple(f"{rank(salt, device_key(d)):016x}" for d in CUSTOMER)
    show(robber, slow.plan(candidate, announce_rank="0" * 16, scouts=scouts))
    assert Fleet(slow).going() == within(4 * PERCENT, 1, CUSTOMER)
    assert len(within(4 * PERCENT, 1, CUSTOMER)) < len(CUSTOMER) // 5


def test_a_thief_brings_back_a_halted_release_and_stays_below_its_ceiling(
    slow: SlowHouse, candidate: Candidate, robber: Thief
) -> None:
    """Days later time alone would allow everyone; the ceiling does not."""
    slow.publish(slow.plan(candidate, state=PlanState.HALTED))
    slow.now += 2 * 86_400
    show(robber, slow.plan(candidate, announce_rank="f" * 16))
    assert Fleet(slow).going() == within(5 * PERCENT, 1)


def _promote(house: House, candidate: Candidate, ceiling_2p32: int) -> None:
    promotion = Promotion(COMPONENT, candidate.seq, candidate.sha256, ceiling_2p32, house.now)
    signer = load_signer(key_path(house.offline, "promotions"))
    signed = sign_promotion(latest_bytes(house.repo, "promotions"), promotion, [signer], house.now)
    accept_promotion(house.repo, signed, promotion, house.now)


@pytest.mark.parametrize(("age_s", "percent"), [(SLACK_S, 1), (SLACK_S + 3600, 20), (SLACK_S + 86_400, 50)])
def test_a_thief_with_the_promotions_key_too_is_held_to_the_signed_steps(
    slow: SlowHouse, candidate: Candidate, robber: Thief, age_s: int, percent: int
) -> None:
    _promote(slow, candidate, 50 * PERCENT)
    slow.now += age_s
    show(robber, slow.plan(candidate, announce_rank="f" * 16))
    assert Fleet(slow).going() == within(percent * PERCENT, 1)


def _by_the_plans_key(house: House, thief: Thief, candidate: Candidate) -> None:
    promotion = Promotion(COMPONENT, candidate.seq, candidate.sha256, SHARE_ONE, house.now)
    signed = sign_promotion(latest_bytes(house.repo, "promotions"), promotion, [], house.now)
    found = Metadata[Targets].from_bytes(signed)
    versioned(house.repo, "promotions", found.signed.version).write_bytes(sign(found, [thief.signers["plans"]]))


def _of_another_release(house: House, thief: Thief, candidate: Candidate) -> None:
    _promote(house, replace(candidate, sha256="e" * 64), SHARE_ONE)


def _that_expired(house: House, thief: Thief, candidate: Candidate) -> None:
    house.now -= 200 * 86_400
    promotion = Promotion(COMPONENT, candidate.seq, candidate.sha256, SHARE_ONE, house.now)
    signer = load_signer(key_path(house.offline, "promotions"))
    signed = sign_promotion(latest_bytes(house.repo, "promotions"), promotion, [signer], house.now)
    versioned(house.repo, "promotions", latest_versions(house.repo)["promotions"] + 1).write_bytes(signed)
    house.now += 200 * 86_400


@pytest.mark.parametrize("forge", [_by_the_plans_key, _of_another_release, _that_expired])
def test_a_promotion_that_does_not_hold_lifts_nothing(
    slow: SlowHouse, candidate: Candidate, robber: Thief, forge: Callable[[House, Thief, Candidate], None]
) -> None:
    forge(slow, robber, candidate)
    slow.now += 2 * 86_400
    show(robber, slow.plan(candidate, announce_rank="f" * 16))
    assert Fleet(slow).going() == within(5 * PERCENT, 1)


@pytest.mark.parametrize(("holders", "share"), [(2, 0), (3, SHARE_ONE)])
def test_only_all_release_holders_together_sign_a_faster_limit(
    slow: SlowHouse, candidate: Candidate, robber: Thief, holders: int, share: int
) -> None:
    """Enough holders for a usual release are too few for an urgent one, whatever the online keys say of it."""
    manifest = slow.manifest(7)
    terms = ReleaseTerms(7, f"{7:032x}", SpeedLimit(((0, SHARE_ONE),), slow.now, slow.now + 86_400))
    signers = load_signers(slow.offline, "release")[:holders]
    signed = sign_release(latest_bytes(slow.repo, "emergency"), manifest, terms, signers, slow.now, emergency=True)
    versioned(slow.repo, "emergency", 2).write_bytes(signed)
    data = encode(manifest)
    urgent = Candidate(layout.emergency_path(COMPONENT, 7), hashlib.sha256(data).hexdigest(), len(data), 7)
    (slow.repo / "targets/emergency" / COMPONENT).mkdir(parents=True)
    (slow.repo / "targets" / layout.hashed_path(urgent.path, urgent.sha256)).write_bytes(data)
    slow.now += SLACK_S
    show(robber, slow.plan(urgent, announce_rank="f" * 16))
    assert Fleet(slow).going() == within(share, 7)
