"""What a ring asks of the server, second by second: refusals that are kept to, and a last ring that can be answered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tidegate.agent.pace import at_turn
from tidegate.core.errors import BadInput
from tidegate.sim.asking import Crowd, ask, turn_jitter_s

GROUPS = Crowd(20_000, group_devices=200, at_most=10)


@pytest.mark.parametrize("changes", [{}, {"at_most": 1, "devices": 4000}, {"silent_share": 0.01}, {"spread": False},
                                     {"soak_s": 600, "devices": 4000}])  # fmt: skip
def test_whoever_keeps_to_the_time_he_was_told_asks_in_vain_in_less_than_a_tenth(changes: dict[str, float]) -> None:
    found = ask(replace(GROUPS, **changes))
    assert found.granted >= 0.99 * replace(GROUPS, **changes).devices
    assert found.vain < found.granted / 10


def test_spread_and_turns_keep_all_refusals_below_a_tenth_and_without_them_they_are_many() -> None:
    found = ask(GROUPS)
    assert found.granted == 20_000 and found.refused < found.granted / 10
    assert found.took_s < 2 * 20 * 72, "the caps alone take twenty soaks"
    bare = ask(replace(GROUPS, spread=False, turns=False))
    assert bare.granted == 20_000 and bare.refused > bare.granted and bare.peak > 3 * found.peak


def test_a_ring_without_caps_is_spread_by_what_the_server_can_take() -> None:
    found = ask(Crowd(300_000, poll_s=10))
    assert found.spread_s == 50 and found.refused == 0 and found.granted == 300_000
    assert found.requests.sum() == 600_000 and found.peak < 15_000
    assert ask(Crowd(300_000, poll_s=10, spread=False)).peak > 15_000


def test_the_jitter_of_a_turn_is_the_agents() -> None:
    class Most:
        def uniform(self, low: float, high: float) -> float:
            return high

    for wait_s in (0.5, 10.0, 24.9, 1000.0):
        assert at_turn(wait_s, Most()) == pytest.approx(wait_s + turn_jitter_s(wait_s))  # type: ignore[arg-type]
    assert np.allclose(turn_jitter_s(np.array([5.0, 100.0])), [1.0, 5.0])


@pytest.mark.parametrize("changes", [{"devices": 0}, {"at_most": 3, "group_devices": 0}, {"poll_s": -1}])
def test_a_crowd_that_cannot_be_is_refused(changes: dict[str, int]) -> None:
    with pytest.raises(BadInput):
        replace(Crowd(10), **changes)
