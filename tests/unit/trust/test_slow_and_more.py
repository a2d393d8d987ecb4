"""Slow retrieval and extraneous dependencies: a real server that drips bytes, and keys that ask for too much."""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tidegate.agent import download
from tidegate.agent.download import Download
from tidegate.agent.transport import Link, Server
from tidegate.core.errors import Untrusted
from tidegate.core.wire import encode
from tidegate.trust.client import TrustClient
from tidegate.trust.errors import Unreachable
from tidegate.trust.layout import payload_path, plan_path, release_path

if TYPE_CHECKING:
    from .conftest import House, Thief

DRIP_S = 0.05
LIMIT_S = 0.5


class Dripping:
    """Serves a repository; what lies below `slow` comes one byte at a time, and in time for the wait for each byte.

    With `head` it is the head of the answer that comes so.
    """

    def __init__(self, repo: Path) -> None:
        self.slow, self.head = "nothing", False
        self.over = threading.Event()
        dripping = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                file = repo / self.path.lstrip("/")
                if not file.is_file():
                    self.send_error(404)
                    return
                data = file.read_bytes()
                slow = self.path.startswith(f"/{dripping.slow}")
                if slow and dripping.head:
                    data = b"HTTP/1.1 200 OK\r\nX-Wait: " + b"x" * 60_000
                else:
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                for piece in (data[at : at + 1] for at in range(len(data))) if slow else [data]:
                    try:
                        self.wfile.write(piece)
                    except OSError:
                        return
                    if slow and dripping.over.wait(DRIP_S):
                        return

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.over.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def dripping(rolling: House) -> Iterator[Dripping]:
    made = Dripping(rolling.repo)
    yield made
    made.close()


def device_of(house: House, dripping: Dripping, deadline_s: float) -> TrustClient:
    """A device over the agent's own HTTP, whose limit for a whole answer can be set."""
    server = Server(dripping.address, dripping.address, lambda path, body: "")
    server._down = Link(dripping.address, deadline_s=deadline_s)  # pyright: ignore[reportPrivateUsage]
    return TrustClient(house.directory / "device", house.root, server.fetch, lambda: house.now)


@pytest.mark.parametrize("head", [False, True], ids=["body", "head"])
@pytest.mark.parametrize("slow", ["metadata/timestamp.json", "targets/plans/"])
def test_slow_retrieval_of_metadata_and_plans_is_given_up(
    rolling: House, dripping: Dripping, slow: str, head: bool
) -> None:
    dripping.slow, dripping.head = slow, head
    device = device_of(rolling, dripping, LIMIT_S)
    with pytest.raises(Unreachable, match=r"took more than 0\.5 s"):
        device.refresh()
        device.plan(rolling.component)


def test_after_slow_retrieval_what_was_known_stands_and_an_honest_server_is_believed(
    rolling: House, dripping: Dripping
) -> None:
    honest = device_of(rolling, dripping, 30.0)
    honest.refresh()
    assert rolling.believed(honest) == 1
    rolling.publish(rolling.plan(rolling.candidate(rolling.release(2))))
    device = device_of(rolling, dripping, LIMIT_S)
    dripping.slow = "metadata/"
    with pytest.raises(Unreachable):
        device.refresh()
    assert rolling.believed(honest) == 1
    dripping.slow = "nothing"
    honest.refresh()
    assert rolling.believed(honest) == 2


def test_slow_retrieval_of_a_payload_is_given_up_below_the_least_pace(
    rolling: House, dripping: Dripping, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte comes within the wait for it; it is the average that is too low."""
    monkeypatch.setattr(download, "GRACE_S", LIMIT_S)
    device = device_of(rolling, dripping, 30.0)
    device.refresh()
    manifest, _ = device.release(rolling.component, device.plan(rolling.component)[0].candidate)
    dripping.slow = "payloads/"
    link = Link(dripping.address)
    coming = Download(link.stream, manifest.payload, rolling.directory / "fetch")
    with pytest.raises(Untrusted, match="less than 1000 bytes a second"):
        while not coming.advance(0.1):
            pass
    assert not coming.file.exists()
    link.close()


def test_extraneous_targets_are_never_fetched(rolling: House, thief: Thief) -> None:
    """Stolen online keys list more files beside the plan: a device asks for plan, release and nothing else."""
    candidate = rolling.planned()
    plan = encode(rolling.plan(candidate))
    more = ("plans/extra.json", "payloads/evil.tar", release_path(rolling.component, 9))
    thief.publish({plan_path(rolling.component): plan, **dict.fromkeys(more, b"evil")})
    device, wire = rolling.device()
    device.refresh()
    assert rolling.believed(device) == 1
    manifest, _ = device.release(rolling.component, candidate)
    fetched = [path for path in wire.asked if not path.startswith("metadata/")]
    assert len(fetched) == 2 and fetched[0].startswith("targets/plans/") and candidate.sha256 in fetched[1]
    assert payload_path(manifest.payload.sha256) != "payloads/evil.tar"


@pytest.mark.parametrize("asked", [{"depends": ["payloads/evil.tar"]}, {"also": [{"path": "releases/other/1.json"}]}])
def test_extraneous_dependencies_have_no_place_in_a_plan(
    rolling: House, thief: Thief, asked: dict[str, object]
) -> None:
    plan = json.loads(encode(rolling.plan(rolling.planned())))
    thief.publish({plan_path(rolling.component): json.dumps({**plan, **asked}).encode()})
    device, wire = rolling.device()
    device.refresh()
    with pytest.raises(Untrusted, match=f"no field '{next(iter(asked))}'"):
        device.plan(rolling.component)
    assert not [path for path in wire.asked if "evil" in path or "other" in path]
