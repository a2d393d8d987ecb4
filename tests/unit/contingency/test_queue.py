"""The queue in people's hands: given, done, put aside, planned again; on paper and as pages; keys shown once."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn

from tidegate.cli.main import run
from tidegate.contingency.book import Book
from tidegate.contingency.burndown import forecast, picture
from tidegate.contingency.hands import board_page, make_app
from tidegate.contingency.queue_store import LEAD, QueueStore
from tidegate.contingency.sheets import sheets_page
from tidegate.core.errors import BadInput, NotFound, Refused, Untrusted

CASE = """
technicians: [{name: ann, site: HQ, skills: [keys]}, {name: bob, site: HQ}]
travel_min: {HQ: {ATL: 30}}
services: {desk: {value_per_h: 10, needs: 2}, post: {value_per_h: 1}}
devices:
  - {service: desk, site: HQ, minutes: 30, count: 3, steps: [Start in safe mode., Type the key.]}
  - {service: post, site: ATL, minutes: 60, needs_skill: keys, name: mail-1}
"""
T0 = 1_784_433_600_000
HOUR = 3_600_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[QueueStore]:
    (tmp_path / "case.yaml").write_text(CASE)
    made = QueueStore(Book(tmp_path / "book"), "july")
    made.open(tmp_path / "case.yaml", who="Mara", at_ms=T0)
    yield made


def test_work_is_given_once_and_planned_again(store: QueueStore) -> None:
    assert store.next("ann", T0) == 1 and store.next("ann", T0) == 1, "hers until she reports"
    assert store.next("bob", T0) == 2, "not the same device twice"
    store.done(1, "ann", T0 + HOUR // 2)
    store.done(1, "ann", T0 + HOUR)  # said twice is once
    store.done(2, "bob", T0 + HOUR // 2)
    assert store.queue().services()["desk"]["back"] is True
    assert store.next("ann", T0 + HOUR // 2) == 4, "only she may do mail-1"
    assert store.next("bob", T0 + HOUR // 2) == 3
    store.cant(3, "bob", "no power", T0 + HOUR)
    assert store.next("bob", T0 + HOUR) is None
    store.again(3, "Mara", T0 + HOUR)
    assert store.next("bob", T0 + HOUR) == 3
    with pytest.raises(Refused, match="was done by ann"):
        store.done(1, "bob", T0)
    with pytest.raises(NotFound, match="no technician 'eve'"):
        store.next("eve", T0)
    with pytest.raises(NotFound, match="no item 9"):
        store.done(9, "ann", T0)
    with pytest.raises(BadInput, match="say why"):
        store.cant(4, "ann", " ", T0)


def test_it_is_found_again_after_a_restart(store: QueueStore, tmp_path: Path) -> None:
    store.next("ann", T0)
    store.done(1, "ann", T0 + 60_000)
    again = QueueStore(Book(tmp_path / "book"), "july").queue()
    assert again.count("done") == 1 and again.items[1].technician == "ann"
    with pytest.raises(NotFound, match="there are july"):
        QueueStore(Book(tmp_path / "book"), "june").queue()
    with pytest.raises(Refused, match="already"):
        store.open(tmp_path / "case.yaml", who="Mara", at_ms=T0)
    with pytest.raises(BadInput):
        QueueStore(Book(tmp_path / "book"), "../x")


def test_the_forecast_follows_the_pace(store: QueueStore) -> None:
    before = forecast(store.queue(), 0.0)
    # ann: 30 min of desk, 30 min to ATL, 60 min there; bob: two desks.
    assert before["finish_h"] == pytest.approx(2.0, abs=0.02) and before["pace"] == 1.0
    low, high = before["finish_between_h"]
    assert low < before["finish_h"] < high
    store.next("ann", T0)
    store.done(1, "ann", T0 + HOUR)  # twice as long as planned
    after = forecast(store.queue(), 1.0)
    assert after["pace"] > 1.2 and after["finish_h"] > 2.5
    assert "<svg" in picture(store.queue(), after) and "july" in board_page(store.queue(), T0 + HOUR)


def test_a_key_is_shown_once_and_on_record_first(store: QueueStore, tmp_path: Path) -> None:
    (tmp_path / "keys.csv").write_text("item,key\n1,111-222\nmail-1,333-444\n")
    assert store.import_keys(tmp_path / "keys.csv") == 2
    assert oct((store.directory / "keys.json").stat().st_mode)[-3:] == "600"
    assert store.show_key(4, "Ann Ray", T0) == "333-444"
    assert "333-444" not in (store.directory / "keys.json").read_text()
    assert not any("333-444" in str(entry) for entry in store.book.read()), "no secret on record"
    assert [entry.who for entry in store.book.read() if entry.what == "recovery_key_shown"] == ["Ann Ray"]
    with pytest.raises(Refused, match="was shown to Ann Ray"):
        store.show_key(4, "Bob", T0)
    (tmp_path / "keys.csv").write_text("99,x\n")
    with pytest.raises(BadInput, match="line 1: there is no item"):
        store.import_keys(tmp_path / "keys.csv")


def test_sheets_have_steps_and_codes(store: QueueStore) -> None:
    text = sheets_page(store.queue(), 0.0)
    assert text.count("<svg") == 4 and "Start in safe mode." in text and text.count("class=sheet") == 2
    token = store.tokens()["ann"]
    assert token not in text
    assert "Nothing is left" not in sheets_page(store.queue(), 0.0, "http://10.0.0.5:8480", store.tokens())
    held = store.next("ann", T0)
    text = sheets_page(store.queue(), 0.0)
    assert text.count("<svg") == 4 and text.index(f"{held}. ") < text.index("in hand"), (
        "what is in hand is not left out"
    )


@pytest.fixture
def address_of_pages() -> Iterator[Callable[[QueueStore], str]]:
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(store: QueueStore) -> str:
        config = uvicorn.Config(make_app(store), "127.0.0.1", 0, log_level="error")
        server, sock = uvicorn.Server(config), config.bind_socket()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
        thread.start()
        running.append((server, thread))
        while not server.started:
            time.sleep(0.01)
        return f"http://127.0.0.1:{sock.getsockname()[1]}"

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join(60)


def test_the_pages(store: QueueStore, tmp_path: Path, address_of_pages: Callable[[QueueStore], str]) -> None:
    (tmp_path / "keys.csv").write_text("1,111-222\n")
    store.import_keys(tmp_path / "keys.csv")
    tokens = store.tokens()
    client = httpx.Client(base_url=address_of_pages(store), follow_redirects=True)
    found = client.get(f"/t/{tokens['ann']}")
    assert found.status_code == 200 and "Start in safe mode." in found.text and "111-222" not in found.text
    assert (
        found.headers["cache-control"] == "no-store"
        and "default-src 'none'" in found.headers["content-security-policy"]
    )
    assert client.post(f"/t/{tokens['bob']}", data={"act": "key", "item": "1"}).status_code == 409, "not his"
    assert "111-222" in client.post(f"/t/{tokens['ann']}", data={"act": "key", "item": "1"}).text
    assert client.post(f"/t/{tokens['ann']}", data={"act": "key", "item": "1"}).status_code == 409
    assert client.post(f"/t/{tokens['ann']}", data={"act": "cant", "item": "1"}).status_code == 400, "why?"
    assert client.post(f"/t/{tokens['ann']}", data={"act": "done", "item": "1"}).status_code == 200
    assert store.queue().items[1].state == "done"
    assert client.post(f"/t/{tokens['ann']}", data={"act": "done", "item": "x"}).status_code == 404
    assert client.get("/t/nobodys-token").status_code == 403
    assert client.get(f"/board/{tokens['ann']}").status_code == 403
    board = client.get(f"/board/{tokens[LEAD]}")
    assert board.status_code == 200 and re.search(r"1 of 4 devices done", board.text)
    with pytest.raises(Untrusted):
        store.who("")


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TIDEGATE_BOOK", str(tmp_path / "book"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "july.yaml").write_text(CASE)

    def recovery(*words: str) -> int:
        with pytest.raises(SystemExit) as ended:
            run(["recovery", *words])
        return int(ended.value.code or 0)

    assert recovery("open", "july.yaml") == 0
    assert recovery("next", "july", "ann") == 0
    assert recovery("done", "july", "1", "--technician", "ann") == 0
    assert recovery("cant", "july", "2", "--technician", "bob", "--why", "no power") == 0
    assert recovery("sheets", "july", "--out", "sheets.html") == 0
    assert recovery("status", "july", "--out", "board.html") == 0
    capsys.readouterr()
    assert recovery("status", "july") == 0
    out = capsys.readouterr().out
    assert "1 of 4 done" in out and "Put aside: item 2" in out
    assert recovery("next", "july", "eve") == 2 and recovery("serve", "july", "--listen", "0.0.0.0:0") == 2
