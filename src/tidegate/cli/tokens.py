"""`tidegate token`: what a new device needs to enrol."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cyclopts import App

from tidegate.cli.office import OfficeClient, part
from tidegate.cli.show import moment, out, out_json, pairs_of, seconds_of, table
from tidegate.core.words import counted
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
        out_json({**made, "server": reachable(office.devices_url)})
        return
    many = counted(uses, "device")
    out(made["token"] if file is None else f"Token {made['token_id']} written to {file}, for {many}.")
    if file is not None:
        own_ca = office.devices_url.startswith("https:") and office.place.ca.exists()
        ca = f" --ca {office.place.ca}" if own_ca else ""
        out(f"Next, on a device: tidegate enrol --server {reachable(office.devices_url)} --token-file {file}{ca}")


def reachable(url: str) -> str:
    """Give an address that devices can reach: for a server that listens everywhere, this machine's own name."""
    parts = urlsplit(url)
    if parts.hostname not in ("0.0.0.0", "::"):
        return url
    name = socket.getfqdn()
    here = name in ("", "localhost", "localhost.localdomain") or name.startswith("127.")
    return f"{parts.scheme}://{'<this server’s name>' if here else name}:{parts.port}"


@app.command(name="list")
def listing(*, home: Path | None = None, json: bool = False) -> None:
    """List the tokens by their numbers; none of them can be read back.

    Args:
        home: The control plane's directory.
        json: Print JSON.
    """
    found = OfficeClient(home).get("/api/v1/tokens")
    if json:
        out_json(found)
        return
    rows: list[Any] = [
        (
            t["token_id"],
            ", ".join(f"{name}={value}" for name, value in sorted(t["labels"].items())),
            f"{t['used']:,} of {t['uses']:,}",
            "until " + moment(t["expires_ms"]) if t["open"] else "over",
        )
        for t in found["tokens"]
    ]
    table("Tokens", ("token", "labels", "used", ""), rows, empty="No token has been made yet: tidegate token create")


@app.command
def revoke(token_id: str, /, *, why: str = "", home: Path | None = None) -> None:
    """Let a token enrol nobody any more; the devices that it enrolled stay.

    Args:
        token_id: Its number: tidegate token list, or the third part of the token.
        why: The reason, for the record.
        home: The control plane's directory.
    """
    OfficeClient(home).post(f"/api/v1/tokens/{part(token_id)}/revoke", {}, why)
    out(f"Token {token_id} is over.")
