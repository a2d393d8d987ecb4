"""The commands as a person types them, against a server that runs: what they print, and their exit codes."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.server import COMPONENT, Device, World
from tests.typed import Run, one_line, typed

START = ("rollout", "start", "--release", "1")


@pytest.fixture
def tidegate(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process; give exit code, output and the error's line."""
    return typed(capsys)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    found = World(tmp_path / "plant")
    addresses = {"devices": str(found.devices.base_url), "operators": str(found.operators.base_url)}
    found.home.address.write_text(json.dumps(addresses))
    monkeypatch.setenv("TIDEGATE_HOME", str(found.home.path))
    monkeypatch.setenv("COLUMNS", "200")
    yield found
    found.close()


# --- why a device has or has not been updated -----------------------------------------------------------------------


class Standings:
    """A rollout of 12 devices, on which every standing occurs one after the other."""

    def __init__(self, world: World, tidegate: Run) -> None:
        self.world, self.tidegate = world, tidegate
        self.devices = [world.enrol(world.token(labels={"site": "ATL"})) for _ in range(12)]
        world.release(1)
        self.name = world.rollout(scope={"site": "ATL"})
        self.rollout = world.controller.state.rollouts[self.name]

    def arm(self, ring: int, *, placebo: bool = False) -> list[Device]:
        treated = self.rollout.rings.treated
        drawn = [p for p in range(12) if (treated[p] == 0 and self.rollout.rings.enter[p]) == placebo]
        return [self.devices[self.rollout.spec.roster[p]] for p in drawn if placebo or treated[p] == ring]

    def lease(self, device: Device) -> str:
        return str(device.announce(self.name).json()["lease_id"])

    def why(self, device: Device, standing: str, *words: str, without: str = "") -> None:
        code, out, err = self.tidegate("device", "why", device.device_id, "--json")
        assert code == 0, err
        (entry,) = json.loads(out)["why"]
        assert entry["standing"] == standing, entry
        for word in words:
            assert word in entry["sentence"], entry
        assert not without or without not in entry["sentence"], entry
        code, out, _ = self.tidegate("device", "why", device.index)
        assert code == 0
        assert entry["sentence"] in out
        assert f"rollout {self.name}" in out


def test_device_why_for_every_standing(world: World, tidegate: Run) -> None:
    scene = Standings(world, tidegate)
    canary, absent, silent = scene.arm(1)
    control = scene.arm(1, placebo=True)[0]
    later = next(d for d in scene.devices if not scene.rollout.rings.enter[scene.rollout.position[d.index]])
    nobody = "none of that ring has a lease yet: `tidegate agent status` on one of them says why"
    scene.why(later, "waiting", "waits for a later ring; ring 1 is open", nobody)
    scene.why(canary, "waiting", "ring 1 is open for it", nobody)
    placebo_lease, lease = scene.lease(control), scene.lease(canary)
    scene.why(later, "waiting", "ring 1 is open (", without=nobody)
    scene.why(control, "placebo", "goes through the motions as placebo in ring 1; nothing changes on it")
    scene.why(canary, "applying", "exposed at", "in ring 1; its soak is under way")
    scene.lease(silent)
    control.report(placebo_lease)
    canary.report(lease)
    scene.why(canary, "confirmed", "updated: exposed at", "confirmed healthy after its soak")
    world.pass_s(11)
    scene.why(silent, "silent", "not heard of within 10 s: counted as harmed")
    scene.why(absent, "late", "late: it had no lease when ring 1 closed; it may announce when it comes back")
    late = scene.lease(absent)
    absent.report(late, "reverted", note="probe desk failed: no database")
    scene.why(absent, "reverted", "went back to its last known good: probe desk failed: no database")
    newcomer = world.enrol(world.token(labels={"site": "ATL"}))
    scene.why(newcomer, "outside", "it was enrolled after the release was logged")
    world.operator(f"/api/v1/rollouts/{scene.name}/pause")
    scene.why(later, "waiting", "the rollout is paused (paused by ada: test)")
    world.operator(f"/api/v1/rollouts/{scene.name}/abort")
    scene.why(later, "waiting", "never exposed: the rollout was halted before its turn came (aborted by ada: test)")


