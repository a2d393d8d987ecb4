"""YAML read with the line of everything, so that what is refused is refused where it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from tidegate.core.errors import BadInput

MOST_BYTES = 256 * 1024 * 1024
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
_NULL = "tag:yaml.org,2002:null"
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "nothing",
    "str": "a text",
    "seq": "a list",
    "map": "a mapping",
}
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Spot:
    """One YAML node, and the file that it stands in."""

    node: yaml.Node
    source: str

    @property
    def line(self) -> int:
        """Its line, from 1."""
        return self.node.start_mark.line + 1

    def wrong(self, sentence: str) -> BadInput:
        """Make the error that names the file and the line."""
        return BadInput(f"{self.source}:{self.line}: {sentence}")

    @property
    def is_null(self) -> bool:
        return self.node.tag == _NULL

    @property
    def is_mapping(self) -> bool:
        return isinstance(self.node, yaml.MappingNode)

    @property
    def is_list(self) -> bool:
        return isinstance(self.node, yaml.SequenceNode)

    @property
    def kind(self) -> str:
        """What it is, for an error."""
        word = _WORDS.get(self.node.tag.rpartition(":")[2], "something else")
        return f"{word} ({self.node.value!r})" if isinstance(self.node, yaml.ScalarNode) and self.node.value else word

    def mapping(self, what: str) -> dict[str, tuple[Spot, Spot]]:
        """Read a mapping: name -> (where the name stands, the value). Raises BadInput; a key twice is refused."""
        if not isinstance(self.node, yaml.MappingNode):
            raise self.wrong(f"{what} must be a mapping, not {self.kind}")
        found: dict[str, tuple[Spot, Spot]] = {}
        for key_node, value_node in self.node.value:
            key = Spot(key_node, self.source)
            name = key.text(f"a name in {what}")
            if name in found:
                raise key.wrong(f"{name!r} stands twice in {what}; the first is in line {found[name][0].line}")
            found[name] = (key, Spot(value_node, self.source))
        return found

    def fields(self, what: str, known: frozenset[str]) -> dict[str, Spot]:
        """Read a mapping with known keys alone; keys that begin with `x-` are other people's and are left out."""
        found: dict[str, Spot] = {}
        for name, (key, value) in self.mapping(what).items():
            if name.startswith("x-"):
                continue
            if name not in known:
                raise key.wrong(f"{what} has no key {name!r}; there are {', '.join(sorted(known))}")
            found[name] = value
        return found

    def items(self, what: str) -> Iterator[Spot]:
        """Read a list."""
        if not isinstance(self.node, yaml.SequenceNode):
            raise self.wrong(f"{what} must be a list, not {self.kind}")
        return (Spot(node, self.source) for node in self.node.value)

    def text(self, what: str) -> str:
        """Read a name or text. What YAML would take for a number or a truth value is the text that stands there."""
        if not isinstance(self.node, yaml.ScalarNode) or self.is_null or not str(self.node.value).strip():
            raise self.wrong(f"{what} must be a text, not {self.kind}")
        return str(self.node.value).strip()

    def whole(self, what: str, least: int = 0) -> int:
        """Read a whole number."""
        value = str(self.node.value).replace("_", "")
        if self.node.tag != "tag:yaml.org,2002:int" or not value.lstrip("+-").isdecimal():
            raise self.wrong(f"{what} must be a whole number, not {self.kind}")
        if int(value) < least:
            raise self.wrong(f"{what} must be at least {least}, not {value}")
        return int(value)

    def number(self, what: str, most: float = float("inf")) -> float:
        """Read a number from 0 to `most`."""
        plain = isinstance(self.node, yaml.ScalarNode) and not self.node.style
        if not plain or not _NUMBER.fullmatch(str(self.node.value)):
            raise self.wrong(f"{what} must be a number, not {self.kind}")
        value = float(self.node.value)
        if not 0 <= value <= most or value == float("inf"):
            span = "0 or more" if most == float("inf") else f"from 0 to {most:g}"
            raise self.wrong(f"{what} must be {span}, not {value:g}")
        return value

    def truth(self, what: str) -> bool:
        """Read true or false."""
        if self.node.tag != "tag:yaml.org,2002:bool":
            raise self.wrong(f"{what} must be true or false, not {self.kind}")
        return str(self.node.value).lower() in ("true", "yes", "on")


def read_spots(path: Path | str) -> Spot:
    """Read a YAML (or JSON) file.

    Raises:
        BadInput: where there is no such file, or it is no YAML, or holds itself.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from error
    if len(data) > MOST_BYTES:
        raise BadInput(f"{path}: larger than {MOST_BYTES:,} bytes")
    return spots_of(data, str(path))


def spots_of(data: bytes | str, source: str) -> Spot:
    """Read YAML text; `source` is what errors call it. Raises BadInput."""
    try:
        node = yaml.compose(data, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}" if mark else ""
        raise BadInput(f"{source}{where}: no YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadInput(f"{source}: no YAML: {' '.join(str(error).split())}") from error
    if node is None:
        raise BadInput(f"{source}: it is empty")
    _refuse_circle(node, source)
    return Spot(node, source)


def _refuse_circle(root: yaml.Node, source: str) -> None:
    """An anchor may hold an alias of itself; nothing that is read here may."""
    open_: set[int] = set()
    done: set[int] = set()
    stack: list[tuple[yaml.Node, bool]] = [(root, False)]
    while stack:
        node, leaving = stack.pop()
        if leaving:
            open_.discard(id(node))
            done.add(id(node))
            continue
        if id(node) in open_:
            raise Spot(node, source).wrong("this holds itself")
        if id(node) in done or isinstance(node, yaml.ScalarNode):
            continue
        open_.add(id(node))
        stack.append((node, True))
        inside = [n for pair in node.value for n in pair] if isinstance(node, yaml.MappingNode) else list(node.value)
        stack.extend((child, False) for child in inside)
