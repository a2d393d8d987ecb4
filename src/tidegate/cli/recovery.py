"""`tidegate recovery`: who repairs what, when, and when each service is back; and the queue while it is done."""

from __future__ import annotations

from pathlib import Path

from cyclopts import App

from tidegate.cli.options import OnOff
from tidegate.cli.show import out, out_json, table
from tidegate.contingency.case import Case, read_case
from tidegate.contingency.schedule import Schedule, first_come, plan_recovery
from tidegate.core.words import counted

app = App(name="recovery", help="Schedule the repair of devices that need hands, and work it off.")
MOST_ROWS = 30
WIDTH = 24


@app.command
def schedule(case: Path, /, *, compare: OnOff = True, json: bool = False) -> None:
    """Schedule a case: who repairs what, when, and when each service is back.

    Exit code 1 if the shifts that are given end before everything is repaired.

    Args:
        case: A YAML or JSON file, as docs/contingency.md describes it.
        compare: Work out first come, first served beside it.
        json: Print JSON.
    """
    found = read_case(case)
    made = plan_recovery(found)
    if json:
        out_json(made.to_dict())
        return
    show_schedule(made)
    if compare and found.devices:
        cost, makespan = first_come(found)
        if cost > 0:
            less = f"{1 - made.cost / cost:.0%} less" if made.cost < cost else "no more"
            out(f"First come, first served would cost {cost:,.1f} and end after {hours(makespan)}: this is {less}.")


def show_schedule(made: Schedule) -> None:
    """Print a schedule for people: services with a bar until they are back, then who goes where."""
    case = made.case
    people = counted(len(case.technicians), "technician")
    out(f"{case.name}: {counted(case.devices, 'device')}, {people}, {counted(len(case.services), 'service')}")
    longest = max([*made.services.values(), 1e-9])
    rows = [
        (
            name,
            f"{case.services[name].value_per_h:g}",
            _needed(case, name),
            hours(back),
            "█" * max(1, round(WIDTH * back / longest)) if back else "▏",
        )
        for name, back in sorted(made.services.items(), key=lambda one: one[1])
    ]
    table("Services", ("service", "value/h", "needs", "back after", ""), rows[:MOST_ROWS], empty="")
    if len(rows) > MOST_ROWS:
        out(f"{MOST_ROWS} of {len(rows):,} services; --json has them all.")
    _show_people(made)
    out(f"Cost (value per hour times hours until back): {made.cost:,.1f}; all repaired after {hours(made.makespan_h)}.")
    if made.gap is not None:
        sure = (
            "it is the best there can be" if made.gap < 1e-9 else f"at most {made.gap:.0%} above the best there can be"
        )
        out(f"No schedule can cost less than {made.lower_bound:,.1f}: {sure}.")


def _needed(case: Case, name: str) -> str:
    have = sum(batch.count for batch in case.batches if batch.service == name)
    return f"{case.services[name].needs:,} of {have:,}"


def _show_people(made: Schedule) -> None:
    by_name: dict[str, list[str]] = {}
    for one in made.assignments:
        row = made.row(one)
        stops = by_name.setdefault(row["technician"], [])
        stop = f"{row['site']}: {row['service']}"
        if not stops or not stops[-1].endswith(stop):
            stops.append(f"{hours(one.start_h)} {stop}")
    rows = [
        (name, "  ".join(stops[:6]) + (" ..." if len(stops) > 6 else "")) for name, stops in sorted(by_name.items())
    ]
    table("Technicians", ("who", "from when, where, for what"), rows[:MOST_ROWS], empty="Nobody has to go anywhere.")
    if len(rows) > MOST_ROWS:
        out(f"{MOST_ROWS} of {len(rows):,} technicians; --json has them all.")


def hours(value: float) -> str:
    """Write hours as people say them."""
    minutes = round(value * 60)
    return f"{minutes // 60} h {minutes % 60:02d}" if minutes >= 60 else f"{minutes} min"
