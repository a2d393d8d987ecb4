"""Polls of 10,000 agents after a power-on in one second, and after an outage of the server, with the picture."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from bench.rows import Row
from tidegate.agent.pace import Backoff, first_poll, jittered

AGENTS, POLL_S, WATCHED_S = 10_000, 60.0, 600
OUTAGE_S, AFTER_S = 3600.0, 1200
PICTURE = Path(__file__).resolve().parents[1] / "docs" / "pictures" / "polls.svg"
Waits = Callable[[random.Random], tuple[float, Callable[[], float]]]


def shipped(rng: random.Random) -> tuple[float, Callable[[], float]]:
    return first_poll(True, POLL_S, rng), lambda: jittered(POLL_S, rng)


def jitter_alone(rng: random.Random) -> tuple[float, Callable[[], float]]:
    return 0.0, lambda: jittered(POLL_S, rng)


def after_power_on(waits: Waits, seed: int = 19) -> list[int]:
    """Give the polls in each second of ten minutes."""
    rng = random.Random(seed)
    found: Counter[int] = Counter()
    for _ in range(AGENTS):
        at_s, following = waits(rng)
        while at_s < WATCHED_S:
            found[int(at_s)] += 1
            at_s += following()
    return [found[second] for second in range(WATCHED_S)]


def after_outage(full_jitter: bool, seed: int = 7) -> list[int]:
    """Give the first successful polls in each second after the server is back from an hour's outage."""
    rng = random.Random(seed)
    found: Counter[int] = Counter()
    for _ in range(AGENTS):
        backoff, errors, at_s = Backoff(POLL_S, rng), 0, rng.uniform(0, POLL_S) if full_jitter else 0.0
        while at_s < OUTAGE_S:
            at_s += backoff.next_s() if full_jitter else min(900.0, POLL_S * 2 ** min(errors, 4))
            errors += 1
        found[int(at_s - OUTAGE_S)] += 1
    return [found[second] for second in range(AFTER_S)]


def rows(full: bool = False, write: bool = False) -> list[Row]:
    even, jitter, back, naive = (
        after_power_on(shipped), after_power_on(jitter_alone), after_outage(True), after_outage(False)
    )  # fmt: skip
    mean = sum(even) / len(even)
    if write:
        _draw(even, jitter, back)
    return [
        Row("power-on of 10,000: most polls in a second, as shipped", max(even), "polls", "mean of a second", mean),
        Row("power-on of 10,000: most polls, without the first wait", max(jitter), "polls", "mean of a second", mean),
        Row("an hour's outage: most return in a second, full jitter", max(back), "polls", "doubling alone", max(naive)),
    ]


def _draw(even: list[int], jitter: list[int], back: list[int]) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "tidegate", "svg.fonttype": "path", "font.size": 9})
    from matplotlib import pyplot as plt

    figure, places = plt.subplots(3, 1, figsize=(8, 6.6), constrained_layout=True)
    shown = (
        (places[0], even, "#2a6f97", "after a power-on of all in the same second, as shipped"),
        (places[1], jitter, "#bc4749", "the same with jittered intervals, but no first wait (log scale)"),
        (places[2], back, "#386641", "first answers after an hour without a server: back-off with full jitter"),
    )  # fmt: skip
    for place, counts, colour, title in shown:
        place.stairs(counts, fill=True, color=colour)
        place.set_title(title, fontsize=9, loc="left")
        place.set_ylabel("polls a second")
        place.set_xlim(0, len(counts))
        place.spines[["top", "right"]].set_visible(False)
    places[0].axhline(AGENTS / POLL_S, color="black", linewidth=0.8, linestyle="--")
    places[0].text(WATCHED_S, AGENTS / POLL_S * 1.4, "dashed: the mean", ha="right", va="bottom", fontsize=8)
    places[0].set_ylim(0, 2.2 * AGENTS / POLL_S)
    places[1].set_yscale("log")
    places[1].text(6, AGENTS, f"{jitter[0]:,} in the first second", va="top", fontsize=8)
    places[2].set_xlabel("seconds")
    figure.suptitle("10,000 agents that poll once a minute", fontsize=10)
    figure.savefig(PICTURE, metadata={"Date": None})
    plt.close(figure)
