"""A release's content as its own driver sees it, before anybody signs it: the look that devices take first."""

from __future__ import annotations

from pathlib import Path

from tidegate.core.errors import BadInput
from tidegate.core.model import Manifest
from tidegate.drivers.port import DriverError, NotInstalled, load_driver


def check_content(content: Path, manifest: Manifest) -> str:
    """Let the manifest's driver look at the content: it does so in a process of its own, within limits, in seconds.

    Returns:
        Why nobody could look on this machine, or "".

    Raises:
        BadInput: what the driver refuses, and where; no device would take it, and a rollout would wait for all of them.
    """
    try:
        load_driver(manifest.driver).check(content, manifest)
    except NotInstalled as error:
        return str(error)
    except DriverError as error:
        raise BadInput(f"{error} (or pack it unseen: --no-check)") from error
    return ""
