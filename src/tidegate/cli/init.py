"""`tidegate init`: a new control plane, with fresh keys."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

from tidegate.cli.home import Home, default_home
from tidegate.cli.ledger_home import make_ledger_key
from tidegate.cli.show import out
from tidegate.core.errors import BadInput, Refused
from tidegate.core.wire import canonical
from tidegate.log.address import check_address
from tidegate.trust.credentials import create_secrets
from tidegate.trust.durable import make_directory, write_durably
from tidegate.trust.repository import init_repository


def init(
    *,
    component: list[str],
    home: Path | None = None,
    offline_keys: Path | None = None,
    log: str = "",
    log_password_file: Path | None = None,
) -> None:
    """Make a control plane: a signed repository, online keys beside it, offline keys in a directory of their own.

    Args:
        component: A thing on devices that gets updated, as in edr-rules. Can be given several times.
        home: The control plane's directory.
        offline_keys: For the keys that belong on another machine; default: HOME-offline-keys.
        log: Where the log is kept: postgresql://user@host/database, or nats://host:port,host:port/stream; default: a
            file in the home. Never with a password.
        log_password_file: A file that holds the log's password alone.
    """
    if log:
        check_address(log)
    place = Home(home or default_home())
    offline = offline_keys or place.path.with_name(place.path.name + "-offline-keys")
    if offline.resolve() == place.path.resolve() or place.path.resolve() in offline.resolve().parents:
        raise BadInput("the offline keys must lie outside the control plane's directory: they belong elsewhere")
    make_control_plane(place, offline, component, log, log_password_file)
    out(f"Control plane in {place.path}, for {', '.join(component)}.")
    out(f"Offline keys in {offline}: move them to a machine without a network before this is more than a trial.")
    out(f"Whoever reads {place.operator_token} may do everything; it is yours alone (0600).")
    out("For people with names and roles: tidegate operator create NAME --role admin, then tidegate login NAME.")
    out(f"Next: tidegate serve --home {place.path}")


def make_control_plane(
    home: Home, offline: Path, components: list[str], log: str = "", log_password_file: Path | None = None
) -> None:
    """Make the directory, keys, repository and secrets. The operators' token comes last: it marks the whole.

    Raises:
        Refused: if there is one already.
    """
    if home.operator_token.exists():
        raise Refused(f"{home.path} is a control plane already; choose another --home")
    make_directory(home.path, 0o700)
    ledger = make_ledger_key(home.keys)
    init_repository(home.repository, offline, home.keys, components, int(time.time()), ledger=ledger)
    if not home.device_secrets.exists():
        create_secrets(home.device_secrets, secrets.token_bytes(32))
    if log:
        secret = str(log_password_file.resolve()) if log_password_file else None
        write_durably(home.log_address, canonical({"url": log, "password_file": secret}), 0o600)
    write_durably(home.operator_token, secrets.token_urlsafe(32).encode(), 0o600)
