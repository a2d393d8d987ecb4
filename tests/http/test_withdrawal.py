"""`tidegate release withdraw` by hand: holders sign one file, the rollout ends, nothing of the release begins again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.server import COMPONENT, World
from tests.typed import Run, one_line, typed

from tidegate.core.errors import Refused

pytestmark = [pytest.mark.room("cli"), pytest.mark.room("trust")]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    found = World(tmp_path / "plant")
    urls = {"devices": str(found.devices.base_url), "operators": str(found.operators.base_url)}
    found.home.address.write_text(json.dumps(urls))
    yield found
    found.close()


@pytest.fixture
def tidegate(capsys: pytest.CaptureFixture[str], world: World, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("TIDEGATE_HOME", str(world.home.path))
    monkeypatch.setenv("TIDEGATE_SESSION", str(world.directory / "session.json"))
    return typed(capsys)


def test_a_release_is_withdrawn_by_its_holders_and_its_rollout_ends(
    world: World, tidegate: Run, tmp_path: Path
) -> None:
    devices = [world.enrol() for _ in range(3)]
    world.release(1)
    rollout = world.rollout()
    file = tmp_path / "withdraw.json"
    keys = [world.offline / f"release-{number}.pem" for number in (1, 2)]
    what = ("--component", COMPONENT, "--seq", 1, "--reason", "it reboots machines")
    code, out, _ = tidegate("release", "withdraw", file, *what, "--key", keys[0])
    assert code == 0 and "Withdraws edr-rules seq 1" in out and "--submit" in out
    code, _, err = tidegate("release", "withdraw", file, "--submit")
    assert code == 1 and "1 valid signatures" in err
    code, out, _ = tidegate("release", "withdraw", file, "--key", keys[1], "--submit")
    assert code == 0 and f"rollout {rollout} is ended" in out
    world.quiet()
    assert world.controller.state.rollouts[rollout].phase.value == "halted"
    assert devices[0].announce(rollout).status_code == 409
    assert tidegate("release", "withdraw", file, "--submit")[0] == 0, "handed in twice is once"
    acts = [act for act in world.controller.state.acts if act.what == "release_withdrawn"]
    assert len(acts) == 1 and acts[0].why == "it reboots machines"
    reply = world.start(override_halt=True)
    assert reply.status_code == 409 and "withdrawn by its keys: it reboots machines" in reply.text
    assert "withdrawn by its keys: it reboots machines" in tidegate("status")[1]
    assert "withdrawn" in tidegate("release", "list")[1]
    assert json.loads(tidegate("release", "list", "--json")[1])["releases"][0]["withdrawn"] is True
    with pytest.raises(Refused, match="not higher than 1"):
        world.sign(world.draft(1))
    assert world.submit(world.draft(2)).status_code == 201


def test_wrong_input_is_one_line(world: World, tidegate: Run, tmp_path: Path) -> None:
    world.release(1)
    file, key = tmp_path / "w.json", world.offline / "release-1.pem"
    what = ("--component", COMPONENT, "--seq")
    one_line(tidegate("release", "withdraw", file), 2, "give --key")
    one_line(tidegate("release", "withdraw", file, "--key", key), 2, "say --component")
    one_line(tidegate("release", "withdraw", file, *what, 9, "--key", key), 2, "there is no release 9")
    one_line(tidegate("release", "withdraw", file, *what, 1, "--key", key, "--reason", "x" * 501), 2, "500")
    code, _, err = tidegate("release", "withdraw", file, *what, 1, "--key", tmp_path / "none.pem")
    assert code == 2 and "the signing key is not there" in err
    assert not file.exists()
    file.write_text("nothing")
    one_line(tidegate("release", "withdraw", file, "--key", key), 2, "no TUF metadata")
    file.write_bytes((world.home.repository / "metadata" / "1.root.json").read_bytes())
    one_line(tidegate("release", "withdraw", file, "--submit"), 2, "another kind")
