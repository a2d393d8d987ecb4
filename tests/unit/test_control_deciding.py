"""A batch of questions is decided as if each were alone: reports that are folded together change nothing of that."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from tests.rollouts import Course, spec_of
from tests.rollouts import Fleet as Driven
from tests.snapshots import difference, snapshot

from tidegate.control import devices
from tidegate.control.batch_fold import LEAST
from tidegate.control.deciding import decide_all
from tidegate.control.devices import Claim, Replayed, Report, lease_id
from tidegate.control.questions import Asked
from tidegate.control.state import ServerState
from tidegate.log.events import Event, Reported

pytestmark = pytest.mark.room("control")

DEVICES = 3 * LEAST


def leased() -> tuple[Driven, Course]:
    """Everyone holds a treated lease, and nobody has said anything."""
    fleet = Driven(DEVICES, {n: {"site": "ATL"} for n in range(DEVICES)})
    course = fleet.start(spec_of(DEVICES, max_harmed=DEVICES, placebo_per_treated=0.0))
    course.look()
    for position in range(DEVICES):
        course.announce(position)
    assert course.rollout.evidence.exposed == DEVICES
    return fleet, course


def reports(course: Course, position: int, *, seq: int = 2, **more: Any) -> Any:
    name = lease_id(course.spec.rollout, int(course.rollout.evidence.ring_at_lease[position]), position)
    claim = Claim(position, course.fleet.state.devices.device_id(position), seq)
    said = (Report(name, "confirmed", 1, **more),)
    return lambda state, now_ms: devices.report(state, now_ms, claim, said)


def confirmed(state: ServerState, now_ms: int) -> tuple[list[Event], int]:
    return [], state.rollouts["r1"].evidence.confirmed


def _who(device: int | None) -> frozenset[int]:
    return frozenset() if device is None else frozenset({device})


def decided(fleet: Driven, questions: Sequence[tuple[Any, int | None]]) -> tuple[list[Event], list[Any]]:
    """Give the events, and each question's answer or error."""

    async def scene() -> tuple[list[Event], list[Any]]:
        loop = asyncio.get_running_loop()
        batch = [Asked(decide, loop.create_future(), _who(device)) for decide, device in questions]
        events, answers = decide_all(fleet.state, batch, fleet.now_ms)
        for asked, answer in answers:
            asked.answer.set_result(answer)
        return events, await asyncio.gather(*(asked.answer for asked in batch), return_exceptions=True)

    return asyncio.run(scene())


def test_whoever_asks_sees_all_reports_before_and_none_behind() -> None:
    fleet, course = leased()
    some = [(reports(course, at), at) for at in range(2 * LEAST)]
    _, answers = decided(fleet, [*some[:LEAST], (confirmed, None), *some[LEAST:], (confirmed, None)])
    assert [answer for answer in answers if answer is not None] == [LEAST, 2 * LEAST]


def test_a_second_report_of_one_device_sees_the_first() -> None:
    fleet, course = leased()
    others = [(reports(course, at), at) for at in range(1, LEAST + 1)]
    twice = [(reports(course, 0, seq=5), 0), (reports(course, 0, seq=5), 0), (reports(course, 0, seq=4), 0)]
    events, answers = decided(fleet, [*others, *twice])
    assert sum(isinstance(event, Reported) and event.index == 0 for event in events) == 1
    assert isinstance(answers[-1], Replayed)
    assert answers[:-1] == [None] * (LEAST + 2)


@pytest.mark.parametrize("odd", [{"boot_s": 1 << 70}, {"signature": "ab" * 64}], ids=lambda odd: next(iter(odd)))
def test_what_fits_no_column_is_folded_all_the_same(odd: dict[str, Any]) -> None:
    fleet, course = leased()
    questions = [(reports(course, at, **(odd if at == 3 else {})), at) for at in range(DEVICES)]
    events, _ = decided(fleet, questions)
    assert len(events) == DEVICES
    alone, other = leased()
    for event in events:
        alone.state.apply(event)
    assert other.rollout.evidence.confirmed == DEVICES
    assert difference(snapshot(alone.state), snapshot(fleet.state)) == ""
