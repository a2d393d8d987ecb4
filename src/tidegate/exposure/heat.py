"""Services against vendors, as a picture: what falls with a vendor alone, what only together with another."""

from __future__ import annotations

from typing import Any

from tidegate.core.words import counted
from tidegate.exposure.svg import AMBER, FAINT, INK, LINE, PALE, RED, Svg, short, width_of

MOST_SERVICES, MOST_VENDORS = 40, 30
CELL, GAP, SIZE = 26.0, 3.0, 13.0
LETTERS = 28
PANEL = 260.0

Json = dict[str, Any]


def heat_map(analyses: list[tuple[str, Json]]) -> str:
    """Draw one map for each (title, analysis), side by side with the same rows and columns: before and after.

    Rows are services, the most valuable first, columns vendors, the worst first; both cut to what can be read, and the
    rest counted below. `analysis` is what `analyse` gives by vendor.
    """
    services, vendors = _rows(analyses), _columns(analyses)
    shown, columns = services[:MOST_SERVICES], vendors[:MOST_VENDORS]
    left = 20 + max((width_of(short(name, LETTERS), SIZE) for name in shown), default=0) + 12
    head = 84 + max((width_of(short(name, LETTERS), SIZE) for name in columns), default=0) * 0.72
    each = max(len(columns) * (CELL + GAP), PANEL) + 40
    svg = Svg(title="Services against vendors: " + ", ".join(title for title, _ in analyses))
    for place, (title, analysis) in enumerate(analyses):
        x = left + place * each
        svg.text(x, 28, title, size=16, bold=True)
        alone = set(analysis["vendors"])
        lost = sum(bool(alone & set(row["single_points"])) for row in analysis["services"].values())
        svg.text(x, 48, f"{lost} of {counted(len(analysis['services']), 'service')} fall with one vendor", fill=FAINT)
        _map(svg, analysis, shown, columns, x, head)
    for row, name in enumerate(shown):
        svg.text(left - 10, head + row * (CELL + GAP) + CELL * 0.68, short(name, LETTERS), size=SIZE, anchor="end")
    bottom = head + len(shown) * (CELL + GAP) + 26
    svg.width = max(left + len(analyses) * each + 40, left + 580)
    svg.height = _legend(svg, left, bottom, len(services) - len(shown), len(vendors) - len(columns))
    return svg.render()


def _map(svg: Svg, analysis: Json, shown: list[str], columns: list[str], x: float, head: float) -> None:
    for column, vendor in enumerate(columns):
        at = x + column * (CELL + GAP) + CELL * 0.62
        svg.text(at, head - 10, short(vendor, LETTERS), size=SIZE, turn=-48)
    for row, name in enumerate(shown):
        found = analysis["services"].get(name)
        for column, vendor in enumerate(columns):
            kind, tip = _cell(found, vendor) if found else ("none", "")
            fill = {"alone": RED, "together": AMBER, "part": PALE, "none": "#f6f8fa"}[kind]
            place = x + column * (CELL + GAP), head + row * (CELL + GAP)
            svg.box(*place, CELL, CELL, fill, tip=f"{name}: {tip or f'does not depend on {vendor}'}")
            if kind == "alone":
                svg.text(place[0] + CELL / 2, place[1] + CELL * 0.68, "✕", fill="#fff", anchor="middle", bold=True)
            elif kind == "together":
                svg.text(place[0] + CELL / 2, place[1] + CELL * 0.68, "+", fill=INK, anchor="middle", bold=True)


def _cell(service: Json, vendor: str) -> tuple[str, str]:
    if vendor in service["single_points"]:
        return "alone", f"falls with {vendor} alone"
    pairs = [cut for cut in service["cuts"] if len(cut) == 2 and vendor in cut]
    if pairs:
        others = sorted({name for cut in pairs for name in cut} - {vendor})
        return "together", f"falls with {vendor} and {' or '.join(others[:5])}"
    if vendor in service["importance"]:
        return "part", f"depends on {vendor}, with more than one other"
    return "none", ""


def _rows(analyses: list[tuple[str, Json]]) -> list[str]:
    first = analyses[0][1]["services"]
    worst = {name: min((len(cut) for cut in row["cuts"]), default=99) for name, row in first.items()}
    return sorted(first, key=lambda name: (worst[name], -(first[name]["value_per_h"] or 0), name))


def _columns(analyses: list[tuple[str, Json]]) -> list[str]:
    rank: dict[str, tuple[float, int]] = {}
    for _, analysis in analyses:
        for name, row in analysis["vendors"].items():
            old = rank.get(name, (0.0, 0))
            rank[name] = (max(old[0], len(row["services_lost"])), max(old[1], row["devices"]))
    return sorted(rank, key=lambda name: (-rank[name][0], -rank[name][1], name))


def _legend(svg: Svg, x: float, y: float, services: int, vendors: int) -> float:
    words = (
        (RED, "falls with this vendor alone"),
        (AMBER, "only together with one other"),
        (PALE, "with several others"),
        ("#f6f8fa", "does not depend on it"),
    )
    at = x
    for fill, word in words:
        if at + 34 + width_of(word, 12) > x + 560:
            at, y = x, y + 22
        svg.box(at, y - 11, 14, 14, fill, line=LINE)
        svg.text(at + 20, y + 1, word, size=12, fill=FAINT)
        at += 34 + width_of(word, 12)
    if services > 0 or vendors > 0:
        y += 22
        svg.text(x, y, f"Not shown: {services} services and {vendors} vendors with less at stake.", size=12, fill=FAINT)
    return y + 24
