"""The agent's home: a directory with its settings, its identity, its trust and one folder for each component."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tidegate.agent.notnow import parse_window
from tidegate.core.errors import BadInput, NotFound, Refused
from tidegate.core.model import check_name
from tidegate.core.wire import canonical, encode, plain, read
from tidegate.trust.durable import make_directory, write_durably

POLL_S = 60.0
LEAST_RATE = 1024


@dataclass(frozen=True, slots=True)
class Settings:
    """What the device's owner decides: `agent.json`. No release can change it.

    `repo` is the base address of the signed files; empty stands for `<server>/repo/`. `components` are those that
    this device takes updates for; none stands for every one that has a plan. `settings` go to the drivers. `ca` is a
    file with the certificates (PEM) that the server's must come from; empty stands for those of the system.
    `sign_reports`: sign each report with this device's own key, asked for or not.

    `windows` are the local hours in which a release may begin here, as in "mon-fri 22:00-06:00"; none stands for all.
    Nothing is fetched or begun with less than `min_battery_percent` and no mains, and nothing large is fetched on a
    metered line, unless `metered` is "allow". `max_bytes_per_s` limits downloads; 0 is no limit.
    """

    server: str
    repo: str = ""
    poll_s: float = POLL_S
    components: tuple[str, ...] = ()
    settings: dict[str, dict[str, str]] = field(default_factory=lambda: {})
    ca: str = ""
    sign_reports: bool = False
    windows: tuple[str, ...] = ()
    min_battery_percent: int = 20
    metered: str = "avoid"
    max_bytes_per_s: int = 0
    ledger_key: str = ""
    """The ledger's key: then no release is taken that has no proof of its place in the ledger."""
    witnesses: tuple[str, ...] = ()
    witness_quorum: int = 0
    """So many of the witnesses must have cosigned the ledger."""

    def __post_init__(self) -> None:
        for address in (self.server, self.repo):
            if address and not address.startswith(("http://", "https://")):
                raise ValueError(f"{address!r} must begin with http:// or https://")
        if not self.server:
            raise ValueError("server must not be empty")
        if not 0.05 <= self.poll_s <= 86_400:
            raise ValueError("poll_s must lie between 0.05 and 86400 seconds")
        for component in self.components:
            check_name("component", component)
        for window in self.windows:
            parse_window(window)
        if not 0 <= self.min_battery_percent <= 100:
            raise ValueError("min_battery_percent must lie between 0 and 100")
        if self.metered not in ("avoid", "allow"):
            raise ValueError(f"metered must be 'avoid' or 'allow', not {self.metered!r}")
        if self.max_bytes_per_s != 0 and self.max_bytes_per_s < LEAST_RATE:
            raise ValueError(f"max_bytes_per_s must be 0 (no limit) or at least {LEAST_RATE}")

    @property
    def repo_address(self) -> str:
        """Where the signed files are, with a slash at the end."""
        return (self.repo or self.server.rstrip("/") + "/repo").rstrip("/") + "/"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the device is: `identity.json`, readable by the agent alone. `key` is its Ed25519 seed, in hexadecimal.

    It is written with the key alone before enrolment, so that a lost answer is asked for again under the same key.
    """

    key: str
    device_id: str = ""
    index: int = -1
    credential: str = ""

    @property
    def enrolled(self) -> bool:
        return bool(self.device_id and self.credential)


@dataclass(frozen=True, slots=True)
class Home:
    """The paths of one agent's home."""

    path: Path

    @property
    def settings_file(self) -> Path:
        return self.path / "agent.json"

    @property
    def identity_file(self) -> Path:
        return self.path / "identity.json"

    @property
    def root_file(self) -> Path:
        return self.path / "root.json"

    @property
    def metadata(self) -> Path:
        return self.path / "metadata"

    @property
    def hints_file(self) -> Path:
        """Where others say what the device cannot know by itself: see conditions.look_around."""
        return self.path / "hints.json"

    @property
    def outbox(self) -> Path:
        return self.path / "outbox"

    @property
    def seq_file(self) -> Path:
        return self.path / "seq.json"

    @property
    def status_file(self) -> Path:
        return self.path / "status.json"

    def component(self, name: str) -> Path:
        check_name("component", name)
        return self.path / "components" / name

    def make(self) -> None:
        """Make the directories that are missing. Raises Refused if the place is not usable."""
        try:
            for directory in (self.path, self.metadata, self.outbox, self.path / "components"):
                make_directory(directory, mode=0o700)
        except OSError as error:
            raise Refused(f"cannot use {self.path} as the agent's home: {error.strerror or error}") from error

    def load_settings(self) -> Settings:
        """Read `agent.json`. Raises NotFound if the device is not enrolled, BadInput if the file is wrong."""
        what = str(self.settings_file)
        value = load(self._read(self.settings_file), what)
        if isinstance(value, dict) and type(value.get("poll_s")) is int:  # people write 60 where they mean 60.0
            value["poll_s"] = float(value["poll_s"])
        return read(Settings, value, what)

    def save_settings(self, settings: Settings) -> None:
        """Keep what differs from the defaults: an older agent, gone back to, knows no settings that came later."""
        plain_defaults = plain(Settings(settings.server))
        differs = {name: value for name, value in plain(settings).items() if value != plain_defaults[name]}
        write_durably(self.settings_file, canonical({"server": settings.server, **differs}))

    def load_identity(self) -> Identity:
        """Read `identity.json`. Raises NotFound if the device is not enrolled, BadInput if the file is wrong."""
        what = str(self.identity_file)
        identity = read(Identity, load(self._read(self.identity_file), what), what)
        if not identity.enrolled:
            raise NotFound(f"{self.path} is not enrolled yet; run 'tidegate enrol' again")
        return identity

    def save_identity(self, identity: Identity) -> None:
        write_durably(self.identity_file, encode(identity), mode=0o600)

    def load_root(self) -> bytes:
        """Read the root of trust that was pinned at enrolment. Raises NotFound or BadInput."""
        data = self._read(self.root_file)
        value = load(data, str(self.root_file))
        if not isinstance(value, dict) or "signed" not in value:
            raise BadInput(f"{self.root_file} is no root metadata; restore it, or enrol this device in another home")
        return data

    def _read(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            what = f"{self.path} is no enrolled agent's home ({path.name} is missing)"
            raise NotFound(f"{what}; run 'tidegate enrol' first") from None
        except OSError as error:
            raise BadInput(f"cannot read {path}: {error.strerror or error}") from error


def load(data: bytes, what: str) -> Any:
    """Read JSON that people may have written. Raises BadInput."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        how = "restore it, or enrol this device in another home; what is installed stays as it is"
        raise BadInput(f"{what} is not JSON ({error}); {how}") from error


class HomeLock:
    """Holds a home for one agent; the system lets go of it when the process ends, however it ends."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._descriptor = -1

    def __enter__(self) -> HomeLock:
        path = self._home.path / "agent.lock"
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            import fcntl

            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # no flock on this system; the service manager keeps the agent single there
            pass
        except OSError as error:
            os.close(self._descriptor)
            raise Refused(f"an agent already runs on {self._home.path}; stop it first") from error
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
