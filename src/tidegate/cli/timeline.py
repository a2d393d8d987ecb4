"""`tidegate timeline`: a signed account of who was exposed to what, when; and its check, offline."""

from __future__ import annotations

import json as jsonlib
import time
from pathlib import Path
from typing import Any

from cyclopts import App

from tidegate.cli.home import Home, default_home
from tidegate.cli.ledger import find_key
from tidegate.cli.ledger_home import open_ledger
from tidegate.cli.office import OfficeClient
from tidegate.cli.show import moment, out, out_json, table
from tidegate.control.state import fold
from tidegate.control.timeline import build_timeline, find_subject
from tidegate.control.timeline_check import read_timeline, verify_timeline
from tidegate.control.timeline_page import timeline_page
from tidegate.core.errors import BadInput, NotFound, Refused
from tidegate.trust.durable import read_bytes, write_durably
from tidegate.trust.ledger import CHECKPOINT

app = App(name="timeline", help="A signed account of who was exposed to what, when; and its check, offline.")


@app.default
def timeline(
    *,
    device: str = "",
    release: str = "",
    rollout: str = "",
    out_dir: Path = Path("."),
    home: Path | None = None,
    json: bool = False,
) -> None:
    """Write a signed account from ledger and log: a JSON file that can be verified, and a page to read.

    Args:
        device: A device's id, the first digits of it, or its number.
        release: A release's digest, or its first 8 digits and more.
        rollout: A rollout's name.
        out_dir: Where the two files go.
        home: The control plane's directory. Its server need not run.
        json: Print the account instead of writing files.
    """
    if sum(map(bool, (device, release, rollout))) != 1:
        raise BadInput("ask for one of --device, --release and --rollout")
    account = _account(Home(home or default_home()), {"device": device, "release": release, "rollout": rollout})
    if json:
        out_json(account)
        return
    subject = account["subject"]
    base = out_dir / f"timeline-{subject['kind']}-{subject['name'][:16]}"
    paths = base.with_name(f"{base.name}.json"), base.with_name(f"{base.name}.html")
    if not out_dir.is_dir():
        raise BadInput(f"{out_dir} is no directory; make it first")
    write_durably(paths[0], jsonlib.dumps(account, indent=1, ensure_ascii=False).encode())
    write_durably(paths[1], timeline_page(account).encode())
    rows = [
        (e["device_id"] or e["device"], e["rollout"], moment(e["leased_ms"]), e["arm"], e["outcome"])
        for e in account["exposures"][:20]
    ]
    columns = ("device", "rollout", "from", "arm", "ended")
    table(f"Leases of {subject['kind']} {subject['name']}", columns, rows, empty="No lease is on record.")
    if len(account["exposures"]) > len(rows):
        out(f"{len(rows)} of {len(account['exposures']):,}; the files have them all.")
    out(f"Written: {paths[0]} and {paths[1]}. Next: tidegate timeline verify {paths[0]}")


def _account(place: Home, asked: dict[str, str]) -> dict[str, Any]:
    place.check()
    try:
        office = OfficeClient(place.path)
        office.get("/healthz")
    except (NotFound, Refused):
        return _account_at_rest(place, asked)
    return office.get("/api/v1/timeline", **{name: value for name, value in asked.items() if value})


def _account_at_rest(place: Home, asked: dict[str, str]) -> dict[str, Any]:
    """Read the log of a control plane whose server does not run. Nothing is written."""
    ledger = open_ledger(place)
    if ledger is None:
        raise Refused(f"{place.path} has no ledger key, and so no ledger to draw an account from")
    if not place.log.is_file() and not place.log_address.exists():
        raise NotFound(f"{place.path} has no log yet; start it: tidegate serve --home {place.path}")
    log = place.open_log()
    try:
        subject = find_subject(fold(event for _, event in log.read()), **asked)
        note = read_bytes(ledger.directory / CHECKPOINT, "the ledger's checkpoint")
        return build_timeline(log.read(), subject, note, ledger.signer, int(time.time() * 1000))
    finally:
        log.close()


@app.command
def verify(file: Path, /, *, key: str = "", home: Path | None = None, json: bool = False) -> None:
    """Check an account with no server and no network. Exit code 1 if anything in it does not hold.

    Args:
        file: The JSON file.
        key: The ledger's public key; default: that of the control plane on this machine, if there is one.
        home: The control plane's directory.
        json: Print JSON.
    """
    account = read_timeline(read_bytes(file, "the account"))
    known = find_key(key, home)
    found = verify_timeline(account, known)
    if json:
        out_json(
            {
                "subject": account["subject"],
                "proven": found.proven,
                "signed_alone": found.signed_alone,
                "ledger_entries": found.ledger_size,
                "key": found.key.text(),
                "key_trusted": known is not None,
            }
        )
        return
    out(f"It holds: {found.proven:,} records are proven by the ledger of {found.ledger_size:,} entries.")
    if found.signed_alone:
        out(f"{found.signed_alone:,} are younger than its newest entry and rest on the signature alone.")
    if known is None:
        out("It names its key itself, so who made it is not shown. Compare the key, or give it with --key:")
    out(f"Key: {found.key.text()}")
