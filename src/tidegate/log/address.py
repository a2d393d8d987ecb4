"""Which store a log is in, told by its address: a file, postgresql:// or nats://."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from tidegate.core.errors import BadInput
from tidegate.core.private import too_open
from tidegate.log.port import Log, LogError, LogReader

PASSWORD_VARIABLE = "TIDEGATE_LOG_PASSWORD_FILE"
_SECRET = {"password", "sslpassword", "token"}
_HOW = "a log is a file, postgresql://user@host/database or nats://host:port,host:port/stream"


def check_address(url: str) -> None:
    """Refuse an address that cannot be one, or that holds a password: others could read it. Raises BadInput."""
    parts = urlsplit(url)
    if parts.scheme not in ("postgresql", "postgres", "nats", "tls"):
        raise BadInput(f"{_HOW}, not {parts.scheme}://" if parts.scheme else _HOW)  # not repeated: it may hold one
    named = {name.lower() for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    if parts.password is not None or named & _SECRET:
        raise BadInput(
            "no password in the log's address: it would stand in the list of processes; put it into a file"
            f" (--log-password-file or ${PASSWORD_VARIABLE}), $PGPASSWORD or ~/.pgpass"
        )
    if parts.scheme in ("nats", "tls"):
        from tidegate.log.nats_groups import Address

        Address.parse(url)


def open_log(file: Path, url: str = "", password_file: Path | None = None) -> Log:
    """Open the log at an address, or the embedded one in a file.

    Raises:
        BadInput: for an address that cannot be one, or a password file that others can read.
        Busy, LogError: as each store says.
    """
    if not url:
        from tidegate.log.sqlite import SqliteLog

        return SqliteLog(file)
    found = _password_file(url, password_file)
    if url.startswith("postgres"):
        from tidegate.log.postgresql import PostgresqlLog

        return PostgresqlLog(url, password_file=found)
    from tidegate.log.nats import NatsLog

    return NatsLog(url, password_file=found)


def open_reader(url: str, password_file: Path | None = None) -> LogReader | None:
    """Open the log at an address to read it beside its writer; None for the embedded one, which nobody else may read.

    Raises:
        BadInput, LogError: as `open_log`; Busy never.
    """
    if not url:
        return None
    found = _password_file(url, password_file)
    if url.startswith("postgres"):
        from tidegate.log.postgresql_line import PostgresqlReader

        return PostgresqlReader(url, password_file=found)
    from tidegate.log.nats_read import NatsReader

    return NatsReader(url, password_file=found)


def _password_file(url: str, password_file: Path | None) -> Path | None:
    """Check an address, and give the file with its password, if there is one. Raises BadInput, LogError."""
    check_address(url)
    found = password_file or (Path(text) if (text := os.environ.get(PASSWORD_VARIABLE)) else None)
    if found is not None and not found.is_file():
        raise LogError(f"the file with the log's password is not there: {found}")
    if found is not None and os.name == "posix" and (wrong := too_open(found, found.stat().st_mode)):
        raise BadInput(wrong)
    return found
