"""A YAML or JSON file that people wrote, read strictly: what is wrong is refused in one line, with its line number."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NoReturn, cast

import yaml

from tidegate.core.errors import BadInput, NotFound

MOST_BYTES = 64_000_000
Path_ = tuple[str | int, ...]
_Fast: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Fast):
    """Takes plain values alone, no key twice, and dates as the texts that they are."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping, refusing a key that stands twice: YAML would silently keep the last."""
        found = super().construct_mapping(node, deep)
        if len(found) != len(node.value):
            seen: set[str] = set()
            for key, _ in node.value:
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
                seen.add(key.value)
        return found


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
    for first, found in _Fast.yaml_implicit_resolvers.items()
}


class Document:
    """One file's values, and the way back from a value to its line."""

    def __init__(self, name: str, text: str, *, as_json: bool = False) -> None:
        """Read the text. Raises BadInput, naming file and line."""
        self.name = name
        self._text = text
        self._nodes: Any = None
        self.root = Place(self, (), self._read_json() if as_json else self._read_yaml())

    def _read_json(self) -> Any:
        try:
            return json.loads(self._text, object_pairs_hook=_once)
        except RecursionError:
            raise BadInput(f"{self.name} is nested too deeply") from None
        except json.JSONDecodeError as error:
            raise BadInput(f"{self.name}, line {error.lineno}: no JSON: {error.msg}") from None
        except ValueError as error:
            raise BadInput(f"{self.name}: {error}") from None

    def _read_yaml(self) -> Any:
        name = self.name
        try:
            return yaml.load(self._text, Loader=_Loader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = f", line {mark.line + 1}" if mark else ""
            raise BadInput(f"{name}{line}: {error.problem or error.context or 'no YAML'}") from None
        except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
            raise BadInput(f"{name} cannot be read as YAML: {' '.join(str(error).split())[:200]}") from None

    def line(self, path: Path_) -> int:
        """Give the line, from 1, of the value at a path; of what holds it where it is missing itself."""
        if self._nodes is None:
            self._nodes = yaml.compose(self._text, Loader=_Fast)
        node, line = self._nodes, 1 if self._nodes is None else self._nodes.start_mark.line + 1
        for step in path:
            found = _child(node, step)
            if found is None:
                break
            node, line = found
        return line


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)!r} stands twice")
    return found


def _child(node: Any, step: str | int) -> tuple[Any, int] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(step):
                return value, key.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], node.value[step].start_mark.line + 1
    return None


class Place:
    """A value with the path to it; asks for what it should be, and refuses the rest by name and line."""

    __slots__ = ("_doc", "path", "value")

    def __init__(self, doc: Document, path: Path_, value: Any) -> None:
        """Name the value."""
        self._doc, self.path, self.value = doc, path, value

    @property
    def name(self) -> str:
        """What this place is called in an error."""
        return ".".join(str(step) for step in self.path) or "the file"

    @property
    def file(self) -> str:
        """The file's name."""
        return self._doc.name

    @property
    def line(self) -> int:
        """The line it stands in, from 1."""
        return self._doc.line(self.path)

    def refuse(self, message: str) -> NoReturn:
        """Refuse it. Raises BadInput: one line that names file and line."""
        raise BadInput(f"{self._doc.name}, line {self.line}: {message}")

    def fields(self, known: Collection[str], required: Collection[str] = ()) -> None:
        """Demand a mapping with no other fields than these."""
        if not isinstance(self.value, dict):
            self.refuse(f"{self.name} must have fields ({', '.join(known)})")
        for key in self.value:
            if key not in known:
                Place(self._doc, (*self.path, key), None).refuse(
                    f"{self.name} has no field {str(key)!r}; known are {', '.join(known)}"
                )
        for key in required:
            if key not in self.value:
                self.refuse(f"{self.name} needs the field {key!r}")

    def get(self, key: str) -> Place | None:
        """Give a field, or None where it is absent or empty."""
        found = self.value.get(key)
        return None if found is None else Place(self._doc, (*self.path, key), found)

    def need(self, key: str) -> Place:
        """Give a field that must be there."""
        found = self.get(key)
        return found if found is not None else self.refuse(f"{self.name} needs the field {key!r}")

    def pairs(self) -> Iterator[tuple[str, Place]]:
        """Give the entries of a mapping from names."""
        if not isinstance(self.value, dict):
            self.refuse(f"{self.name} must be names with what belongs to them")
        for key, value in cast("dict[Any, Any]", self.value).items():
            place = Place(self._doc, (*self.path, key), value)
            if not isinstance(key, str | int) or isinstance(key, bool) or str(key) == "":
                place.refuse(f"in {self.name}: {key!r} is no name")
            yield str(key), place

    def items(self) -> list[Place]:
        """Give the entries of a list."""
        if not isinstance(self.value, list):
            self.refuse(f"{self.name} must be a list")
        return [Place(self._doc, (*self.path, at), one) for at, one in enumerate(cast("list[Any]", self.value))]

    def text(self) -> str:
        """Give a text, not empty; a whole number will do for a name."""
        if type(self.value) is int:
            return str(self.value)
        if not isinstance(self.value, str) or not self.value.strip():
            self.refuse(f"{self.name} must be a text")
        return self.value

    def names(self) -> tuple[str, ...]:
        """Give a list of texts; one text stands for a list of one."""
        return tuple(one.text() for one in self.items()) if isinstance(self.value, list) else (self.text(),)

    def number(self, least: float = 0.0, most: float = 1e12, *, above: bool = False) -> float:
        """Give a number from `least` (or strictly above it) to `most`."""
        value: Any = self.value
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self.refuse(f"{self.name} must be a number, not {str(value)[:40]!r}")
        if value < least or value > most or (above and value == least):
            bound = f"more than {least:g}" if above else f"at least {least:g}"
            self.refuse(f"{self.name} must be {bound}{f' and at most {most:g}' if most < 1e12 else ''}, not {value}")
        return float(value)

    def whole(self, least: int = 0, most: int = 10**9) -> int:
        """Give a whole number."""
        if type(self.value) is not int or not least <= self.value <= most:
            self.refuse(f"{self.name} must be a whole number from {least} to {most}, not {str(self.value)[:40]!r}")
        return self.value

    def flag(self) -> bool:
        """Give true or false."""
        return self.value if isinstance(self.value, bool) else self.refuse(f"{self.name} must be true or false")

    def one_of(self, allowed: Collection[str]) -> str:
        """Give a text that is one of a few."""
        if self.value not in allowed:
            self.refuse(f"{self.name} must be one of {', '.join(allowed)}, not {str(self.value)[:40]!r}")
        return str(self.value)


def read_document(path: Path, what: str) -> Place:
    """Read a file. Raises NotFound and BadInput."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NotFound(f"{what} cannot be read: {path} ({error.strerror or 'unreadable'})") from None
    if len(data) > MOST_BYTES:
        raise BadInput(f"{what} {path} is larger than {MOST_BYTES:,} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BadInput(f"{path}, line {line}: not UTF-8") from None
    return Document(str(path), text, as_json=path.suffix == ".json").root
