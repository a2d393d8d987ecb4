"""Ceremonies as people do them: the commands, on several machines (directories), against a server that runs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.server import COMPONENT, World
from tests.typed import Run, typed

from tidegate.trust.emergency import read_stop
from tidegate.trust.layout import pardon_path, stop_path
from tidegate.trust.metadata import latest_versions
from tidegate.trust.pardon import PARDON

SECRET = "correct horse battery staple"


@pytest.fixture
def tidegate(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process; give exit code, output and the error's line."""
    return typed(capsys, SECRET)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    found = World(tmp_path / "plant")
    addresses = {"devices": str(found.devices.base_url), "operators": str(found.operators.base_url)}
    found.home.address.write_text(json.dumps(addresses))
    monkeypatch.setenv("TIDEGATE_HOME", str(found.home.path))
    monkeypatch.setenv("COLUMNS", "200")
    yield found
    found.close()


def good(found: tuple[int, str, str]) -> str:
    assert found[0] == 0, found
    return found[1]


def elsewhere(file: Path, machine: str) -> Path:
    """Carry a file to another machine: a directory that has nothing else of it."""
    place = file.parent / machine
    place.mkdir(exist_ok=True)
    return Path(shutil.copy(file, place / file.name))


def test_a_root_holder_is_replaced_with_encrypted_keys_on_separate_machines(
    world: World, tidegate: Run, tmp_path: Path
) -> None:
    word = tmp_path / "word"
    word.write_text(SECRET + "\n")
    word.chmod(0o600)
    good(tidegate("keys", "create", "ada", "--directory", tmp_path / "ada", "--passphrase-file", word))
    assert b"ENCRYPTED" in (tmp_path / "ada" / "ada.pem").read_bytes()
    rows = json.loads(good(tidegate("keys", "list", "--json")))["roles"]
    old = next(row for row in rows if row["role"] == "root")["keys"][0]
    bundle = tmp_path / "root.bundle"
    said = good(
        tidegate(
            "keys", "rotate", "root", "--add", tmp_path / "ada/ada.pub.json", "--remove", old[:12], "--output", bundle
        )
    )
    assert f"root loses key {old[:16]}" in said
    assert tidegate("keys", "import", bundle)[0] == 1
    copies: list[Path] = []
    for number in (1, 2):
        copies.append(elsewhere(bundle, f"machine-{number}"))
        good(tidegate("keys", "sign", copies[-1], "--key", world.offline / f"root-{number}.pem"))
    copies.append(elsewhere(bundle, "machine-ada"))
    wrong = tidegate("keys", "sign", copies[-1], "--key", tmp_path / "ada/ada.pem")
    assert wrong[0] == 2 and "no terminal to ask at" in wrong[2]
    read, write = os.pipe()
    os.write(write, SECRET.encode() + b"\n")
    os.close(write)
    good(tidegate("keys", "sign", copies[-1], "--key", tmp_path / "ada/ada.pem", "--passphrase-fd", read))
    os.close(read)
    assert "In force now: root." in good(tidegate("keys", "import", *copies, "--why", "ada joins"))
    assert latest_versions(world.home.repository)["root"] == 2
    assert "in force already" in good(tidegate("keys", "import", *copies))
    world.enrol()


def test_online_keys_are_rotated_after_a_break_in_while_the_server_runs(
    world: World, tidegate: Run, tmp_path: Path
) -> None:
    before = {p.name: p.read_bytes() for p in world.home.keys.glob("*.pem")}
    bundle = tmp_path / "online.bundle"
    good(tidegate("keys", "rotate", "online", "--output", bundle))
    names = ("root-1", "root-3", "targets-1", "targets-2")
    keys = [word for name in names for word in ("--key", world.offline / f"{name}.pem")]
    good(tidegate("keys", "sign", bundle, *keys))
    assert "PRIVATE" not in bundle.read_text()
    edition = world.publisher.version
    assert "root, targets" in good(tidegate("keys", "import", bundle, "--why", "break-in"))
    world.pass_s(1)
    assert world.publisher.version > edition and not world.controller.trouble
    after = {p.name: p.read_bytes() for p in world.home.keys.glob("*.pem")}
    assert all(after[f"{role}.pem"] != before[f"{role}.pem"] for role in ("plans", "snapshot", "timestamp"))
    assert not [name for name in after if ".next" in name]


