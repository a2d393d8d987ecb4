"""A device's statements of the release holders: asked for at one fixed path, kept durably, verified at each reading."""

# The libraries re-export these public names without saying so.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Generic

from tuf.api.exceptions import DownloadError, DownloadHTTPError, DownloadLengthMismatchError
from tuf.api.metadata import Targets

from tidegate.core.errors import BadInput, Untrusted
from tidegate.trust.durable import make_directory, write_durably
from tidegate.trust.errors import Unreachable
from tidegate.trust.holders import STATEMENT_LIMIT, Kind, Said
from tidegate.trust.updater import Fetcher


class Statements(Generic[Said]):
    """What a device has seen of one kind.

    Args:
        kind: stops, or pardons.
        directory: where they are kept, a file for each component; one may also be put there by hand.
        path: component -> where the repository has it.
        fetcher: asks the repository.
        trunk: gives targets metadata that is verified; raises Untrusted or BadInput where there is none.
    """

    def __init__(
        self,
        kind: Kind[Said],
        directory: Path,
        path: Callable[[str], str],
        fetcher: Fetcher,
        trunk: Callable[[], Targets],
    ) -> None:
        self._kind, self._directory, self._path, self._fetcher, self._trunk = kind, directory, path, fetcher, trunk

    def refresh(self, component: str) -> None:
        """Ask for a component's statement, and keep it durably if it is newer; one request.

        Raises:
            Unreachable: if it cannot be asked for; what was known stands.
            Untrusted, BadInput: if what is served does not hold; what was known stands.
        """
        try:
            data = self._fetcher.download_bytes(self._path(component), STATEMENT_LIMIT)
        except DownloadHTTPError:
            return
        except DownloadLengthMismatchError as error:
            raise Untrusted(f"endless data was served: {error}") from error
        except DownloadError as error:
            raise Unreachable(f"{error}; what was known before still stands, ask again later") from error
        known = self.get(component)
        if known is not None and self._kind.read(data).issued <= known.issued:
            return
        self._kind.verify(data, component, self._trunk())
        make_directory(self._directory)
        write_durably(self._directory / f"{component}.json", data)

    def get(self, component: str) -> Said | None:
        """Give the newest statement that was seen, if it counts under the keys of today."""
        try:
            data = (self._directory / f"{component}.json").read_bytes()
            return self._kind.verify(data, component, self._trunk())
        except (OSError, Untrusted, BadInput):
            return None
