"""How the queue burns down: what was done when, when it will all be done, and how sure that is; with a picture."""

from __future__ import annotations

import math
from statistics import fmean, stdev
from typing import Any

from tidegate.contingency.queue import Queue

PRIOR_SD = 0.5
"""Spread (of logarithms) of how long repairs really take, before there are any to learn from."""
Z90 = 1.6449
WIDTH, HEIGHT, LEFT, BOTTOM = 640, 260, 52, 34
Json = dict[str, Any]


def forecast(queue: Queue, now_h: float) -> Json:
    """Give when all will be done, in hours since the beginning, with a 90 % interval.

    The schedule of what is left is stretched by the pace so far: the mean of log(real / planned) over the repairs done,
    whose standard error, with that of what is to come, gives the interval.
    """
    ratios = [
        math.log(max(float(one.why), 1 / 60) / one.planned_h)
        for one in queue.items.values()
        if one.state == "done" and one.planned_h > 0
    ]
    count = len(ratios)
    spread = stdev(ratios) if count >= 5 else PRIOR_SD
    pace = fmean(ratios) * count / (count + 2) if count else 0.0  # drawn to the plan while there are few
    made = queue.schedule(now_h)
    left_h = max(made.makespan_h - now_h, 0.0)
    steps = max(len(made.assignments) / max(len(queue.case.technicians), 1), 1.0)
    error = math.sqrt(spread**2 / (count + 2) + spread**2 / steps)
    finish = [now_h + left_h * math.exp(pace + z * error) for z in (-Z90, 0.0, Z90)]
    done = queue.count("done")
    return {
        "devices": queue.size,
        "done": done,
        "given": queue.count("given"),
        "cant": queue.count("cant"),
        "open": queue.size - len(queue.items),
        "hours": round(now_h, 4),
        "finish_h": round(finish[1], 3),
        "finish_between_h": [round(finish[0], 3), round(finish[2], 3)],
        "pace": round(math.exp(pace), 3),
        "services": queue.services(),
    }


def picture(queue: Queue, found: Json) -> str:
    """Draw what is left over time: done so far, and the forecast with its interval."""
    ends = sorted(one.at_h for one in queue.items.values() if one.state == "done")
    last = max(found["finish_between_h"][1], found["hours"], 0.1)
    size = max(queue.size, 1)

    def x(hours: float) -> float:
        return LEFT + hours / last * (WIDTH - LEFT - 12)

    def y(left: float) -> float:
        return 12 + (1 - left / size) * (HEIGHT - BOTTOM - 12)

    line, left = [f"M{x(0):.1f},{y(size):.1f}"], size
    for end in ends:
        line.append(f"H{x(end):.1f}V{y(left - 1):.1f}")
        left -= 1
    now, low, high = found["hours"], *found["finish_between_h"]
    line.append(f"H{x(now):.1f}")
    fan = f"M{x(now):.1f},{y(left):.1f}L{x(low):.1f},{y(0):.1f}L{x(high):.1f},{y(0):.1f}Z"
    guess = f"M{x(now):.1f},{y(left):.1f}L{x(found['finish_h']):.1f},{y(0):.1f}"
    ticks = "".join(
        f'<line x1="{x(t):.1f}" y1="12" x2="{x(t):.1f}" y2="{HEIGHT - BOTTOM}" stroke="#e3e8ed"/>'
        f'<text x="{x(t):.1f}" y="{HEIGHT - 12}" font-size="12" text-anchor="middle" fill="#5b6875">{t:g} h</text>'
        for t in _ticks(last)
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="100%" role="img" aria-label="devices left over time">{ticks}'
        f'<text x="{LEFT - 8}" y="{y(size) + 4:.1f}" font-size="12" text-anchor="end" fill="#5b6875">{size:,}</text>'
        f'<text x="{LEFT - 8}" y="{y(0) + 4:.1f}" font-size="12" text-anchor="end" fill="#5b6875">0</text>'
        f'<path d="{fan}" fill="#cfe0f3"/><path d="{guess}" stroke="#0b6bcb" stroke-width="2" stroke-dasharray="6 5"/>'
        f'<path d="{"".join(line)}" fill="none" stroke="#16202a" stroke-width="2.5"/></svg>'
    )


def _ticks(last: float) -> list[float]:
    step = next((s for s in (0.25, 0.5, 1, 2, 4, 6, 12, 24, 48, 96, 240) if last / s <= 8), 1000)
    return [n * step for n in range(int(last / step) + 1)]
