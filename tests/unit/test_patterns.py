"""No pattern that reads strangers' text can be made to take for ever: each is tried on texts that are made for that.

Nothing is timed: a pattern that backtracks without end runs into the limit that every test has.
"""

from __future__ import annotations

import importlib
import pkgutil
import re

import pytest

import tidegate

pytestmark = [pytest.mark.room("trust"), pytest.mark.timeout(600)]
ROOMS = ("core", "trust", "intake", "control", "api", "agent", "log", "drivers")
BEGINNINGS = ("", "Tidegate 1.1.", "tg1.", "releases/a/", "/repo/", "plans/", "a=", "1.", "2026-11-26T", "{{", "<!-- ")
REPEATED = (
    "a",
    "0",
    "1.",
    ".",
    "-",
    "/",
    "a/",
    "a.",
    "a-",
    "_",
    " ",
    "\t",
    "\n",
    "=",
    ",",
    "\\",
    '"',
    "{",
    "é",
    "\x00",
)
ENDINGS = ("", "!", "\x00", "\n", " x")


def _patterns() -> dict[str, re.Pattern[str]]:
    found: dict[str, re.Pattern[str]] = {}
    for room in ROOMS:
        package = importlib.import_module(f"tidegate.{room}")
        for module in pkgutil.iter_modules(package.__path__, f"tidegate.{room}."):
            if module.name.endswith(("__main__", "yara_rules", "nats", "postgres")):
                continue
            try:
                names = vars(importlib.import_module(module.name))
            except ImportError:
                continue
            for value in names.values():
                if isinstance(value, re.Pattern) and isinstance(value.pattern, str):
                    found[value.pattern] = value
    return found


PATTERNS = _patterns()


def test_the_patterns_that_devices_and_strangers_meet_are_among_them() -> None:
    assert tidegate.__name__ and len(PATTERNS) >= 15
    assert any("Tidegate" in pattern for pattern in PATTERNS) and any("tg1" in pattern for pattern in PATTERNS)


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=range(len(PATTERNS)))
def test_no_pattern_is_held_up_by_a_text_made_for_it(pattern: re.Pattern[str]) -> None:
    for beginning in BEGINNINGS:
        for repeated in REPEATED:
            for ending in ENDINGS:
                text = beginning + repeated * 2000 + ending
                pattern.match(text)
                pattern.fullmatch(text)
