"""`tidegate exposure`: which services fall with whom, what would change that, and what a rollout must respect."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from cyclopts import App

from tidegate.cli.exposure_change import draw, plan_view, say_change, say_plan
from tidegate.cli.exposure_import import Format, export_estate, import_files
from tidegate.cli.exposure_lanes import lanes_view, say_lanes
from tidegate.cli.exposure_tables import say_analysis
from tidegate.cli.exposure_tree import solve_trees
from tidegate.cli.office import OfficeClient
from tidegate.cli.rollout_exposure import server_inventory
from tidegate.cli.show import out, out_json
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

for _function, _name, _help in (
    ("report", "report", "Write the report for the board: one signed HTML file with its pictures inside."),
    ("verify", "verify", "Check a report with no server and no network."),
    ("watch", "watch", "Compute exposure anew whenever something changes; record it, and tell of new single points."),
    ("show_history", "history", "Show how exposure has changed."),
):
    app.command(f"tidegate.cli.exposure_time:{_function}", name=_name, help=_help)


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
    say_analysis(found)


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


@app.command(name="import")
def import_(kind: Format, /, *files: Path, into: Path = Path("estate.yaml"), json: bool = False) -> None:
    """Make an estate from what is there already, and say what was not understood.

    Args:
        kind: cyclonedx, backstage, osquery (or Fleet), csv, openpsa, or register (the EU register's CSV package).
        files: What to read; backstage and csv take several files.
        into: The estate file to write; it must not exist.
        json: Print JSON.
    """
    import_files(kind, files, into, json)


@app.command
def export(
    kind: Literal["openpsa", "register"],
    estate: Path,
    file: Path,
    /,
    *,
    by: str = "",
    inventory: Path | None = None,
) -> None:
    """Write an estate's fault tree as OpenPSA, or its concentration per function for the EU register.

    Args:
        kind: openpsa, or register.
        estate: The estate file.
        file: The file to write.
        by: vendor, component, or (openpsa) causes, with probabilities. Default: causes; register: vendor.
        inventory: A CSV file of devices, for groups that choose theirs by label.
    """
    read = estate_with(estate, inventory, server=False, home=None)
    export_estate(kind, read, by or ("causes" if kind == "openpsa" else "vendor"), file)
    out(f"Written: {file}.")


@app.command(name="fault-tree")
def fault_tree(
    *files: Path, nodes: int = NODES, most_cuts: int = 1, order: int | None = None, json: bool = False
) -> None:
    """Solve fault trees from elsewhere (OpenPSA): how many minimal cuts, and the exact probability of the top.

    Args:
        files: OpenPSA files; their gates that no other gate names are the tops.
        nodes: How large a diagram may grow before cuts are found up to an order alone.
        most_cuts: How many cuts to keep; counting needs none, going up by orders does.
        order: Go up to so many members where the diagram does not fit.
        json: Print JSON.
    """
    solve_trees(files, Limits(nodes, most_cuts, order), json)


@app.command
def schema() -> None:
    """Print the JSON Schema of an estate file."""
    out(estate_schema().rstrip())
