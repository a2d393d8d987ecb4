"""What a NATS cluster says of its disks: by its version, and by the words of its monitoring port."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.stores import NatsCluster, store_server

from tidegate.log.address import open_log
from tidegate.log.nats_groups import Address
from tidegate.log.nats_sync import sync_warning, syncs_always

# As nats-server 2.15.1 says it, with `sync_interval: always` and without.
ALWAYS = {
    "version": "2.15.1",
    "jetstream": {"config": {"store_dir": "/js", "sync_interval": 120000000000, "sync_always": True, "strict": True}},
}
NOT = {"version": "2.15.1", "jetstream": {"config": {"store_dir": "/js", "sync_interval": 120000000000}}}


@pytest.fixture
def varz() -> Iterator[tuple[int, list[object]]]:
    """A monitoring port, and what it says."""
    said: list[object] = [ALWAYS]

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/varz" else 404)
            self.end_headers()
            self.wfile.write(json.dumps(said[0]).encode())

        def log_message(self, format: str, *args: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], said
        server.shutdown()


def test_a_cluster_that_syncs_is_said_to_and_no_other(varz: tuple[int, list[object]]) -> None:
    port, said = varz
    servers = ["nats://127.0.0.1:4222", "nats://127.0.0.1:4223"]
    assert sync_warning((2, 15), servers, port) == ""
    for other in (NOT, {}, {"jetstream": {}}, {"jetstream": {"config": {"sync_always": "yes"}}}, [], 3):
        said[0] = other
        assert "NATS on 127.0.0.1 acknowledges before its disk holds it" in sync_warning((2, 15), servers, port)
    assert "is not known" in sync_warning((2, 15), servers, 0)
    assert "sync_interval: always" in sync_warning((2, 9), servers, port), "it cannot know this setting"


def test_a_node_that_does_not_answer_is_not_believed() -> None:
    assert "acknowledges before" in sync_warning((2, 15), ["nats://127.0.0.1:4222"], 1)
    assert syncs_always(ALWAYS)


def test_the_port_is_part_of_the_address() -> None:
    assert Address.parse("nats://a:4222,b:4222/log?monitor=8222").monitor == 8222
    assert Address.parse("nats://a:4222/log").monitor == 0


@pytest.mark.xdist_group("nats")
def test_a_log_says_what_whoever_runs_it_should_know(tmp_path: Path) -> None:
    assert open_log(tmp_path / "log.db").warning == ""
    store = store_server("nats")
    assert isinstance(store, NatsCluster)
    log = open_log(tmp_path / "x", store.url(tmp_path))
    assert "a power cut that takes a quorum" in log.warning
    log.close()
