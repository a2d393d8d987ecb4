"""Caps: a count of devices, each once, over all that is in flight; it agrees with a plain recount."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.caps import Cap, InFlight

LABELS = [{"site": "ATL", "os": "a"}, {"site": "ATL", "os": "b"}, {"site": "CDG"}, {}]
moves = st.lists(
    st.tuples(st.sampled_from(["enter", "enter", "leave", "retire"]), st.integers(0, 4), st.sampled_from("xyz"),
              st.integers(0, 3)),
    max_size=60,
)  # fmt: skip


@given(moves)
def test_it_agrees_with_a_recount(moves: list[tuple[str, int, str, int]]) -> None:
    in_flight, books = InFlight(), dict[tuple[int, str], dict[str, str]]()
    for word, index, component, which in moves:
        if word == "enter":
            in_flight.enter(index, component, LABELS[which])
            books[index, component] = LABELS[which]
        elif word == "leave":
            in_flight.leave(index, component)
            books.pop((index, component), None)
        else:
            in_flight.leave(index)
            books = {held: labels for held, labels in books.items() if held[0] != index}
        groups = {(index, group) for (index, _), labels in books.items() for group in labels.items()}
        counts = Counter(group for _, group in groups)
        for group in {group for labels in LABELS for group in labels.items()}:
            assert in_flight.count(group) == counts[group]
        for select in ([("site", "ATL")], [*LABELS[0].items()], [*LABELS[0].items(), *LABELS[1].items()]):
            fits = [index for index, _ in groups if all((index, group) in groups for group in select)]
            assert in_flight.matching(tuple(select)) == len(set(fits))
        for most in (1, 2):
            full = counts["site", "ATL"] >= most
            assert in_flight.refuses([Cap("site", most)], {"site": "ATL"}) == (("site", "ATL") if full else None)


def test_a_device_without_the_label_is_not_capped() -> None:
    in_flight = InFlight()
    in_flight.enter(1, "x", {"site": "ATL"})
    caps = (Cap("site", 1), Cap("rack", 1))
    assert in_flight.refuses(caps, {"site": "ATL"}) == ("site", "ATL")
    assert in_flight.refuses(caps, {"site": "CDG"}) is None
    assert in_flight.refuses(caps, {}) is None


def test_labels_count_as_they_were_when_the_lease_was_given() -> None:
    in_flight = InFlight()
    labels = {"site": "ATL"}
    in_flight.enter(1, "x", labels)
    labels["site"] = "CDG"
    assert (in_flight.count(("site", "ATL")), in_flight.count(("site", "CDG"))) == (1, 0)
    in_flight.leave(1, "x")
    assert in_flight.count(("site", "ATL")) == 0


@pytest.mark.parametrize("at_most", [0, -1])
def test_a_cap_below_one_is_refused(at_most: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Cap("site", at_most)
