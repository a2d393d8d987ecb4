"""Which pairs of label values scouts and rings cover: against a count by hand, on drawn fleets."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.scouts import choose_scouts, cover, say_pair

pytestmark = pytest.mark.room("core")
OVER = ("os", "hardware", "locale")
DEVICE = st.fixed_dictionaries(
    {}, optional={"os": st.sampled_from("abc"), "hardware": st.sampled_from("xy"), "locale": st.sampled_from("def")}
)


def held(labels: dict[str, str]) -> set[tuple[tuple[str, str], ...]]:
    own = sorted(labels.items())
    return set(combinations(own, 2)) if len(own) > 1 else {(entry,) for entry in own}


@given(st.lists(DEVICE, min_size=1, max_size=40), st.data())
def test_it_agrees_with_a_count_by_hand(fleet: list[dict[str, str]], data: st.DataObject) -> None:
    ranks = np.array(data.draw(st.permutations(range(len(fleet)))), dtype=np.uint64)
    sizes = sorted({data.draw(st.integers(1, len(fleet))) for _ in range(3)} | {len(fleet)})
    found = cover(fleet, ranks, OVER, sizes)
    every = [pair for device in fleet for pair in held(device)]
    assert found.pairs == {pair: every.count(pair) for pair in every}
    scouts = [position for position, _ in found.scouts]
    assert tuple(scouts) == choose_scouts(fleet, ranks, OVER)
    claimed = [pair for _, pairs in found.scouts for pair in pairs]
    assert sorted(claimed) == sorted(set(every)), "each pair has one scout"
    assert all(pair in held(fleet[position]) for position, pairs in found.scouts for pair in pairs)
    left = [position for position in sorted(range(len(fleet)), key=lambda at: ranks[at]) if position not in scouts]
    before, seen = 0, set[object]()
    for step, size in zip(found.rings, sizes, strict=True):
        here = {pair for position in left[before:size] for pair in held(fleet[position])}
        assert (step.devices, step.pairs, set(step.first)) == (size, len(here), here - seen)
        seen |= here
        before = size


def test_a_pair_is_written_as_people_do() -> None:
    assert say_pair((("hardware", "arm"), ("os", "win11"))) == "hardware=arm, os=win11"
