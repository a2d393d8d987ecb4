"""`tidegate operator`: named accounts and their roles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from tidegate.cli.office import OfficeClient, part
from tidegate.cli.passphrase import passphrase_of
from tidegate.cli.show import moment, out, out_json, table

app = App(name="operator", help="Named accounts of operators, and what each may do.")
Role = Annotated[str, Parameter(help="viewer, operator, approver or admin: each may do what those before it may.")]


@app.command
def create(
    name: str,
    /,
    *,
    role: Role,
    password_file: Path | None = None,
    password_fd: int | None = None,
    why: str = "",
    home: Path | None = None,
) -> None:
    """Open an account. There is no default password: it is asked for, twice.

    Args:
        name: As in ada or ada@example.org.
        password_file: Read the password from a file instead of asking for it.
        password_fd: Read it from an open file descriptor.
        why: The reason, for the record.
        home: The control plane's directory.
    """
    word = passphrase_of(password_file, password_fd, f"New password of {name}", twice=True)
    body = {"name": name, "role": role, "password": _text(word)}
    made = OfficeClient(home).post("/api/v1/operators", body, why)
    out(f"{made['name']} is {made['role']}. Next, as {made['name']}: tidegate login {made['name']}")


@app.command(name="list")
def listing(*, home: Path | None = None, json: bool = False) -> None:
    """List the accounts.

    Args:
        home: The control plane's directory.
        json: Print JSON.
    """
    found = OfficeClient(home).get("/api/v1/operators")
    if json:
        out_json(found)
        return
    rows: list[Any] = [
        (o["name"], o["role"], "disabled" if o["disabled"] else "may log in", moment(o["created_ms"]))
        for o in found["operators"]
    ]
    empty = "No operator has an account yet: tidegate operator create NAME --role admin"
    table("Operators", ("name", "role", "", "since"), rows, empty=empty)


@app.command(name="role")
def set_role(name: str, role: Role, /, *, why: str = "", home: Path | None = None) -> None:
    """Give an account another role.

    Args:
        name: Whose.
        why: The reason, for the record.
        home: The control plane's directory.
    """
    found = OfficeClient(home).post(f"/api/v1/operators/{part(name)}/role", {"role": role}, why)
    out(f"{found['name']} is {found['role']}.")


@app.command
def disable(name: str, /, *, why: str, home: Path | None = None) -> None:
    """Shut an account at once, its sessions too. What it did stays on record.

    Args:
        name: Whose.
        why: The reason, for the record.
        home: The control plane's directory.
    """
    OfficeClient(home).post(f"/api/v1/operators/{part(name)}/disable", {}, why)
    out(f"{name} can do nothing any more.")


@app.command
def enable(name: str, /, *, why: str, home: Path | None = None) -> None:
    """Open an account again that was shut.

    Args:
        name: Whose.
        why: The reason, for the record.
        home: The control plane's directory.
    """
    OfficeClient(home).post(f"/api/v1/operators/{part(name)}/enable", {}, why)
    out(f"{name} may log in again.")


@app.command
def password(
    name: str,
    /,
    *,
    old_file: Path | None = None,
    password_file: Path | None = None,
    password_fd: int | None = None,
    why: str = "",
    home: Path | None = None,
) -> None:
    """Set a password: your own, for which the old one is asked; or, as admin, somebody else's.

    Args:
        name: Whose.
        old_file: Read your old password from a file instead of asking for it.
        password_file: Read the new one from a file.
        password_fd: Read the new one from an open file descriptor.
        why: The reason, for the record.
        home: The control plane's directory.
    """
    office = OfficeClient(home)
    body: dict[str, Any] = {}
    if office.get("/api/v1/me")["name"] == name:
        body["old"] = _text(passphrase_of(old_file, None, "Your old password"))
    body["password"] = _text(passphrase_of(password_file, password_fd, f"New password of {name}", twice=True))
    office.post(f"/api/v1/operators/{part(name)}/password", body, why)
    out(f"{name} has a new password; all sessions of the account have ended.")


def _text(word: bytes) -> str:
    return word.decode("utf-8", "surrogateescape")
