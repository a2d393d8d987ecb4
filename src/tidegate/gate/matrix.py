"""The fleet as the gate needs it: which interpreter versions run, and which pairs of label values they cover."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tidegate.core.scouts import Pair, pairs_of

Inventory = Sequence[Mapping[str, Any]]


def wanted_versions(inventory: Inventory, fact: str) -> dict[str, int]:
    """Count the devices of each interpreter version, as their facts (or labels) name it."""
    found: Counter[str] = Counter()
    for device in inventory:
        version = device.get("facts", {}).get(fact) or device.get("labels", {}).get(fact)
        if version:
            found[str(version)] += 1
    return dict(found)


def pairs_covered(
    inventory: Inventory, labels: Sequence[str], fact: str, versions: Sequence[str]
) -> tuple[dict[Pair, int], dict[Pair, int]]:
    """Split the fleet's pairs of label values into those that the gate's interpreters cover, and the others.

    A pair is covered if each device that holds it runs a version that the content was tried in.

    Returns:
        (covered, not covered), each pair with its devices.
    """
    held: Counter[Pair] = Counter()
    tried: Counter[Pair] = Counter()
    for device in inventory:
        own = {str(k): str(v) for k, v in device.get("labels", {}).items()}
        version = device.get("facts", {}).get(fact) or own.get(fact)
        for pair in pairs_of(own, labels):
            held[pair] += 1
            tried[pair] += version in versions
    covered = {pair: count for pair, count in held.items() if tried[pair] == count}
    return covered, {pair: count for pair, count in held.items() if pair not in covered}
