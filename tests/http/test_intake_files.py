"""The signed files as our own server gives them: nothing twice, and the rest of what was cut off."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.server import World

from tidegate.agent.transport import Link

TIMESTAMP = "/repo/metadata/timestamp.json"


def test_what_is_known_is_not_sent_again(world: World) -> None:
    first = world.devices.get(TIMESTAMP)
    tag = first.headers["etag"]
    again = world.devices.get(TIMESTAMP, headers={"if-none-match": tag})
    assert (again.status_code, again.content) == (304, b"") and again.headers["etag"] == tag
    assert world.devices.get(TIMESTAMP, headers={"if-none-match": '"other"'}).content == first.content
    world.enrol()
    world.release(1)
    world.rollout()
    newer = world.devices.get(TIMESTAMP, headers={"if-none-match": tag})
    assert newer.status_code == 200 and newer.content != first.content and newer.headers["etag"] != tag


def test_the_agents_own_link_is_told_so(world: World) -> None:
    link = Link(str(world.devices.base_url))
    first = link.get(TIMESTAMP, 100_000)
    assert link.get(TIMESTAMP, 100_000) == first
    link.close()


@pytest.mark.parametrize("offset", [1, 700])
def test_the_rest_of_a_payload_can_be_had(world: World, offset: int) -> None:
    whole = bytes(range(256)) * 5
    payloads = Path(world.home.repository) / "payloads"
    payloads.mkdir(exist_ok=True)
    (payloads / "some").write_bytes(whole)
    rest = world.devices.get("/repo/payloads/some", headers={"range": f"bytes={offset}-"})
    assert rest.status_code == 206 and rest.content == whole[offset:]
    assert rest.headers["content-range"] == f"bytes {offset}-{len(whole) - 1}/{len(whole)}"
    assert world.devices.get("/repo/payloads/some", headers={"range": "bytes=99999-"}).status_code == 416
    link = Link(str(world.devices.base_url))
    assert b"".join(link.stream("repo/payloads/some", offset)) == whole[offset:]
    link.close()
