"""The command line's way to the operators' HTTP."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from tidegate.cli.home import Home, default_home
from tidegate.core.errors import BadInput, NotFound, Refused, TidegateError, Untrusted

_KINDS: dict[int, type[TidegateError]] = {400: BadInput, 404: NotFound, 401: Untrusted, 403: Untrusted, 409: Refused}
TIMEOUT_S = 30.0


class OfficeClient:
    """Asks a running control plane; its refusals become the same errors here."""

    def __init__(self, home: Path | None = None) -> None:
        """Find the server that runs on this home. Raises NotFound."""
        place = Home(home or default_home())
        address = place.read_address()
        self.place = place
        self.devices_url = address["devices"]
        token = place.operator_token.read_text().strip()
        self._http = httpx.Client(
            base_url=address["operators"], headers={"authorization": f"Bearer {token}"}, timeout=TIMEOUT_S
        )

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        """Read something."""
        found: dict[str, Any] = self._ask("GET", path, params=params).json()
        return found

    def get_bytes(self, path: str) -> bytes:
        """Read a file."""
        return self._ask("GET", path).content

    def post(self, path: str, body: dict[str, Any], why: str = "") -> dict[str, Any]:
        """Do something, as the user of this machine's account."""
        found: dict[str, Any] = self._ask("POST", path, json={**body, "who": _me(), "why": why}).json()
        return found

    def put(self, path: str, data: bytes) -> None:
        """Send a file."""
        self._ask("PUT", path, content=data)

    def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            reply = self._http.request(method, path, **more)
        except httpx.HTTPError as error:
            home = self.place.path
            raise Refused(f"the server does not answer ({error}); start it: tidegate serve --home {home}") from error
        if reply.status_code < 400:
            return reply
        try:
            detail = str(reply.json()["detail"])
        except (ValueError, KeyError):
            detail = f"the server answered {reply.status_code}"
        raise _KINDS.get(reply.status_code, Refused)(detail)


def part(name: str) -> str:
    """Make a name fit for one part of a path."""
    return quote(name, safe="")


def _me() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
