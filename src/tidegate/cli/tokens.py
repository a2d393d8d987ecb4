"""`tidegate token`: what a new device needs to enrol."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cyclopts import App

from tidegate.cli.office import OfficeClient
from tidegate.cli.show import out, out_json, pairs_of, seconds_of
from tidegate.trust.durable import write_durably

app = App(name="token", help="Enrolment tokens.")


@app.command
def create(
    *,
    label: list[str] | None = None,
    uses: int = 1,
    expires: str = "1h",
    file: Path | None = None,
    why: str = "",
    home: Path | None = None,
    json: bool = False,
) -> None:
    """Make an enrolment token. It is shown this once.

    Args:
        label: NAME=VALUE that the token gives its devices, as in site=ATL. Can be given several times.
        uses: How many devices may enrol with it.
        expires: How long it may be used: 90s, 15m, 4h, 7d.
        file: Write the token here, readable by you alone, instead of printing it.
        why: The reason, for the record.
        home: The control plane's directory.
        json: Print JSON.
    """
    body: dict[str, Any] = {
        "labels": pairs_of("--label", label or ()),
        "uses": uses,
        "expires_s": seconds_of("--expires", expires),
    }
    office = OfficeClient(home)
    made = office.post("/api/v1/tokens", body, why)
    if file is not None:
        write_durably(file, made["token"].encode() + b"\n", 0o600)
        made["token"] = f"in {file}"
    if json:
        out_json({**made, "server": office.devices_url})
        return
    out(made["token"] if file is None else f"Token {made['token_id']} written to {file}, for {uses} device(s).")
    if file is not None:
        out(f"Next, on a device: tidegate enrol --server {office.devices_url} --token-file {file}")
