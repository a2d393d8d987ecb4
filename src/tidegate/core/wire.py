"""Plain JSON values to frozen dataclasses and back, strictly: the agent reads with it what the server writes.

Unknown keys, missing keys and wrong types are refused by name. It stands here because the agent must not load a
serialisation library, and because what is signed must be read in one way on both sides.
"""

from __future__ import annotations

import json
import math
import types
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from tidegate.core.errors import BadInput

T = TypeVar("T")
MOST_INT = (1 << 63) - 1
"""Whole numbers beyond this do not fit where they are stored; ranks are texts for that reason."""
_TYPE_NAMES: dict[Any, str] = {int: "a whole number", str: "a text", bool: "true or false", float: "a number"}


def canonical(value: object) -> bytes:
    """Give the one JSON text of a plain value: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def plain(value: Any) -> Any:
    """Turn dataclasses, enums and tuples into what JSON can hold, without loss."""
    if isinstance(value, Enum):
        return value.value
    if hasattr(value, "plain"):
        return value.plain()
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, list | tuple):
        return [plain(item) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in cast("dict[str, Any]", value).items()}
    return value


def encode(value: Any) -> bytes:
    """Give the canonical JSON of a dataclass."""
    return canonical(plain(value))


def parse_json(data: bytes | str) -> Any:
    """Read JSON that is signed, or that something rests on: a key that stands twice has one meaning for nobody.

    Raises:
        ValueError: if it is none, has a key twice, or a number that JSON does not have.
        RecursionError: if it is too deep.
    """
    return json.loads(data, object_pairs_hook=_once, parse_constant=_no_constant)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} stands twice")
    return found


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no number in JSON")


def decode(kind: type[T], data: bytes | str, what: str) -> T:
    """Read JSON text as `kind`.

    Args:
        kind: a dataclass.
        data: UTF-8 JSON.
        what: what a person calls this document, for the error.

    Raises:
        BadInput: if it is no JSON, or does not have just the fields of `kind`.
    """
    try:
        value = parse_json(data)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{what} is not JSON: {error}") from error
    return read(kind, value, what)


def read(kind: type[T], value: object, where: str) -> T:
    """Read a plain value as `kind`; errors name the place, as in `manifest.health.soak_s`.

    Raises:
        BadInput: naming the first field that is missing, unknown or of the wrong type.
    """
    return cast(T, _read(kind, value, where))


def _read(kind: Any, value: Any, where: str) -> Any:
    if is_dataclass(kind):
        return _read_dataclass(cast("type[Any]", kind), value, where)
    if hasattr(kind, "from_plain"):
        return kind.from_plain(value, where)
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _read_union(kind, value, where)
    if origin is tuple:
        return _read_tuple(get_args(kind), value, where)
    if origin is dict:
        if not isinstance(value, dict):
            raise BadInput(f"{where} must be an object")
        inner = get_args(kind)[1]
        return {str(k): _read(inner, v, f"{where}.{k}") for k, v in cast("dict[str, Any]", value).items()}
    if isinstance(kind, type) and issubclass(kind, Enum):
        try:
            return kind(value)
        except ValueError:
            allowed = ", ".join(str(member.value) for member in kind)
            raise BadInput(f"{where} must be one of {allowed}") from None
    if kind is Any:
        return value
    if kind is float and type(value) is int:
        value = float(value) if abs(value) <= MOST_INT else math.inf  # people write 4 where they mean 4.0
    if type(value) is not kind or not _can_be_written(value):
        name = getattr(cast("object", kind), "__name__", "of another type")
        raise BadInput(f"{where} must be {_TYPE_NAMES.get(kind, name)}")
    return value


def _can_be_written(value: Any) -> bool:
    """Say whether a value can be sent and stored everywhere: Python reads numbers and texts that nobody else can."""
    if isinstance(value, int):
        return abs(value) <= MOST_INT
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, str) or value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value)


def _read_union(kind: Any, value: Any, where: str) -> Any:
    options = get_args(kind)
    if value is None and type(None) in options:
        return None
    remaining = [option for option in options if option is not type(None)]
    return _read(remaining[0], value, where)


def _read_tuple(inner: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise BadInput(f"{where} must be a list")
    items = cast("list[Any]", value)
    if len(inner) == 2 and inner[1] is Ellipsis:
        return tuple(_read(inner[0], item, f"{where}[{i}]") for i, item in enumerate(items))
    if len(items) != len(inner):
        raise BadInput(f"{where} must have {len(inner)} entries")
    return tuple(_read(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(zip(inner, items, strict=True)))


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    return get_type_hints(kind)


def _required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _read_dataclass(kind: type[Any], value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise BadInput(f"{where} must be an object")
    given = cast("dict[str, Any]", value)
    known = {f.name: f for f in fields(kind)}
    for name in given:
        if name not in known:
            raise BadInput(f"{where} has no field {name!r}; known are {', '.join(known)}")
    hints = _hints(kind)
    found: dict[str, Any] = {}
    for name, field in known.items():
        if name in given:
            found[name] = _read(hints[name], given[name], f"{where}.{name}")
        elif _required(field):
            raise BadInput(f"{where}.{name} is missing")
    build = cast("Callable[..., Any]", kind)
    try:
        return build(**found)
    except ValueError as error:
        raise BadInput(f"{where}: {error}") from error
