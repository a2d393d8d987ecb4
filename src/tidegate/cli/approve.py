"""`tidegate approve`: what one person asked for and another must grant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cyclopts import App

from tidegate.cli.office import OfficeClient
from tidegate.cli.show import moment, out, out_json, table

app = App(name="approve", help="Grant or refuse what another operator asked for.")


@app.command(name="list")
def listing(*, everything: bool = False, home: Path | None = None, json: bool = False) -> None:
    """List the requests that wait for a second person.

    Args:
        everything: Those that were granted, refused or left to expire, too.
        home: The control plane's directory.
        json: Print JSON.
    """
    found = OfficeClient(home).get("/api/v1/approvals", **({} if everything else {"open": 1}))
    if json:
        out_json(found)
        return
    rows: list[Any] = [
        (a["number"], f"{a['kind']}: {_what(a)}", a["reason"], f"{a['asked_by']}: {a['why'] or '-'}", _standing(a))
        for a in found["approvals"]
    ]
    table(
        "Requests", ("#", "what", "takes two because", "asked by", ""), rows, empty="Nothing waits for a second person."
    )


@app.command
def grant(number: int, /, *, why: str = "", home: Path | None = None) -> None:
    """Say yes: what was asked for is done now. Whoever asked cannot grant it.

    Args:
        number: The request's: tidegate approve list.
        why: The reason, for the record.
        home: The control plane's directory.
    """
    found = OfficeClient(home).post(f"/api/v1/approvals/{number}/grant", {}, why)
    done = found["done"]
    name = done.get("rollout")
    out(f"Request {number} is granted and done." + (f" Next: tidegate rollout watch {name}" if name else ""))


@app.command
def refuse(number: int, /, *, why: str = "", home: Path | None = None) -> None:
    """Say no, or take your own request back.

    Args:
        number: The request's: tidegate approve list.
        why: The reason, for the record.
        home: The control plane's directory.
    """
    OfficeClient(home).post(f"/api/v1/approvals/{number}/refuse", {}, why)
    out(f"Request {number} is refused.")


def _what(asked: dict[str, Any]) -> str:
    said = {**asked["body"], **({"devices": asked["about"]["devices"]} if "devices" in asked.get("about", {}) else {})}
    return ", ".join(f"{name} {value}" for name, value in said.items() if value not in ("", 0, [], {}, False))


def _standing(asked: dict[str, Any]) -> str:
    if asked.get("outdated"):
        return f"cannot be granted: {asked['outdated']}"
    if asked["standing"] == "open":
        return f"until {moment(asked['expires_ms'])}"
    by = f" by {asked['answered_by']}" if asked["answered_by"] else ""
    return f"{asked['standing']}{by}"
