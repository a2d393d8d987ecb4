"""Advance, hold or halt, each with the counts it was taken on and the sentence that explains it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tidegate.core.phases import Happening
from tidegate.core.words import counted


class VerdictKind(str, Enum):
    """What the evidence says. Hold is no success and no failure: it cannot be told yet."""

    ADVANCE = "advance"
    HOLD = "hold"
    HALT = "halt"


@dataclass(frozen=True, slots=True)
class Figures:
    """The counts that a verdict was taken on; kept with it in the log."""

    exposed: int
    confirmed: int
    reverted: int
    silent: int
    placebo: int
    placebo_failed: int
    max_harmed: int
    devices: int
    log_evidence_of_harm: float
    signalled: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """One decision about one rollout."""

    kind: VerdictKind
    happening: Happening
    ring: int
    sentence: str
    figures: Figures
    opens: int = 0
    opens_placebo: int | None = None
    """Treated and placebo devices of the ring that this verdict opens; None, as the budget has it, in older events."""


def advance(ring: int, ring_size: int, placebo_size: int, by: str, figures: Figures) -> Verdict:
    """The next ring may begin; `by` names the rule that let it."""
    proof = f"{figures.confirmed:,} of {figures.exposed:,} exposed have confirmed" if figures.exposed else "the canary"
    beside = f", {placebo_size:,} placebo beside" if placebo_size else ""
    sentence = f"ring {ring} opens for {counted(ring_size, 'device')}{beside}: {proof}; {by}"
    return Verdict(VerdictKind.ADVANCE, Happening.OPENED, ring, sentence, figures, ring_size, placebo_size)


def complete(ring: int, figures: Figures) -> Verdict:
    """Everyone has confirmed."""
    sentence = f"all {counted(figures.devices, 'device')} of the roster run the candidate and have confirmed"
    return Verdict(VerdictKind.ADVANCE, Happening.COMPLETE, ring, sentence, figures)


def ease(ring: int, figures: Figures) -> Verdict:
    """Leases can be granted again, with no new ring."""
    sentence = f"goes on in ring {ring}: {figures.confirmed:,} of {figures.exposed:,} exposed have confirmed"
    return Verdict(VerdictKind.ADVANCE, Happening.EASED, ring, sentence, figures)


def hold(ring: int, late: int, late_room: int, figures: Figures) -> Verdict:
    """Nothing is under way and nothing may begin: it cannot be told whether going on is safe."""
    open_risk = figures.exposed - figures.confirmed
    sentence = (
        f"{counted(open_risk, 'device')} exposed without a confirmation"
        f" ({figures.silent:,} silent, {figures.reverted:,} reverted)"
        f" of {figures.max_harmed:,} that may be harmed"
    )
    if late:
        sentence += f"; {counted(late, 'device')} did not come while their ring was open"
    if open_risk >= figures.max_harmed:
        sentence += "; nobody else is exposed until one of them confirms: find out why, then abort or wait"
    elif late and late_room:
        sentence += f", and may announce when they are back ({late_room:,} at a time)"
    return Verdict(VerdictKind.HOLD, Happening.STUCK, ring, sentence, figures)


def held_back(ring: int, why: str, figures: Figures) -> Verdict:
    """The evidence lets the next ring begin, and the signed speed limit does not."""
    sentence = f"ring {ring} waits: {why}"
    return Verdict(VerdictKind.HOLD, Happening.STUCK, ring - 1, sentence, figures)


def halt(ring: int, one_in: float, figures: Figures) -> Verdict:
    """The candidate harms devices. `one_in`: a harmless one would look like this once in so many rollouts."""
    failed = figures.reverted + figures.silent
    beside = (
        f", and {figures.placebo_failed:,} of {figures.placebo:,} placebo devices"
        if figures.placebo
        else ", no placebo"
    )
    called = f", {figures.signalled:,} called down by people" if figures.signalled else ""
    sentence = (
        f"{failed:,} of {counted(figures.exposed, 'device')} exposed failed ({figures.reverted:,} reverted themselves,"
        f" {figures.silent:,} fell silent{called}){beside}: a harmless candidate would look like this"
        f" in fewer than 1 of {one_in:,.0f} rollouts"
    )
    return Verdict(VerdictKind.HALT, Happening.HARM, ring, sentence, figures)
