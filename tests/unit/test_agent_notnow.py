"""Not now: windows in local time, batteries and metered lines, told from what the machine says and what others hint."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.agent.conditions import look_around
from tidegate.agent.config import Settings
from tidegate.agent.notnow import (
    DAY_MIN,
    WEEK_MIN,
    Conditions,
    may_not_begin,
    may_not_fetch,
    opens_in,
    parse_window,
)


def at(day: int, hour: int, minute: int = 0) -> int:
    return day * DAY_MIN + hour * 60 + minute


@pytest.mark.parametrize(
    ("window", "open_at", "shut_at"),
    [
        ("22:00-06:00", [at(0, 22), at(3, 23, 59), at(4, 5, 59), at(0, 0)], [at(0, 21, 59), at(2, 6), at(6, 12)]),
        ("mon-fri 22:00-06:00", [at(0, 22), at(5, 5, 59)], [at(5, 22), at(0, 5), at(6, 23)]),
        ("sat,sun", [at(5, 0), at(6, 23, 59)], [at(0, 0), at(4, 23, 59)]),
        ("sun 23:00-01:00", [at(6, 23), at(0, 0, 59)], [at(0, 1), at(6, 22, 59)]),
        ("fri-mon 00:00-24:00", [at(4, 0), at(0, 23, 59)], [at(1, 0), at(3, 23, 59)]),
        ("WED 01:30-01:31", [at(2, 1, 30)], [at(2, 1, 31), at(2, 1, 29)]),
    ],
)
def test_windows_are_open_when_they_say(window: str, open_at: list[int], shut_at: list[int]) -> None:
    assert [opens_in((window,), minute) for minute in open_at] == [0] * len(open_at)
    assert all(opens_in((window,), minute) for minute in shut_at)


@given(
    st.sampled_from(["22:00-06:00", "mon 04:00-05:00", "sat,sun", "tue-wed 23:30-23:10"]), st.integers(0, WEEK_MIN - 1)
)
def test_a_window_opens_when_it_was_said_to(window: str, minute: int) -> None:
    wait = opens_in((window,), minute)
    assert opens_in((window,), (minute + wait) % WEEK_MIN) == 0
    assert wait == 0 or opens_in((window,), (minute + wait - 1) % WEEK_MIN) == 1


@pytest.mark.parametrize(
    "text",
    ["", "22-6", "22:00", "25:00-26:00", "22:60-23:00", "mo 22:00-23:00", "22:00-22:00", "mon 1:00-2:00", "mon tue",
     "mon--tue", "mon 22:00-23:00 utc", "24:00-02:00"],
)  # fmt: skip
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="maintenance window"):
        parse_window(text)
    with pytest.raises(ValueError, match="maintenance window"):
        Settings("http://x", windows=(text,))


NOON = at(2, 12)


@pytest.mark.parametrize(
    ("conditions", "fetch", "begin"),
    [
        (Conditions(NOON), "", ""),
        (Conditions(NOON, 5, True), "", ""),
        (Conditions(NOON, 5, False), "the battery has 5 %", "the battery has 5 %"),
        (Conditions(NOON, 5, None), "the battery has 5 %", "the battery has 5 %"),
        (Conditions(NOON, 20, False), "", ""),
        (Conditions(NOON, metered=True), "metered", ""),
        (Conditions(NOON, wish="an operation is under way"), "", "not now: an operation is under way"),
        (Conditions(at(2, 9)), "", "opens wed 10:30 local time (mon-fri 10:30-14:00)"),
        (Conditions(at(5, 9)), "", "opens mon 10:30"),
    ],
)
def test_each_reason_is_a_sentence(conditions: Conditions, fetch: str, begin: str) -> None:
    for found, words in (
        (may_not_fetch(conditions, 20, "avoid"), fetch),
        (may_not_begin(conditions, ("mon-fri 10:30-14:00",), 20), begin),
    ):
        assert (found is not None) == bool(words)
        assert found is None or words in found.sentence


def test_a_metered_line_may_be_allowed() -> None:
    assert may_not_fetch(Conditions(NOON, metered=True), 20, "allow") is None


def supply(power: Path, name: str, **files: str) -> None:
    (power / name).mkdir(parents=True)
    for file, word in files.items():
        (power / name / file).write_text(word + "\n")


def test_the_machine_says_how_it_is_powered(tmp_path: Path) -> None:
    power, hints = tmp_path / "power", tmp_path / "hints.json"
    assert look_around(0.0, hints, power).battery_percent is None, "no such directory: a server, a container"
    supply(power, "BAT0", type="Battery", capacity="14", status="Discharging")
    supply(power, "BAT1", type="Battery", capacity="31", status="Discharging")
    supply(power, "hidpp", type="Battery", capacity="90", scope="Device")
    supply(power, "AC", type="Mains", online="0")
    supply(power, "odd", type="Battery", capacity="unknown")
    found = look_around(0.0, hints, power)
    assert (found.battery_percent, found.on_mains, found.metered) == (31, False, None)
    (power / "AC" / "online").write_text("1\n")
    assert look_around(0.0, hints, power).on_mains is True


@pytest.mark.parametrize(
    ("hint", "wanted"),
    [
        ({"metered": True}, {"metered": True}),
        ({"battery_percent": 7.6, "on_mains": False}, {"battery_percent": 7, "on_mains": False}),
        ({"not_now": "a  long\nnight " + "x" * 900}, {"wish": ("a long night " + "x" * 900)[:200]}),
        ({"metered": "yes", "battery_percent": 400, "not_now": 3, "more": []}, {}),
        ([], {}),
        ("rubbish", {}),
    ],
)
def test_hints_win_and_rubbish_holds_nobody_up(tmp_path: Path, hint: Any, wanted: dict[str, Any]) -> None:
    hints = tmp_path / "hints.json"
    hints.write_text(json.dumps(hint) if hint != "rubbish" else "{")
    found = look_around(0.0, hints, tmp_path / "none")
    nothing = {"battery_percent": None, "on_mains": None, "metered": None, "wish": ""}
    assert {name: getattr(found, name) for name in nothing} == {**nothing, **wanted}


@pytest.fixture
def far_east() -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Asia/Tokyo-9" if not Path("/usr/share/zoneinfo/Asia/Tokyo").exists() else "Asia/Tokyo"
    time.tzset()
    yield
    os.environ.pop("TZ")
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


def test_windows_are_in_local_time(far_east: None, tmp_path: Path) -> None:
    monday_evening = datetime.fromisoformat("2026-11-23T20:30:00+00:00").timestamp()
    assert look_around(monday_evening, tmp_path / "h", tmp_path / "p").minute == at(1, 5, 30)


def test_settings_are_checked() -> None:
    assert Settings("http://x", windows=("sat,sun",), min_battery_percent=30, metered="allow", max_bytes_per_s=2000)
    for wrong in ({"min_battery_percent": 101}, {"metered": "maybe"}, {"max_bytes_per_s": 10}, {"max_bytes_per_s": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Settings("http://x", **wrong)  # pyright: ignore[reportArgumentType]
