"""An estate as an OpenPSA fault tree, and an OpenPSA fault tree as an estate."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

from tidegate.exposure.estate import Estate
from tidegate.exposure.model import chances_of, view_of
from tidegate.exposure.openpsa import Model
from tidegate.exposure.tree import Gate, Tree

KINDS = {"c": "component", "v": "vendor", "g": "group"}


def to_openpsa(estate: Estate, by: str | None = None) -> str:
    """Write an estate's fault tree as OpenPSA XML, one gate for each service and group.

    Args:
        estate: what to write.
        by: the tree by vendor or component, without probabilities; None for the tree of causes, with them.
    """
    if by is None:
        chances = chances_of(estate)
        tree, fails = chances.tree, chances.fails
        names = {one: f"{KINDS[one[0]]} {one[2:]}" for one in tree.nodes if isinstance(one, str)}
    else:
        tree, fails = view_of(estate, by).tree, {}
        names = {one: one for one in tree.nodes if isinstance(one, str)}
    return _Writer(tree, fails, names).text()


class _Writer:
    def __init__(self, tree: Tree, fails: dict[str, float], labels: dict[str, str]) -> None:
        self.tree, self.fails, self.labels = tree, fails, labels
        self.root = ET.Element("opsa-mef")
        self.faults = ET.SubElement(self.root, "define-fault-tree", name="estate")
        self.data = ET.SubElement(self.root, "model-data")
        self._taken: set[str] = set()
        self._names: dict[int, str] = {}
        self._counted: dict[tuple[tuple[tuple[int, int], ...], int], str] = {}

    def text(self) -> str:
        """Give the XML."""
        for node, what in enumerate(self.tree.nodes):
            if isinstance(what, str):
                self._names[node] = self._free(f"e-{self.labels[what]}")
                event = ET.SubElement(self.data, "define-basic-event", name=self._names[node])
                ET.SubElement(event, "label").text = self.labels[what]
                if what in self.fails:
                    ET.SubElement(event, "float", value=repr(self.fails[what]))
        for top, node in self.tree.tops.items():
            gate = ET.SubElement(self.faults, "define-gate", name=self._free(top.replace(":", "-", 1)))
            ET.SubElement(gate, "label").text = top.partition(":")[2]
            self._refer(ET.SubElement(gate, "or"), node)
        ET.indent(self.root)
        return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(self.root, encoding="unicode") + "\n"

    def _free(self, wish: str) -> str:
        """Make a name that OpenPSA allows and that is not taken."""
        base = re.sub(r"[^A-Za-z0-9_]+", "-", wish).strip("-") or "x"
        name, number = base, 1
        while name in self._taken:
            number += 1
            name = f"{base}-{number}"
        self._taken.add(name)
        return name

    def _refer(self, formula: ET.Element, node: int) -> None:
        what = self.tree.nodes[node]
        if isinstance(what, str):
            ET.SubElement(formula, "basic-event", name=self._names[node])
            return
        if node not in self._names:
            self._names[node] = self._threshold(what.inputs, what.tolerates)
        ET.SubElement(formula, "gate", name=self._names[node])

    def _threshold(self, inputs: tuple[tuple[int, int], ...], tolerates: int) -> str:
        """Write a gate. OpenPSA counts inputs and knows no weights: what is weighted is taken apart, input by input."""
        key = (inputs, tolerates)
        if key in self._counted:
            return self._counted[key]
        name = self._counted[key] = self._free(f"g{len(self._counted)}")
        gate = ET.SubElement(self.faults, "define-gate", name=name)
        weights = {weight for _, weight in inputs}
        if not inputs or tolerates < 0 or sum(weight for _, weight in inputs) <= tolerates:
            ET.SubElement(gate, "constant", value="true" if tolerates < 0 else "false")
        elif len(weights) == 1 and len({node for node, _ in inputs}) == len(inputs):
            self._plain(gate, [node for node, _ in inputs], tolerates // weights.pop() + 1)
        else:
            (node, weight), rest = inputs[0], inputs[1:]
            either = ET.SubElement(gate, "or")
            both = ET.SubElement(either, "and")
            self._refer(both, node)
            ET.SubElement(both, "gate", name=self._threshold(rest, tolerates - weight))
            ET.SubElement(either, "gate", name=self._threshold(rest, tolerates))
        return name

    def _plain(self, gate: ET.Element, nodes: list[int], least: int) -> None:
        if least == 1 or least == len(nodes):
            formula = ET.SubElement(gate, "or" if least == 1 else "and")
        else:
            formula = ET.SubElement(gate, "atleast", min=str(least))
        for node in nodes:
            self._refer(formula, node)


def estate_of_model(model: Model) -> tuple[dict[str, Any], list[str]]:
    """Turn a fault tree into an estate: a basic event becomes a component, a gate a service that needs the opposite.

    What fails with any becomes `all`, what fails with all `any`, and at least k failures of n at least n - k + 1 alive.

    Returns:
        the estate as plain values for YAML, and what was not understood.
    """
    remarks = list(model.not_understood)
    components: dict[str, Any] = {}
    services: dict[str, Any] = {}
    names: dict[int, str] = {}
    for name, node in model.tree.tops.items():
        if node >= 0:
            names.setdefault(node, name)
    for node, what in enumerate(model.tree.nodes):
        if isinstance(what, str):
            fails = model.fails.get(what)
            components[what] = {"vendor": "unknown"} | ({} if fails is None else {"fails": fails})
        else:
            names.setdefault(node, f"gate-{node}")
    for node, what in enumerate(model.tree.nodes):
        if isinstance(what, Gate):
            need = _need(model.tree, what, names)
            if need is None:
                remarks.append(f"gate {names[node]}: a complement or constant has no place in an estate")
            else:
                services[names[node]] = {"needs": need}
    for name, node in model.tree.tops.items():
        if node >= 0 and names[node] != name and names[node] in services | components:
            services[name] = {"needs": names[node]}
        elif node >= 0 and isinstance(model.tree.nodes[node], str):
            services[name] = {"needs": f"component:{model.tree.nodes[node]}"}
    return {"components": components, "services": _whole(services, components, remarks)}, remarks


def _need(tree: Tree, gate: Gate, names: dict[int, str]) -> Any:
    if not gate.inputs or any(node < 0 for node, _ in gate.inputs):
        return None
    of = []
    for node, _ in gate.inputs:
        what = tree.nodes[node]
        of.append(f"component:{what}" if isinstance(what, str) else f"service:{names[node]}")
    alive = len(of) - gate.tolerates
    if alive == len(of):
        return {"all": of}
    return {"any": of} if alive == 1 else {"at_least": alive, "of": of}


def _whole(services: dict[str, Any], components: dict[str, Any], remarks: list[str]) -> dict[str, Any]:
    """Leave out, and say so, what rests on a gate that was left out."""
    while True:
        broken = [name for name, said in services.items() if not _known(said["needs"], services, components)]
        if not broken:
            return services
        for name in broken:
            remarks.append(f"gate {name}: rests on one that was not understood")
            del services[name]


def _known(need: Any, services: dict[str, Any], components: dict[str, Any]) -> bool:
    if isinstance(need, dict):
        of = next(value for key, value in need.items() if key != "at_least")
        return all(_known(one, services, components) for one in of)
    kind, _, name = str(need).partition(":")
    return name in (services if kind == "service" else components) if name else need in services | components
