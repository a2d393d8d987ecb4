"""The analysis of an estate: cuts and probabilities of services, what each vendor takes, concentration, the unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tidegate.core.errors import BadInput
from tidegate.exposure.bdd import OverBudget, Solver
from tidegate.exposure.cuts import Cuts, CutSolver, Limits
from tidegate.exposure.estate import UNKNOWN, Estate, Privilege
from tidegate.exposure.kernel import Arrays, arrays_of
from tidegate.exposure.model import COMPONENT, VENDOR, Chances, View, chances_of, view_of

Json = dict[str, Any]
HALF = 0.5
MOST_PAIRED = 400
"""Vendors up to which all pairs are swept (79,800 pairs); beyond, pairs are read from the cuts of order two."""


def analyse(estate: Estate, by: str = VENDOR, limits: Limits = Limits()) -> dict[str, Any]:  # noqa: B008 - it is frozen
    """Say which services fall if a vendor or a component fails.

    Args:
        estate: as `read_estate` gives it.
        by: whose failures the cuts speak of, `vendor` or `component`; the vendors' table is by vendor always.
        limits: nodes, cuts listed and order.

    Returns:
        plain JSON values: `by`, `services`, `vendors`, `components` (when by component), `pairs`, `hhi`,
        `hhi_failure_weighted`, `devices`, `unknown`; docs/exposure.md says what each means.

    Raises:
        BadInput: for another `by`.
    """
    if by not in (VENDOR, COMPONENT):
        raise BadInput(f"--by must be vendor or component, not {by!r}")
    view, chances = view_of(estate, by), chances_of(estate)
    found: dict[str, Any] = {"by": by, "services": _services(estate, view, chances, limits)}
    arrays = arrays_of(estate)
    found["vendors"] = table_of(estate, arrays)
    if by == COMPONENT:
        found["components"] = table_of(estate, arrays_of(estate, COMPONENT))
    found["pairs"] = fatal_pairs(estate, arrays)
    found["hhi"] = sum(row["share"] ** 2 for row in found["vendors"].values())
    found["hhi_failure_weighted"] = sum(row["loss_share"] ** 2 for row in found["vendors"].values())
    found["devices"] = sum(devices.count for devices in estate.classes)
    found["unknown"] = unknown_of(estate)
    return found


def _services(estate: Estate, view: View, chances: Chances, limits: Limits) -> dict[str, Any]:
    solver, odds = CutSolver(view.tree, limits), _Odds(chances, view, limits)
    found: dict[str, Any] = {}
    for name in estate.services:
        cuts = solver.solve(view.tree.tops[f"service:{name}"])
        found[name] = {
            "cuts": [list(cut) for cut in cuts.cuts],
            "order_limit": cuts.order_limit,
            "complete": cuts.complete,
            "cut_count": cuts.count,
            "by_order": list(cuts.by_order),
            "single_points": [cut[0] for cut in cuts.cuts if len(cut) == 1],
            "value_per_h": estate.services[name].value_per_h,
            **odds.of(name, _names(cuts, solver), cuts, solver),
        }
    return found


def _names(cuts: Cuts, solver: CutSolver) -> list[str]:
    if cuts.diagram is not None:
        return solver.solver.support(cuts.diagram)
    return sorted({name for cut in cuts.cuts for name in cut})


@dataclass(slots=True)
class _Odds:
    """Probabilities and importance, from the tree of causes."""

    chances: Chances
    view: View
    limits: Limits
    _solver: Solver | None = None

    def of(self, service: str, events: list[str], cuts: Cuts, solver: CutSolver) -> dict[str, Any]:
        """Give `probability`, `probability_between`, `without_fails` and `importance` of a service."""
        if self._solver is None:
            self._solver = Solver(self.chances.tree, self.limits.nodes)
        odds, fails = self._solver, self.chances.fails
        structural = self._structural(events, cuts, solver)
        try:
            diagram = odds.build(self.chances.tree.tops[f"service:{service}"], self.limits.nodes)
        except OverBudget:
            importance = {event: {"structural": structural.get(event)} for event in events}
            return _answer(None, None, [], importance)
        causes = odds.support(diagram)
        missing = [cause for cause in causes if cause not in fails]
        if missing:
            between = None
            if len(missing) < len(causes):
                least = odds.probability(diagram, {**dict.fromkeys(missing, 0.0), **fails})
                between = [least, odds.probability(diagram, {**dict.fromkeys(missing, 1.0), **fails})]
            importance = {event: {"structural": structural.get(event)} for event in events}
            return _answer(None, between, [cause[2:] for cause in missing], importance)
        p = odds.probability(diagram, fails)
        slopes = odds.derivatives(diagram, fails)
        importance = {
            event: {**_importance(odds, diagram, fails, slopes, self.view.causes.get(event, ()), p)}
            | {"structural": structural.get(event)}
            for event in events
        }
        return _answer(p, [p, p], [], importance)

    def _structural(self, events: list[str], cuts: Cuts, solver: CutSolver) -> dict[str, float]:
        """Birnbaum's importance with every event as likely as not: it needs no probabilities."""
        if cuts.diagram is None:
            return {}
        return solver.solver.derivatives(cuts.diagram, dict.fromkeys(events, HALF))