def test_device_why_outside_of_the_scope_and_without_a_rollout(world: World, tidegate: Run) -> None:
    inside = world.enrol(world.token(labels={"site": "a=b"}))
    outside = world.enrol(world.token(labels={"site": "CDG"}))
    code, out, _ = tidegate("device", "why", 0)
    assert (code, "No rollout has been started yet" in out) == (0, True)
    world.release(1)
    world.rollout(scope={"site": "a=b"})
    code, out, _ = tidegate("device", "why", outside.index)
    assert "the rollout's scope is site=a=b" in out
    code, out, _ = tidegate("device", "why", inside.index)
    assert "not in the roster" not in out
    one_line(tidegate("device", "why", "ffffffff"), 2, "there is no device 'ffffffff'")


# --- the way by hand ------------------------------------------------------------------------------------------------


def test_the_whole_way_by_hand(world: World, tidegate: Run, tmp_path: Path) -> None:
    code, out, _ = tidegate("token", "create", "--label", "site=ATL", "--uses", 9, "--file", tmp_path / "token")
    assert code == 0
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "token").read_text().strip() not in out
    server = str(world.devices.base_url)
    words = ["enrol", "--server", server, "--token-file", tmp_path / "token", "--agent-home"]
    for number in range(4):
        assert tidegate(*words, tmp_path / f"agent{number}")[0] == 0
    one_line(tidegate(*words, tmp_path / "agent3"), 1, "is enrolled already")
    code, out, _ = tidegate("device", "list", "--json")
    assert [device["labels"] for device in json.loads(out)["devices"]] == [{"site": "ATL"}] * 4
    assert tidegate("device", "list", "--label", "site=CDG")[:2] == (0, "No device has site=CDG.\n")
    content = tmp_path / "content"
    content.mkdir()
    (content / "rules.txt").write_text("rules\n")
    create = ["release", "create", content, "--component", COMPONENT, "--version", "2026.1", "--seq", 1]
    code, out, _ = tidegate(*create, "--driver", "files", "--soak-s", 2, "--out-dir", tmp_path / "draft")
    assert (code, "tidegate release sign" in out) == (0, True)
    code, out, err = tidegate(
        "release", "sign", tmp_path / "draft", "--trial", "--offline-keys", world.offline, "--json"
    )
    assert code == 0, err
    digest = json.loads(out)["digest"]
    code, out, _ = tidegate("release", "list")
    assert (code, digest[:16] in out) == (0, True)
    world.pass_s(7)  # trial values let everyone begin six seconds after the signing
    start = ["rollout", "start", "--component", COMPONENT, "--release", 1, "--max-harmed", 2, "--observe", "10s"]
    code, out, err = tidegate(*start, "--why", "first", "--json")
    assert code == 0, err
    name = json.loads(out)["rollout"]
    one_line(tidegate(*start), 1, "is active; abort it or wait until it ends")
    one_line(tidegate("rollout", "abort", name), 2, "--why")
    for verb, phase in (("pause", "paused"), ("resume", "open"), ("abort", "halted")):
        code, out, _ = tidegate("rollout", verb, name, "--why", "because")
        assert code == 0
        assert f"Rollout {name} is {phase}:" in out
    assert tidegate("rollout", "watch", name, "--json")[0] == 1
    code, out, _ = tidegate("status", "--json")
    found = json.loads(out)
    assert (code, found["devices"], found["rollouts"][0]["phase"]) == (0, 4, "halted")
    assert found["rollouts"][0]["sentence"].startswith("aborted by ")
    for words in (("rollout", "list"), ("status",), ("device", "list")):
        assert tidegate(*words)[0] == 0


