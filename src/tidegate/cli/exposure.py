"""`tidegate exposure`: which services fall with whom, what would change that, and what a rollout must respect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cyclopts import App

from tidegate.cli.exposure_change import draw, plan_view, say_change, say_plan
from tidegate.cli.exposure_lanes import lanes_view, say_lanes
from tidegate.cli.office import OfficeClient
from tidegate.cli.rollout_exposure import server_inventory
from tidegate.cli.show import out, out_json, table
from tidegate.core.errors import BadInput
from tidegate.exposure.analyse import analyse as analyse_estate
from tidegate.exposure.cuts import LISTED, NODES, Limits
from tidegate.exposure.estate import Estate
from tidegate.exposure.graph import service_graph
from tidegate.exposure.heat import heat_map
from tidegate.exposure.inventory import read_inventory
from tidegate.exposure.lane_table import MOST_LANES, deal
from tidegate.exposure.moves import HOW, apply_moves, read_move
from tidegate.exposure.reading import read_estate
from tidegate.exposure.schema import estate_schema
from tidegate.exposure.suggest import suggest as find_moves

app = App(name="exposure", help="Which services fall if a vendor fails, and what would change that.")
SHOWN = 6
"""Cuts of one service in the table; --json has them all."""


@app.command
def analyse(
    estate: Path,
    /,
    *,
    by: str = "vendor",
    inventory: Path | None = None,
    server: bool = False,
    home: Path | None = None,
    order: int | None = None,
    most_cuts: int = LISTED,
    nodes: int = NODES,
    json: bool = False,
) -> None:
    """Say which services fall if a vendor, or a component, fails; alone, in pairs, and in larger sets.

    Args:
        estate: The estate file (YAML); `tidegate exposure schema` describes it.
        by: Whose failures are looked at: vendor or component.
        inventory: A CSV file of devices, for groups that choose theirs by label.
        server: Take the devices of the running control plane as inventory.
        home: The control plane's directory, for --server.
        order: List cuts of at most so many members; default: all.
        most_cuts: List at most so many cuts of a service, by whole orders; the others are counted.
        nodes: How large a service's diagram may grow before cuts are found up to an order alone.
        json: Print JSON.
    """
    for option, value, least in (("--order", order, 1), ("--most-cuts", most_cuts, 1), ("--nodes", nodes, 100)):
        if value is not None and value < least:
            raise BadInput(f"{option}: must be at least {least}, not {value}")
    found = analyse_estate(estate_with(estate, inventory, server, home), by, Limits(nodes, most_cuts, order))
    if json:
        out_json(found)
        return
    _services(found)
    _vendors(found)
    _remarks(found)


def estate_with(estate: Path, inventory: Path | None, server: bool, home: Path | None) -> Estate:
    """Read an estate together with the inventory that was asked for. Raises BadInput."""
    devices = [] if inventory is None else read_inventory(inventory)
    if server:
        devices += server_inventory(OfficeClient(home))
    return read_estate(estate, devices)


@app.command
def lanes(
    estate: Path,
    /,
    *,
    lanes: int | None = None,
    inventory: Path | None = None,
    server: bool = False,
    home: Path | None = None,
    json: bool = False,
) -> int:
    """Derive what rollouts must respect: how many devices each group can spare, and lanes whose loss takes no service.

    Exit code 1 if the lanes that were asked for are too few.

    Args:
        estate: The estate file.
        lanes: Deal the devices into so many lanes; default: as few as do.
        inventory: A CSV file of devices, for groups that choose theirs by label.
        server: Take the devices of the running control plane as inventory.
        home: The control plane's directory, for --server.
        json: Print JSON.
    """
    if lanes is not None and not 1 <= lanes <= MOST_LANES:
        raise BadInput(f"--lanes: must be 1 to {MOST_LANES}, not {lanes}")
    read = estate_with(estate, inventory, server, home)
    dealt = deal(read, lanes)
    if json:
        out_json(lanes_view(read, dealt))
    else:
        say_lanes(read, dealt)
    return 1 if dealt.broken else 0


@app.command(name="what-if")
def what_if(
    estate: Path,
    *moves: str,
    picture: Path | None = None,
    inventory: Path | None = None,
    server: bool = False,
    home: Path | None = None,
    json: bool = False,
) -> None:
    """Say what would change if devices moved, as in: what-if ESTATE "move 30% of service=check-in to V2".

    Args:
        estate: The estate file.
        moves: What moves: "move N|N%|all of GROUP|LABEL=VALUE [from COMPONENT|VENDOR] to COMPONENT|VENDOR".
        picture: Draw services against vendors before and after, to this .svg file.
        inventory: A CSV file of devices, for groups that choose theirs by label.
        server: Take the devices of the running control plane as inventory.
        home: The control plane's directory, for --server.
        json: Print JSON.
    """
    if not moves:
        raise BadInput(f"what moves? {HOW}")
    read = estate_with(estate, inventory, server, home)
    changed, count = apply_moves(read, [read_move(text) for text in moves])
    before, after = analyse_estate(read), analyse_estate(changed)
    draw(picture, lambda: heat_map([("before", before), (f"after moving {count:,} devices", after)]))
    if json:
        out_json({"moved": count, "before": before, "after": after})
    else:
        say_change(before, after, count)


@app.command
def suggest(
    estate: Path,
    /,
    *,
    budget: int,
    picture: Path | None = None,
    inventory: Path | None = None,
    server: bool = False,
    home: Path | None = None,
    json: bool = False,
) -> None:
    """Find the fewest moves that free the most service value from the failure of any single vendor.

    Args:
        estate: The estate file.
        budget: At most so many devices may move.
        picture: Draw services against vendors before and after, to this .svg file.
        inventory: A CSV file of devices, for groups that choose theirs by label.
        server: Take the devices of the running control plane as inventory.
        home: The control plane's directory, for --server.
        json: Print JSON.
    """
    if budget < 0:
        raise BadInput(f"--budget: must not be negative, not {budget}")
    read = estate_with(estate, inventory, server, home)
    plan = find_moves(read, budget)
    before, after = analyse_estate(read), analyse_estate(plan.after or read)
    draw(picture, lambda: heat_map([("before", before), (f"after moving {plan.moved:,} devices", after)]))
    if json:
        out_json({**plan_view(plan), "before": before, "after": after})
    else:
        say_plan(plan)
        say_change(before, after, plan.moved)


@app.command(name="picture")
def picture_(
    estate: Path,
    /,
    file: Path,
    *,
    service: str = "",
    cut: list[str] | None = None,
    inventory: Path | None = None,
    server: bool = False,
    home: Path | None = None,
) -> None:
    """Draw an estate: all services against all vendors, or one service with one of its cuts in red.

    Args:
        estate: The estate file.
        file: The .svg file to write.
        service: Draw this service down to its vendors.
        cut: Who has failed in that picture; default: the service's first smallest cut. Several times.
        inventory: A CSV file of devices, for groups that choose theirs by label.
        server: Take the devices of the running control plane as inventory.
        home: The control plane's directory, for --server.
    """
    read = estate_with(estate, inventory, server, home)
    if not service:
        draw(file, lambda: heat_map([(estate.stem, analyse_estate(read))]))
    elif service not in read.services:
        raise BadInput(f"{estate}: there is no service {service!r}")
    else:
        cuts = [cut] if cut else analyse_estate(read)["services"][service]["cuts"][:1]
        draw(file, lambda: service_graph(read, service, cuts[0] if cuts else []))
    out(f"Drawn: {file}.")


@app.command
def schema() -> None:
    """Print the JSON Schema of an estate file."""
    out(estate_schema().rstrip())


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
