"""`tidegate policy`: what one operator may not do alone, and what devices must prove."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cyclopts import App

from tidegate.cli.office import OfficeClient
from tidegate.cli.options import Change
from tidegate.cli.show import out, out_json, seconds_of, table
from tidegate.core.errors import BadInput

app = App(name="policy", help="What one operator may not do alone, and what devices must prove.")


@app.command
def show(*, home: Path | None = None, json: bool = False) -> None:
    """Show the settings.

    Args:
        home: The control plane's directory.
        json: Print JSON.
    """
    found = OfficeClient(home).get("/api/v1/policy")
    if json:
        out_json(found)
        return
    table("Policy", ("setting", "value", "meaning"), [(n, found[n], what) for n, what in _MEANING.items()], empty="")


@app.command(name="set")
def change(
    *,
    devices_alone: int | None = None,
    harmed_alone: int | None = None,
    raise_needs_two: Change = None,
    approval_expires: str = "",
    signed_reports: Change = None,
    why: str = "",
    home: Path | None = None,
) -> None:
    """Change settings; those that are not named stay. What lets one person do more takes two, once two are asked for.

    Args:
        devices_alone: One person may start a rollout of up to so many devices; 0 for any number.
        harmed_alone: One person may put up to so many at risk (--max-harmed); 0 for any number.
        raise_needs_two: A component's 30-day limit is raised by two.
        approval_expires: How long a request waits for the second person: 90m, 24h.
        signed_reports: Reports count only with the device's own signature.
        why: The reason, for the record.
        home: The control plane's directory.
    """
    named: dict[str, Any] = {
        "devices_alone": devices_alone,
        "harmed_alone": harmed_alone,
        "raise_needs_two": raise_needs_two,
        "approval_expires_s": seconds_of("--approval-expires", approval_expires) if approval_expires else None,
        "signed_reports": signed_reports,
    }
    body = {name: value for name, value in named.items() if value is not None}
    if not body:
        raise BadInput("name a setting to change, as in --devices-alone 500; see tidegate policy show")
    OfficeClient(home).post("/api/v1/policy", body, why)
    out("Set, and on record: tidegate policy show")


_MEANING = {
    "devices_alone": "one person may start on up to so many devices; 0: any number",
    "harmed_alone": "one person may put up to so many devices at risk; 0: any number",
    "raise_needs_two": "a component's 30-day limit is raised by two",
    "approval_expires_s": "how long a request waits for the second person, in seconds",
    "signed_reports": "reports count only with the device's own signature",
}
