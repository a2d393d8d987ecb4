"""What the last ring of 8.5 million devices asks of the server: refusals for a lease, and requests in the worst second.

A simulation, so no speed: the same on every machine. It runs what devices and server use to spread themselves.
"""

from __future__ import annotations

from dataclasses import replace

from bench.rows import Row
from tidegate.sim.asking import Crowd, ask

MOST_PER_S, TENTH = 15_000, 0.1
FLEET = 8_500_000


def rows(*, full: bool = False, write: bool = False) -> list[Row]:
    """Simulate a ring of 850,000 devices, or (`full`) of 8.5 million: without caps, and 10 of each group of 200."""
    del write
    devices = FLEET if full else FLEET // 10
    free, capped = Crowd(devices, poll_s=60), Crowd(devices, group_devices=200, at_most=10, poll_s=60)
    found, silent = ask(capped), ask(replace(capped, silent_share=0.001))
    bare = ask(replace(capped, devices=devices // 10, spread=False, turns=False))
    alone, rush = ask(free), ask(replace(free, spread=False))
    name = f"ring of {devices:,}"
    return [
        Row(f"{name}: requests in its worst second", alone.peak, "requests/s", "15,000/s", MOST_PER_S),
        Row(f"{name}: not spread, the same", rush.peak, "requests/s", "15,000/s", MOST_PER_S),
        Row(f"{name}: to its last report", alone.took_s, "s", "not spread", rush.took_s),
        Row(f"{name}, 10 of 200 at a time: refusals for a lease", found.refused / found.granted, "refusals", "a tenth",
            TENTH),
        Row("of these, of devices that came when told", found.vain / found.granted, "refusals", "a tenth", TENTH),
        Row("with one of 1,000 silent for good", silent.refused / silent.granted, "refusals", "a tenth", TENTH),
        Row("asking again after half a soak instead", bare.refused / bare.granted, "refusals", "a tenth", TENTH),
        Row("to its last report", found.took_s, "s", "20 soaks, 10 s each to begin", 20 * 70),
        Row("requests in its worst second", found.peak, "requests/s", "15,000/s", MOST_PER_S),
    ]  # fmt: skip
