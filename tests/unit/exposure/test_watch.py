"""Exposure over time and the report: recorded once, told until it is taken, signed, and safe to read."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tidegate.cli.exposure_watch import Metrics, Watcher, Webhook
from tidegate.cli.home import Home
from tidegate.cli.init import make_control_plane
from tidegate.cli.main import run
from tidegate.core.errors import BadInput
from tidegate.exposure.estate import DeviceClass
from tidegate.exposure.history import append_record, read_history
from tidegate.exposure.openpsa import parse_xml
from tidegate.exposure.trend import trend_picture

ESTATE = """
components:
  edr: {vendor: V1, privilege: kernel}
  edr2: {vendor: V2, privilege: kernel}
groups: {desks: {alive: 50%, select: place=desk}}
services: {"check-in <b>": {needs: desks, value_per_h: 100}}
"""


class Receiver:
    """Takes webhooks, and answers as it is told to."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, Any], str]] = []
        self.answer = 204
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                del format, args

            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["content-length"]))
                right = "sha256=" + hmac.new(b"secret", data, hashlib.sha256).hexdigest()
                assert self.headers["x-tidegate-signature"] == right
                outer.got.append((json.loads(data), self.path))
                self.send_response(outer.answer)
                self.end_headers()

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.server.shutdown()
    found.server.server_close()


def desks(*carried: str) -> list[DeviceClass]:
    return [DeviceClass("d", 2, (name,), {"place": "desk"}) for name in carried]


def watcher(tmp_path: Path, receiver: Receiver | None) -> Watcher:
    file = tmp_path / "estate.yaml"
    file.write_text(ESTATE)
    hooks = [Webhook(receiver.url, b"secret")] if receiver else []
    made = Watcher(file, tmp_path / "history.jsonl", hooks, Metrics(tmp_path / "exposure.prom", None), json=True)
    made.begin()
    return made


def test_a_new_single_point_is_recorded_measured_and_told_once(tmp_path: Path, receiver: Receiver) -> None:
    watching = watcher(tmp_path, receiver)
    watching.round(desks("edr", "edr2"), 1000.0)
    watching.round(desks("edr", "edr2"), 1060.0)
    assert len(read_history(watching.history)) == 1 and receiver.got == []
    assert "tidegate_exposure_single_point_services 0.0" in (tmp_path / "exposure.prom").read_text()
    receiver.answer = 503
    watching.round(desks("edr", "edr"), 1120.0)
    assert [row["told"] for row in read_history(watching.history)] == [True, False]
    again = watcher(tmp_path, receiver)  # the watcher is started anew, and the receiver is back
    receiver.answer = 204
    again.round(desks("edr", "edr"), 1180.0)
    again.round(desks("edr", "edr"), 1240.0)
    assert [row["told"] for row in read_history(watching.history)] == [True, True]
    messages = [message for message, _ in receiver.got]
    assert len(messages) == 2 and messages[0] == messages[1]
    assert messages[0]["new"] == [{"service": "check-in <b>", "vendor": "V1"}]
    metrics = (tmp_path / "exposure.prom").read_text()
    assert "tidegate_exposure_single_point_services 1.0" in metrics
    assert "tidegate_exposure_value_at_risk_ratio 1.0" in metrics
    again.round(desks("edr", "edr2"), 1300.0)
    assert read_history(watching.history)[-1]["gone"] == [{"service": "check-in <b>", "vendor": "V1"}]
    parse_xml(trend_picture(read_history(watching.history)).encode(), "trend")


def test_a_history_that_was_cut_off_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    whole = {"digest": "a", "single_points": {}, "new": [], "told": True}
    append_record(file, whole)
    with file.open("ab") as end:
        end.write(b'{"digest": "b", "sing')
    assert [row["digest"] for row in read_history(file)] == ["a"]
    append_record(file, {**whole, "digest": "c"})
    assert [row["digest"] for row in read_history(file)] == ["a", "c"]
    file.write_text("no history\n")
    with pytest.raises(BadInput, match=":1: no line"):
        read_history(file)


def test_a_webhook_is_an_address() -> None:
    with pytest.raises(BadInput, match="http"):
        Webhook("file:///etc/passwd")


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        run(["exposure", *words])
    said = capsys.readouterr()
    return int(end.value.code or 0), said.out, said.err


def test_the_report_is_signed_and_any_change_shows(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    make_control_plane(home, tmp_path / "offline", ["edr"])
    estate, devices, file = tmp_path / "estate.yaml", tmp_path / "devices.csv", tmp_path / "report.html"
    estate.write_text(ESTATE)
    devices.write_text("place,components,count\ndesk,edr,4\n")
    history = tmp_path / "history.jsonl"
    with_it = ("--inventory", str(devices))
    code, out, _ = call(capsys, "watch", str(estate), "--once", "--history", str(history), *with_it)
    assert code == 0 and "1 of 1 services fall" in out
    code, out, _ = call(capsys, "history", str(history))
    assert code == 0 and "1 of 1" in out
    code, out, err = call(
        capsys, "report", str(estate), str(file), "--home", str(home.path), "--history", str(history), *with_it
    )
    assert code == 0, err
    page = file.read_text()
    assert "check-in <b>" not in page and "check-in &lt;b&gt;" in page
    assert page.count("<svg") == 3 and "<script" not in page and "http://" not in page.replace("http://www.w3.org", "")
    assert "move 2 of desks from edr to edr2" in page
    code, out, _ = call(capsys, "verify", str(file), "--home", str(home.path))
    assert code == 0 and "It holds" in out
    for old, new in (("1 of 1", "0 of 1"), ("</html>\n", "</html>\n "), ("sha256 ", "sha256 0")):
        assert old in page, old
        file.write_text(page.replace(old, new, 1))
        code, _, err = call(capsys, "verify", str(file), "--home", str(home.path))
        assert code == 1 and err.count("\n") == 1
    code, _, err = call(capsys, "report", str(estate), str(file), "--home", str(tmp_path / "none"), *with_it)
    assert code == 2 and "--unsigned" in err
    code, _, _ = call(capsys, "report", str(estate), str(file), "--unsigned", *with_it)
    assert code == 0
    code, _, err = call(capsys, "verify", str(file), "--home", str(home.path))
    assert code == 1 and "not signed" in err
