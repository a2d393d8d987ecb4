"""One service as a picture: what it needs, down to groups and vendors, with a cut and all that falls by it in red."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tidegate.core.errors import BadInput
from tidegate.exposure.estate import AtLeast, Estate, Kind, Named, Need
from tidegate.exposure.svg import FAINT, INK, LINE, PALE, RED, Svg, short, width_of

HIGH, ROW, COLUMN, LETTERS = 44.0, 58.0, 84.0, 26


@dataclass(slots=True)
class _Node:
    name: str
    words: str
    depth: int = 0
    inputs: list[str] = field(default_factory=lambda: [])
    need: int = 0
    """How many inputs must stand; 0 for a leaf."""
    down: bool = False


def service_graph(estate: Estate, service: str, cut: Sequence[str]) -> str:
    """Draw a service down to its vendors; `cut` names vendors (or groups with `fails`) that have failed.

    Raises:
        BadInput: for a service that the estate has not.
    """
    if service not in estate.services:
        raise BadInput(f"{service!r} is no service of {estate.source}")
    nodes: dict[str, _Node] = {}
    _add(estate, Named(Kind.SERVICE, service), nodes, 0)
    _fall(estate, nodes, set(cut))
    return _draw(nodes, f"{service}: what falls with {' and '.join(cut)}" if cut else service)


def _add(estate: Estate, need: Need, nodes: dict[str, _Node], depth: int) -> str:
    name = _key(need)
    if name in nodes:
        _lower(nodes, name, depth)
        return name
    node = nodes[name] = _Node(name, "", depth)
    if isinstance(need, AtLeast):
        node.words = _rule(need)
        node.need, inner = need.k, list(need.of)
    elif need.kind is Kind.SERVICE:
        whole = estate.services[need.name].needs
        node.words = "needs " + (_rule(whole) if isinstance(whole, AtLeast) else "one")
        node.need = whole.k if isinstance(whole, AtLeast) else 1
        inner = list(whole.of) if isinstance(whole, AtLeast) else [whole]
    elif need.kind is Kind.GROUP:
        group = estate.groups[need.name]
        node.words = f"{group.alive:,} of {estate.devices_of(group):,} devices"
        inner = [Named(Kind.VENDOR, vendor) for vendor in sorted(_hits(estate, need.name))]
    elif need.kind is Kind.COMPONENT:
        node.words, node.need = "component", 1
        inner = [Named(Kind.VENDOR, estate.components[need.name].vendor)]
    else:
        node.words = "vendor"
        inner = []
    node.inputs = [_add(estate, one, nodes, depth + 1) for one in inner]
    return name


def _lower(nodes: dict[str, _Node], name: str, depth: int) -> None:
    """What is needed from further right moves there, and what it needs with it."""
    if nodes[name].depth < depth:
        nodes[name].depth = depth
        for inner in nodes[name].inputs:
            _lower(nodes, inner, depth + 1)


def _key(need: Need) -> str:
    if isinstance(need, Named):
        return f"{need.kind.value}:{need.name}"
    return f"{need.k} of ({', '.join(_key(inner) for inner in need.of)})"


def _rule(need: AtLeast) -> str:
    n = len(need.of)
    return "all" if need.k == n else "any" if need.k == 1 else f"{need.k} of {n}"


def _hits(estate: Estate, name: str) -> dict[str, int]:
    group, found = estate.groups[name], dict[str, int]()
    for row in group.members:
        for vendor in {estate.components[c].vendor for c in estate.takers(group, row)}:
            found[vendor] = found.get(vendor, 0) + estate.classes[row].count
    return found


def _fall(estate: Estate, nodes: dict[str, _Node], cut: set[str]) -> None:
    """Let the cut fall, from the right to the left."""
    for node in sorted(nodes.values(), key=lambda one: -one.depth):
        kind, _, name = node.name.partition(":")
        if kind == Kind.VENDOR.value:
            node.down = name in cut
        elif kind == Kind.GROUP.value and name in estate.groups:
            group = estate.groups[name]
            lost = sum(
                estate.classes[row].count
                for row in group.members
                if cut & {estate.components[c].vendor for c in estate.takers(group, row)}
                or (estate.classes[row].fails is not None and estate.classes[row].name in cut)
            )
            node.down = lost > estate.devices_of(group) - group.alive or name in cut
        else:
            node.down = sum(not nodes[inner].down for inner in node.inputs) < node.need


def _draw(nodes: dict[str, _Node], title: str) -> str:
    columns: dict[int, list[_Node]] = {}
    last = max(node.depth for node in nodes.values())
    for node in nodes.values():
        node.depth = last if node.name.startswith("vendor:") else node.depth
        columns.setdefault(node.depth, []).append(node)
    svg, at = Svg(title=title), dict[str, tuple[float, float, float]]()
    tall = max(len(column) for column in columns.values())
    x = 24.0
    for depth in sorted(columns):
        column = columns[depth]
        column.sort(key=lambda node: _middle(node, nodes, at))
        wide = 36 + max(max(width_of(short(_label(node), LETTERS), 13.5), width_of(node.words, 11)) for node in column)
        wide = max(wide, 110.0)
        top = 72 + (tall - len(column)) * ROW / 2
        for row, node in enumerate(column):
            at[node.name] = (x, top + row * ROW, wide)
        x += wide + COLUMN
    for node in nodes.values():
        for inner in dict.fromkeys(node.inputs):
            (x1, y1, wide), (x2, y2, _) = at[node.name], at[inner]
            red = nodes[inner].down
            svg.curve(x1 + wide, y1 + HIGH / 2, x2, y2 + HIGH / 2, RED if red else LINE, wide=2 if red else 1.2)
    for node in nodes.values():
        _box(svg, node, *at[node.name])
    svg.text(24, 34, title, size=16, bold=True)
    svg.width, svg.height = max(x - COLUMN + 24, width_of(title, 16) + 60), 72 + tall * ROW + 16
    return svg.render()


def _middle(node: _Node, nodes: dict[str, _Node], at: dict[str, tuple[float, float, float]]) -> tuple[float, str]:
    """Sort by where those stand that need it, so that lines cross little."""
    above = [at[other.name][1] for other in nodes.values() if node.name in other.inputs and other.name in at]
    return (sum(above) / len(above) if above else 0.0), node.name


def _label(node: _Node) -> str:
    return node.words if " of (" in node.name else node.name.partition(":")[2]


def _box(svg: Svg, node: _Node, x: float, y: float, wide: float) -> None:
    fill = RED if node.down else "#ffffff" if node.name.startswith("vendor:") else PALE
    svg.box(x, y, wide, HIGH, fill, line=RED if node.down else LINE, r=6, tip=node.name)
    ink, faint = ("#ffffff", "#ffe3e3") if node.down else (INK, FAINT)
    gate = " of (" in node.name
    svg.text(x + 14, y + (26 if gate else 19), short(_label(node), LETTERS), fill=ink, bold=not gate)
    if not gate:
        svg.text(x + 14, y + 35, node.words, size=11, fill=faint)
