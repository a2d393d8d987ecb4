"""The TUF library's client, made durable and given a clock: it writes without fsync and asks the system for time."""

# The library re-exports these public names without saying so.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path

from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    RepositoryError,
)
from tuf.api.metadata import Root, Signed, Targets
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from tidegate.core.errors import NotFound, Untrusted
from tidegate.core.wire import canonical
from tidegate.trust import layout
from tidegate.trust.durable import make_directory, write_durably
from tidegate.trust.errors import Unreachable
from tidegate.trust.metadata import moment
from tidegate.trust.votes import check_all_votes

Fetch = Callable[[str, int], bytes]
"""(path below the repository, most bytes) -> the file; FileNotFoundError if there is none, OSError if unreachable."""

_CONFIG = UpdaterConfig(
    root_max_length=512_000,
    timestamp_max_length=16_384,
    snapshot_max_length=1_000_000,
    targets_max_length=layout.METADATA_LIMIT,
)


class Fetcher(FetcherInterface):
    """The library's way to files, over a `Fetch`. Whatever that gives, no more than the allowed length goes on."""

    def __init__(self, fetch: Fetch) -> None:
        self._source = fetch

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Get one file. Raises DownloadError or one of its kinds."""
        try:
            data = self._source(url, max_length)
        except FileNotFoundError:
            raise DownloadHTTPError(f"{url} is not there", 404) from None
        except (OSError, HTTPException) as error:
            raise DownloadError(f"{url} cannot be fetched: {error}") from error
        if len(data) > max_length:
            raise DownloadLengthMismatchError(f"{url} is longer than the {max_length} bytes allowed")
        return data

    def _fetch(self, url: str) -> Iterator[bytes]:
        yield self.download_bytes(url, layout.METADATA_LIMIT)


class DurableUpdater(Updater):
    """One refresh, in two steps, so that a new root is known before anything else is believed.

    Overrides private methods of tuf 7.0.1, since its public interface has no place for a clock or for fsync; the tests
    of this file fail if a later version moves them.
    """

    def __init__(self, directory: Path, root: bytes, fetcher: Fetcher, now: int) -> None:
        make_directory(directory / "root_history")
        super().__init__(str(directory), "metadata/", fetcher=fetcher, config=_CONFIG, bootstrap=root)
        self.judge_by(now)

    def judge_by(self, now: int) -> None:
        """Set the time (unix seconds) by which metadata is expired."""
        self._trusted_set.reference_time = moment(now)

    def load_root(self) -> None:
        """Follow the chain of roots to the newest."""
        self._load_root()

    def forget_online(self) -> None:
        """Drop timestamp and snapshot of keys that count no more (TUF specification 5.3.11)."""
        for role in (layout.TIMESTAMP, layout.SNAPSHOT):
            (Path(self._dir) / f"{role}.json").unlink(missing_ok=True)

    def load_rest(self) -> None:
        """Load timestamp, snapshot and targets, after the root."""
        self._load_timestamp()
        self._load_snapshot()
        self._load_targets(layout.TARGETS, layout.ROOT)
        check_all_votes(self.trunk)

    @property
    def root(self) -> Root:
        return self._trusted_set.root

    @property
    def trunk(self) -> Targets:
        """The top-level targets."""
        return self._trusted_set.targets

    @property
    def authority(self) -> str:
        """Stands for the keys of timestamp and snapshot, as the root names them."""
        keys = {role: sorted(self.root.roles[role].keyids) for role in (layout.TIMESTAMP, layout.SNAPSHOT)}
        return hashlib.sha256(canonical(keys)).hexdigest()

    @property
    def versions(self) -> dict[str, int]:
        """The versions of timestamp, snapshot and all that the snapshot lists."""
        timestamp, snapshot = self._trusted_set.timestamp, self._trusted_set.snapshot
        listed = {name.removesuffix(".json"): info.version for name, info in snapshot.meta.items()}
        return {**listed, layout.TIMESTAMP: timestamp.version, layout.SNAPSHOT: snapshot.version}

    def trunk_roles(self) -> list[Signed]:
        """Root, timestamp, snapshot and targets."""
        return [self.root, self._trusted_set.timestamp, self._trusted_set.snapshot, self.trunk]

    def delegated(self, role: str) -> Targets:
        """Load a role that the targets delegate, as of the time of the refresh. Raises NotFound if they do not."""
        if not self.delegates(role):
            raise NotFound(f"the repository has no role {role}")
        return self._load_targets(role, layout.TARGETS)

    def delegates(self, role: str) -> bool:
        """Say whether the targets hand trust on to this role."""
        roles = self.trunk.delegations.roles if self.trunk.delegations else None
        return role in (roles or {})

    def may_sign(self, role: str, path: str) -> bool:
        """Say whether the targets let a role sign this target path."""
        roles = self.trunk.delegations.roles if self.trunk.delegations else None
        return roles is not None and role in roles and roles[role].is_delegated_path(path)

    def _persist_file(self, filename: str, data: bytes) -> None:
        write_durably(Path(filename), data)

    def _persist_root(self, version: int, data: bytes) -> None:
        check_all_votes(self.root)  # of each root on the way: the next one would rest on it
        path = Path(self._dir) / "root_history" / f"{version}.root.json"
        # The pinned root comes by here at every refresh.
        if not path.exists() or path.read_bytes() != data:
            write_durably(path, data)

    def _update_root_symlink(self) -> None:
        """Not needed, since the pinned root is passed in at every start; and removing and linking is not atomic."""


@contextlib.contextmanager
def typed(now: int) -> Iterator[None]:
    """Turn the library's errors into Tidegate's; `now` is the time by which something may have expired."""
    try:
        yield
    except DownloadLengthMismatchError as error:
        raise Untrusted(f"endless data was served: {error}") from error
    except DownloadError as error:
        raise Unreachable(f"{error}; what was known before still stands, ask again later") from error
    except ExpiredMetadataError as error:
        raise Untrusted(
            f"what was served does not hold: {error} by this machine's clock, which says {moment(now):%Y-%m-%d %H:%M} "
            "UTC; if that is wrong, set it right; nothing has been believed"
        ) from error
    except RepositoryError as error:
        raise Untrusted(f"what was served does not hold: {error}; nothing has been believed") from error
