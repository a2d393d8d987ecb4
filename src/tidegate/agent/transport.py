"""HTTP from the device: the standard library's client, connections kept open, deadlines and caps on every answer."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any
from urllib.parse import quote, urlsplit

from tidegate.agent.patience import Patience, TimedAnswer
from tidegate.core.errors import BadInput, TidegateError
from tidegate.core.printable import one_line
from tidegate.core.wire import canonical
from tidegate.trust.errors import Unreachable
from tidegate.trust.tls import client_context, tls_trouble

IO_TIMEOUT_S = 10.0
DEADLINE_S = 30.0
ANSWER_LIMIT = 1 << 20
REQUEST_LIMIT = 64 * 1024
CHUNK = 64 * 1024
KEPT_ANSWERS = 8
KEPT_LENGTH = 32 * 1024


class HttpRefused(TidegateError):
    """The server answered with an error: its HTTP status, its sentence, and when to ask again if it said so."""

    def __init__(
        self,
        status: int,
        sentence: str,
        retry_after_s: float | None = None,
        last_seq: int | None = None,
        renew: bool = False,
    ) -> None:
        super().__init__(sentence)
        self.renew = renew
        self.status = status
        self.retry_after_s = retry_after_s
        self.last_seq = last_seq


@dataclass(slots=True)
class _Kept:
    etag: str
    body: bytes


class Link:
    """One server, one connection that is kept open, and used again until it breaks.

    Args:
        address: http:// or https://, a path in front of everything else is allowed.
        io_timeout_s: the longest wait for the next byte.
        deadline_s: the longest time for one whole answer.
        ca: a file with the certificates that the server's must come from; empty for those of the system.

    Raises:
        BadInput: for another kind of address, or a file that holds no certificates.
    """

    def __init__(
        self, address: str, io_timeout_s: float = IO_TIMEOUT_S, deadline_s: float = DEADLINE_S, ca: str = ""
    ) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadInput(f"{address!r} is no http:// or https:// address")
        self._tls = _tls(ca) if parts.scheme == "https" else None
        self.renew = False
        """Whether the server's last answer said that there is a newer credential to ask for."""
        self._host, self._port = parts.hostname, parts.port
        self.prefix = parts.path.rstrip("/")
        self.address = address
        self._patience = Patience(io_timeout_s, deadline_s)
        self._connection: http.client.HTTPConnection | None = None
        self._kept: dict[str, _Kept] = {}

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def get(self, path: str, limit: int) -> bytes:
        """Fetch a small file whole; one that was fetched before is asked for conditionally.

        Raises:
            Unreachable, HttpRefused: as the names say. HttpRefused too if the file is longer than `limit` bytes.
        """
        kept = self._kept.get(path)
        headers = {"If-None-Match": kept.etag} if kept else {}
        with self._answer("GET", path, None, headers) as (response, deadline):
            if response.status == 304 and kept:
                response.read()
                return kept.body
            body = self._body(response, limit, deadline)
            etag = response.headers.get("ETag")
        self._kept.pop(path, None)
        if etag and len(body) <= KEPT_LENGTH:
            while len(self._kept) >= KEPT_ANSWERS:
                self._kept.pop(next(iter(self._kept)))
            self._kept[path] = _Kept(etag, body)
        return body

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> dict[str, Any]:
        """Send JSON and read a JSON object. Raises Unreachable, HttpRefused; BadInput if the answer is no object."""
        if len(body) > REQUEST_LIMIT:
            raise BadInput(f"a message of {len(body)} bytes is longer than the {REQUEST_LIMIT} that are allowed")
        with self._answer("POST", path, body, {"Content-Type": "application/json", **headers}) as (response, deadline):
            answer = self._body(response, ANSWER_LIMIT, deadline)
            self.renew = "Tidegate-Renew" in response.headers
        try:
            value = json.loads(answer or b"{}")
        except (ValueError, RecursionError) as error:
            raise BadInput(f"the answer of {self.address}{path} is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise BadInput(f"the answer of {self.address}{path} is no JSON object")
        return value

    def stream(self, path: str, offset: int) -> Iterator[bytes]:
        """Fetch a large file in pieces, from `offset` on; yields b"" first if the server begins at 0 in spite of it.

        Only the wait for the next piece is bounded here: the caller caps the length and judges the pace.
        """
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        with self._answer("GET", path, None, headers) as (response, _):
            if response.status not in (200, 206):
                raise _refusal(response, b"")
            if offset and (response.status == 200 or not _begins_at(response, offset)):
                yield b""
            while chunk := response.read1(CHUNK):
                yield chunk
                self._patience.begin()

    @contextmanager
    def _answer(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> Iterator[tuple[http.client.HTTPResponse, float]]:
        deadline = self._patience.begin()
        response = None
        try:
            response = self._send(method, self.prefix + "/" + quote(path.lstrip("/")), body, headers)
            yield response, deadline
        except (OSError, http.client.HTTPException) as error:
            response = None
            trouble = tls_trouble(error)
            if trouble:
                raise Unreachable(f"{self.address} is not trusted: {trouble}") from error
            said = str(error) or type(error).__name__
            if self._tls is None and isinstance(error, http.client.RemoteDisconnected):
                said += " (if it speaks TLS, its address begins with https://)"
            raise Unreachable(f"no answer from {self.address}: {said}") from error
        finally:
            if response is None or not response.isclosed():  # the rest of the answer would be read as the next one
                self.close()

    def _send(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> http.client.HTTPResponse:
        """Send once more on a new connection if the kept one was closed meanwhile: all our messages may be repeated."""
        kept = self._connection
        if kept is not None:
            try:
                kept.request(method, path, body, headers)
                return kept.getresponse()
            except (ConnectionError, http.client.BadStatusLine):
                self.close()
        self._connection = connection = self._connect()
        connection.request(method, path, body, headers)
        return connection.getresponse()

    def _connect(self) -> http.client.HTTPConnection:
        wait_s = self._patience.io_timeout_s
        if self._tls is None:
            made = http.client.HTTPConnection(self._host, self._port, timeout=wait_s)
        else:
            made = http.client.HTTPSConnection(self._host, self._port, timeout=wait_s, context=self._tls)
        made.response_class = partial(TimedAnswer, self._patience)  # pyright: ignore[reportAttributeAccessIssue]
        return made

    def _body(self, response: http.client.HTTPResponse, limit: int, deadline: float) -> bytes:
        cap = limit if 200 <= response.status < 300 else ANSWER_LIMIT
        parts: list[bytes] = []
        length = 0
        while chunk := response.read1(CHUNK):
            parts.append(chunk)
            length += len(chunk)
            if length > cap:
                raise HttpRefused(response.status, f"{self.address} sends more than the {cap} bytes that are allowed")
            if time.monotonic() > deadline:
                raise TimeoutError(f"the answer took more than {self._patience.deadline_s:g} s")
        if response.length:
            raise ConnectionError(f"the answer was cut off, {response.length} bytes before its end")
        response.read()  # read1 leaves the connection marked as busy
        if not 200 <= response.status < 300:
            raise _refusal(response, b"".join(parts))
        return b"".join(parts)


@lru_cache(maxsize=1)  # a device has one server, and three connections
def _tls(ca: str) -> ssl.SSLContext:
    return client_context(ca)


def _begins_at(response: http.client.HTTPResponse, offset: int) -> bool:
    return response.headers.get("Content-Range", "").startswith(f"bytes {offset}-")


def _refusal(response: http.client.HTTPResponse, body: bytes) -> HttpRefused:
    """Read RFC 9457 problem details, or make do with the status line."""
    sentence = f"the server answered {response.status} {one_line(response.reason)[:100]}"
    retry_after = _seconds(response.headers.get("Retry-After"))
    last_seq, renew = None, False
    try:
        problem = json.loads(body)
    except (ValueError, RecursionError):
        problem = None
    if isinstance(problem, dict):
        words = problem.get("detail") or problem.get("title")
        if isinstance(words, str):
            sentence = f"the server refused ({response.status}): {one_line(words[:500])}"
        retry_after = _seconds(problem.get("retry_after_s")) or retry_after
        last_seq = problem.get("last_seq") if type(problem.get("last_seq")) is int else None
        renew = problem.get("renew") is True
    return HttpRefused(response.status, sentence, retry_after, last_seq, renew)


def _seconds(value: object) -> float | None:
    try:
        seconds = float(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        return None
    return seconds if 0 <= seconds < 1e9 else None


Authorize = Callable[[str, bytes], str]
"""Gives the Authorization header for (path, body)."""
Renew = Callable[[Link], bool]
"""Gets this device a newer credential over a link; False if that cannot be had now."""


class Server:
    """The two channels of the protocol as one device uses them: signed files down, JSON up."""

    def __init__(
        self, server: str, repo: str, authorize: Authorize, renew: Renew = lambda link: False, ca: str = ""
    ) -> None:
        self._up, self._down, self._payloads = Link(server, ca=ca), Link(repo, ca=ca), Link(repo, ca=ca)
        self._authorize, self._renew = authorize, renew

    def fetch(self, relative_path: str, max_length: int) -> bytes:
        """Fetch one signed file, as trust.client.Fetch has it.

        Raises:
            FileNotFoundError: the repository has none.
            ConnectionError: no answer, or an error in its place.
        """
        try:
            return self._down.get(relative_path, max_length)
        except HttpRefused as error:
            if error.status == 404:
                raise FileNotFoundError(relative_path) from error
            raise ConnectionError(str(error)) from error
        except Unreachable as error:
            raise ConnectionError(str(error)) from error

    def stream(self, relative_path: str, offset: int) -> Iterator[bytes]:
        """Fetch a payload in pieces. Raises as `Link.stream`."""
        return self._payloads.stream(relative_path, offset)

    def post(self, path: str, message: object) -> dict[str, Any]:
        """Send a message under the device's credential, and get a newer one where the server says so.

        Raises as `Link.post`.
        """
        body = canonical(message)
        try:
            answer = self._up.post(path, body, {"Authorization": self._authorize(path, body)})
        except HttpRefused as error:
            if not (error.renew and self._renew(self._up)):
                raise
            return self._up.post(path, body, {"Authorization": self._authorize(path, body)})
        if self._up.renew:
            self._renew(self._up)  # the old one still counts: if this fails, the next answer says so again
        return answer

    def close(self) -> None:
        for link in (self._up, self._down, self._payloads):
            link.close()
