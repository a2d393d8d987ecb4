"""The diary says how many devices an act was about, and never which."""

from __future__ import annotations

from structlog.testing import capture_logs

from tidegate.control.metrics import Meters
from tidegate.control.state import ServerState
from tidegate.control.told import tell
from tidegate.log.events import Act


def test_an_act_on_many_devices_is_told_with_their_number() -> None:
    many = Act(at_ms=1, what="labels_set", who="ada", why="", body={"devices": 12, "indices": "secret", "sets": []})
    named = Act(at_ms=2, what="note", who="ada", why="", body={"devices": [3, 4]})
    with capture_logs() as said:
        tell([many, named], ServerState(), Meters())
    assert [line.get("devices") for line in said] == [12, None]
    assert "indices" not in said[0]
