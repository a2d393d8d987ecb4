"""Labels of many devices set at once, on record in a few acts: rows of columns, not an event for each device."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tidegate.core.errors import BadInput
from tidegate.core.model import check_name
from tidegate.core.printable import is_plain
from tidegate.core.roster import LISTED, Roster
from tidegate.log.events import Act, Event

if TYPE_CHECKING:
    from tidegate.control.acts import Who
    from tidegate.control.fleet import Fleet

Ints = npt.NDArray[np.int64]
Partial = dict[str, str | None]
"""Labels as they are to be; None takes one away."""
PER_ACT = 500_000
MOST_SETS = 1_000_000
MOST_VALUE = 100


def check_labels(sets: Sequence[Partial]) -> None:
    """Refuse labels that cannot be. Raises BadInput."""
    if len(sets) > MOST_SETS:
        raise BadInput(
            f"these are {len(sets):,} different sets of labels, and {MOST_SETS:,} are the most: labels name groups, "
            "not single devices"
        )
    for name in {name for labels in sets for name in labels}:
        try:
            check_name("label", name)
        except ValueError as error:
            raise BadInput(str(error)) from error
    for labels in sets:
        for name, value in labels.items():
            if value is not None:
                check_value(name, value)


def check_value(name: str, value: str) -> None:
    """Refuse a label's value that cannot be: people read it in tables and sentences. Raises BadInput."""
    if not 1 <= len(value) <= MOST_VALUE:
        raise BadInput(f"label {name}: the value must have 1 to {MOST_VALUE} characters")
    if not is_plain(value):
        raise BadInput(f"label {name}: the value must hold no control characters; this is {value!r}")


def rows_of(fleet: Fleet, ids: npt.NDArray[np.uint8]) -> Ints:
    """Find the rows of devices by their ids, shape (n, 16); -1 where there is none. Shape (n,)."""
    count = len(fleet)
    known = np.ascontiguousarray(fleet.ids[:count])
    words = known.view(">u8")[:, 0].astype(np.uint64)
    asked = np.ascontiguousarray(ids).view(">u8")[:, 0].astype(np.uint64) if len(ids) else np.empty(0, np.uint64)
    if not count:
        return np.full(len(ids), -1, dtype=np.int64)
    order, turn = np.argsort(words), np.argsort(asked)  # both sorted: neighbours are looked for in neighbours
    place = np.empty(len(asked), dtype=np.int64)
    place[turn] = np.minimum(np.searchsorted(words[order], asked[turn]), count - 1)
    rows = order[place].astype(np.int64)
    rows[(known[rows] != ids).any(axis=1)] = -1
    for missing in np.flatnonzero((rows < 0) & (words[order[place]] == asked)).tolist():  # halves alike: one in 2**64
        rows[missing] = next(iter(np.flatnonzero((known == ids[missing]).all(axis=1)).tolist()), -1)
    return rows


def labels_set(
    fleet: Fleet, now_ms: int, by: Who, rows: Ints, sets: Sequence[Partial], numbers: Ints, *, replace: bool
) -> tuple[list[Event], int]:
    """Give the acts that set labels, and how many devices they name; all of them, or none.

    Args:
        rows: device indices, each once, in any order.
        sets: the different sets of labels.
        numbers: for each row, which of `sets` it is to have.
        replace: whether labels that a set does not name are taken away, or left as they are.

    Raises:
        BadInput: for labels or devices that cannot be.
    """
    check_labels(sets)
    order = np.argsort(rows, kind="stable")
    rows, numbers = rows[order], numbers[order]
    if len(rows) and (rows[0] < 0 or rows[-1] >= len(fleet)):
        raise BadInput(f"there is no device number {int(rows[0] if rows[0] < 0 else rows[-1])}")
    if (rows[1:] == rows[:-1]).any():
        raise BadInput(f"device number {int(rows[1:][rows[1:] == rows[:-1]][0])} is named twice")
    events: list[Event] = []
    for start in range(0, len(rows), PER_ACT):
        some, used = rows[start : start + PER_ACT], numbers[start : start + PER_ACT]
        kinds, places = np.unique(used, return_inverse=True)
        body = {
            "devices": len(some),
            "indices": Roster(some).plain(),
            "sets": [sets[kind] for kind in kinds.tolist()],
            "numbers": _packed(places),
            "replace": replace,
        }
        events.append(Act(at_ms=now_ms, what="labels_set", who=by.who, why=by.why, body=body))
    return events, len(rows)


def fold_labels(fleet: Fleet, body: dict[str, Any]) -> None:
    """Fold such an act."""
    rows = Roster.from_plain(body["indices"], "labels_set.indices").array
    fleet.relabel_many(rows, body["sets"], _unpacked(body["numbers"]), replace=body["replace"])


def _packed(places: npt.NDArray[Any]) -> list[int] | str:
    if len(places) <= LISTED:
        return [int(place) for place in places]
    return base64.b64encode(zlib.compress(places.astype("<i4").tobytes(), 1)).decode()


def _unpacked(value: list[int] | str) -> Ints:
    if isinstance(value, list):
        return np.array(value, dtype=np.int64)
    return np.frombuffer(zlib.decompress(base64.b64decode(value)), dtype="<i4").astype(np.int64)
