"""`tidegate exposure report`, `verify`, `watch` and `history`: exposure told to others, and over time."""

from __future__ import annotations

from pathlib import Path

from tidegate.cli.exposure import estate_with
from tidegate.cli.exposure_change import draw
from tidegate.cli.exposure_report import verify_report, write_report
from tidegate.cli.exposure_watch import Metrics, Watcher, Webhook, keep_watching
from tidegate.cli.office import OfficeClient
from tidegate.cli.rollout_exposure import server_inventory
from tidegate.cli.show import moment, out, out_json, seconds_of, table
from tidegate.core.errors import BadInput
from tidegate.exposure.estate import DeviceClass
from tidegate.exposure.history import read_history
from tidegate.exposure.inventory import read_inventory
from tidegate.exposure.trend import trend_picture
from tidegate.trust.durable import read_secret

HISTORY = Path("exposure-history.jsonl")


def report(
    estate: Path,
    file: Path,
    /,
    *,
    budget: int = 100,
    history: Path | None = None,
    unsigned: bool = False,
    inventory: Path | None = None,
    server: bool = False,
    home: Path | None = None,
) -> None:
    """Write the report for the board: one HTML file with its pictures inside, signed with the ledger's key.

    Args:
        estate: The estate file.
        file: The .html file to write.
        budget: How many devices the suggested change may move.
        history: Show how exposure has changed, from this file that `watch` writes.
        unsigned: Do not sign.
        inventory: A CSV file of devices, for groups that choose theirs by label.
        server: Take the devices of the running control plane as inventory.
        home: The control plane's directory: its ledger's key signs.
    """
    if budget < 0:
        raise BadInput(f"--budget: must not be negative, not {budget}")
    write_report(estate_with(estate, inventory, server, home), file, budget, history, unsigned, home)


def verify(file: Path, /, *, key: str = "", home: Path | None = None, json: bool = False) -> None:
    """Check a report with no server and no network. Exit code 1 if it is not as it was signed.

    Args:
        file: The report.
        key: The ledger's public key; default: that of the control plane on this machine, if there is one.
        home: The control plane's directory.
        json: Print JSON.
    """
    verify_report(file, key, home, json)


def watch(
    estate: Path,
    /,
    *,
    every: str = "60s",
    history: Path = HISTORY,
    webhook: list[str] | None = None,
    webhook_secret_file: Path | None = None,
    metrics_file: Path | None = None,
    metrics_port: int | None = None,
    once: bool = False,
    inventory: Path | None = None,
    server: bool = False,
    home: Path | None = None,
    json: bool = False,
) -> None:
    """Compute exposure anew whenever the estate or the inventory changes; record it, and tell of new single points.

    Args:
        estate: The estate file.
        every: How often to look.
        history: The file that every change is appended to.
        webhook: POST each new single point of failure to this address, again until it is taken. Several times.
        webhook_secret_file: A file with the secret that messages are authenticated with (HMAC-SHA256).
        metrics_file: Write metrics to this file, for a collector of text files (.prom).
        metrics_port: Serve metrics on this port of the loopback interface.
        once: Look once, and end.
        inventory: A CSV file of devices, for groups that choose theirs by label.
        server: Take the devices of the running control plane as inventory.
        home: The control plane's directory, for --server.
        json: Print each change as JSON.
    """
    every_s = seconds_of("--every", every)
    if every_s < 1:
        raise BadInput("--every: must be at least 1s")
    secret = read_secret(webhook_secret_file, "the webhook's secret").strip() if webhook_secret_file else b""
    hooks = [Webhook(url, secret) for url in webhook or ()]
    metrics = Metrics(metrics_file, metrics_port)
    if metrics.port and not json:
        out(f"Metrics: http://127.0.0.1:{metrics.port}/metrics")

    def devices() -> list[DeviceClass]:
        found = [] if inventory is None else read_inventory(inventory)
        return [*found, *server_inventory(OfficeClient(home))] if server else found

    keep_watching(Watcher(estate, history, hooks, metrics, json), devices, every_s, once)


def show_history(history: Path = HISTORY, /, *, picture: Path | None = None, json: bool = False) -> None:
    """Show how exposure has changed.

    Args:
        history: The file that `watch` writes.
        picture: Draw it to this .svg file.
        json: Print JSON.
    """
    found = read_history(history)
    draw(picture, lambda: trend_picture(found))
    if json:
        out_json(found)
        return
    rows = [
        (
            moment(int(row["at_s"] * 1000)),
            f"{len(row['single_points'])} of {row['services']}",
            f"{row['value_at_risk']:.0%}",
            f"{row['hhi']:.3f}",
            f"{row['hhi_failure_weighted']:.3f}",
            ", ".join(f"{one['service']}: {one['vendor']}" for one in row["new"]) or "-",
        )
        for row in found
    ]
    columns = ("when", "fall with one vendor", "largest loss", "shares", "what falls", "new single points")
    empty = f"Nothing is recorded in {history} yet: tidegate exposure watch"
    table("Exposure over time", columns, rows, empty=empty)
