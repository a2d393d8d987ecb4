"""How lanes are shown: what each group can spare, lanes with what falls if one is lost, and what is unavoidable."""

from __future__ import annotations

from typing import Any

from tidegate.cli.show import out, table
from tidegate.exposure.estate import Estate
from tidegate.exposure.lane_table import LaneTable


def lanes_view(estate: Estate, dealt: LaneTable) -> dict[str, Any]:
    """Give lanes as plain values."""
    groups: dict[str, Any] = {}
    for name, group in estate.groups.items():
        n = estate.devices_of(group)
        by_lane = dealt.counts[list(group.members)].sum(axis=0)
        groups[name] = {
            "devices": n,
            "alive": group.alive,
            "can_spare": n - group.alive,
            "least_lanes": dealt.least[name],
            "in_lane": [int(count) for count in by_lane],
        }
    return {
        "lanes": dealt.lanes,
        "groups": groups,
        "alternatives": dealt.rules.lanes,
        "lost_with_lane": dealt.lost,
        "broken": dealt.broken,
        "unavoidable": {name: list(ways) for name, ways in dealt.rules.unavoidable.items()},
        "unbound": list(dealt.rules.unbound),
    }


def say_lanes(estate: Estate, dealt: LaneTable) -> None:
    """Print lanes for people."""
    found = lanes_view(estate, dealt)
    rows = [
        (
            name,
            f"{g['devices']:,}",
            f"{g['alive']:,}",
            f"{g['can_spare']:,}",
            g["least_lanes"],
            f"{max(g['in_lane']):,}",
        )
        for name, g in found["groups"].items()
    ]
    columns = ("group", "devices", "must be alive", "can spare", "lanes at least", "most in one lane")
    table(f"Groups, in {dealt.lanes} lanes", columns, rows, empty="No groups.")
    for service, several in dealt.rules.lanes.items():
        for one in several:
            out(f"Service {service}: never two at once of {', '.join(one)}.")
    for service, ways in dealt.rules.unavoidable.items():
        out(f"Service {service} has no slack: {'; '.join(ways)}.")
    if dealt.broken:
        out(f"Too few lanes: one of them would take {', '.join(dealt.broken)}.")
    else:
        out("Checked: the loss of any one lane takes no service but those without slack.")
