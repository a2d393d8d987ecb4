"""Where a device stands when its journal is lost: told from the slots and from what the guard's file kept."""

from __future__ import annotations

from dataclasses import replace

from tidegate.agent import guard
from tidegate.agent.journal import Lease, Record
from tidegate.agent.slots import Slots
from tidegate.core.device import State
from tidegate.core.errors import BadInput
from tidegate.core.model import Arm, Candidate
from tidegate.core.wire import read

_HAS_POINTER = frozenset({State.APPLYING, State.PROBING, State.CONFIRMED, State.REVERTING})
"""States in which `current` may name what is not confirmed."""


def from_slots(slots: Slots) -> tuple[Record, str]:
    """Give a record from which the device goes on safely, and the sentence that says what was found.

    What runs without having been confirmed goes back; the last known good is never given up. Nothing that was only
    being fetched or asked for is taken up: it costs no more than to begin anew.
    """
    current, good = guard.slot_of(slots.directory, "current"), guard.slot_of(slots.directory, "good")
    state = slots.guard_state()
    armed = state.get("armed") is True
    known = _known(state)
    if current is None and good is None:
        if slots.note() and known:
            return _back(known, slots.note()), "a first install was taken back by the guard"
        return Record(), "" if not armed else "no release is installed"
    if current == good:
        if slots.note() and known:
            return _back(known, slots.note()), f"the guard had gone back to {good}"
        if armed and known and state.get("slot") == current:
            return replace(known, state="CONFIRMED", kind="confirmed"), f"{current} had been confirmed"
        return Record(), f"{current} runs and is the last known good"
    if known and state.get("slot") == current:
        return _back(known, "the journal was lost"), f"{current} runs unconfirmed and goes back to {good or 'nothing'}"
    if current is None:
        return Record(state="REVERTING"), f"nothing runs although {good} is the last known good, which is started again"
    on_trial = armed or (slots.directory / "guard.json").exists()
    if good is None and not on_trial:
        return Record(), f"{current} runs and nothing says that it is on trial; it is kept"
    return Record(state="REVERTING"), f"{current} runs unconfirmed and unknown, and goes back to {good or 'nothing'}"


def outdated(record: Record, slots: Slots) -> str:
    """Say why a journal that is whole is older than the pointers, or nothing.

    The guard is armed after the journal says APPLYING and disarmed before it says IDLE: what contradicts that is a
    journal from another time, as a restored backup leaves it.
    """
    current, good = guard.slot_of(slots.directory, "current"), guard.slot_of(slots.directory, "good")
    state = slots.guard_state()
    on_trial = current and current != good and state.get("armed") is True and state.get("slot") == current
    if on_trial and record.at not in _HAS_POINTER:
        return f"the journal is older than the pointers: it says {record.state} while {current} runs unconfirmed"
    if on_trial and state.get("digest") != record.digest:
        return f"the journal is older than the pointers: it is about another release than {current}"
    return ""


def _back(known: Record, note: str) -> Record:
    return replace(known, state="REVERTING", kind="reverted", note=note)


def _known(state: dict[str, object]) -> Record | None:
    """Read what `Slots.arm` kept beside the guard's count, if it is whole."""
    try:
        candidate = read(Candidate, state.get("candidate"), "guard.json candidate")
        lease = read(Lease, state.get("lease"), "guard.json lease")
    except BadInput:
        return None
    report_seq, rollout = state.get("report_seq"), state.get("rollout")
    if not isinstance(report_seq, int) or not isinstance(rollout, str) or lease.arm != Arm.TREATED.value:
        return None
    return Record(rollout=rollout, candidate=candidate, lease=lease, report_seq=report_seq)