def test_revoke_export_and_what_is_refused(world: World, tidegate: Run, tmp_path: Path) -> None:
    rows = {row["role"]: row for row in json.loads(good(tidegate("keys", "list", "--json")))["roles"]}
    ada = rows["emergency"]["keys"][2]
    said = good(tidegate("keys", "revoke", ada, "--output", tmp_path / "revoke"))
    assert "emergency needs 2 signatures, so far 3" in said and f"releases-{COMPONENT} loses key" in said
    keys = [
        w for n in ("targets-1", "targets-2", "release-1", "release-2") for w in ("--key", world.offline / f"{n}.pem")
    ]
    good(tidegate("keys", "sign", tmp_path / "revoke", *keys))
    assert "emergency" in good(tidegate("keys", "import", tmp_path / "revoke"))
    good(tidegate("keys", "export", "root", "--output", tmp_path / "renew"))
    for words, code, sentence in (
        (("keys", "export", "root", "--output", tmp_path / "renew"), 1, "exists already"),
        (("keys", "export", "dreamt", "--output", tmp_path / "x"), 2, "no role 'dreamt'"),
        (("keys", "rotate", "plans", "--output", tmp_path / "x"), 1, "rotate online"),
        (("keys", "revoke", "zz", "--output", tmp_path / "x"), 2, "beginning of no key"),
        (("keys", "revoke", rows["plans"]["keys"][0], "--output", tmp_path / "x"), 1, "rotate online"),
        (("keys", "sign", tmp_path / "renew", "--key", world.offline / "release-1.pem"), 1, "has no say"),
        (("keys", "import", world.offline / "release-1.pem"), 2, "--name and --directory"),
        (("keys", "create", "x", "--directory", tmp_path / "k"), 2, "no terminal to ask at"),
    ):
        found = tidegate(*words)
        assert found[0] == code and sentence in found[2], found
    assert not (tmp_path / "x").exists()


def test_a_release_is_signed_by_two_holders_on_machines_of_their_own(
    world: World, tidegate: Run, tmp_path: Path
) -> None:
    world.draft(1)
    draft = next(world.directory.glob("release-content-*"))
    newest = tmp_path / "newest.json"
    newest.write_bytes(world.operators.get(f"/api/v1/roles/releases-{COMPONENT}").content)
    one, two = (("--key", world.offline / f"release-{n}.pem") for n in (1, 2))
    alone = ("release", "sign", draft, *one, "--newest", newest, "--trial")
    assert tidegate(*alone)[0] == 2
    good(tidegate(*alone, "--no-submit", "--home", tmp_path / "no-server-here"))
    assert "1 valid signatures" in tidegate("release", "submit", draft)[2]
    good(tidegate("release", "countersign", draft, *two))
    assert "in the log" in good(tidegate("release", "submit", draft))


def test_the_fleets_size_is_the_holders_word_and_the_next_holder_sees_it(
    world: World, tidegate: Run, tmp_path: Path
) -> None:
    """Least devices of a fleet are a share; who could make the fleet small in a holder's eyes would open everything."""
    world.draft(1)
    draft = next(world.directory.glob("release-*"))
    key = world.offline / "release-1.pem"
    code, _, err = tidegate("release", "sign", draft, "--key", key, "--no-submit")
    assert code == 2 and "say how many devices the fleet has" in err
    good(tidegate("release", "sign", draft, "--key", key, "--no-submit", "--fleet-devices", 64, "--ceiling", "5%"))
    again = good(tidegate("release", "sign", draft, "--key", key, "--no-submit", "--trial"))
    assert (
        "was signed before, and its terms stand" in again
        and "ceiling 5 %" in again
        and "each step 120 s later" in again
    )
    said = good(tidegate("release", "countersign", draft, "--key", world.offline / "release-2.pem"))
    assert "from the start 16 of 64 devices, which are 25 %" in said
    assert "0.1 % after 0 s, 1 % after 3600 s" in said and "ceiling 5 %; dwell 3600 s" in said
    good(tidegate("release", "submit", draft))


