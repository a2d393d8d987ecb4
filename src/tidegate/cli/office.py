"""The command line's way to the operators' HTTP."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import IO, Any, NoReturn
from urllib.parse import quote

import httpx

from tidegate.cli.home import Home, default_home
from tidegate.cli.session import saved_session
from tidegate.core.errors import BadInput, NotFound, Refused, TidegateError, Untrusted
from tidegate.trust.tls import client_context, tls_trouble

_KINDS: dict[int, type[TidegateError]] = {400: BadInput, 404: NotFound, 401: Untrusted, 403: Untrusted, 409: Refused}
TIMEOUT_S = 30.0
LONG_S = 600.0


class OfficeClient:
    """Asks a running control plane; its refusals become the same errors here."""

    def __init__(self, home: Path | None = None) -> None:
        """Find the server, and who asks.

        A session from `tidegate login` counts for its own server; else the local token of the control plane's
        directory does. Raises NotFound if there is neither.
        """
        place = self.place = Home(home or default_home())
        session = saved_session()
        here = None if session and home is None and not place.operator_token.is_file() else place.read_address()
        if session and (here is None or here["operators"].rstrip("/") == session.server):
            address, token, ca = session.server, session.token, session.ca
        elif here is None:
            raise NotFound(
                f"{place.path} is no control plane, and nobody is logged in: tidegate login NAME --server ..."
            )
        else:
            ca = str(place.ca) if place.ca.exists() else ""
            address, token = here["operators"], place.operator_token.read_text().strip()
        self.devices_url = here["devices"] if here else "https://SERVER:8470"
        self._address = address
        name = here.get("operators_name", "") if here and address == here["operators"] else ""
        self._extensions = {"sni_hostname": name} if name else {}
        """The name to check the certificate for, where it is not the address that is asked."""
        self._http = httpx.Client(
            base_url=address,
            headers={"authorization": f"Bearer {token}"},
            timeout=TIMEOUT_S,
            verify=client_context(ca) if address.startswith("https:") else True,
        )

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        """Read something."""
        found: dict[str, Any] = self._ask("GET", path, params=params).json()
        return found

    def get_bytes(self, path: str) -> bytes:
        """Read a file."""
        return self._ask("GET", path).content

    def download(self, path: str, into: IO[bytes], **params: Any) -> int:
        """Read something large into a file; give the number of the last event that it should hold."""
        try:
            with self._http.stream("GET", path, params=params, extensions=self._extensions, timeout=LONG_S) as reply:
                if reply.status_code >= 400:
                    reply.read()
                    _refuse(reply)
                for block in reply.iter_bytes():
                    into.write(block)
                return int(reply.headers.get("tidegate-last-event", 0))
        except httpx.HTTPError as error:
            raise Refused(f"the server at {self._address} broke off ({error}); ask again") from error

    def post(self, path: str, body: dict[str, Any], why: str = "") -> dict[str, Any]:
        """Do something: under the name that is logged in, else under this machine's user's.

        Raises Refused if it waits for a second person; it is on record then.
        """
        reply = self._ask("POST", path, json={**body, "who": _me(), "why": why})
        found: dict[str, Any] = reply.json()
        if reply.status_code == 202 and "approval" in found:
            number = found["approval"]
            raise Refused(f"{found['sentence']}. Somebody else: tidegate approve grant {number}")
        return found

    def put(self, path: str, data: bytes) -> None:
        """Send a file."""
        self._ask("PUT", path, content=data)

    def send(self, path: str, data: bytes, query: dict[str, str]) -> dict[str, Any]:
        """Do something that takes a large file, under the same name as `post`; it may take minutes."""
        reply = self._ask("POST", path, content=data, params={**query, "who": _me()}, timeout=LONG_S)
        found: dict[str, Any] = reply.json()
        return found

    def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            reply = self._http.request(method, path, extensions=self._extensions, **more)
        except httpx.HTTPError as error:
            if trouble := tls_trouble(error):
                raise Untrusted(f"the server at {self._address} is not trusted: {trouble}") from error
            start = f"; start it: tidegate serve --home {self.place.path}" if self.place.address.is_file() else ""
            raise Refused(f"the server at {self._address} does not answer ({error}){start}") from error
        if reply.status_code >= 400:
            _refuse(reply)
        return reply


def _refuse(reply: httpx.Response) -> NoReturn:
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
