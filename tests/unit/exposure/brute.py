"""An estate judged by trying everything: no diagrams, no sparse products, nothing of ours but the words."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

import yaml
from hypothesis import strategies as st


def falls(estate: dict[str, Any], name: str, components: set[str], vendors: set[str], own: set[str]) -> bool:
    """Whether a service or group is down when these components, vendors and groups have failed."""
    if name in estate["services"]:
        return lost(estate, estate["services"][name]["needs"], components, vendors, own)
    group = estate["groups"][name]
    alive = n = 0
    for place, entry in enumerate(group["devices"], 1):
        n += entry["count"]
        hit = f"{name}[{place}]" in own
        for c in entry["components"]:
            part = estate["components"][c]
            failed = c in components or part.get("vendor", "unknown") in vendors
            takes = part.get("privilege", "unknown") in ("kernel", "unknown") or c in group.get("function", [])
            hit = hit or (failed and takes)
        alive += 0 if hit else entry["count"]
    k = n if group["alive"] == "all" else group["alive"]
    return name in own or alive < k


def lost(estate: dict[str, Any], need: Any, components: set[str], vendors: set[str], own: set[str]) -> bool:
    if isinstance(need, str):
        if need in estate["components"]:
            return need in components or estate["components"][need].get("vendor", "unknown") in vendors
        return falls(estate, need, components, vendors, own)
    inner = need.get("all") or need.get("any") or need["of"]
    k = len(inner) if "all" in need else 1 if "any" in need else need["at_least"]
    return sum(not lost(estate, one, components, vendors, own) for one in inner) < k


def minimal_cuts(events: list[str], down: Any) -> list[list[str]]:
    """All minimal sets of events for which `down(set)` holds, by trying every set in order of size."""
    found: list[frozenset[str]] = []
    for size in range(len(events) + 1):
        for chosen in combinations(sorted(events), size):
            now = frozenset(chosen)
            if not any(cut <= now for cut in found) and down(set(now)):
                found.append(now)
    return [sorted(cut) for cut in found]


def probability(chances: dict[tuple[str, str], float], down: Any) -> float:
    """The sum over all ways in which independent causes can come out."""
    causes = list(chances)
    total = 0.0
    for outcome in product((False, True), repeat=len(causes)):
        failed = {cause for cause, yes in zip(causes, outcome, strict=True) if yes}
        p = 1.0
        for cause, yes in zip(causes, outcome, strict=True):
            p *= chances[cause] if yes else 1 - chances[cause]
        if down(failed):
            total += p
    return total


@st.composite
def estates(draw: st.DrawFn, *, chances: bool = False) -> dict[str, Any]:
    """Small estates: mixed vendors, shared components, unknown privilege, needs nested three deep, repeated events."""
    vendors = draw(st.lists(st.sampled_from(["V1", "V2", "V3", "V4"]), min_size=1, unique=True))
    components: dict[str, Any] = {}
    for place in range(draw(st.integers(1, 5))):
        part: dict[str, Any] = {"vendor": draw(st.sampled_from(vendors))}
        privilege = draw(st.sampled_from(["kernel", "kernel", "kernel", "system", "user", None]))
        part |= {"privilege": privilege} if privilege else {}
        part |= {"fails": draw(st.sampled_from([0.0, 0.1, 0.25, 1.0]))} if chances else {}
        components[f"c{place}"] = part
    some = st.lists(st.sampled_from(sorted(components)), unique=True, max_size=3)
    groups: dict[str, Any] = {}
    for place in range(draw(st.integers(1, 3))):
        entries = [{"count": draw(st.integers(0, 3)), "components": draw(some)} for _ in range(draw(st.integers(1, 3)))]
        n = sum(entry["count"] for entry in entries)
        if n == 0:
            entries[0]["count"] = n = 1
        if chances and draw(st.booleans()):
            entries[-1]["fails"] = 0.3
        groups[f"G{place}"] = {"alive": draw(st.sampled_from(["all", *range(n + 1)])), "devices": entries}
        if draw(st.booleans()):
            groups[f"G{place}"]["function"] = draw(some)
    services: dict[str, Any] = {}
    for place in range(draw(st.integers(1, 3))):
        names = [*groups, *services, *list(components)[:1]]
        services[f"S{place}"] = {"needs": draw(needs(names, 3))}
    said: dict[str, Any] = {v: {"fails": 0.2} if chances and draw(st.booleans()) else {} for v in vendors}
    return {"vendors": said, "components": components, "groups": groups, "services": services}


def needs(names: list[str], deep: int) -> st.SearchStrategy[Any]:
    leaf = st.sampled_from(names)
    if deep == 0:
        return leaf
    inner = st.lists(needs(names, deep - 1), min_size=1, max_size=3)
    counted = inner.flatmap(lambda of: st.integers(1, len(of)).map(lambda k: {"at_least": k, "of": of}))
    return st.one_of(leaf, inner.map(lambda of: {"all": of}), inner.map(lambda of: {"any": of}), counted)


def text_of(estate: dict[str, Any]) -> str:
    return yaml.safe_dump(estate, sort_keys=False)
