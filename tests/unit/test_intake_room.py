"""Room at a full port: who goes, who stays, and how often all are looked at."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from tidegate.intake.doors import Door
from tidegate.intake.room import GRACE_S, LOOK_EVERY_S, Room

pytestmark = pytest.mark.room("intake")


@dataclass(eq=False)
class Chair:
    """A place: since when it is held for nothing, or None."""

    door: Door
    since_s: float | None
    who: str | None = ""
    gone: list[float] = field(default_factory=list[float])

    def idle_since(self, now_s: float) -> float | None:
        return self.since_s

    def give_up(self) -> None:
        assert self.who is not None
        self.door.leave(self.who)
        self.who = None


class Scene:
    """A port of four places, of which an address may have two, and a clock that is moved by hand."""

    def __init__(self) -> None:
        self.now_s, self.looks = 100.0, 0
        self.door = Door("x", most=4, share=2)
        self.chairs: list[Chair] = []
        self.door.make_room = Room(self.seats, lambda: self.now_s).make

    def seats(self) -> list[Chair]:
        self.looks += 1
        return [chair for chair in self.chairs if chair.who is not None]

    def sit(self, address: str, since_s: float | None) -> Chair | None:
        who = self.door.enter(address)
        if who is None:
            return None
        self.chairs.append(Chair(self.door, since_s, who))
        return self.chairs[-1]


def test_whoever_has_held_a_place_longest_goes_first() -> None:
    scene = Scene()
    held = [scene.sit("127.0.0.1", since_s) for since_s in (98.0, 91.0, 95.0, None)]
    for expected in (1, 2, 0):
        assert scene.sit("127.0.0.1", None)
        gone = [number for number, chair in enumerate(held) if chair is not None and chair.who is None]
        assert expected in gone
    assert scene.sit("127.0.0.1", None) is None, "all that are left are being served"
    assert scene.door.refused["full"] == 1
    assert scene.door.dropped["room"] == 3
    assert scene.door.open == 4


def test_nobody_goes_who_has_just_come() -> None:
    scene = Scene()
    for _ in range(4):
        assert scene.sit("127.0.0.1", 100.0)
    assert scene.sit("127.0.0.1", None) is None
    scene.now_s += GRACE_S
    assert scene.sit("127.0.0.1", None)


def test_whoever_has_asked_for_something_since_the_look_stays() -> None:
    scene = Scene()
    held = [scene.sit("127.0.0.1", since_s) for since_s in (91.0, 92.0, 93.0, 94.0)]
    assert scene.sit("127.0.0.1", None)
    assert held[1] is not None and held[2] is not None
    held[1].since_s = None
    assert scene.sit("127.0.0.1", None)
    assert held[1].who == ""
    assert held[2].who is None


def test_an_address_at_its_share_makes_way_for_itself_and_for_nobody_else() -> None:
    scene = Scene()
    others = scene.sit("192.0.2.1", 50.0)
    mine = [scene.sit("192.0.2.2", since_s) for since_s in (91.0, 90.0)]
    assert others is not None and mine[0] is not None and mine[1] is not None
    fresh = scene.sit("192.0.2.2", None)
    assert fresh is not None
    assert (others.who, mine[0].who, mine[1].who) == ("192.0.2.1", "192.0.2.2", None)
    assert scene.sit("192.0.2.2", None)
    assert scene.sit("192.0.2.2", None) is None, "its other two are being served"
    assert scene.door.refused["share"] == 1
    assert others.who == "192.0.2.1"
    assert scene.door.open == 3


def test_all_places_are_looked_at_now_and_then_only() -> None:
    scene = Scene()
    for _ in range(4):
        scene.sit("127.0.0.1", None)
    for _ in range(100):
        assert scene.sit("127.0.0.1", None) is None
    assert scene.looks == 1
    scene.now_s += LOOK_EVERY_S
    scene.chairs[0].since_s = 90.0
    assert scene.sit("127.0.0.1", None)
    assert scene.looks == 2


def test_an_address_that_leaves_at_the_last_moment_has_its_place_counted_once() -> None:
    """The one that makes way is the last of its address, and the newcomer is of the same."""
    scene = Scene()
    scene.door.share = 1
    assert scene.sit("192.0.2.1", 90.0)
    fresh = scene.sit("192.0.2.1", None)
    assert fresh is not None and fresh.who is not None
    assert scene.door.open == 1
    scene.door.leave(fresh.who)
    assert scene.door.open == 0
    assert scene.sit("192.0.2.1", None)
