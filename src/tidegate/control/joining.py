"""Devices entered before they come: identities for public keys that are known beforehand, with their labels."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tidegate.control.labelling import Partial, check_labels, labels_set
from tidegate.core.errors import BadInput
from tidegate.core.model import check_name
from tidegate.log.events import Act, Enrolled, Event

if TYPE_CHECKING:
    from tidegate.control.acts import Who
    from tidegate.control.state import ServerState

MOST_AT_ONCE = 20_000


def join(
    state: ServerState,
    now_ms: int,
    by: Who,
    keys: Sequence[str],
    sets: Sequence[Partial],
    numbers: npt.NDArray[np.int64],
    *,
    token_id: str,
    ids: Sequence[str],
    replace: bool,
) -> tuple[list[Event], tuple[int, int]]:
    """Give an identity to each key that has none, and its labels to each: all of them, or none.

    A device that holds the key gets this identity when it enrols with any valid token.

    Args:
        keys: public keys, 64 hexadecimal digits each.
        sets, numbers: as `labels_set` has them.
        token_id: the import's name, under which its devices are on record.
        ids: fresh identities, as many as keys.
        replace: as `labels_set` has it, for devices that are known already.

    Returns:
        Events, and (how many are new, how many were known).

    Raises:
        BadInput: for keys or labels that cannot be.
    """
    check_labels(sets)
    try:
        check_name("the import", token_id)
    except ValueError as error:
        raise BadInput(str(error)) from error
    if len(keys) > MOST_AT_ONCE or len(set(keys)) != len(keys):
        raise BadInput(f"one part of an import names at most {MOST_AT_ONCE:,} devices, each once")
    rows = [state.devices.by_public_key(key) for key in keys]
    known = np.array([place for place, row in enumerate(rows) if row is not None], dtype=np.int64)
    fresh = [place for place, row in enumerate(rows) if row is None]
    events: list[Event] = []
    if fresh and token_id not in state.tokens:  # over at once, and nobody knows what it would take to use it
        body = {"token_id": token_id, "hash": hashlib.sha256(secrets.token_bytes(32)).hexdigest(), "labels": {},
                "uses": 0, "expires_ms": now_ms}  # fmt: skip
        events.append(Act(at_ms=now_ms, what="token_created", who=by.who, why=by.why, body=body))
    first = len(state.devices)
    for nth, place in enumerate(fresh):
        labels = {name: value for name, value in sets[int(numbers[place])].items() if value is not None}
        events.append(
            Enrolled(at_ms=now_ms, index=first + nth, device_id=ids[place], public_key=keys[place], token_id=token_id,
                     labels=labels, facts={})
        )  # fmt: skip
    if len(known):
        there = np.array([rows[place] for place in known.tolist()], dtype=np.int64)
        events += labels_set(state.devices, now_ms, by, there, sets, numbers[known], replace=replace)[0]
    return events, (len(fresh), len(known))
