"""Who was exposed to what, when: drawn from a running server, checked with nothing but the file and a key."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.http.conftest import check_problem
from tests.server import World
from tests.unit.test_control_ledger import LedgerPlant

from tidegate.cli.main import run
from tidegate.control.timeline_check import digest_note, verify_timeline
from tidegate.control.timeline_page import timeline_page
from tidegate.core.errors import Untrusted
from tidegate.trust.note import Note, NoteKey

Json = dict[str, Any]


class LedgerWorld(World):
    """A control plane that runs, with its ledger."""

    ledger = LedgerPlant.ledger

    @property
    def key(self) -> NoteKey:
        assert self.controller.ledger is not None
        return self.controller.ledger.key

    def account(self, **asked: str) -> Json:
        self.quiet()
        reply = self.operator("/api/v1/timeline", method="GET", **asked)
        assert reply.status_code == 200, reply.text
        return reply.json()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LedgerWorld, str, str]]:
    """Four devices, a release, a rollout in which some were exposed: one confirmed, one reverted."""
    world = LedgerWorld(tmp_path_factory.mktemp("told"))
    devices = [world.enrol(world.token(labels={"site": "<b>ATL</b>"})) for _ in range(4)]
    digest = world.release(1)
    name = world.rollout()
    treated = 0
    answers = [device.announce(name) for device in devices]
    assert world.operator(f"/api/v1/rollouts/{name}/pause").status_code == 200
    for device, reply in zip(devices, answers, strict=True):
        if reply.status_code == 200 and reply.json().get("arm") == "treated":
            kind = "reverted" if treated else "confirmed"
            assert device.report(reply.json()["lease_id"], kind, note="<script>alert(1)</script>").status_code == 200
            treated += 1
    assert treated >= 2
    world.operator(f"/api/v1/rollouts/{name}/resume")
    world.operator("/api/v1/components/edr-rules/budget", max_harmed_30d=100)
    world.quiet()
    yield world, digest, name
    world.close()


def test_an_account_is_proven_by_the_ledger(told: tuple[LedgerWorld, str, str]) -> None:
    world, digest, name = told
    for asked in ({"rollout": name}, {"release": digest[:12]}):
        account = world.account(**asked)
        checked = verify_timeline(account, world.key)
        assert checked.signed_alone == 0
        outcomes = {entry["outcome"] for entry in account["exposures"] if entry["exposed"]}
        assert outcomes >= {"confirmed", "reverted"}
        assert all(entry["release"] == digest and entry["device_id"] for entry in account["exposures"])
        kinds = [json.loads(row["text"])["kind"] for row in account["records"]]
        assert {"enrolled", "release", "rollout", "verdict", "leased", "reported", "act"} <= set(kinds)
        assert "Rollout paused" in " ".join(row["sentence"] for row in account["records"])


def test_a_device_is_told_of_itself_alone(told: tuple[LedgerWorld, str, str]) -> None:
    world, _, name = told
    whole = world.account(rollout=name)
    for exposure in whole["exposures"]:
        account = world.account(device=exposure["device_id"][:12])
        verify_timeline(account, world.key)
        assert account["exposures"] == [exposure]
        assert account["subject"] == {"kind": "device", "name": exposure["device_id"]}


def test_every_exposure_of_the_log_is_in_it(told: tuple[LedgerWorld, str, str]) -> None:
    world, _, name = told
    found = {entry["device"]: entry["leased_ms"] for entry in world.account(rollout=name)["exposures"]}
    leased = {event.index: event.at_ms for _, event in world.log.read() if type(event).__name__ == "Leased"}  # type: ignore[union-attr]
    assert found == leased
    assert leased


def test_what_is_younger_than_the_ledger_rests_on_the_signature(tmp_path: Path) -> None:
    world = LedgerWorld(tmp_path)
    try:
        device = world.enrol()
        account = world.account(device=device.device_id)
        checked = verify_timeline(account, world.key)
        assert (checked.proven, checked.signed_alone) == (0, 1)
        check_problem(world.operator("/api/v1/timeline", method="GET"), 400, "one of")
        check_problem(world.operator("/api/v1/timeline", method="GET", device="ff" * 16), 404, "device")
        check_problem(world.operator("/api/v1/timeline", method="GET", release="ff" * 16), 404, "release")
        check_problem(world.operator("/api/v1/timeline", method="GET", rollout="ff"), 404, "rollout")
        assert world.operators.get("/api/v1/timeline", headers={"authorization": "Bearer x"}).status_code == 401
        checkpoint = world.devices.get("/repo/ledger/checkpoint")
        assert checkpoint.text.startswith(f"{world.key.name}\n")
    finally:
        world.close()


def edit_text(account: Json) -> None:
    row = next(row for row in account["records"] if '"leased"' in row["text"])
    row["text"] = row["text"].replace("treated", "placebo").replace('"late":false', '"late":true')


def edit_sentence(account: Json) -> None:
    account["records"][-1]["sentence"] = "Nothing happened."


def edit_time(account: Json) -> None:
    account["records"][0]["at_ms"] += 1


def drop_exposure(account: Json) -> None:
    account["exposures"].pop()


def edit_entry(account: Json) -> None:
    entry = next(iter(account["entries"].values()))
    entry["text"] = entry["text"].replace('"v":1', '"v":2')


def edit_proof(account: Json) -> None:
    row = next(row for row in account["records"] if "segment" in row)
    row["segment"]["index"] += 1


def other_checkpoint(account: Json) -> None:
    account["checkpoint"] = account["checkpoint"].replace("tidegate.local", "tidegate.other")


def lose_part(account: Json) -> None:
    del account["entries"]


DAMAGE = [edit_text, edit_sentence, edit_time, drop_exposure, edit_entry, edit_proof, other_checkpoint, lose_part]


@pytest.mark.parametrize("signed", [False, True], ids=["by others", "signed again by its own server"])
@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_a_changed_account_does_not_hold(
    told: tuple[LedgerWorld, str, str], damage: Callable[[Json], None], signed: bool
) -> None:
    world, _, name = told
    account = world.account(rollout=name)
    assert world.controller.ledger is not None
    broken = copy.deepcopy(account)
    damage(broken)
    assert broken != account
    if signed:  # even who holds the key cannot make the ledger say what it does not
        broken["signature"] = Note(digest_note(broken)).signed_by(world.controller.ledger.signer).data().decode()
    with pytest.raises(Untrusted):
        verify_timeline(broken, world.key)


def test_the_page_is_plain_and_nothing_in_it_runs(told: tuple[LedgerWorld, str, str]) -> None:
    world, _, name = told
    page = timeline_page(world.account(rollout=name))
    assert "&lt;script&gt;" in page
    assert not re.search(r"<(script|img|link|iframe|b>)|https?://", page)
    assert "was exposed to the candidate" in page
    exposed = sum(entry["exposed"] for entry in world.account(rollout=name)["exposures"])
    short = f"{exposed} exposures, .* Reported healthy: 1. Taken back by the device itself: {exposed - 1}. No word: 0."
    assert re.search(short, page), "how it ended stands on top"
    title, digest = "<h1>Account of release edr-rules 1.1</h1>", world.account(rollout=name)["exposures"][0]["release"]
    assert title in timeline_page(world.account(release=digest))


def test_by_hand_with_a_server_and_without(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = LedgerWorld(tmp_path)
    monkeypatch.setenv("TIDEGATE_HOME", str(world.home.path))

    def tidegate(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            run(list(words))
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out + said.err

    try:
        world.enrol()
        digest = world.release(1)
        world.rollout()
        addresses = {"devices": str(world.devices.base_url), "operators": str(world.operators.base_url)}
        world.home.address.write_text(json.dumps(addresses))
        key, url = world.key.text(), f"{world.devices.base_url}/repo/ledger"
        assert tidegate("ledger", "verify", "--source", url, "--key", key)[0] == 0
        assert tidegate("ledger", "verify", "--source", url)[0] == 2
        code, said = tidegate("timeline", "--release", digest, "--out-dir", str(tmp_path))
        assert code == 0, said
    finally:
        world.close()
    world.home.address.unlink()
    code, said = tidegate("timeline", "--device", "0", "--out-dir", str(tmp_path))
    assert code == 0, said
    files = sorted(tmp_path.glob("timeline-*.json"))
    assert len(files) == 2
    assert len(list(tmp_path.glob("timeline-*.html"))) == 2
    for file in files:
        assert tidegate("timeline", "verify", str(file), "--key", key)[0] == 0
        file.write_text(file.read_text().replace(digest[:20], "0" * 20))
        assert tidegate("timeline", "verify", str(file), "--key", key)[0] == 1
    assert tidegate("ledger", "prove", digest[:16], "--out-dir", str(tmp_path))[0] == 0
    proof = next(tmp_path.glob("entry-*.tlog-proof"))
    pair = ["--proof", str(proof), "--entry", str(proof.with_suffix(".json")), "--key", key]
    assert tidegate("ledger", "verify", *pair)[0] == 0
    state = str(tmp_path / "seen")
    assert tidegate("ledger", "watch", "--state", state, "--once")[0] == 0
    lines = (tmp_path / "seen").read_text().splitlines()
    (tmp_path / "seen").write_text("\n".join([*lines[:2], "A" * 43 + "=", *lines[3:]]) + "\n")
    forked = tidegate("ledger", "watch", "--state", state, "--once")
    assert forked[0] == 1
    assert "seen.other" in forked[1], "both checkpoints are kept: they are the evidence"
    assert (tmp_path / "seen.other").read_bytes() == (world.home.repository / "ledger" / "checkpoint").read_bytes()
    bundles = (world.home.repository / "ledger" / "tile" / "entries" / "000.p").iterdir()
    bundle = max(bundles, key=lambda path: int(path.name))
    bundle.write_bytes(bundle.read_bytes().replace(b'"v":1', b'"v":9'))
    assert tidegate("ledger", "verify")[0] == 1
