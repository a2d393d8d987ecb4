"""`tidegate login` and `logout`: act under one's own name, from this machine or another."""

from __future__ import annotations

import json as jsonlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import httpx
from cyclopts import Parameter

from tidegate.cli.home import Home, default_home
from tidegate.cli.passphrase import passphrase_of
from tidegate.cli.show import moment, out
from tidegate.core.errors import BadInput, NotFound, Refused, TidegateError, Untrusted
from tidegate.trust.durable import make_directory, write_durably
from tidegate.trust.tls import client_context, tls_trouble

TIMEOUT_S = 30.0
Name = Annotated[str, Parameter(help="The operator's name.")]


@dataclass(frozen=True, slots=True)
class Saved:
    """A session on this machine: where it is for, and the token, which the file keeps from others' eyes."""

    server: str
    name: str
    token: str
    ca: str = ""


def session_file() -> Path:
    """Give where the session is kept: $TIDEGATE_SESSION, or `tidegate/session.json` among the user's settings."""
    if named := os.environ.get("TIDEGATE_SESSION"):
        return Path(named)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "tidegate" / "session.json"


def saved_session() -> Saved | None:
    """Read the session that `tidegate login` left, if there is one. Raises BadInput if the file is damaged."""
    try:
        value = jsonlib.loads(session_file().read_bytes())
        return Saved(str(value["server"]), str(value["name"]), str(value["token"]), str(value.get("ca", "")))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{session_file()} cannot be read; remove it and log in again") from error


def login(
    name: str,
    /,
    *,
    server: str = "",
    ca: Path | None = None,
    password_file: Path | None = None,
    password_fd: int | None = None,
    home: Path | None = None,
) -> None:
    """Log in as a named operator: what you do from now on is done under that name, until you log out.

    Args:
        name: The operator's name.
        server: Where operators reach the control plane, as in https://tidegate.example:8471; default: the one whose
            directory is here.
        ca: The certificates (PEM) that the server's must come from; default: the system's, or the control plane's own.
        password_file: Read the password from a file instead of asking for it.
        password_fd: Read it from an open file descriptor.
        home: The control plane's directory.
    """
    place = Home(home or default_home())
    server = (server or place.read_address()["operators"]).rstrip("/")
    if not server.startswith(("https://", "http://127.", "http://localhost", "http://[::1]")):
        raise BadInput(f"{server}: a password goes over https:// alone, or to this machine")
    found = str(ca.absolute()) if ca else str(place.ca.absolute()) if place.ca.exists() else ""
    password = passphrase_of(password_file, password_fd, f"Password of {name}").decode("utf-8", "surrogateescape")
    try:
        with httpx.Client(base_url=server, timeout=TIMEOUT_S, verify=client_context(found)) as http:
            reply = http.post("/api/v1/sessions", json={"name": name, "password": password})
    except httpx.HTTPError as error:
        if trouble := tls_trouble(error):
            raise Untrusted(f"{server} is not trusted, and was told no password: {trouble}") from error
        raise Refused(f"{server} does not answer: {error}") from error
    if reply.status_code != 201:
        raise _refusal(reply)
    made = reply.json()
    make_directory(session_file().parent, 0o700)
    write_durably(session_file(), jsonlib.dumps(asdict(Saved(server, name, made["token"], found))).encode(), 0o600)
    out(f"You act as {name} ({made['role']}) at {server} until {moment(made['expires_ms'])}; before: tidegate logout")


def logout() -> None:
    """End your session, here and at the server."""
    session = saved_session()
    if session is None:
        raise NotFound("nobody is logged in here")
    headers = {"authorization": f"Bearer {session.token}"}
    try:
        with httpx.Client(base_url=session.server, timeout=5.0, verify=client_context(session.ca)) as http:
            http.delete("/api/v1/sessions", headers=headers)
        told = ""
    except httpx.HTTPError:
        told = " The server did not answer; there the session ends by itself."
    session_file().unlink(missing_ok=True)
    out(f"{session.name} is logged out.{told}")


def _refusal(reply: httpx.Response) -> TidegateError:
    try:
        detail = str(reply.json()["detail"])
    except (ValueError, KeyError):
        detail = f"the server answered {reply.status_code}"
    return (Untrusted if reply.status_code in (401, 403) else Refused)(detail)