def test_a_release_that_was_changed_on_disk_is_not_signed(world: World, tidegate: Run, tmp_path: Path) -> None:
    world.draft(1)
    draft = next(path for path in world.directory.iterdir() if path.name.startswith("release-"))
    (draft / "payload.tar").write_bytes(b"x" + (draft / "payload.tar").read_bytes()[1:])
    words = ("release", "sign", draft, "--offline-keys", world.offline, "--trial")
    one_line(tidegate(*words), 1, "payload")
    (draft / "manifest.json").write_text((draft / "manifest.json").read_text() + "\n")
    one_line(tidegate(*words), 2, "is not as it was written")
    one_line(tidegate("release", "sign", tmp_path / "nothing", "--trial"), 2, "holds no release")
    assert not world.controller.state.releases


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("dreamt",), 2, "dreamt"),
        (("rollout", "start"), 2, "--component"),
        ((*START, "--component", "x", "--max-harmed", "few"), 2, "--max-harmed"),
        ((*START, "--component", COMPONENT, "--max-harmed", "3"), 2, "no release '1'"),
        ((*START, "--component", COMPONENT, "--max-harmed", "3", "--cap", "x"), 2, "--cap"),
        ((*START, "--component", "x", "--max-harmed", "3", "--observe", "soon"), 2, "90s"),
        (("rollout", "pause", "dreamt"), 2, "there is no rollout 'dreamt'"),
        (("rollout", "watch", "../../etc"), 2, ""),
        (("token", "create", "--uses", "0"), 2, "uses must be 1"),
        (("token", "create", "--label", "site"), 2, "--label must be NAME=VALUE"),
        (("token", "create", "--expires", "99999d"), 2, "must expire within"),
        (("device", "why", "999"), 2, "there is no device '999'"),
        (("device", "list", "--label", "x"), 2, "--label must be NAME=VALUE"),
        (("release", "create", "/nonexistent", "--component", "x", "--version", "1", "--seq", "1", "--driver", "files",
          "--out-dir", "/nonexistent"), 2, "there is no directory"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_changes_nothing(
    world: World, tidegate: Run, words: tuple[str, ...], code: int, says: str
) -> None:
    before = world.quiet()
    one_line(tidegate(*words), code, says)
    assert world.quiet() == before


def test_without_a_server_or_a_home_it_says_what_to_do(tidegate: Run, tmp_path: Path) -> None:
    home = tmp_path / "home"
    one_line(tidegate("status", "--home", home), 2, "make one: tidegate init")
    one_line(tidegate("serve", "--home", home), 2, "make one: tidegate init")
    assert tidegate("init", "--home", home, "--component", COMPONENT)[0] == 0
    one_line(tidegate("init", "--home", home, "--component", COMPONENT), 1, "is a control plane already")
    one_line(tidegate("status", "--home", home), 2, "start it: tidegate serve")
    (home / "server.json").write_text('{"devices": "http://127.0.0.1:9", "operators": "http://127.0.0.1:9"}')
    one_line(tidegate("status", "--home", home), 1, "the server at http://127.0.0.1:9 does not answer")
    (home / "server.json").write_text("{")
    one_line(tidegate("status", "--home", home), 2, "start it: tidegate serve")


def test_init_keeps_offline_keys_apart_and_secrets_to_their_owner(tidegate: Run, tmp_path: Path) -> None:
    home = tmp_path / "home"
    words = ("init", "--home", home, "--component", COMPONENT)
    one_line(tidegate(*words, "--offline-keys", home / "offline"), 2, "must lie outside")
    one_line(tidegate("init", "--home", home, "--component", "../x"), 2, "component must be")
    assert tidegate(*words)[0] == 0
    for name in ("operator.token", "device-secrets.json"):
        assert (home / name).stat().st_mode & 0o077 == 0
    assert home.stat().st_mode & 0o077 == 0
    online = {path.name for path in (home / "keys").iterdir()}
    assert not {name for name in online if "root" in name or "release" in name}


def test_a_server_beyond_this_machine_wants_tls(tidegate: Run, tmp_path: Path) -> None:
    home = tmp_path / "home"
    tidegate("init", "--home", home, "--component", COMPONENT)
    one_line(tidegate("serve", "--home", home, "--devices", "0.0.0.0:0"), 2, "needs --tls-cert and --tls-key")
    one_line(tidegate("serve", "--home", home, "--tls-cert", "x"), 2, "go together")
    for bad in ("nonsense", "127.0.0.1:x", "127.0.0.1:70000", ":"):
        one_line(tidegate("serve", "--home", home, "--devices", bad), 2, "--devices must be HOST:PORT")


def test_a_token_is_read_from_standard_input(
    world: World, tidegate: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words: tuple[Any, ...] = ("enrol", "--server", world.devices.base_url, "--agent-home", tmp_path / "a")
    monkeypatch.setattr(sys, "stdin", io.StringIO("no token\n"))
    one_line(tidegate(*words), 2, "this is no enrolment token")
    monkeypatch.setattr(sys, "stdin", io.StringIO(world.token() + "\n"))
    code, out, _ = tidegate(*words)
    assert (code, "Enrolled as device" in out) == (0, True)
    one_line(tidegate(*words[:-1], tmp_path / "b", "--token-file", tmp_path / "none"), 2, "cannot be read")


def test_each_command_says_what_it_does(tidegate: Run) -> None:
    """Those that are loaded when they are called are shown with words of their own; these must not be left out."""
    row = re.compile(r"^│ ([a-z][a-z-]*)  +(\S.*?)? *│$", re.MULTILINE)
    _, out, _ = tidegate("--help")
    names = [name for name, _ in row.findall(out)]
    assert len(names) > 25
    for name in names:
        code, said, _ = tidegate(name, "--help")
        assert code == 0
        assert [inner for inner, words in row.findall(said) if not words] == [], name
