"""The code agrees with the published test vectors, which a second reading of the protocol made."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.docs_vectors import NAMES_REFUSED, NAMES_REFUSED_TOGETHER, VECTORS, documents

from tidegate.core.assign import arm_commit, device_key, rank_text, ring_arm_salt
from tidegate.core.errors import BadInput
from tidegate.core.model import Manifest, Plan, SpeedLimit
from tidegate.core.rings import Rings
from tidegate.core.speed import age_s, allowed_share, speed_permits
from tidegate.core.wire import decode, encode, plain, read
from tidegate.trust.payload import describe_payload, pack_payload, unpack_payload
from tidegate.trust.tokens import parse_token, token_hash

pytestmark = [pytest.mark.room("core"), pytest.mark.room("trust")]


def load(name: str) -> Any:
    return json.loads((VECTORS / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(documents()))
def test_the_published_vectors_are_those_of_the_second_reading(name: str) -> None:
    assert load(name) == documents()[name], "run: python -m tests.docs_vectors"


def test_the_manifests_text_and_digest() -> None:
    vector = load("manifest.json")
    manifest = decode(Manifest, vector["text"], "the manifest")
    assert manifest == read(Manifest, vector["manifest"], "the manifest")
    data = encode(manifest)
    assert data == vector["text"].encode()
    assert (hashlib.sha256(data).hexdigest(), len(data)) == (vector["sha256"], vector["length"])


def test_the_plan_and_what_is_refused() -> None:
    vector = load("plan.json")
    plan = decode(Plan, vector["text"], "the plan")
    assert encode(plan) == vector["text"].encode()
    for rank, announces in vector["announces"].items():
        assert plan.announces(int(rank, 16)) is announces
    for wrong in vector["refused"]:
        with pytest.raises(BadInput):
            read(Plan, {**vector["plan"], **wrong["change"]}, wrong["why"])


def test_the_speed_limit() -> None:
    vector = load("speed.json")
    limit = read(SpeedLimit, vector["speed"], "the speed limit")
    for case in vector["cases"]:
        assert age_s(limit, case["wall_s"]) == case["age_s"]
        assert allowed_share(limit, case["age_s"]) == case["share_2p32"], case
        answer = speed_permits(limit, int(case["rank"], 16), case["wall_s"], case["high_water_s"])
        assert answer.permitted is case["permitted"], case


def test_the_rings() -> None:
    vector = load("rings.json")
    ids, secret = vector["devices"], bytes.fromhex(vector["arm_secret"])
    keys = np.array([device_key(name) for name in ids], dtype=np.uint64)
    salt, rollout = bytes.fromhex(vector["order_salt"]), vector["rollout"]
    rings = Rings(keys, salt, secret, rollout, vector["placebo_per_treated"])
    for number, expected in enumerate(vector["rings"], start=1):
        drawn = rings.draw(len(expected["treated"]))
        treated = [name for name, ring in zip(ids, rings.treated, strict=True) if ring == number]
        waiting = zip(ids, rings.enter, rings.treated, strict=True)
        placebo = [name for name, enter, ring in waiting if enter and not ring]
        assert (sorted(treated), sorted(placebo)) == (expected["treated"], expected["placebo"])
        assert drawn.placebo == len(placebo)
        assert rank_text(drawn.announce_rank) == expected["announce_rank"]
        arm_salt = ring_arm_salt(secret, rollout, number)
        assert (arm_salt.hex(), arm_commit(arm_salt)) == (expected["arm_salt"], expected["arm_commit"])


def test_the_payload(tmp_path: Path) -> None:
    vector = load("payload.json")
    source = tmp_path / "source"
    for name, text in vector["files"].items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if name in vector["executable"] else 0o644)
    data = pack_payload(source)
    payload = describe_payload(data)
    assert plain(payload) == vector["payload"]
    (tmp_path / "payload.tar").write_bytes(data)
    unpack_payload(tmp_path / "payload.tar", tmp_path / "slot", payload)
    assert {name: (tmp_path / "slot" / name).read_text() for name in vector["files"]} == vector["files"]


@pytest.mark.parametrize("names", [[name] for name in NAMES_REFUSED] + NAMES_REFUSED_TOGETHER)
def test_names_that_no_payload_may_hold(names: list[str], tmp_path: Path) -> None:
    vector = load("payload.json")
    assert names in [[name] for name in vector["names_refused"]] + vector["names_refused_together"]
    with tarfile.open(tmp_path / "payload.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(BadInput):
        describe_payload((tmp_path / "payload.tar").read_bytes())


def test_the_token() -> None:
    vector = load("token.json")
    token = parse_token(vector["token"])
    assert (token.root_digest, token.token_id) == (vector["root_sha256"], vector["token_id"])
    assert token_hash(vector["token"]) == vector["log_hash"]