def _importance(
    odds: Solver, diagram: int, fails: dict[str, float], slopes: dict[str, float], causes: tuple[str, ...], p: float
) -> Json:
    """Birnbaum: how much the chance changes if the event is certain. Criticality: the part of it that would vanish."""
    known = [cause for cause in causes if cause in slopes]
    if len(known) == 1:
        slope = slopes[known[0]]
        return {"birnbaum": slope, "criticality": fails[known[0]] * slope / p if p else 0.0}
    sure = odds.probability(diagram, {**fails, **dict.fromkeys(known, 1.0)})
    never = odds.probability(diagram, {**fails, **dict.fromkeys(known, 0.0)})
    return {"birnbaum": sure - never, "criticality": (p - never) / p if p else 0.0}


def _answer(p: float | None, between: list[float] | None, missing: list[str], importance: Json) -> Json:
    empty = {"birnbaum": None, "criticality": None}
    return {
        "probability": p,
        "probability_between": between,
        "without_fails": missing,
        "importance": {event: {**empty, **row} for event, row in importance.items()},
    }


def table_of(estate: Estate, arrays: Arrays) -> dict[str, Any]:
    """Say for each column (vendor or component) on how many devices it is, and what falls with it alone."""
    groups, services = arrays.sweep()
    carried = np.zeros(len(arrays.columns), dtype=np.int64)
    column = {name: place for place, name in enumerate(arrays.columns)}
    vendors = arrays.columns == tuple(sorted(estate.vendors))
    for devices in estate.classes:
        names = {estate.components[c].vendor for c in devices.components} if vendors else set(devices.components)
        carried[[column[name] for name in names]] += devices.count
    total, everyone = int(carried.sum()), sum(devices.count for devices in estate.classes)
    values = estate.values()
    worth = np.array([values[name] for name in arrays.services])
    lost = worth @ services
    found: dict[str, Any] = {}
    for place, name in enumerate(arrays.columns):
        found[name] = {
            "devices": int(carried[place]),
            "groups_lost": sorted(np.array(arrays.groups, dtype=object)[groups[:, place]].tolist()),
            "services_lost": sorted(np.array(arrays.services, dtype=object)[services[:, place]].tolist()),
            "share": int(carried[place]) / total if total else 0.0,
            "device_share": int(carried[place]) / everyone if everyone else 0.0,
            "loss_share": float(lost[place] / worth.sum()) if worth.sum() else 0.0,
        }
    return found


def fatal_pairs(estate: Estate, arrays: Arrays) -> list[dict[str, Any]]:
    """List pairs of vendors that together take services that neither takes alone, the costliest first."""
    if len(arrays.columns) > MOST_PAIRED:
        chosen = sorted(np.argsort(-arrays.hits.sum(axis=0))[:MOST_PAIRED].tolist())
    else:
        chosen = list(range(len(arrays.columns)))
    _, alone = arrays.sweep()
    pairs, lost = arrays.pairs(chosen)
    if not pairs:
        return []
    asked = np.array(pairs)
    new = lost & ~alone[:, asked[:, 0]] & ~alone[:, asked[:, 1]]
    values = estate.values()
    worth = np.array([values[name] for name in arrays.services])
    found = [
        {
            "vendors": [arrays.columns[a], arrays.columns[b]],
            "services_lost": sorted(np.array(arrays.services, dtype=object)[new[:, place]].tolist()),
            "loss_share": float(worth[new[:, place]].sum() / worth.sum()) if worth.sum() else 0.0,
        }
        for place, (a, b) in enumerate(pairs)
        if new[:, place].any()
    ]
    return sorted(found, key=lambda row: (-row["loss_share"], row["vendors"]))


def unknown_of(estate: Estate) -> dict[str, Any]:
    """Count and name what is not known. None of it is taken for safe, save user-space components without a function."""

    def devices_with(names: set[str]) -> int:
        return sum(d.count for d in estate.classes if names & set(d.components))

    vendor = {c.name for c in estate.components.values() if c.vendor == UNKNOWN}
    privilege = {c.name for c in estate.components.values() if c.privilege is Privilege.UNKNOWN}
    used = {c for devices in estate.classes for c in devices.components}
    bare = sorted(devices.name for devices in estate.classes if not devices.components and devices.count)
    quiet = sorted(
        group.name
        for group in estate.groups.values()
        if not group.function
        and any(set(estate.classes[row].components) - set(estate.takers(group, row)) for row in group.members)
    )
    said = [s.value_per_h for s in estate.services.values()]
    mixed = any(value is not None for value in said)
    return {
        "vendor": {"components": sorted(vendor), "devices": devices_with(vendor)},
        "privilege": {"components": sorted(privilege), "devices": devices_with(privilege)},
        "fails": sorted(name for name in used if _no_chance(estate, name)),
        "value_per_h": sorted(s.name for s in estate.services.values() if s.value_per_h is None) if mixed else [],
        "function": quiet,
        "devices_without_components": bare,
    }


def _no_chance(estate: Estate, name: str) -> bool:
    part = estate.components[name]
    return part.fails is None and estate.vendors.get(part.vendor) is None
