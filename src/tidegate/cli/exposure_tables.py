"""How an analysis is shown in a terminal: services, vendors, pairs, and what is not known."""

from __future__ import annotations

from typing import Any

from tidegate.cli.show import out, table

SHOWN = 6
"""Cuts of one service in the table; --json has them all."""


def say_analysis(found: dict[str, Any]) -> None:
    """Print an analysis."""
    _services(found)
    _vendors(found)
    _remarks(found)


def _services(found: dict[str, Any]) -> None:
    rows = [
        (name, _single(row), _cuts(row), "unknown" if row["probability"] is None else f"{row['probability']:.4g}")
        for name, row in sorted(found["services"].items(), key=lambda pair: (not pair[1]["single_points"], pair[0]))
    ]
    columns = ("service", "falls with any one of", "or with all of one of these sets", "probability")
    table(f"Services, by {found['by']}", columns, rows, empty="No services.")


def _single(row: dict[str, Any]) -> str:
    return ", ".join(row["single_points"]) or "-"


def _cuts(row: dict[str, Any]) -> str:
    larger = [" + ".join(cut) for cut in row["cuts"] if len(cut) > 1]
    words = larger[:SHOWN]
    count = row["cut_count"]
    if len(larger) > SHOWN:
        words.append(f"and {len(larger) - SHOWN:,} more (--json)")
    if not row["complete"]:
        total = "an unknown number" if count is None else f"{count:,}"
        words.append(f"complete up to {row['order_limit']} members; {total} in all")
    return "\n".join(words) or "-"


def _vendors(found: dict[str, Any]) -> None:
    rows = [
        (
            name,
            f"{row['devices']:,}",
            f"{row['device_share']:.0%}",
            len(row["groups_lost"]),
            ", ".join(row["services_lost"][:SHOWN]) + (" ..." if len(row["services_lost"]) > SHOWN else "") or "-",
            f"{row['loss_share']:.0%}",
        )
        for name, row in sorted(found["vendors"].items(), key=lambda p: (-p[1]["loss_share"], -p[1]["devices"], p[0]))
    ]
    columns = ("vendor", "on devices", "of all", "groups lost", "services lost with it alone", "of the value")
    table("Vendors", columns, rows, empty="No vendors.")
    pairs = [
        (" + ".join(row["vendors"]), ", ".join(row["services_lost"]), f"{row['loss_share']:.0%}")
        for row in found["pairs"]
    ]
    if pairs:
        columns = ("vendors", "services that neither takes alone", "of the value")
        table("Fatal together", columns, pairs, empty="")
    out(
        f"Concentration: index of shares {found['hhi']:.3f}, of what falls {found['hhi_failure_weighted']:.3f}"
        " (0: no vendor alone takes anything). A low first figure alone means little."
    )


def _remarks(found: dict[str, Any]) -> None:
    unknown = found["unknown"]
    for what in ("vendor", "privilege"):
        names, devices = unknown[what]["components"], unknown[what]["devices"]
        if names:
            taken = "taken to be one vendor" if what == "vendor" else "taken to run in the kernel"
            out(f"Unknown {what}: {', '.join(names)}, on {devices:,} devices; {taken}.")
    if unknown["function"]:
        out(
            f"Groups without function: {', '.join(unknown['function'])}. They have user-space components, whose failure"
            " leaves their devices alive here; name those that the group needs under function:."
        )
    if unknown["value_per_h"]:
        out(f"Services without value_per_h count nothing: {', '.join(unknown['value_per_h'])}.")
