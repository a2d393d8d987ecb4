"""What an agent says of itself in `status.json`."""

from __future__ import annotations

import io
import json
from pathlib import Path

from tidegate.agent.say import Log, StatusFile


def test_the_first_contact_with_a_server_is_shown_at_once(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    status = StatusFile(path)
    status.show("d1", None, [], "no component has a plan")
    assert json.loads(path.read_bytes())["last_contact"] is None
    status.show("d1", 1_800_000_000.0, [], "no component has a plan")
    assert json.loads(path.read_bytes())["last_contact"] == 1_800_000_000.0


def test_trouble_is_told_once_and_so_is_its_end() -> None:
    stream = io.StringIO()
    say = Log(stream)
    for sentence in ("", "timestamp was signed by 0/1 keys", "timestamp was signed by 0/1 keys", "no answer", "", ""):
        say.trouble(sentence)
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["event"], line.get("sentence")) for line in told] == [
        ("not_read", "timestamp was signed by 0/1 keys"),
        ("not_read", "no answer"),
        ("read_again", None),
    ]
