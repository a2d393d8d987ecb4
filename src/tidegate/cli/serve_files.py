"""How many files a server may have open, and how many of them its ports may take for connections."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass

import structlog

from tidegate.core.errors import BadInput, Refused
from tidegate.intake.doors import LEAST_SHARE, PATIENCE_S, Door, share_of
from tidegate.intake.http import MOST_BODY

ENOUGH = 1 << 20
"""Where the system says no number."""
KEPT, KEPT_PART, KEPT_MOST = 96, 8, 1024
"""Files kept for the log, the database, the repository and checkpoints: at least, as a part of all, and at most."""
OPERATORS_PART, OPERATORS_MOST = 5, 1024
DEVICES_MOST = 50_000
"""Unless told otherwise: a connection takes some 10 kB of memory."""
UPLOAD_BYTES_PER_S = 4096
"""An operator's payload may take longer than a request of a device has."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What `tidegate serve` was told about connections; 0: by what the system allows."""

    connections: int = 0
    address_connections: int = 0
    patience_s: float = PATIENCE_S


def raise_file_limit() -> int:
    """Let this process have as many open files as the system allows it; give the number."""
    if sys.platform == "win32":
        return ENOUGH
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # some systems name a limit that they do not grant
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return ENOUGH if soft == resource.RLIM_INFINITY else soft


def make_doors(role: str, bounds: Bounds) -> dict[str, Door]:
    """Divide what the system allows among the ports that a role opens; say so in the diary.

    Raises:
        BadInput: if more connections are wanted than there can be, or a number is senseless.
        Refused: if the system allows too few files to serve anybody.
    """
    if bounds.connections < 0 or bounds.address_connections < 0:
        raise BadInput("--connections and --address-connections must be 0 or more")
    if not 0.5 <= bounds.patience_s <= 600:
        raise BadInput("--patience must be between 0.5 and 600 seconds")
    files = raise_file_limit()
    room = files - min(max(files // KEPT_PART, KEPT), KEPT_MOST)
    if room < 2 * LEAST_SHARE:
        raise Refused(
            f"the system lets this process have {files} open files; it needs {KEPT + 2 * LEAST_SHARE} (ulimit -n)"
        )
    operators = 0 if role == "collector" else min(max(room // OPERATORS_PART, LEAST_SHARE), OPERATORS_MOST)
    if role == "controller":
        operators = min(room, DEVICES_MOST)
    most = room - operators
    if bounds.connections > (operators if role == "controller" else most):
        raise BadInput(
            f"--connections {bounds.connections}: with {files} open files there can be {most or operators} (ulimit -n)"
        )
    doors: dict[str, Door] = {}
    if role != "controller":
        most = bounds.connections or min(most, DEVICES_MOST)
        share = min(bounds.address_connections or share_of(most), most)
        doors["devices"] = Door("devices", most, share, bounds.patience_s, most_bytes=2 * MOST_BODY)
    if role != "collector":
        most = (bounds.connections if role == "controller" else 0) or operators
        doors["operators"] = Door(
            "operators", most, share_of(most), bounds.patience_s, body_bytes_per_s=UPLOAD_BYTES_PER_S
        )
    structlog.get_logger().info("open files", most=files, **{name: door.most for name, door in doors.items()})
    return doors
