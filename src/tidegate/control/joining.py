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
PART = 4000
"""Devices that are entered at once: nobody else is answered meanwhile, which is then not noticed."""


def join(
    state: ServerState,
    now_ms: int,
    by: Who,
    keys: npt.NDArray[np.uint8],
    sets: Sequence[Partial],
    numbers: npt.NDArray[np.int64],
    *,
    token_id: str,
    ids: bytes,
    replace: bool,
) -> tuple[list[Event], tuple[int, int]]:
    """Give an identity to each key that has none, and its labels to each: all of them, or none.

    A device that holds the key gets this identity when it enrols with any valid token.

    Args:
        keys: public keys, shape (n, 32).
        sets, numbers: as `labels_set` has them.
        token_id: the import's name, under which its devices are on record.
        ids: fresh identities, 16 bytes for each key.
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
    if len(keys) > MOST_AT_ONCE or len(np.unique(keys, axis=0)) != len(keys):
        raise BadInput(f"one part of an import names at most {MOST_AT_ONCE:,} devices, each once")
    rows = state.devices.by_public_keys(keys)
    known, fresh = np.flatnonzero(rows >= 0), np.flatnonzero(rows < 0).tolist()
    events: list[Event] = []
    if fresh and token_id not in state.tokens:  # over at once, and nobody knows what it would take to use it
        body = {"token_id": token_id, "hash": hashlib.sha256(secrets.token_bytes(32)).hexdigest(), "labels": {},
                "uses": 0, "expires_ms": now_ms}  # fmt: skip
        events.append(Act(at_ms=now_ms, what="token_created", who=by.who, why=by.why, body=body))
    labels = [{name: value for name, value in labels.items() if value is not None} for labels in sets]
    whole, names, which = keys.tobytes().hex(), ids.hex(), numbers.tolist()
    events += [
        Enrolled(
            at_ms=now_ms,
            index=index,
            device_id=names[32 * place : 32 * place + 32],
            public_key=whole[64 * place : 64 * place + 64],
            token_id=token_id,
            labels=labels[which[place]],
            facts={},
        )
        for index, place in enumerate(fresh, len(state.devices))
    ]
    if len(known):
        events += labels_set(state.devices, now_ms, by, rows[known], sets, numbers[known], replace=replace)[0]
    return events, (len(fresh), len(known))
