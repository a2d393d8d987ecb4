"""Which pairs of label values the scouts and each ring of a planned rollout cover."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tidegate.cli.inventory_file import labels_of
from tidegate.cli.show import out, table
from tidegate.core.assign import SALT_BYTES, device_key, rank
from tidegate.core.errors import BadInput
from tidegate.core.forecast import Forecast
from tidegate.core.looks_limits import certain_rings
from tidegate.core.scouts import cover, say_pair
from tidegate.sim.scenario import Scenario

USUAL = ("os", "version", "hardware", "locale")
EXAMPLE = hashlib.sha256(b"an order of the plan's own").hexdigest()[: 2 * SALT_BYTES]
MOST_ROWS, MOST_NAMED = 12, 2
_SHORT = 8
"""Digits of a device's id that a table shows."""


def cover_of(
    devices: Sequence[Mapping[str, Any]], scenario: Scenario, outlook: Forecast, scout: list[str] | None, salt: str
) -> dict[str, Any]:
    """Say it of an inventory, as plain values. Raises BadInput for a salt or label that cannot be."""
    labels = [labels_of(device) for device in devices]
    known = {name for own in labels for name in own}
    if missing := [name for name in scout or () if name not in known]:
        raise BadInput(f"no device of the inventory has a label {missing[0]}; there are {', '.join(sorted(known))}")
    over = sorted(set(scout or [name for name in USUAL if name in known]))
    if not over:
        raise BadInput(f"say which labels count: --scout NAME; there are {', '.join(sorted(known)) or 'none'}")
    try:
        order = bytes.fromhex(salt or EXAMPLE)
        if len(order) != SALT_BYTES:
            raise ValueError
    except ValueError:
        raise BadInput(f"--order-salt must be {2 * SALT_BYTES} hexadecimal digits, not {salt!r}") from None
    keys = np.array([_key(device, number) for number, device in enumerate(devices)], dtype=np.uint64)
    terms = scenario.rollout
    sizes = outlook.sizes or certain_rings(len(devices), terms.max_harmed, terms.canary)
    found = cover(labels, rank(order, keys), over, sizes)
    return {
        "labels": over,
        "order": salt or "example",
        "pairs": [{"pair": say_pair(pair), "devices": count} for pair, count in sorted(found.pairs.items())],
        "scouts": [
            {
                "device": devices[position].get("device_id", position),
                "labels": {name: labels[position][name] for name in over if name in labels[position]},
                "pairs": [say_pair(pair) for pair in pairs],
            }
            for position, pairs in found.scouts
        ],
        "rings": [
            {
                "ring": number,
                "treated": step.devices,
                "pairs": step.pairs,
                "first": [say_pair(pair) for pair in step.first],
            }
            for number, step in enumerate(found.rings, start=1)
        ],
    }


def _key(device: Mapping[str, Any], number: int) -> int:
    name = device.get("device_id")
    try:
        return device_key(name if isinstance(name, str) else f"{number:032x}")
    except ValueError as error:
        raise BadInput(f"the inventory's entry {number + 1}: {error}") from None


def show_pairs(told: Mapping[str, Any]) -> None:
    """Print it for people."""
    pairs, scouts, rings = told["pairs"], told["scouts"], told["rings"]
    out()
    if told["order"] == "example":
        out("The order is an example: the real one is drawn when the release is signed (--order-salt).")
    rarest = min(pairs, key=lambda each: each["devices"])
    out(
        f"Pairs of {', '.join(told['labels'])}: {len(pairs):,}, and {len(scouts):,} scouts cover all of them first"
        f" (rollout start {' '.join(f'--scout {name}' for name in told['labels'])});"
        f" the rarest is {rarest['pair']} ({rarest['devices']:,} devices)."
    )
    rows = [
        (str(s["device"])[:_SHORT], " ".join(s["labels"].values()), f"{len(s['pairs'])}", _some(s["pairs"]))
        for s in scouts
    ]
    table(
        "Scouts, in their order",
        ("device", " ".join(told["labels"]), "pairs", "of which it is the first"),
        rows[:MOST_ROWS],
        empty="",
    )
    _and_more(len(rows))
    seen, shown = 0, []
    for ring in rings:
        seen += len(ring["first"])
        shown.append((ring["ring"], f"{ring['treated']:,}", f"{ring['pairs']:,}", f"{seen:,}", _some(ring["first"])))
    table(
        "Rings, without the scouts",
        ("ring", "treated so far", "pairs in it", "pairs so far", "of which it is the first"),
        shown[:MOST_ROWS],
        empty="",
    )
    _and_more(len(shown))
    if never := len(pairs) - seen:
        out(f"In none of these rings: {never:,} of the pairs; scouts alone hold them, or devices that come later.")


def _some(names: Sequence[str]) -> str:
    more = f", and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    return "; ".join(names[:MOST_NAMED]) + more


def _and_more(rows: int) -> None:
    if rows > MOST_ROWS:
        out(f"and {rows - MOST_ROWS:,} more: --json lists all.")
