"""Verdicts: each has its happening, and a sentence that a person can act on, with the figures it was taken on."""

from __future__ import annotations

from dataclasses import replace

from tidegate.core.model import PlanState
from tidegate.core.phases import Happening, step
from tidegate.core.verdict import Figures, VerdictKind, advance, complete, ease, halt, hold

FIGURES = Figures(
    exposed=1200,
    confirmed=1190,
    reverted=4,
    silent=6,
    placebo=4000,
    placebo_failed=9,
    max_harmed=10,
    devices=8_500_000,
    log_evidence_of_harm=1.5,
)


def test_advance_says_how_many_and_by_which_rule() -> None:
    verdict = advance(3, 1, 5000, "the certain rule", FIGURES)
    assert (verdict.kind, verdict.happening, verdict.opens) == (VerdictKind.ADVANCE, Happening.OPENED, 1)
    assert verdict.sentence == (
        "ring 3 opens for 1 device, 5,000 placebo beside: 1,190 of 1,200 exposed have confirmed; the certain rule"
    )
    first = advance(1, 10, 0, "x", replace(FIGURES, exposed=0))
    assert first.sentence == "ring 1 opens for 10 devices: the canary; x"


def test_hold_says_what_is_open() -> None:
    verdict = hold(3, 2, 0, FIGURES)
    assert (verdict.kind, verdict.happening, verdict.opens) == (VerdictKind.HOLD, Happening.STUCK, 0)
    assert "10 devices exposed without a confirmation (6 silent, 4 reverted) of 10 that may be harmed" in (
        verdict.sentence
    )
    assert "2 devices did not come" in verdict.sentence


def test_halt_compares_both_arms() -> None:
    verdict = halt(3, 2_000_000, FIGURES)
    assert (verdict.kind, verdict.happening) == (VerdictKind.HALT, Happening.HARM)
    for words in ("10 of 1,200 devices exposed failed", "4 reverted", "6 fell silent", "9 of 4,000 placebo"):
        assert words in verdict.sentence
    assert "1 of 2,000,000 rollouts" in verdict.sentence
    assert "no placebo" in halt(1, 1000, replace(FIGURES, placebo=0)).sentence


def test_the_end_and_the_going_on() -> None:
    assert complete(9, FIGURES).sentence == "all 8,500,000 devices of the roster run the candidate and have confirmed"
    assert ease(2, FIGURES).sentence == "goes on in ring 2: 1,190 of 1,200 exposed have confirmed"


def test_every_verdict_has_a_place_in_the_phase_that_it_is_for() -> None:
    opened, over = advance(1, 1, 0, "x", FIGURES), complete(1, FIGURES)
    for verdict, phase in (
        (opened, PlanState.OPEN),
        (opened, PlanState.HOLD),
        (hold(1, 0, 0, FIGURES), PlanState.OPEN),
        (ease(1, FIGURES), PlanState.HOLD),
        (halt(1, 9.0, FIGURES), PlanState.OPEN),
        (halt(1, 9.0, FIGURES), PlanState.PAUSED),
        (over, PlanState.PAUSED),
    ):
        assert step(phase, verdict.happening) is not None
