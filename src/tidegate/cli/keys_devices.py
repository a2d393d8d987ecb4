"""`tidegate keys devices` and `retire`: the epochs of the secret behind the devices' credentials."""

from __future__ import annotations

from pathlib import Path

from tidegate.cli.office import OfficeClient
from tidegate.cli.show import out, out_json, table


def devices(*, home: Path | None = None, json: bool = False) -> None:
    """List the epochs of the devices' secret, and how many devices spoke under each since the server began.

    Args:
        home: The control plane's directory.
        json: Print JSON.
    """
    found = OfficeClient(home).get("/api/v1/device-secrets")
    if json:
        out_json(found)
        return
    rows = [(e["epoch"], "new credentials" if e["newest"] else "still counts", e["heard"]) for e in found["epochs"]]
    table("The devices' secret", ("epoch", "", "devices heard"), rows, empty="")


def retire(epoch: int, /, *, why: str, home: Path | None = None) -> None:
    """Let credentials of an old epoch count no more; devices that still have one renew it under their own key.

    Args:
        epoch: Which: tidegate keys devices.
        why: The reason, for the record.
        home: The control plane's directory.
    """
    OfficeClient(home).post("/api/v1/device-secrets/retire", {"epoch": epoch}, why)
    out(f"Epoch {epoch} counts no more.")
