"""Release notes reach those who subscribe: a feed that readers parse, and a webhook that is tried until it takes."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from xml.etree import ElementTree

import httpx
import pytest
from tests.server import COMPONENT, OTHER, World

from tidegate.control.news import ATOM, Subscriber, Subscribers, atom, message, signature, write_feeds
from tidegate.control.news_delivery import NewsDelivery
from tidegate.core.errors import BadInput, NotFound, Refused

SECRET = "s" * 20


class Hook:
    """A receiver that says no as often as it is told to."""

    def __init__(self) -> None:
        self.taken: list[tuple[bytes, str, str]] = []
        self.refuse = 0
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["content-length"]))
                if hook.refuse:
                    hook.refuse -= 1
                    self.send_response(503)
                else:
                    hook.taken.append((data, self.headers["tidegate-signature"], self.headers["tidegate-delivery"]))
                    self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.close()


def turn(delivery: NewsDelivery) -> int:
    async def once() -> int:
        async with httpx.AsyncClient(timeout=5) as client:
            return await delivery.turn(client)

    return asyncio.run(once())


def delivery_of(world: World, place: Path) -> tuple[NewsDelivery, Subscribers]:
    subscribers = Subscribers(place / "subscribers.json")
    return NewsDelivery(lambda: world.controller.state, world.home.repository, subscribers), subscribers


def test_the_feed_tells_of_each_release_the_newest_first(world: World) -> None:
    for seq in (1, 2):
        world.release(seq)
    world.release(1, component=OTHER)
    (feed, other) = write_feeds(world.home.repository, world.controller.state.releases.values())
    assert {feed.name, other.name} == {f"{COMPONENT}.atom", f"{OTHER}.atom"}
    root = ElementTree.fromstring((world.home.repository / "feeds" / f"{COMPONENT}.atom").read_bytes())
    titles = [each.text for each in root.findall(f"{{{ATOM}}}entry/{{{ATOM}}}title")]
    assert titles == [f"{COMPONENT} 1.2 (sequence 2)", f"{COMPONENT} 1.1 (sequence 1)"]
    assert all(root.find(f"{{{ATOM}}}{name}") is not None for name in ("id", "title", "updated", "author"))
    assert write_feeds(world.home.repository, world.controller.state.releases.values()) == []
    served = world.devices.get(f"/repo/feeds/{COMPONENT}.atom")
    assert served.status_code == 200 and served.content.startswith(b"<?xml")


def test_notes_that_xml_cannot_hold_make_a_feed_all_the_same(world: World) -> None:
    from dataclasses import replace

    world.release(1)
    (release,) = world.controller.state.releases.values()
    odd = replace(release, manifest=replace(release.manifest, notes="a\x00b\x0b<script>&\ufffe"))
    root = ElementTree.fromstring(atom(COMPONENT, [odd]))
    assert root.findtext(f"{{{ATOM}}}entry/{{{ATOM}}}content") == "a?b?<script>&?"


def test_a_webhook_is_told_once_and_knows_who_speaks(world: World, hook: Hook, tmp_path: Path) -> None:
    delivery, subscribers = delivery_of(world, tmp_path)
    world.release(1)
    time.sleep(0.002)
    subscribers.add(Subscriber(hook.url, COMPONENT, SECRET, int(time.time() * 1000)))
    assert turn(delivery) == 0, "what was there before is no news"
    digest = world.release(2)
    world.release(1, component=OTHER)
    assert turn(delivery) == 1 and turn(delivery) == 0
    ((data, signed, about),) = hook.taken
    assert signed == signature(SECRET, data) and about == digest
    assert json.loads(data)["version"] == "1.2" and data == message(world.controller.state.releases[digest])
    again, _ = delivery_of(world, tmp_path)
    assert turn(again) == 0, "a restart sends nothing twice"


def test_a_webhook_that_says_no_is_tried_again_and_holds_nobody_up(
    world: World, hook: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.control.news_delivery.FIRST_WAIT_S", 0.0)
    delivery, subscribers = delivery_of(world, tmp_path)
    subscribers.add(Subscriber("http://127.0.0.1:9/gone", "", SECRET, 0))
    subscribers.add(Subscriber(hook.url, "", SECRET, 0))
    hook.refuse = 2
    world.release(1)
    assert [turn(delivery) for _ in range(4)] == [0, 0, 1, 0]
    assert len(hook.taken) == 1


def test_the_subscribers_file_is_private_and_read_strictly(tmp_path: Path) -> None:
    subscribers = Subscribers(tmp_path / "subscribers.json")
    subscribers.add(Subscriber("https://example.org/hook", "", SECRET, 0))
    assert subscribers.path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(Refused):
        subscribers.add(Subscriber("https://example.org/hook", "", SECRET, 5))
    subscribers.remove("https://example.org/hook")
    with pytest.raises(NotFound):
        subscribers.remove("https://example.org/hook")
    subscribers.path.write_text('[{"url": 5}]')
    with pytest.raises(BadInput, match="url"):
        subscribers.all()


@pytest.mark.parametrize(
    "url", ["ftp://x/y", "http://example.org/", "https://", "https://u:p@example.org/", "nonsense"]
)
def test_an_unfit_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="webhook"):
        Subscriber(url, "", SECRET, 0)
