"""Who may speak: revoked devices, copied credentials, a changed secret, devices' own signatures, too many questions."""

from __future__ import annotations

import json
import random
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.http.conftest import check_problem
from tests.server import Device, World, enrolment

from tidegate.agent.clock import SystemClock
from tidegate.agent.config import Home
from tidegate.agent.enrol import enrol
from tidegate.agent.say import Log
from tidegate.agent.slots import Slots
from tidegate.agent.tools import make_tools
from tidegate.agent.transport import HttpRefused
from tidegate.control.buckets import Buckets
from tidegate.control.identities import Barred, Identities
from tidegate.control.proofs import signed_report_of
from tidegate.core.errors import Untrusted
from tidegate.intake.copies import CopyWatch
from tidegate.intake.limits import Limits, Rates
from tidegate.log.events import Act, Reported
from tidegate.trust.epochs import renewal_message
from tidegate.trust.signed_report import sign_report, verify_report

pytestmark = [pytest.mark.room("intake"), pytest.mark.room("control"), pytest.mark.room("trust")]
NOTHING = {"rollout": "none", "plan_version": 0, "installed": None, "seq": 1, "attempt": 1}


@pytest.fixture
def rolling(world: World) -> Iterator[tuple[World, list[Device], str]]:
    """Four devices and a rollout that all of them may be treated in."""
    devices = [world.enrol() for _ in range(4)]
    world.release(1)
    yield world, devices, world.rollout(max_harmed=4, placebo_per_treated=0.0)


def _lease(devices: list[Device], rollout: str) -> tuple[Device, str]:
    for device in devices:
        answer = device.announce(rollout).json()
        if answer.get("arm") == "treated":
            return device, answer["lease_id"]
    raise AssertionError("nobody was treated")


# --- revocation -----------------------------------------------------------------------------------------------------


def test_a_lower_rate_has_a_smaller_burst() -> None:
    assert Rates().bursts == (200, 10_000)
    assert Rates(device_per_s=2.0, address_per_s=20.0).bursts == (20, 200)
    assert Rates(device_per_s=0.01, address_per_s=5.0, address_burst=7).bursts == (1, 7)


def test_a_revoked_device_gets_no_lease_is_not_heard_and_cannot_enrol_itself_back(
    rolling: tuple[World, list[Device], str],
) -> None:
    world, devices, rollout = rolling
    key = Ed25519PrivateKey.generate()
    thief = Device(world, world.devices.post("/v1/enrol", json=enrolment(world.token(), key)).json())
    device, lease = _lease(devices, rollout)
    for one in (device, thief):
        reply = world.operator(f"/api/v1/devices/{one.index}/revoke", why="stolen from a car")
        assert reply.status_code == 200, reply.text
    check_problem(device.announce(rollout), 403, "this device was revoked (ada: stolen from a car)")
    check_problem(device.report(lease), 403, "this device was revoked")
    assert world.operator(f"/api/v1/rollouts/{rollout}", method="GET").json()["confirmed"] == 0
    again = world.devices.post("/v1/enrol", json=enrolment(world.token(), key))
    check_problem(again, 403, "this device was revoked")
    why = world.operator(f"/api/v1/devices/{device.index}/why", method="GET").json()
    assert why["why"][0]["standing"] == "barred"
    barred = world.operator("/api/v1/status", method="GET").json()["barred"]
    assert [row["index"] for row in barred] == [device.index, thief.index]
    assert world.operator(f"/api/v1/devices/{device.index}/reinstate", why="found again").status_code == 200
    assert device.report(lease).status_code == 200


def test_a_revoked_device_is_in_no_later_roster(world: World) -> None:
    devices = [world.enrol() for _ in range(3)]
    world.release(1)
    world.operator(f"/api/v1/devices/{devices[1].index}/revoke", why="sold")
    rollout = world.rollout()
    assert set(world.controller.state.rollouts[rollout].spec.roster) == {devices[0].index, devices[2].index}


def test_revoking_needs_a_reason_and_is_done_once(still: World) -> None:
    device = still.enrol()
    path = f"/api/v1/devices/{device.index}"
    check_problem(still.operator(f"{path}/revoke", why=""), 400, "say why")
    check_problem(still.operator(f"{path}/reinstate"), 409, "neither revoked nor quarantined nor flagged")
    assert still.operator(f"{path}/revoke").status_code == 200
    check_problem(still.operator(f"{path}/revoke"), 409, "revoked already")


