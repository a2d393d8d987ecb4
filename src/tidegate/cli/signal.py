"""`tidegate signal`: a named person or system says that a device is down."""

from __future__ import annotations

from pathlib import Path

from tidegate.cli.office import OfficeClient, part
from tidegate.cli.show import out


def signal(device: str, /, *, why: str, home: Path | None = None) -> None:
    """Say that a device is down. It counts as harm in the rollouts that exposed it; two such devices can halt one.

    Args:
        device: Its id, the first digits of it, or its number.
        why: What was seen, for the record.
        home: The control plane's directory.
    """
    found = OfficeClient(home).post(f"/api/v1/devices/{part(device)}/signal", {}, why)
    if found["rollouts"]:
        out(f"Counted as harm in {', '.join(found['rollouts'])}.")
    else:
        out("On record. No active rollout has exposed this device, so it is evidence in none.")
