"""The fleet as a file: what `tidegate device list --json` printed, for commands that need no control plane."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from tidegate.core.errors import BadInput


def read_inventory(path: Path) -> list[dict[str, Any]]:
    """Read devices, each {labels: {...}, facts: {...}, device_id}.

    Raises:
        BadInput: if it is none, or holds a part of the fleet alone: what is not in it would count as covered.
    """
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"the inventory {path} cannot be read: {error}") from None
    whole = cast(dict[str, Any], value) if isinstance(value, dict) else {"devices": value}
    found = whole.get("devices")
    if not isinstance(found, list):
        raise BadInput(f"the inventory {path} must be a list of devices with labels and facts")
    devices = cast(list[Any], found)
    for number, device in enumerate(devices, start=1):
        if not isinstance(device, dict) or not all(
            isinstance(device.get(name, {}), dict)  # pyright: ignore[reportUnknownMemberType]
            for name in ("labels", "facts")
        ):
            raise BadInput(
                f"the inventory {path} must be a list of devices with labels and facts; entry {number} is none"
            )
    total = whole.get("total", len(devices))
    if isinstance(total, int) and total > len(devices):
        raise BadInput(
            f"the inventory {path} holds {len(devices):,} of {total:,} devices; take all of them: tidegate device list"
            f" --limit {total} --json"
        )
    return devices


def labels_of(device: Mapping[str, Any]) -> dict[str, str]:
    """Give a device's labels as texts."""
    return {str(name): str(value) for name, value in device.get("labels", {}).items()}
