"""The most value that fits: exact by branch and bound, or the fractional bound where that takes too many steps."""

from __future__ import annotations

from collections.abc import Sequence

STEPS = 20_000
SLACK = 1e-9
"""Weights are sums of fractions: what is over by less than this share fits."""


def most_value(items: Sequence[tuple[float, float]], room: float, steps: int = STEPS) -> float:
    """Give an upper bound on the value of items, each (weight, value), whole, whose weights sum to at most `room`.

    It is that value itself wherever the search ends within `steps`; else what fits when items may be split.
    """
    room *= 1 + SLACK
    order = sorted((item for item in items if item[1] > 0), key=lambda item: (item[0] / item[1], item))
    whole = _split(order, 0, room)
    best, open_ = 0.0, [(0, room, 0.0)]
    while open_:
        place, left, value = open_.pop()
        best = max(best, value)
        if place == len(order) or value + _split(order, place, left) <= best * (1 + SLACK):
            continue
        steps -= 1
        if steps < 0:
            return whole
        weight, worth = order[place]
        open_.append((place + 1, left, value))
        if weight <= left:
            open_.append((place + 1, left - weight, value + worth))
    return best


def _split(order: Sequence[tuple[float, float]], start: int, room: float) -> float:
    """Fill the room by value per weight, the last item in part: at least what whole items can reach."""
    found = 0.0
    for weight, value in order[start:]:
        if weight > room:
            return found + value * room / weight
        found += value
        room -= weight
    return found
