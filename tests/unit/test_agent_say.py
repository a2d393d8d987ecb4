"""What an agent says of itself in `status.json`."""

from __future__ import annotations

import json
from pathlib import Path

from tidegate.agent.say import StatusFile


def test_the_first_contact_with_a_server_is_shown_at_once(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    status = StatusFile(path)
    status.show("d1", None, [], "no component has a plan")
    assert json.loads(path.read_bytes())["last_contact"] is None
    status.show("d1", 1_800_000_000.0, [], "no component has a plan")
    assert json.loads(path.read_bytes())["last_contact"] == 1_800_000_000.0