def test_an_urgent_release_and_a_promotion(world: World, tidegate: Run) -> None:
    world.enrol()
    world.draft(1)
    draft = next(world.directory.glob("release-content-*"))
    fast = ("--speed", "0s:1%,15m:100%", "--ceiling", "20%", "--least-devices", "0")
    common = ("--offline-keys", world.offline)
    two = ("--key", world.offline / "release-1.pem", "--key", world.offline / "release-2.pem")
    refused = tidegate("release", "sign", draft, *two, *fast, "--emergency")
    assert refused[0] == 1 and "3 are needed" in refused[2]
    (draft / "releases.json").unlink()
    good(tidegate("release", "sign", draft, *common, *fast, "--emergency", "--why", "a hole is being exploited"))
    (release,) = json.loads(good(tidegate("release", "list", "--json")))["releases"]
    assert release["emergency"] and release["promoted_2p32"] == 0
    name = world.rollout()
    plan = world.controller.state.published[COMPONENT].plan
    assert plan["candidate"]["path"] == f"emergency/{COMPONENT}/1.json"
    assert "never above 20 % unpromoted" in good(tidegate("status"))
    promoted = ("release", "promote", "1", "--component", COMPONENT, *common)
    good(tidegate(*promoted, "--to", "50%", "--why", "evidence is good"))
    assert tidegate(*promoted, "--to", "50%")[0] == 1
    assert "--to must be a share as in 50%" in tidegate(*promoted, "--to", "400%")[2]
    assert "been promoted as far" in tidegate("release", "promote", draft, *common, "--to", "40%")[2]
    assert tidegate("release", "promote", "9", "--component", COMPONENT, *common, "--to", "50%")[0] == 2
    found = json.loads(good(tidegate("status", "--json")))
    speed = found["rollouts"][0]["speed"]
    assert speed["promoted"] and speed["emergency"] and speed["ceiling"] == 0.5
    assert [step["share"] for step in speed["next"]] == pytest.approx([0.01, 0.5])
    assert found["figures"]['tidegate_role_expires_in_seconds{role="timestamp"}'] > 0
    assert found["trust"]["warnings"] == [] and name


def test_a_pardon_is_signed_by_two_holders_and_served(world: World, tidegate: Run, tmp_path: Path) -> None:
    digest, file = world.release(1), tmp_path / "pardon.json"
    one, two = (("--key", world.offline / f"release-{n}.pem") for n in (1, 2))
    words = ("emergency", "pardon", file, "--component", COMPONENT)
    assert tidegate(*words, *one)[0] == 2
    code, _, said = tidegate(*words, "--digest", "abc", *one)
    assert code == 2 and "64 hexadecimal digits" in said
    good(tidegate(*words, "--digest", digest, "--reason", "the disks were full", *one))
    assert "1 valid signatures, 2 are needed" in tidegate("emergency", "publish", file)[2]
    good(tidegate("emergency", "pardon", file, *two))
    assert pardon_path(COMPONENT) in good(tidegate("emergency", "publish", file, "--why", "mended"))
    served = world.devices.get(f"/repo/{pardon_path(COMPONENT)}").content
    assert served == file.read_bytes() and PARDON.read(served).names(digest)
    assert world.controller.state.acts[-1].what == "release_pardoned"
    good(tidegate(*words, "--digest", digest, *two))  # the same command again, by another holder
    assert PARDON.read(file.read_bytes()).reason == "the disks were full"
    assert "holds another pardon" in tidegate(*words, "--digest", "ab" * 32, *one)[2]


def test_an_emergency_stop_ends_the_rollout_and_is_served(world: World, tidegate: Run, tmp_path: Path) -> None:
    world.enrol()
    digest = world.release(1)
    name = world.rollout()
    file = tmp_path / "stop.json"
    one, two = (("--key", world.offline / f"release-{n}.pem") for n in (1, 2))
    words = ("emergency", "stop", file, "--component", COMPONENT)
    assert tidegate(*words, *one)[0] == 2
    good(tidegate(*words, "--digest", digest, "--reason", "it eats disks", *one))
    assert "1 valid signatures, 2 are needed" in tidegate("emergency", "publish", file)[2]
    assert not (world.home.repository / stop_path(COMPONENT)).exists()
    good(tidegate(*words, "--digest", digest, *two))  # the same command, by another holder
    assert f"Rollout {name} is ended" in good(tidegate("emergency", "publish", file))
    served = world.devices.get(f"/repo/{stop_path(COMPONENT)}").content
    assert served == file.read_bytes() and read_stop(served).names(digest)
    assert world.controller.state.rollouts[name].phase.value in ("halted", "closed")
    assert "holds another emergency stop" in tidegate(*words, "--everything", *one)[2]
    stopped, aborted = list(world.controller.state.acts)[-2:]
    assert (stopped.what, aborted.what) == ("emergency_stop", "rollout_aborted")
    assert aborted.why == "an emergency stop: it eats disks", "a rollout ends with a reason"
