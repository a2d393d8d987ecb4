"""A fleet that comes back: the agent's own waits, everyone served, no second worse than it must be."""

from __future__ import annotations

import random
from typing import Any, cast

import numpy as np
import pytest

from tidegate.agent.pace import LONGEST_S, Backoff
from tidegate.core.errors import BadInput
from tidegate.intake.http import problem_of
from tidegate.log.port import Overloaded
from tidegate.sim.herd import RETRY_AFTER_S, WAITS, Herd, come_back

pytestmark = pytest.mark.room("sim")
HERD = Herd(85_000, serves_per_s=150)


class Fraction:
    """Draws the same place of every range, for one device and for many."""

    def __init__(self, share: float, count: int = 0) -> None:
        self.share, self.count = share, count

    def uniform(self, low: float, high: float) -> Any:
        value = low + self.share * (high - low)
        return np.full(self.count, value) if self.count else value


@pytest.mark.parametrize("told_s", [0.0, 5.0, 400.0])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_the_waits_are_the_agents(share: float, told_s: float) -> None:
    backoff = Backoff(60.0, cast(random.Random, Fraction(share)))
    for errors in range(8):
        found = WAITS["backoff"](HERD, cast(Any, Fraction(share, 3)), errors, told_s)
        assert found.tolist() == [backoff.next_s(told_s or None)] * 3


def test_who_is_turned_away_is_told_what_the_server_tells() -> None:
    assert dict(problem_of(Overloaded("too much")).headers)["retry-after"] == f"{RETRY_AFTER_S:g}"


@pytest.mark.parametrize("wait", sorted(WAITS))
def test_everyone_is_served_once_and_never_more_than_the_server_takes(wait: str) -> None:
    found = come_back(Herd(20_000, serves_per_s=50, wait=wait))
    assert found.served.sum() == 20_000
    assert found.served.max() <= 50
    assert (found.served <= found.came).all()
    assert len(found.served) == found.all_served_s


def test_the_back_off_spreads_a_herd_over_its_longest_wait() -> None:
    found = come_back(HERD)
    evenly = HERD.devices / (LONGEST_S / 2)  # residual of waits that are uniform up to the longest
    assert found.failed[-600:].mean() == pytest.approx(evenly, rel=0.05)
    assert found.worst < 1.5 * evenly
    assert found.all_served_s < 2 * LONGEST_S
    for other in ("interval", "doubling"):
        assert come_back(Herd(85_000, serves_per_s=150, wait=other)).worst > 4 * found.worst


def test_the_same_seed_is_the_same_return() -> None:
    first, again, other = (come_back(Herd(5000, serves_per_s=20, seed=seed)) for seed in (1, 1, 2))
    assert first.came.tolist() == again.came.tolist() != other.came.tolist()


@pytest.mark.parametrize(
    "changes", [{"devices": 0}, {"outage_s": 0}, {"serves_per_s": 0}, {"wait": "never"}, {"poll_s": 0}]
)
def test_a_herd_that_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        Herd(**{"devices": 1, **changes})
