"""What an operator's request says: its JSON read strictly, who asks, and why."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import msgspec
from starlette.requests import Request

from tidegate.api.access import asking
from tidegate.control.acts import Who
from tidegate.control.operators import LOCAL
from tidegate.core.errors import BadInput
from tidegate.core.wire import read

T = TypeVar("T")
MOST_BODY = 8 * 1024 * 1024
MOST_WORDS = 500


async def body_of(request: Request) -> dict[str, Any]:
    """Read a JSON object of bounded size. Raises BadInput."""
    data = await bytes_of(request, MOST_BODY)
    try:
        value = msgspec.json.decode(data or b"{}")  # unlike Python's, it takes no NaN and no half characters
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise BadInput(f"the request is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadInput("the request must be a JSON object")
    return cast("dict[str, Any]", value)


async def bytes_of(request: Request, most: int) -> bytes:
    """Read a body of at most `most` bytes. Raises BadInput."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise BadInput(f"the request is larger than {most:,} bytes")
        parts.append(part)
    return b"".join(parts)


def who_of(body: dict[str, Any]) -> Who:
    """Take who and why out of a request. Raises BadInput if nobody is named.

    A named operator acts under that name, whatever the request says; with the local token it is the caller's own word.
    """
    who, why = body.pop("who", ""), body.pop("why", "")
    if not isinstance(who, str) or not (who.strip() or asking.get() not in ("", LOCAL)) or not isinstance(why, str):
        raise BadInput("the request must name who asks (who), and may say why")
    account = asking.get() or LOCAL
    name = who.strip()[:MOST_WORDS] if account == LOCAL else account
    return Who(name, why.strip()[:MOST_WORDS], account)


def read_as(kind: type[T], body: dict[str, Any], what: str) -> T:
    """Read the rest of a request as a dataclass. Raises BadInput naming the field."""
    return read(kind, body, what)


def number_of(request: Request, name: str, default: int) -> int:
    """Read a whole number from the query. Raises BadInput."""
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise BadInput(f"{name} must be a whole number, not {text!r}")
    return int(text)


def only(request: Request, *names: str) -> None:
    """See that the query asks nothing but this: what is misspelt must not count for nothing. Raises BadInput."""
    strange = [name for name in request.query_params if name not in names]
    if strange:
        can = ", ".join(names) if names else "nothing"
        raise BadInput(f"the query has {strange[0][:MOST_WORDS]!r}, and what can be asked here is: {can}")


def labels_of(request: Request) -> dict[str, str]:
    """Read every `label=name=value` of the query. Raises BadInput for one that is none, or a name with two values."""
    found: dict[str, str] = {}
    for entry in request.query_params.getlist("label"):
        name, equals, value = entry.partition("=")
        if not name or not equals:
            raise BadInput(f"a label is asked for as label=NAME=VALUE, not label={entry[:MOST_WORDS]}")
        if found.setdefault(name, value) != value:
            raise BadInput(f"no device has two values of {name[:MOST_WORDS]!r}")
    return found
