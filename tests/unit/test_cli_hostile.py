"""What devices, vendors and servers write stays text on a terminal and in a log: no escapes, no markup, no lines."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tidegate.agent.say import Log
from tidegate.agent.transport import HttpRefused, Link
from tidegate.cli import show
from tidegate.cli.main import run
from tidegate.cli.rollout_view import rollout_panel
from tidegate.control.acts import Who, create_token
from tidegate.control.labelling import check_labels
from tidegate.core.errors import BadInput, Refused
from tidegate.core.printable import all_printable, one_line, printable

pytestmark = [pytest.mark.room("cli"), pytest.mark.room("agent")]
HOSTILE = [
    "\x1b[2J\x1b[1;1Hall is well",  # clears the screen
    "\x1b]0;title\x07\x1b]8;;http://evil.example\x1b\\here\x1b]8;;\x1b\\",  # a title, a link
    "\x9b31mred",  # CSI in one character
    "ok\rDONE",
    "back\b\b\b\bforth\x7f",
    "admin\u202egnp.exe\u2066\u200f",  # reversed order
    "a\u2028b\u2029c",
    "[red]halt[/red] [link=http://evil.example]x[/link] [/nonsense]",
    "\ud800 alone",
]
SHARP = {*map(chr, range(32)), *map(chr, range(0x7F, 0xA0)), "\u202e", "\u2066", "\u200f", "\u2028", "\u2029", "\ud800"}


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    said = io.StringIO()
    # As on a real terminal, but without colours of our own, so that every escape that is found is a stranger's.
    console = Console(file=said, force_terminal=True, color_system=None, width=200, highlight=False)
    monkeypatch.setattr(show, "console", console)
    return said


def _harmless(said: str) -> None:
    assert not (SHARP - {"\n", "\t"}) & set(said), ascii(said)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_what_strangers_wrote_reaches_no_terminal_as_it_is(screen: io.StringIO, text: str) -> None:
    show.out(text)
    show.table(text, (text,), [(text, show.coloured("halt"), {"label": text})], empty="")
    show.table("Nothing", ("x",), [], empty=text)
    said = screen.getvalue()
    _harmless(said)
    assert said.count("halt") >= 1 and "]halt[/" not in said.replace(text, "")
    if "[red]" in text:  # what looks like markup is shown, and is none
        assert said.count("[link=http://evil.example]x[/link]") >= 3


def test_a_rollouts_picture_shows_hostile_words_as_words(screen: io.StringIO) -> None:
    word = "".join(HOSTILE)
    found: dict[str, Any] = {
        "where": [{"standing": "silent"}],
        "ring": 1, "rings": 2, "exposed": 1, "confirmed": 0, "reverted": 0, "silent": 1, "never_exposed": 0,
        "placebo": {"pending": 0}, "budget": {"max_harmed": 2, "used": 1, "at_risk": 1},
        "phase": "halted", "sentence": word, "clusters": [{"sentence": word, "group": word}],
        "spill": {"sentence": word}, "set_aside": 1, "speed": {"sentence": word}, "ended_ms": None,
        "component": word, "rollout": word, "release": {"version": word},
    }  # fmt: skip
    show.console.print(rollout_panel(found))
    _harmless(screen.getvalue())
    assert screen.getvalue().count("nonsense") >= 5


def test_an_error_that_repeats_a_strangers_words_is_one_harmless_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise Refused("the server says: " + "".join(HOSTILE) + "\ntidegate: all is well")

    monkeypatch.setattr("tidegate.cli.main.app", fail)
    with pytest.raises(SystemExit):
        run([])
    said = capsys.readouterr().err
    _harmless(said)
    assert said.count("\n") == 1


@contextmanager
def _refuser(detail: str) -> Iterator[str]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"detail": detail}).encode()
            self.send_response(403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_servers_refusal_forges_no_line_in_the_agents_log_nor_status(tmp_path: Path) -> None:
    forged = '"}\n{"at": 1, "event": "confirmed"}' + "".join(HOSTILE)
    with _refuser(forged) as address, pytest.raises(HttpRefused) as refused:
        Link(address).get("/timestamp.json", 100)
    _harmless(str(refused.value))
    assert "\n" not in str(refused.value)
    stream = io.StringIO()
    Log(stream)("refused", sentence=forged)  # also where the words came another way
    line = stream.getvalue()
    _harmless(line)
    assert line.count("\n") == 1 and json.loads(line)["sentence"] == forged


@pytest.mark.parametrize("value", [text for text in HOSTILE if not text.startswith("[")] + ["two\nlines", "a\tb"])
def test_a_label_with_control_characters_is_refused_at_the_door(value: str) -> None:
    with pytest.raises(BadInput, match="control characters"):
        check_labels([{"site": value}])
    with pytest.raises(BadInput, match="control characters"):
        create_token(1, Who("ada"), token_id="a", token_hash="b", labels={"site": value}, uses=1, expires_s=60)


def test_what_is_harmless_stays_as_it_is() -> None:
    for text in ("Zürich, 東京, צפון", "two\nlines\tand a tab", "👩\u200d🚒 joined", ""):
        assert printable(text) == text
    assert one_line("a\n\tb  c") == "a b c"
    assert all_printable({"a\x1b": ["\x07", 1, None]}) == {"a\\x1b": ["\\x07", 1, None]}
