"""Requests in and replies out: sizes, JSON, and errors as RFC 9457 problem details."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from starlette.types import Receive, Scope, Send

from tidegate.control.devices import Replayed
from tidegate.control.identities import Barred
from tidegate.control.proofs import Unsigned
from tidegate.core.errors import BadInput, NotFound, Refused, TidegateError, Untrusted
from tidegate.log.port import LogError, Overloaded
from tidegate.trust.credentials import EpochRetired

MOST_BODY = 64 * 1024
T = TypeVar("T")

_STATUS: list[tuple[type[TidegateError], int, str]] = [
    (NotFound, 404, "Not found"),
    (BadInput, 400, "Bad request"),
    (Barred, 403, "Barred"),
    (Untrusted, 401, "Not trusted"),
    (Replayed, 412, "Replayed"),
    (Unsigned, 428, "Signature required"),
    (Refused, 409, "Refused"),
    (Overloaded, 503, "Busy"),
    (LogError, 503, "Not durable"),
]


class Reply(msgspec.Struct, frozen=True):
    """A status, a JSON body and headers."""

    status: int
    body: bytes
    content_type: bytes = b"application/json"
    headers: dict[str, str] = {}
    written: bytes = b""
    """Its header lines, if they were written before."""

    def head(self) -> bytes:
        """Give its header lines as they stand on the wire. Raises ValueError for a value of several lines."""
        if self.written:
            return self.written
        if not self.headers:
            return b"content-type: %b\r\ncontent-length: %d\r\n" % (self.content_type, len(self.body))
        return write_head(
            [
                (b"content-type", self.content_type),
                (b"content-length", b"%d" % len(self.body)),
                *((name.encode(), value.encode()) for name, value in self.headers.items()),
            ]
        )


Grouped = Callable[[Sequence[tuple[Scope, bytes]]], Coroutine[Any, Any, list[Reply]]]
"""Answers several posted messages, each for itself."""


Answer = Reply | Exception
"""What becomes of one of several messages."""


def write_head(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Write header lines. Raises ValueError for a value of several lines."""
    lines = [name + b": " + value for name, value in headers]
    if any(b"\n" in line or b"\r" in line for line in lines):
        raise ValueError("a header has several lines")
    return b"".join(line + b"\r\n" for line in lines)


def ok(value: Any) -> Reply:
    """Answer 200 with a value; by then it is durable."""
    return Reply(200, msgspec.json.encode(value))


def problem(status: int, title: str, detail: str, *, headers: Mapping[str, str] | None = None, **more: object) -> Reply:
    """Answer with problem details (RFC 9457)."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
    return Reply(status, msgspec.json.encode(body), b"application/problem+json", dict(headers or {}))


def status_of(error: TidegateError) -> tuple[int, str]:
    """Give the HTTP status and title of a refusal."""
    for kind, status, title in _STATUS:
        if isinstance(error, kind):
            return status, title
    return 500, "Error"


def problem_of(error: TidegateError) -> Reply:
    """Turn a refusal into problem details."""
    status, title = status_of(error)
    headers = {"retry-after": "5"} if status == 503 else None
    more: dict[str, object] = {"last_seq": error.last_seq} if isinstance(error, Replayed) else {}
    if isinstance(error, EpochRetired):
        more = {"renew": True}
    return problem(status, title, str(error), headers=headers, **more)


def too_often(wait_s: int, who: str) -> Reply:
    """Answer 429: nothing was looked at, and the same message may come again later."""
    headers = {"retry-after": str(wait_s)}
    return problem(429, "Too many requests", f"{who} asks too often; ask again in {wait_s} s", headers=headers)


MISTAKE = problem(500, "Error", "the server made a mistake, which is in its log; try again later")
TOO_LARGE = problem(413, "Too large", f"a request may have {MOST_BODY} bytes")


async def read_body(scope: Scope, receive: Receive, most: int = MOST_BODY) -> bytes | None:
    """Read a request's body, or None if it is too large; what is too large is not kept."""
    headers = dict(scope["headers"])
    declared = headers.get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > most:
        return None
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > most:
            return None
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)


async def send(send_message: Send, reply: Reply) -> None:
    """Send a reply."""
    headers = [
        (b"content-type", reply.content_type),
        (b"content-length", str(len(reply.body)).encode()),
        *((name.encode(), value.encode()) for name, value in reply.headers.items()),
    ]
    await send_message({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send_message({"type": "http.response.body", "body": reply.body})


def parse(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Read a JSON body strictly. Raises BadInput naming the field."""
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"the request cannot be read: {error}") from error


def authorization(scope: Scope) -> str:
    """Give the Authorization header's text, or nothing; it is looked for once."""
    known: str | None = scope.get("tidegate.authorization")
    if known is None:
        known = scope["tidegate.authorization"] = header(scope, b"authorization")
    return known


def header(scope: Scope, name: bytes) -> str:
    """Give a header's text, or nothing."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value.decode("latin-1"))
    return ""
