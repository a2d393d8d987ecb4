"""`tidegate loss`: what an outage costs, before it and during it, with ranges; and how good that estimate is."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from tidegate.cli.incidents import all_incidents
from tidegate.cli.show import out, out_json, table
from tidegate.contingency.case import read_case
from tidegate.contingency.incident import find
from tidegate.contingency.loss import SECTORS, Loss, back_test, estimate, saved, so_far
from tidegate.contingency.loss_page import back_test_page, millions
from tidegate.contingency.schedule import plan_recovery
from tidegate.core.errors import BadInput
from tidegate.trust.durable import write_durably

app = App(name="loss", help="What an outage costs, with ranges; what a budget, a cap or a second vendor saves.")


@app.command(name="estimate")
def estimate_loss(
    *,
    sector: str = "",
    hours: float | None = None,
    share: float = 1.0,
    size: float = 1.0,
    devices: int = 0,
    max_harmed: int = 0,
    cap: int = 0,
    vendors: int = 1,
    incident: str = "",
    case: Path | None = None,
    home: Path | None = None,
    json: bool = False,
) -> None:
    """Estimate a loss: of a sector's company (what if), of an incident that runs, or of a recovery case's services.

    Args:
        sector: health, banking, airlines, manufacturing or other: one company of the mean size of the published ones.
        hours: How long the service is down; default: services return as they did in July 2024.
        share: Which part of the business is down, 0 to 1.
        size: Of the company, against the mean one of the published figures.
        devices: Devices down; needed to say what --max-harmed, --cap and --vendors would have saved.
        max_harmed: A budget to hold against.
        cap: A cap to hold against.
        vendors: A number of vendors to hold against.
        incident: An incident that runs: what is lost so far, and in the end.
        case: A recovery case whose values are money per hour: the loss of each service until it is back.
        home: The control plane's directory.
        json: Print JSON.
    """
    if case is not None:
        _of_case(case, json)
        return
    if not sector:
        raise BadInput(f"--sector must be one of {', '.join(SECTORS)} (or give --case)")
    found: dict[str, Any] = {"sector": sector}
    if incident:
        record = find(all_incidents(home), incident)
        began = record.moment("occurred") or record.moment("aware")
        if began is None:
            raise BadInput(
                f"{record.name} does not say when it began: tidegate incident set {record.name} occurred=..."
            )
        ended = record.moment("recovered")
        elapsed = ((ended or datetime.now(UTC)) - began).total_seconds() / 3600
        now, whole = so_far(sector, elapsed, share=share, size=size)
        found |= {"incident": record.name, "elapsed_h": round(elapsed, 2), "so_far": now.to_dict()}
        devices = devices or int(record.values.get("devices") or 0)
    else:
        whole = estimate(sector, hours=hours, share=share, size=size)
    found["loss"] = whole.to_dict()
    if (max_harmed or cap or vendors > 1) and not devices:
        raise BadInput("say --devices too: without it nobody knows which part of them a budget would have spared")
    found["saved"] = saved(whole, devices, max_harmed=max_harmed, cap=cap, vendors=vendors)
    if json:
        out_json(found)
        return
    if "so_far" in found:
        out(f"{found['incident']}, after {found['elapsed_h']} h: {_words(found['so_far'])} so far.")
    out(f"{sector}: {_words(found['loss'])}" + (" in the end." if "so_far" in found else "."))
    out("The range holds 9 of 10 single companies as far as one day can tell: tidegate loss back-test says how far.")
    rows = [
        (row["what"], f"{row['devices_down']:,}", millions(row["loss"]["usd"]), millions(row["saved_usd"]), row["note"])
        for row in found["saved"]
    ]
    if rows:
        table("What would have been saved", ("with", "devices down", "loss", "saved", "where"), rows, empty="")


def _words(loss: dict[str, Any]) -> str:
    low, high = loss["range_usd"]
    return f"USD {millions(loss['usd'])} (range {millions(low)} to {millions(high)})"


def _of_case(path: Path, json: bool) -> None:
    found = read_case(path)
    made = plan_recovery(found)
    rows = [
        {"service": name, "back_h": hours, "usd": found.services[name].value_per_h * hours}
        for name, hours in made.services.items()
    ]
    total = sum(row["usd"] for row in rows)
    bound = Loss(total, made.lower_bound, total, 0.0)
    if json:
        out_json({"services": rows, "usd": total, "least_usd": bound.low})
        return
    shown = [(row["service"], f"{row['back_h']:.2f} h", millions(row["usd"])) for row in rows]
    table("Loss until each service is back", ("service", "back after", "loss"), shown, empty="")
    out(f"Together {millions(total)}; no schedule of these technicians gets below {millions(bound.low)}.")


@app.command(name="back-test")
def back_test_command(*, out_file: Annotated[Path | None, Parameter(name="--out")] = None, json: bool = False) -> None:
    """Hold the model against the sums that were published after 19 July 2024, and show its error.

    Args:
        out_file: Write a page with a picture.
        json: Print JSON.
    """
    rows = back_test()
    if out_file is not None:
        write_durably(out_file, back_test_page(rows).encode())
        out(f"Written: {out_file}")
        return
    if json:
        out_json({"rows": rows})
        return
    shown = [
        (
            row["name"],
            millions(row["published_usd"]),
            millions(row["model_usd"]),
            f"{row['error']:+.1%}",
            row["how"],
            "" if row["held_out_error"] is None else f"{row['held_out_error']:+.0%}",
        )
        for row in rows
    ]
    columns = ("sum", "published", "model", "error", "", "error if left out of the fit")
    table("Model and published losses, USD", columns, shown, empty="")
    out("The fitted rows show that the sums add up, no more. The last column is the honest one.")