def test_asking_whether_a_device_is_revoked_does_not_search_through_those_that_are() -> None:
    state = Identities()
    for index in range(1000):
        state.act(Act(at_ms=1, what="device_revoked", who="ada", why="x", body={"index": index}))
    calls: list[str] = []

    def count(frame: object, event: str, _: object) -> None:
        calls.append(event)

    sys.setprofile(count)
    try:
        state.check(1007)
    finally:
        sys.setprofile(None)
    assert len(calls) < 20
    with pytest.raises(Barred):
        state.check(999)


def test_a_stolen_token_enrols_up_to_its_uses_with_its_labels_and_nobody_once_it_is_revoked(world: World) -> None:
    world.release(1)
    token = world.token(uses=2, labels={"site": "ATL"})
    thief = world.enrol(token)
    reply = world.devices.post("/v1/enrol", json=enrolment(token, labels={"site": "JFK"}))
    check_problem(reply, 409, "does not grant the label site=JFK")
    check_problem(world.start(), 409, "no device is in scope")  # enrolled after the release was logged
    number = token.split(".")[2]
    assert world.operator(f"/api/v1/tokens/{number}/revoke", why="lost").status_code == 200
    check_problem(world.devices.post("/v1/enrol", json=enrolment(token)), 401, "has expired")
    check_problem(world.operator(f"/api/v1/tokens/{number}/revoke"), 409, "over already")
    check_problem(world.operator("/api/v1/tokens/none/revoke"), 404, "no token")
    rows = world.operator("/api/v1/tokens", method="GET").json()["tokens"]
    assert [(row["used"], row["open"]) for row in rows] == [(1, False)]
    assert token.rpartition(".")[2] not in json.dumps(rows)
    assert thief.post("/v1/announce", NOTHING).status_code == 404  # who was enrolled stays, until revoked by name


# --- copies of a credential -----------------------------------------------------------------------------------------


def test_two_places_that_use_one_credential_are_told_by_their_numbers_and_get_no_lease(
    rolling: tuple[World, list[Device], str],
) -> None:
    world, devices, rollout = rolling
    device = devices[0]
    assert device.post("/v1/announce", {**NOTHING, "attempt": 1}, seq=50).status_code == 404
    assert device.post("/v1/announce", {**NOTHING, "attempt": 1}, seq=50).status_code == 404  # a repeat is no copy
    check_problem(device.post("/v1/announce", {**NOTHING, "attempt": 2}, seq=50), 403, "seen in two places")
    check_problem(device.announce(rollout, header_seq=51), 403, "two different messages carry the number 50")
    sentence = world.operator(f"/api/v1/devices/{device.index}/why", method="GET").json()["why"][0]["sentence"]
    assert "two different messages carry the number 50" in sentence
    acts = [act for act in world.controller.state.acts if act.what == "device_copied"]
    assert [(act.who, act.body) for act in acts] == [("tidegate", {"index": device.index})]
    assert world.operator(f"/api/v1/devices/{device.index}/reinstate", why="copy wiped").status_code == 200
    assert device.announce(rollout, header_seq=60).status_code == 200


def test_two_places_are_told_by_starts_of_the_machine_that_take_turns(world: World) -> None:
    device = world.enrol()
    for boot in ("monday", "tuesday", "tuesday"):  # one machine that was started anew
        assert device.post("/v1/announce", {**NOTHING, "boot_id": boot}).status_code == 404
    check_problem(device.post("/v1/announce", {**NOTHING, "boot_id": "monday"}), 403, "followed by another")


def test_a_copied_disk_that_speaks_with_later_numbers_does_not_silence_the_device_but_is_told(
    world: World, tmp_path: Path
) -> None:
    home, copy = tmp_path / "agent", tmp_path / "copy"
    enrol(home, str(world.devices.base_url), world.token(), poll_s=1.0)
    world.release(1)
    rollout = world.rollout(max_harmed=1, placebo_per_treated=0.0)
    one = make_tools(Home(home), Log(), SystemClock(), random.Random(1))
    lease = one.announce({**NOTHING, "rollout": rollout, "plan_version": 1})["lease_id"]
    shutil.copytree(home, copy)
    two = make_tools(Home(copy), Log(), SystemClock(), random.Random(2))
    report = {"lease_id": lease, "kind": "confirmed", "seq": 1, "boot_s": 1, "probes": [], "note": ""}
    two.send("/v1/reports", {"reports": [report]})
    with pytest.raises(HttpRefused, match="is older than"):
        one.send("/v1/reports", {"reports": [report]})
    one.send("/v1/reports", {"reports": [report]})  # it has gone on above the copy's number
    with pytest.raises(HttpRefused, match="seen in two places"):
        two.send("/v1/reports", {"reports": []})
    assert [act.what for act in world.controller.state.acts][-1] == "device_copied"
    one.server.close()
    two.server.close()


