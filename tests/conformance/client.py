"""The agent's own client behind the command line of tuf-conformance (its CLIENT-CLI.md): init, refresh, download.

Everything that matters is Tidegate's: `TrustClient.refresh` with its floor and clock, the durable updater, the agent's
HTTP. Only what the suite's repositories do not have is left out: a plans role, for which the top-level targets stand.
"""

# The library re-exports these public names without saying so.
# pyright: reportPrivateImportUsage=false, reportPrivateUsage=false

from __future__ import annotations

import argparse
import http.client
import shutil
import sys
import time
from pathlib import Path

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Targets

from tidegate.agent.transport import HttpRefused, Link
from tidegate.core.errors import TidegateError
from tidegate.trust import client, layout
from tidegate.trust.client import TrustClient
from tidegate.trust.updater import DurableUpdater, typed


class NoPlans(DurableUpdater):
    """Takes the top-level targets where a Tidegate repository has its plans."""

    def delegated(self, role: str) -> Targets:
        return self.trunk if role == layout.PLANS else super().delegated(role)


class Quoted(Link):
    """The agent's link, for names that the TUF library has quoted already; Tidegate's own need no quoting."""

    def _send(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> http.client.HTTPResponse:
        return super()._send(method, path.replace("%25", "%"), body, headers)


class Web:
    """A `Fetch` over the suite's two addresses: metadata below one, targets below the other."""

    def __init__(self, metadata_url: str, target_url: str | None) -> None:
        self._links = {"metadata/": Quoted(metadata_url)}
        if target_url:
            self._links["targets/"] = Quoted(target_url)

    def __call__(self, path: str, limit: int) -> bytes:
        top, _, rest = path.partition("/")
        try:
            return self._links[f"{top}/"].get(rest, limit)
        except HttpRefused as error:
            if error.status == 404:
                raise FileNotFoundError(path) from error
            raise ConnectionError(str(error)) from error
        except TidegateError as error:
            raise ConnectionError(str(error)) from error


def refreshed(metadata: Path, web: Web) -> DurableUpdater:
    """Refresh as an agent does, and leave the newest root where the suite looks for it."""
    client.DurableUpdater = NoPlans
    pinned = (metadata.parent / "pinned.root").read_bytes()
    device = TrustClient(metadata.parent, pinned, web, lambda: int(time.time()))
    try:
        device.refresh()
    finally:
        roots = sorted((metadata / "root_history").glob("*.root.json"), key=lambda path: int(path.name.split(".")[0]))
        if roots:
            shutil.copyfile(roots[-1], metadata / "root.json")
    assert device._updater is not None
    return device._updater


def download(updater: DurableUpdater, names: list[str], directory: Path) -> None:
    """Fetch targets that some role has signed."""
    updater.target_dir = str(directory)
    with typed(int(time.time())):
        for name in names:
            found = updater.get_targetinfo(name)
            if found is None:
                raise RepositoryError(f"no role that may do so has signed {name}")
            if not updater.find_cached_target(found):
                updater.download_target(found, target_base_url="targets/")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metadata-url")
    parser.add_argument("--metadata-dir", type=Path, required=True)
    parser.add_argument("--target-name", action="append", default=[])
    parser.add_argument("--target-dir", type=Path)
    parser.add_argument("--target-base-url")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("trusted_root", type=Path)
    commands.add_parser("refresh")
    commands.add_parser("download")
    said = parser.parse_args()
    if said.metadata_dir.name != "metadata":
        parser.error("the agent keeps its metadata in a directory of that name")
    if said.command == "init":
        for place in (said.metadata_dir.parent / "pinned.root", said.metadata_dir / "root.json"):
            shutil.copyfile(said.trusted_root, place)
        return 0
    try:
        updater = refreshed(said.metadata_dir, Web(said.metadata_url, said.target_base_url))
        if said.command == "download":
            download(updater, said.target_name, said.target_dir)
    except TidegateError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
