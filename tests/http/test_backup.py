"""Backups: taken from a server at work, verified to the last byte, and restored into a control plane that goes on."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest
from tests.server import World
from tests.snapshots import difference, snapshot
from tests.stores import store_server

from tidegate.api.access import may
from tidegate.cli.backup import create, restore, verify
from tidegate.cli.backup_file import SEAL, BackupFile
from tidegate.cli.home import Home
from tidegate.control.state import fold
from tidegate.core.errors import BadInput, TidegateError, Untrusted
from tidegate.core.model import PlanState
from tidegate.log.events import Event

pytestmark = [pytest.mark.room("cli"), pytest.mark.room("control")]


def announced(world: World) -> None:
    """Let commands find the server, as `tidegate serve` does."""
    urls = {"devices": str(world.devices.base_url), "operators": str(world.operators.base_url)}
    world.home.address.write_text(json.dumps(urls))


def test_a_control_plane_goes_on_from_a_backup_that_was_taken_at_work(tmp_path: Path) -> None:
    world = World(tmp_path / "old")
    announced(world)
    token = world.token()
    early = [world.enrol(token) for _ in range(3)]
    world.release(1)
    rollout = world.rollout(max_harmed=2, placebo_per_treated=0.0)
    leases = {d.index: answer for d in early if "lease_id" in (answer := d.announce(rollout).json())}
    told = next(iter(leases))
    assert early[told].report(leases[told]["lease_id"]).status_code == 200
    file = tmp_path / "tidegate.backup"
    create(file, home=world.home.path)
    assert file.stat().st_mode & 0o777 == 0o600
    kept = BackupFile(file).seal.events
    late = world.enrol(token)  # and what comes now is not in it
    seen = world.publisher.version
    world.close()
    old = fold(event for seq, event in _read(world.home) if seq <= kept)
    shutil.rmtree(world.home.path)

    restore(file, home=tmp_path / "new" / "home")
    shutil.copytree(world.offline, tmp_path / "new" / "offline")
    again = World(tmp_path / "new")
    try:
        state = again.controller.state
        assert difference(snapshot(list(old.devices)), snapshot(list(state.devices))) == ""
        assert state.tokens.keys() == old.tokens.keys()
        evidence, before = state.rollouts[rollout].evidence, old.rollouts[rollout].evidence
        assert (evidence.exposed, evidence.confirmed) == (before.exposed, before.confirmed) == (len(leases), 1)
        assert state.rollouts[rollout].phase in (PlanState.HALTED, PlanState.CLOSED)
        assert "restored from a backup" in state.rollouts[rollout].sentence
        assert rollout not in state.active.values()
        again.quiet()
        assert again.publisher.version > seen + 900, "devices may have seen more editions than the backup knows"
        device = early[told]
        device.world = again
        assert device.report(leases[told]["lease_id"]).status_code == 200, "what came before comes again"
        late.world = again
        assert late.announce(rollout).status_code in (401, 403, 404), "a device that is not in the backup enrols again"
        fresh = again.enrol(token)
        assert fresh.index == late.index
        assert late.announce(rollout).status_code in (401, 403, 404), "its number is another's now"
        again.release(2)
        again.clock.ahead_s += 1
        assert again.start(release="2", max_harmed=2).status_code == 201
    finally:
        again.close()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("postgresql", marks=pytest.mark.xdist_group("postgresql")),
        pytest.param("nats", marks=pytest.mark.xdist_group("nats")),
    ],
)
def test_every_store_is_backed_up_and_restored_into_every_other(tmp_path: Path, name: str) -> None:
    """From a file into the store, a backup of that, and from it into a file again: the same state three times."""
    server = store_server(name)
    world = World(tmp_path / "old")
    token = world.token(labels={"site": "ATL"})
    devices = [world.enrol(token) for _ in range(20)]
    world.release(1)
    rollout = world.rollout(max_harmed=20, placebo_per_treated=0.0)
    for device in devices:
        assert device.report(device.announce(rollout).json()["lease_id"]).status_code == 200
    world.quiet()
    world.close()
    first, second = tmp_path / "first.backup", tmp_path / "second.backup"
    create(first, home=world.home.path)
    there, back = Home(tmp_path / "there"), Home(tmp_path / "back")
    restore(first, home=there.path, log=server.url(tmp_path), log_password_file=server.password_file)
    create(second, home=there.path)
    assert BackupFile(second).seal.events > BackupFile(first).seal.events, "the restore is on record"
    with pytest.raises(BadInput, match="restore into an empty one"):
        restore(first, home=tmp_path / "twice", log=server.url(tmp_path), log_password_file=server.password_file)
    restore(second, home=back.path)
    old, in_store, in_file = (fold(event for _, event in _read(home)) for home in (world.home, there, back))
    for other in (in_store, in_file):
        assert difference(snapshot(old.devices), snapshot(other.devices)) == ""
        assert difference(snapshot(old.rollouts), snapshot(other.rollouts)) == ""
    assert in_file.rollouts[rollout].evidence.confirmed == 20


def _read(home: Home) -> list[tuple[int, Event]]:
    log = home.open_log()
    try:
        return list(log.read())
    finally:
        log.close()


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("backup")
    world = World(place)
    world.enrol()
    world.close()
    create(place / "b.tar", home=world.home.path)  # nobody runs: read from the store itself
    return place / "b.tar"


def test_a_backup_says_what_it_holds(backup: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verify(backup, json=True)
    said = json.loads(capsys.readouterr().out)
    assert (said["devices"], said["events"], said["active"]) == (1, BackupFile(backup).seal.events, [])
    names = BackupFile(backup).seal.files
    assert not any("log.db" in name or "server.json" in name or "checkpoints" in name for name in names)
    assert {"home/keys/plans.pem", "home/device-secrets.json", "home/operator.token"} <= set(names)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.97])
def test_a_damaged_backup_is_found_out_and_nothing_is_restored(backup: Path, tmp_path: Path, share: float) -> None:
    data = bytearray(backup.read_bytes())
    with tarfile.open(backup) as tar:
        member = tar.getmembers()[int(share * len(tar.getmembers()))]
    at = member.offset_data + member.size // 2
    data[at] ^= 1
    damaged = tmp_path / "damaged"
    damaged.write_bytes(data)
    cut = tmp_path / "cut"
    cut.write_bytes(data[: member.offset_data + member.size // 2])
    for file in (damaged, cut):
        with pytest.raises((Untrusted, BadInput)):
            verify(file)
        with pytest.raises((Untrusted, BadInput)):
            restore(file, home=tmp_path / "home")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut", "damaged"]


@pytest.mark.parametrize("name", ["home/../../evil", "/evil", "evil", "home"])
def test_a_backup_with_a_file_out_of_place_is_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / "evil.tar"
    seal = {
        "form": 1,
        "at_s": 1,
        "events": 0,
        "files": {name: hashlib.sha256(b"").hexdigest()},
    }
    with tarfile.open(file, "w") as tar:
        for member, data in ((name, b""), (SEAL, json.dumps(seal).encode())):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    with pytest.raises(Untrusted):
        BackupFile(file)


def test_nothing_is_overwritten(backup: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "mine").write_text("mine")
    with pytest.raises(BadInput, match="already"):
        restore(backup, home=tmp_path / "home")
    assert (tmp_path / "home" / "mine").read_text() == "mine"
    before = backup.read_bytes()
    with pytest.raises(TidegateError, match="already"):
        create(backup, home=backup.parent / "home")
    assert backup.read_bytes() == before


def test_the_log_is_for_administrators(still: World) -> None:
    assert not may("operator", "GET", "/api/v1/backup/log")
    assert may("admin", "GET", "/api/v1/backup/log")
    reply = still.operators.get("/api/v1/backup/log")
    assert reply.status_code == 200
    assert int(reply.headers["tidegate-last-event"]) == still.log.last
