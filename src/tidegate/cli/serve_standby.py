"""A standby of `tidegate serve`: it waits until the log has no writer, and reads along meanwhile."""

from __future__ import annotations

import time
from pathlib import Path

import structlog

from tidegate.cli.home import Home
from tidegate.control.checkpoints import Checkpoints
from tidegate.control.following import Followed, Following
from tidegate.log.port import Busy, Log, LogError

STANDBY_S = 0.3


def open_when_free(
    place: Home, url: str, password_file: Path | None, standby: Checkpoints | None
) -> tuple[Log, Followed | None]:
    """Open the log; as a standby (whose checkpoints are given), once its writer is gone.

    Returns:
        The log, and what has been read of it while waiting.

    Raises:
        Busy: if another writes it, and this is no standby.
        BadInput, LogError: as the log does when it is opened first; later a standby waits.
    """
    following: Following | None = None
    while True:
        try:
            log = place.open_log(url, password_file)
            break
        except Busy:
            if standby is None:
                raise
            if following is None:
                print("Standby: another controller is at work; this one takes over when it is gone.", flush=True)
                following = Following(lambda: place.open_log_reader(url, password_file), standby)
        except LogError as error:
            if following is None:  # a log that cannot be opened at all is no reason to wait
                raise
            structlog.get_logger().warning("the standby cannot reach the log", trouble=str(error))
        time.sleep(STANDBY_S)
    followed = following.take() if following else None
    if following is not None:
        known = f", of which it has read {followed.seq}" if followed else ""
        print(f"Takes over after event {log.last}{known}.", flush=True)
    return log, followed