def test_neither_a_replay_nor_a_message_that_was_long_under_way_makes_a_copy() -> None:
    watch = CopyWatch()
    assert [watch.see(0, seq, f"{seq:064x}", boot) for seq, boot in ((1, "a"), (2, "a"), (5, "b"))] == ["", "", ""]
    for seq in (1, 2, 4, 3, 1):  # from before the restart, in any order, again and again
        assert watch.see(0, seq, f"{seq:064x}", "a") == ""
    assert watch.see(0, 6, f"{6:064x}", "b") == ""
    assert "followed by another" in watch.see(0, 7, f"{7:064x}", "a")


def test_the_watch_over_copies_keeps_only_the_devices_heard_last() -> None:
    watch = CopyWatch(most=3)
    for index in range(10):
        watch.see(index, 1, "00" * 32)
    assert watch.see(9, 1, "ff" * 32) != ""
    assert watch.see(0, 1, "ff" * 32) == ""  # forgotten: said in the threat model
    for seq in range(1000):
        watch.see(5, seq, f"{seq:064x}", f"boot {seq}")
    assert len(watch._seen) <= 3 and len(watch._seen[5].messages) <= 16


# --- enrolment again ------------------------------------------------------------------------------------------------


def test_enrolling_again_with_the_same_key_gives_the_same_device_and_what_it_condemned(
    rolling: tuple[World, list[Device], str], tmp_path: Path
) -> None:
    world, devices, rollout = rolling
    key = Ed25519PrivateKey.generate()
    known = Device(world, world.devices.post("/v1/enrol", json=enrolment(world.token(), key)).json())
    assert known.index == len(devices)
    device, lease = _lease(devices, rollout)
    assert device.report(lease, "reverted", condemned=True).status_code == 200
    digest = world.controller.state.rollouts[rollout].spec.candidate.sha256
    row = world.controller.state.devices[device.index]
    assert world.controller.state.identities.condemned[row.device.index][digest].component == "edr-rules"
    shown = world.operator(f"/api/v1/devices/{device.index}", method="GET").json()
    assert shown["condemned"] == {digest: "edr-rules"}
    # the same key once more: here with a device of the agent's own making, which has lost all but its key
    answer = world.devices.post("/v1/enrol", json=enrolment(world.token(), key)).json()
    assert (answer["device_id"], answer["index"], answer["condemned"]) == (known.device_id, known.index, [])


