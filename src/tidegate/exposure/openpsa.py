"""OpenPSA fault trees (MEF, XML) read: gates, basic events, house events and their probabilities."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path

from tidegate.core.errors import BadInput
from tidegate.exposure.tree import Tree

MOST_BYTES = 64 * 1024 * 1024
CONNECTIVES = ("and", "or", "atleast", "not", "xor", "nand", "nor")
LEAVES = ("gate", "basic-event", "house-event", "event")


@dataclass(slots=True)
class Model:
    """A fault tree read from OpenPSA. `tops` are gates that no other gate names; `not_understood` is for people."""

    tree: Tree
    gates: dict[str, ET.Element]
    fails: dict[str, float] = field(default_factory=lambda: {})
    houses: dict[str, bool] = field(default_factory=lambda: {})
    tops: list[str] = field(default_factory=lambda: [])
    not_understood: list[str] = field(default_factory=lambda: [])


def read_openpsa(path: Path | str) -> Model:
    """Read an OpenPSA file. Raises BadInput: no such file, no XML, unknown gates, gates in a circle."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from error
    return openpsa_of(data, str(path))


def openpsa_of(data: bytes, source: str) -> Model:
    """Read OpenPSA text; as `read_openpsa`."""
    root = parse_xml(data, source)
    if root.tag != "opsa-mef":
        raise BadInput(f"{source}: no OpenPSA model: it begins with <{root.tag}>, not <opsa-mef>")
    gates: dict[str, ET.Element] = {}
    for gate in root.iter("define-gate"):
        name = _name(gate, source)
        if name in gates:
            raise BadInput(f"{source}: gate {name!r} is defined twice")
        gates[name] = gate
    if not gates:
        raise BadInput(f"{source}: it defines no gate")
    model = Model(Tree(), gates)
    for event in root.iter("define-basic-event"):
        _basic(model, event, source)
    for event in root.iter("define-house-event"):
        constant = event.find("constant")
        model.houses[_name(event, source)] = constant is not None and constant.get("value") == "true"
    _remark(model, root)
    named = {inner.get("name") for gate in gates.values() for inner in gate.iter("gate")}
    named |= {e.get("name") for gate in gates.values() for e in gate.iter("event")}
    model.tops = [name for name in gates if name not in named] or list(gates)[:1]
    _build(model, source)
    return model


def parse_xml(data: bytes, source: str) -> ET.Element:
    """Read XML; a document type is refused, because it can make a short file endless. Raises BadInput."""
    if len(data) > MOST_BYTES:
        raise BadInput(f"{source}: larger than {MOST_BYTES:,} bytes")
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise BadInput(f"{source}: a document type or entity is not read")
    try:
        return ET.fromstring(data)
    except ET.ParseError as error:
        raise BadInput(f"{source}:{error.position[0]}: no XML: {error}") from error


def _basic(model: Model, event: ET.Element, source: str) -> None:
    name = _name(event, source)
    value = event.find("float")
    if value is None:
        if any(child.tag not in ("label", "attributes") for child in event):
            model.not_understood.append(f"basic event {name}: its probability is not a plain number")
        return
    try:
        p = float(value.get("value", ""))
    except ValueError:
        p = -1.0
    if not 0 <= p <= 1:
        raise BadInput(f"{source}: the probability of {name!r} must be from 0 to 1, not {value.get('value')!r}")
    model.fails[name] = p


def _remark(model: Model, root: ET.Element) -> None:
    known = {"define-fault-tree", "define-gate", "define-basic-event", "define-house-event", "model-data", "label"}
    inside = {child.tag for part in (root, *root.iter("define-fault-tree"), *root.iter("model-data")) for child in part}
    for tag in sorted(inside - known - {"attributes"}):
        model.not_understood.append(f"<{tag}>: {sum(1 for _ in root.iter(tag))} left out")


def _build(model: Model, source: str) -> None:
    """Make the gates' nodes, inputs first; without recursion over gates, for trees may be deep."""
    made: dict[str, int] = {}
    for root in model.gates:
        open_: dict[str, list[str]] = {}
        if root not in made:
            open_[root] = _inner(model, root)
        while open_:
            name = next(reversed(open_))
            if open_[name]:
                inner = open_[name].pop()
                if inner in open_:
                    raise BadInput(f"{source}: gates {name!r} and {inner!r} need each other")
                if inner not in made:
                    open_[inner] = _inner(model, inner)
                continue
            del open_[name]
            formula = [child for child in model.gates[name] if child.tag not in ("label", "attributes")]
            if len(formula) != 1:
                raise BadInput(f"{source}: gate {name!r} must hold one formula")
            made[name] = _formula(model, formula[0], made, source)
    model.tree.tops.update(made)


def _inner(model: Model, name: str) -> list[str]:
    named = [str(e.get("name")) for tag in ("gate", "event") for e in model.gates[name].iter(tag)]
    return [one for one in named if one in model.gates]


def _formula(model: Model, part: ET.Element, made: dict[str, int], source: str) -> int:
    tree = model.tree
    if part.tag in LEAVES:
        return _leaf(model, part, made, source)
    if part.tag == "constant":
        return tree.gate((), -1 if part.get("value") == "true" else 0)
    if part.tag not in CONNECTIVES:
        raise BadInput(f"{source}: <{part.tag}> in a gate is not understood; there are {', '.join(CONNECTIVES)}")
    inputs = [_formula(model, inner, made, source) for inner in part]
    n = len(inputs)
    pairs = tuple((node, 1) for node in inputs)
    match part.tag:
        case "or":
            return tree.gate(pairs, 0)
        case "and":
            return tree.gate(pairs, n - 1)
        case "atleast":
            return tree.gate(pairs, _least(part, n, source) - 1)
        case "not" if n == 1:
            return ~inputs[0]
        case "nor":
            return ~tree.gate(pairs, 0)
        case "nand":
            return ~tree.gate(pairs, n - 1)
        case "xor" if n == 2:
            a, b = inputs
            one, other = tree.gate(((a, 1), (~b, 1)), 1), tree.gate(((~a, 1), (b, 1)), 1)
            return tree.gate(((one, 1), (other, 1)), 0)
        case _:
            raise BadInput(f"{source}: <{part.tag}> with {n} inputs is not understood")


def _leaf(model: Model, part: ET.Element, made: dict[str, int], source: str) -> int:
    name = str(part.get("name"))
    if part.tag in ("gate", "event") and name in made:
        return made[name]
    if part.tag == "gate":
        raise BadInput(f"{source}: gate {name!r} is named and not defined")
    if name in model.houses and part.tag != "basic-event":
        return model.tree.gate((), -1 if model.houses[name] else 0)
    return model.tree.event(name)


def _least(part: ET.Element, n: int, source: str) -> int:
    text = part.get("min", "")
    if not text.isdecimal() or not 1 <= int(text) <= n:
        raise BadInput(f"{source}: atleast must have min from 1 to {n}, not {text!r}")
    return int(text)


def _name(part: ET.Element, source: str) -> str:
    name = part.get("name")
    if not name:
        raise BadInput(f"{source}: a <{part.tag}> has no name")
    return name
