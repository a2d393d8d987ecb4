"""The line before the controller: order, whoever comes with the next turns of the loop, and nobody lost."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from tidegate.control.line import Line
from tidegate.control.questions import Asked

pytestmark = pytest.mark.room("control")


def run(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, 60))


def future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


def asked(number: int) -> Asked:
    return Asked(lambda state, now_ms: ([], None), future(), frozenset({number}))


def numbers(found: list[Asked]) -> list[int]:
    return [number for one in found for number in one.devices]


def test_all_who_wait_are_taken_in_order_and_no_more_than_asked_for() -> None:
    async def scene() -> None:
        line = Line()
        for number in range(7):
            line.join(asked(number))
        assert len(line) == 7
        assert numbers(await line.take(5, 60)) == [0, 1, 2, 3, 4]
        assert numbers(line.take_now(9)) == [5, 6]
        assert numbers(line.take_now(9)) == []

    run(scene())


def test_reports_of_several_devices_count_as_many_and_stay_together() -> None:
    async def scene() -> None:
        line = Line()
        for size in (3, 4, 9, 1):
            line.join(Asked(lambda state, now_ms: ([], None), future(), frozenset(range(size))))
        line.join(Asked(lambda state, now_ms: ([], None), future()))
        taken = [[one.count for one in line.take_now(most)] for most in (6, 6, 6, 2)]
        assert taken == [[3], [4], [9], [1, 1]]
        assert len(line) == 0

    run(scene())


def test_who_takes_is_woken_by_the_first_and_waits_for_those_who_come_right_behind() -> None:
    async def scene() -> None:
        line = Line()
        taker = asyncio.create_task(line.take(100, 60))
        await asyncio.sleep(0)
        for number in range(20):
            line.join(asked(number))
            await asyncio.sleep(0)
        assert numbers(await taker) == list(range(20))

    run(scene())


def test_nobody_comes_and_the_taker_goes_on() -> None:
    async def scene() -> None:
        line = Line()
        assert await line.take(100, 0.01) == []
        line.join(asked(1))
        assert numbers(await line.take(100, 60)) == [1]

    run(scene())


@pytest.mark.parametrize("turns", range(5))
def test_a_taker_that_is_cancelled_loses_nobody(turns: int) -> None:
    async def scene() -> None:
        line = Line()
        taker = asyncio.create_task(line.take(100, 60))
        await asyncio.sleep(0)
        for number in range(turns):
            line.join(asked(number))
            await asyncio.sleep(0)
        taker.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taker
        line.join(asked(turns))
        assert numbers(await line.take(100, 60)) == list(range(turns + 1))

    run(scene())
