"""The speed limit: what a device enforces with its own clock, and what the server counts on; whole numbers alone."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from tidegate.core.assign import SHARE_ONE, within_share
from tidegate.core.model import ReleaseTerms, SpeedLimit

CLOCK_TOLERANCE_S = 600
"""How far a wall clock may lie behind the latest signed time before it counts as wrong."""


class SpeedAnswer(NamedTuple):
    """Whether the limit lets a device go on, why, and when to ask again (None: never, or not a matter of waiting)."""

    permitted: bool
    sentence: str
    retry_after_s: int | None


def allowed_share(limit: SpeedLimit, age_s: int) -> int:
    """Give the share of devices that may have a release at an age, in parts of 2**32.

    The last step whose time has come, or `least_devices` of `fleet_devices` rounded up if that is more; never above
    the ceiling, and nothing at a negative age.

    Args:
        limit: the release's.
        age_s: seconds since logging, clock slack already taken off.
    """
    if age_s < 0:
        return 0
    stepped = max((share for seconds, share in limit.steps if seconds <= age_s), default=0)
    return min(limit.ceiling_2p32, max(stepped, least_share(limit)))


def least_share(limit: SpeedLimit) -> int:
    """Give the share that `least_devices` are of the fleet, rounded up, in parts of 2**32."""
    return min(SHARE_ONE, -(-limit.least_devices * SHARE_ONE // limit.fleet_devices))


def age_s(limit: SpeedLimit, wall_s: int) -> int:
    """Give a release's age as a device may count it: seconds since logging, less the clock slack."""
    return wall_s - limit.logged - limit.clock_slack_s


class Outlook(NamedTuple):
    """What a limit allows at a moment: the share now, the (unix second, share) steps to come, the ceiling in force."""

    share_2p32: int
    steps: tuple[tuple[int, int], ...]
    ceiling_2p32: int
    sentence: str


def outlook(limit: SpeedLimit, wall_s: int, promoted_2p32: int = 0) -> Outlook:
    """Say what the limit allows now and when it allows more, for people.

    Args:
        limit: the release's.
        wall_s: unix seconds.
        promoted_2p32: the ceiling that a promotion has given it, 0 for none.
    """
    limit = promoted(limit, promoted_2p32)
    age = age_s(limit, wall_s)
    share = allowed_share(limit, age) if wall_s <= limit.not_after else 0
    steps: list[tuple[int, int]] = []
    last = share
    for seconds in sorted({0, *(step[0] for step in limit.steps)}):
        at_s, opens = wall_s + seconds - age, allowed_share(limit, seconds)
        if seconds > age and opens > last and at_s <= limit.not_after:
            steps.append((at_s, opens))
            last = opens
    if wall_s > limit.not_after:
        sentence = "the release is past its last day: nobody may begin with it"
    else:
        then = f", {percent(steps[0][1])} in {steps[0][0] - wall_s} s" if steps else ""
        bound = "" if limit.ceiling_2p32 >= SHARE_ONE else f"; never above {percent(limit.ceiling_2p32)} unpromoted"
        sentence = f"the speed limit allows {percent(share)} of devices now{then}{bound}"
    return Outlook(share, tuple(steps), limit.ceiling_2p32, sentence)


def percent(share_2p32: int) -> str:
    """Write a share of 2**32 parts as people do."""
    return f"{100 * share_2p32 / SHARE_ONE:.3g} %"


def not_before(terms: ReleaseTerms, witnessed_s: int) -> ReleaseTerms:
    """Let a release be no older than witnesses of the ledger know it (unix seconds): one dated back gains nothing."""
    if witnessed_s <= terms.speed.logged:
        return terms
    return replace(terms, speed=replace(terms.speed, logged=min(witnessed_s, terms.speed.not_after - 1)))


def promoted(limit: SpeedLimit, ceiling_2p32: int) -> SpeedLimit:
    """Give the limit with the ceiling that a promotion allows; a ceiling is never lowered, and the steps stay."""
    return limit if ceiling_2p32 <= limit.ceiling_2p32 else replace(limit, ceiling_2p32=ceiling_2p32)


def opens_at_s(limit: SpeedLimit, rank: int) -> int | None:
    """Give the unix second from which a device of this rank may begin, by a clock that is right; None if never."""
    seconds = _opens_at_age(limit, rank)
    at_s = None if seconds is None else limit.logged + limit.clock_slack_s + seconds
    return None if at_s is None or at_s > limit.not_after else at_s


def next_step_s(limit: SpeedLimit, wall_s: int) -> int | None:
    """Give the unix second at which the limit allows more than now, or None if it never does."""
    age = age_s(limit, wall_s)
    now = allowed_share(limit, age)
    for seconds in sorted({0, *(step[0] for step in limit.steps)}):
        if seconds > age and allowed_share(limit, seconds) > now:
            at_s = wall_s + seconds - age
            return at_s if at_s <= limit.not_after else None
    return None


def speed_permits(limit: SpeedLimit, rank: int, wall_s: int, high_water_s: int) -> SpeedAnswer:
    """Say whether a device of this rank may take the release now.

    Source: rules 3 and 4 of the release's speed limit, docs/protocol.md. The clock can only ever delay a device:
    one that has fallen behind the latest signed time, or before the release was logged, does not advance.

    Args:
        limit: the release's, signed offline.
        rank: of the device, uint64.
        wall_s: the wall clock, unix seconds.
        high_water_s: the latest signed time that this device has seen, unix seconds.
    """
    if wall_s < high_water_s - CLOCK_TOLERANCE_S:
        behind = high_water_s - wall_s
        return SpeedAnswer(False, f"this machine's clock is {behind} s behind a signed time; set it right", None)
    if wall_s > limit.not_after:
        return SpeedAnswer(False, "the release is past the date after which nobody may begin with it", None)
    age = age_s(limit, wall_s)
    share = allowed_share(limit, age)
    if within_share(rank, share):
        return SpeedAnswer(True, "the speed limit lets this device go on", 0)
    opens_s = _opens_at_age(limit, rank)
    if opens_s is None:
        return SpeedAnswer(False, "the speed limit's ceiling keeps this device out until it is promoted", None)
    if wall_s + opens_s - age > limit.not_after:
        return SpeedAnswer(False, "the release runs out before its speed limit reaches this device", None)
    wait = opens_s - age
    return SpeedAnswer(False, f"the speed limit reaches this device in {wait} s", wait)


def _opens_at_age(limit: SpeedLimit, rank: int) -> int | None:
    """The age at which a rank comes within the limit, or None if never."""
    for seconds in sorted({0, *(step[0] for step in limit.steps)}):
        if within_share(rank, allowed_share(limit, seconds)):
            return seconds
    return None