def test_an_agent_that_lost_all_but_its_key_takes_over_what_it_condemned(world: World, tmp_path: Path) -> None:
    home = tmp_path / "agent"
    first = enrol(home, str(world.devices.base_url), world.token(), poll_s=1.0)
    digest = "ab" * 32
    world.controller.state.identities.condemn(first.index, "edr-rules", digest, 1_000_000)
    identity = (home / "identity.json").read_bytes()
    for path in sorted(home.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (home / "identity.json").write_bytes(identity)
    again = enrol(home, str(world.devices.base_url), world.token(), poll_s=1.0, again=True)
    assert (again.device_id, again.index, again.key) == (first.device_id, first.index, first.key)
    assert Slots(home / "components" / "edr-rules").condemned(digest)


def test_a_server_that_dates_a_condemnation_into_the_future_cannot_shut_out_a_pardon(
    world: World, tmp_path: Path
) -> None:
    home = tmp_path / "agent"
    first = enrol(home, str(world.devices.base_url), world.token(), poll_s=1.0)
    digest, far_ms = "ab" * 32, 10**15
    world.controller.state.identities.condemn(first.index, "edr-rules", digest, far_ms)
    identity = (home / "identity.json").read_bytes()
    for path in sorted(home.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (home / "identity.json").write_bytes(identity)
    enrol(home, str(world.devices.base_url), world.token(), poll_s=1.0, again=True)
    marks = Slots(home / "components" / "edr-rules").marks
    assert marks.has(digest)
    assert "issued before" in marks.lift(digest, int(time.time()) - 3600)
    assert marks.lift(digest, int(time.time()) + 60) == ""


# --- another secret -------------------------------------------------------------------------------------------------


def test_the_secret_is_rotated_and_a_real_agent_follows_by_itself(world: World, tmp_path: Path) -> None:
    home = tmp_path / "agent"
    enrol(home, str(world.devices.base_url), world.token(), poll_s=1.0)
    tools = make_tools(Home(home), Log(), SystemClock(), random.Random(1))
    old = Home(home).load_identity().credential
    assert tools.send("/v1/reports", {"reports": []}) is not None
    assert Home(home).load_identity().credential == old
    assert world.operator("/api/v1/device-secrets/rotate").json() == {"epoch": 2}
    tools.send("/v1/reports", {"reports": []})  # under the old one, which still counts
    new = Home(home).load_identity().credential
    assert old.startswith("1.") and new.startswith("2.")
    assert (home / "identity.json").stat().st_mode & 0o777 == 0o600
    tools.send("/v1/reports", {"reports": []})
    rows = world.operator("/api/v1/device-secrets", method="GET").json()["epochs"]
    assert rows == [{"epoch": 1, "newest": False, "heard": 0}, {"epoch": 2, "newest": True, "heard": 1}]
    tools.server.close()


def test_a_device_that_was_away_for_the_whole_overlap_renews_without_being_enrolled_again(
    world: World, tmp_path: Path
) -> None:
    home = tmp_path / "agent"
    enrol(home, str(world.devices.base_url), world.token(), poll_s=1.0)
    world.operator("/api/v1/device-secrets/rotate")
    assert world.operator("/api/v1/device-secrets/retire", epoch=1).json() == {"retired": 1}
    tools = make_tools(Home(home), Log(), SystemClock(), random.Random(1))
    tools.send("/v1/reports", {"reports": []})
    assert Home(home).load_identity().credential.startswith("2.")
    tools.server.close()
    whats = [act.what for act in world.controller.state.acts]
    assert "device_secret_rotated" in whats and "device_secret_retired" in whats


def test_the_old_secret_gets_nobody_a_new_credential_nor_does_another_devices_key(world: World) -> None:
    key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    device = Device(world, world.devices.post("/v1/enrol", json=enrolment(world.token(), key)).json())
    keyless = world.devices.post("/v1/enrol", json={"token": world.token()}).json()
    world.operator("/api/v1/device-secrets/rotate")

    def renew(who: str, signer: Ed25519PrivateKey, issued: int) -> httpx.Response:
        proof = signer.sign(renewal_message(who, issued)).hex()
        return world.devices.post("/v1/renew", json={"device_id": who, "issued": issued, "proof": proof})

    now = int(world.clock())
    check_problem(renew(device.device_id, other, now), 401, "not made with the key")
    check_problem(renew(device.device_id, key, now - 3600), 401, "set the device's clock")
    check_problem(renew(keyless["device_id"], other, now), 401, "no device with a key of its own")
    check_problem(renew("ab" * 16, key, now), 401, "no device with a key of its own")
    # an old credential, which whoever stole the secret can make, is answered, and gives no new one
    reply = device.post("/v1/announce", NOTHING)
    assert reply.status_code == 404 and "credential" not in reply.text
    assert renew(device.device_id, key, now).json()["credential"].startswith("2.")
    world.operator("/api/v1/device-secrets/retire", epoch=1)
    reply = device.post("/v1/announce", NOTHING)
    check_problem(reply, 401, "epoch 1")
    assert reply.json()["renew"] is True
    check_problem(world.operator("/api/v1/device-secrets/retire", epoch=2), 409, "the newest")
    check_problem(world.operator("/api/v1/device-secrets/retire", epoch=1), 404, "no device secret of epoch 1")


# --- a device speaks for itself alone -------------------------------------------------------------------------------


def test_a_device_can_lie_only_about_itself(rolling: tuple[World, list[Device], str]) -> None:
    world, devices, rollout = rolling
    device, lease = _lease(devices, rollout)
    liar = next(d for d in devices if d is not device)
    before = world.log.last
    check_problem(liar.report(lease, "reverted"), 400, "was not given to this device")
    # its own MAC with the other's name, and the other's number in its own credential
    epoch, index, _, key = liar.credential.split(".")
    for forged in (f"{epoch}.{index}.{device.device_id}.{key}", f"{epoch}.{device.index}.{liar.device_id}.{key}"):
        check_problem(liar.post("/v1/reports", {"reports": []}, credential=forged), 401, "not made with this device's")
    assert world.quiet() == before
    found = world.operator(f"/api/v1/rollouts/{rollout}", method="GET").json()
    assert (found["reverted"], found["confirmed"]) == (0, 0)


def test_a_fleet_that_demands_signed_reports_takes_no_other_and_keeps_them_as_the_devices_word(world: World) -> None:
    keys = [Ed25519PrivateKey.generate() for _ in range(3)]
    devices = [Device(world, world.devices.post("/v1/enrol", json=enrolment(world.token(), k)).json()) for k in keys]
    world.release(1)
    rollout = world.rollout(max_harmed=3, placebo_per_treated=0.0)
    device, lease = _lease(devices, rollout)
    key, other = keys[devices.index(device)], keys[devices.index(device) - 1]
    assert world.operator("/api/v1/policy", signed_reports=True).json()["signed_reports"] is True
    said: dict[str, Any] = {"lease_id": lease, "kind": "reverted", "seq": 9, "boot_s": 3, "note": "über"}
    said["condemned"] = True
    check_problem(device.post("/v1/reports", {"reports": [said]}), 428, "signed by the device's own key")

    def signed(by: Ed25519PrivateKey, **changes: Any) -> httpx.Response:
        signature = sign_report(by.private_bytes_raw().hex(), device.device_id, said)
        return device.post("/v1/reports", {"reports": [{**said, "signature": signature, **changes}]})

    check_problem(signed(other), 401, "not signed with the key")
    check_problem(signed(key, kind="confirmed"), 401, "not signed with the key")
    check_problem(signed(key, signature="00"), 400, "128 hexadecimal digits")
    assert signed(key).status_code == 200
    event = next(e for _, e in world.log.read() if isinstance(e, Reported))
    public = world.controller.state.devices[device.index].public_key
    verify_report(public, device.device_id, signed_report_of(event), event.signature)
    with pytest.raises(Untrusted):
        verify_report(public, devices[0].device_id + "0", signed_report_of(event), event.signature)


def test_an_agent_signs_once_it_is_told_that_it_must(world: World, tmp_path: Path) -> None:
    home = tmp_path / "agent"
    identity = enrol(home, str(world.devices.base_url), world.token(), poll_s=1.0)
    world.release(1)
    rollout = world.rollout(max_harmed=1, placebo_per_treated=0.0)
    world.operator("/api/v1/policy", signed_reports=True)
    tools = make_tools(Home(home), Log(), SystemClock(), random.Random(1))
    answer = tools.announce({**NOTHING, "rollout": rollout, "seq": 1})
    report = {"lease_id": answer["lease_id"], "kind": "confirmed", "seq": 2, "boot_s": 1, "probes": [], "note": ""}
    tools.send("/v1/reports", {"reports": [report]})
    tools.server.close()
    event = next(e for _, e in world.log.read() if isinstance(e, Reported))
    assert event.index == identity.index and len(event.signature) == 128


# --- how often ------------------------------------------------------------------------------------------------------


def test_a_device_that_asks_too_often_waits_and_the_others_do_not(world: World) -> None:
    world.intake.limits = Limits(Rates(device_per_s=0.1, device_burst=3))
    loud, calm = world.enrol(), world.enrol()
    codes = [loud.post("/v1/announce", NOTHING).status_code for _ in range(3)]
    assert codes == [404, 404, 404]
    reply = loud.post("/v1/announce", NOTHING)
    check_problem(reply, 429, "this device asks too often")
    assert 1 <= int(reply.headers["retry-after"]) <= 10
    assert calm.post("/v1/announce", NOTHING).status_code == 404
    epoch, _, _, key = loud.credential.split(".")  # who cannot sign uses up nobody's share
    forged = f"{epoch}.{calm.index}.{calm.device_id}.{key}"
    for _ in range(5):
        assert loud.post("/v1/announce", NOTHING, credential=forged).status_code == 401
    assert calm.post("/v1/announce", NOTHING).status_code == 404


def test_an_address_that_asks_too_often_waits(world: World) -> None:
    world.intake.limits = Limits(Rates(address_per_s=0.1, address_burst=2))
    transport = httpx.HTTPTransport(local_address="127.0.0.2")
    with httpx.Client(base_url=str(world.devices.base_url), transport=transport) as far:
        codes = [far.post("/v1/enrol", json={}).status_code for _ in range(3)]
        assert codes == [400, 400, 429]
        check_problem(far.post("/v1/enrol", json={}), 429, "this address asks too often")
    assert world.devices.post("/v1/enrol", json={}).status_code == 400


def test_buckets_fill_again_and_there_are_never_more_than_so_many() -> None:
    now = [0.0]
    buckets = Buckets(2.0, 4, most=100, clock=lambda: now[0])
    assert [buckets.wait_s("a") for _ in range(6)] == [0, 0, 0, 0, 1, 1]
    now[0] += 1.0
    assert [buckets.wait_s("a") for _ in range(3)] == [0, 0, 1]
    now[0] -= 100.0  # a clock that goes back gives nothing away and takes nothing
    assert buckets.wait_s("a") == 1
    for key in range(10_000):
        buckets.wait_s(key)
    assert len(buckets) == 100
    limits = Limits(Rates(address_per_s=1.0, address_burst=1))
    assert limits.address(("2001:db8::1", 1)) == 0
    assert limits.address(("2001:db8::2", 1)) == 1  # one network is one address
