"""Exposure over time as a picture: services with a single point of failure, and the value that one vendor can take."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tidegate.exposure.svg import FAINT, LINE, RED, Svg

WIDE, TALL, LEFT, TOP = 640.0, 150.0, 56.0, 46.0
BLUE = "#2a6fb0"


def trend_picture(history: list[dict[str, Any]]) -> str:
    """Draw a history: two lines as steps, because what is recorded are changes."""
    svg = Svg(width=LEFT + WIDE + 70, height=TOP + TALL + 66, title="Exposure over time")
    if not history:
        svg.text(LEFT, TOP, "Nothing is recorded yet.", fill=FAINT)
        return svg.render()
    start, end = history[0]["at_s"], max(history[-1]["at_s"], history[0]["at_s"] + 1)
    most = max(max(len(row["single_points"]) for row in history), 1)
    for part in (0.0, 0.5, 1.0):
        y = TOP + TALL * (1 - part)
        svg.box(LEFT, y, WIDE, 1, "#e5eaf0", r=0)
        svg.text(LEFT - 8, y + 4, f"{most * part:g}", size=11, fill=RED, anchor="end")
        svg.text(LEFT + WIDE + 8, y + 4, f"{part:.0%}", size=11, fill=BLUE)
    for key, colour, top in (("single_points", RED, float(most)), ("value_at_risk", BLUE, 1.0)):
        points: list[str] = []
        level = TOP + TALL
        for place, row in enumerate(history):
            value = float(len(row[key])) if key == "single_points" else float(row[key])
            x = LEFT + WIDE * (row["at_s"] - start) / (end - start)
            if place:
                points.append(f"{x:.1f},{level:.1f}")
            level = TOP + TALL * (1 - value / top)
            points.append(f"{x:.1f},{level:.1f}")
        points.append(f"{LEFT + WIDE:.1f},{level:.1f}")
        svg.parts.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="2"/>')
    svg.box(LEFT, TOP + TALL, WIDE, 1, LINE, r=0)
    svg.text(LEFT, TOP - 22, "services that fall with one vendor", size=12, fill=RED)
    svg.text(LEFT + WIDE, TOP - 22, "largest share of value that one vendor takes", size=12, fill=BLUE, anchor="end")
    svg.text(LEFT, TOP + TALL + 20, _day(start), size=11, fill=FAINT)
    if len(history) > 1:
        svg.text(LEFT + WIDE, TOP + TALL + 20, _day(end), size=11, fill=FAINT, anchor="end")
    return svg.render()


def _day(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
