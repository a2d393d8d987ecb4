"""A device's emergency stops: asked for at one fixed path, kept durably, verified anew whenever they are read."""

# The libraries re-export these public names without saying so.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tuf.api.exceptions import DownloadError, DownloadHTTPError, DownloadLengthMismatchError
from tuf.api.metadata import Targets

from tidegate.core.errors import BadInput, Untrusted
from tidegate.trust import layout
from tidegate.trust.durable import make_directory, write_durably
from tidegate.trust.emergency import STOP_LIMIT, Stop, read_stop, verify_stop
from tidegate.trust.errors import Unreachable
from tidegate.trust.updater import Fetcher


class Stops:
    """What a device has seen stopped.

    Args:
        directory: the client's; the stops lie in `stops/`, where a file may also be put by hand.
        fetcher: asks the repository.
        trunk: gives targets metadata that is verified; raises Untrusted or BadInput where there is none.
    """

    def __init__(self, directory: Path, fetcher: Fetcher, trunk: Callable[[], Targets]) -> None:
        self._directory, self._fetcher, self._trunk = directory / "stops", fetcher, trunk

    def refresh(self, component: str) -> None:
        """Ask for a component's stop; one request. Raises as `TrustClient.refresh_stop`."""
        try:
            data = self._fetcher.download_bytes(layout.stop_path(component), STOP_LIMIT)
        except DownloadHTTPError:
            return
        except DownloadLengthMismatchError as error:
            raise Untrusted(f"endless data was served: {error}") from error
        except DownloadError as error:
            raise Unreachable(f"{error}; what was known before still stands, ask again later") from error
        known = self.get(component)
        if known is not None and read_stop(data).issued <= known.issued:
            return
        verify_stop(data, component, self._trunk())
        make_directory(self._directory)
        write_durably(self._directory / f"{component}.json", data)

    def get(self, component: str) -> Stop | None:
        """Give the newest stop that was seen, if it counts under the keys of today."""
        try:
            data = (self._directory / f"{component}.json").read_bytes()
            return verify_stop(data, component, self._trunk())
        except (OSError, Untrusted, BadInput):
            return None
