"""What is signed has one meaning: keys that stand twice, numbers that nobody else reads, other types of payload."""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tuf.api.metadata import Targets

from tidegate.core.errors import BadInput, Untrusted
from tidegate.core.model import Manifest, Plan
from tidegate.core.wire import canonical, decode, encode, parse_json, plain
from tidegate.trust import layout
from tidegate.trust import statement as st
from tidegate.trust.ceremony import begin_change, read_bundle
from tidegate.trust.dsse import IN_TOTO, pae, parse_envelope, sign_envelope
from tidegate.trust.emergency import STOP, Stop, sign_stop, verify_stop
from tidegate.trust.evidence_policy import judge, read_policy
from tidegate.trust.keys import load_signers
from tidegate.trust.metadata import latest_bytes, parse, target
from tidegate.trust.pardon import PARDON, Pardon

if TYPE_CHECKING:
    from .conftest import House, Thief

pytestmark = pytest.mark.room("trust")


@pytest.mark.parametrize(
    "text", ['{"a":1,"a":2}', '[{"b":{"a":1,"a":1}}]', "NaN", '{"a":-Infinity}', '{"a":1,"\\u0061":2}']
)
def test_what_two_readers_could_read_differently_is_no_json(text: str) -> None:
    with pytest.raises(ValueError):
        parse_json(text)


def test_a_manifest_has_one_meaning(rolling: House) -> None:
    whole = encode(rolling.manifest(2)).decode()
    assert decode(Manifest, whole, "the manifest").seq == 2
    for change in (
        ('"seq":2', '"seq":2,"seq":3'),
        ('"seq":2', '"seq":2e0'),
        ('"seq":2', '"seq":NaN'),
        ('"seq":2', f'"seq":{2**64}'),
        ('"seq":2', '"seq":' + "9" * 5000),
        ('"seq":2', '"seq":true'),
        ('"seq":2', '"seq":"2"'),
        ('"version":"1.2"', '"version":"\\ud800"'),
        ("{", "{" + '"' + "[" * 100_000),
    ):
        with pytest.raises(BadInput):
            decode(Manifest, whole.replace(*change, 1), "the manifest")


def test_a_thief_signs_a_plan_that_says_two_things_and_it_says_nothing(rolling: House, thief: Thief) -> None:
    device, _ = rolling.device()
    device.refresh()
    plan = rolling.plan(rolling.planned())
    for twice in (
        encode(plan).replace(b'"state":"open"', b'"state":"halted","state":"open"'),
        encode(plan).replace(b'"issued":', b'"issued":NaN,"issued":'),
    ):
        assert twice != encode(plan)
        thief.publish({layout.plan_path(rolling.component): twice})
        device.refresh()
        with pytest.raises(Untrusted, match="does not hold"):
            device.plan(rolling.component)
    assert isinstance(plan, Plan)


def test_a_bundle_and_a_stop_have_one_meaning(house: House) -> None:
    bundle = begin_change(house.repo, house.now, "longer", renew=[layout.ROOT]).text().decode()
    with pytest.raises(BadInput, match="stands twice"):
        read_bundle(bundle.replace('{"following"', '{"title":"harmless","following"', 1).encode())
    stop = sign_stop(Stop(house.component, ("all",), house.now), load_signers(house.offline, "release"))
    trunk = parse(Targets, latest_bytes(house.repo, layout.TARGETS), "targets").signed
    assert verify_stop(stop, house.component, trunk).names("ab" * 32)
    for change in ((b'"stopped":', b'"stopped":[],"stopped":'), (b'"signatures":', b'"signatures":[],"signatures":')):
        with pytest.raises(BadInput):
            verify_stop(stop.replace(*change, 1), house.component, trunk)


# --- one signature, one kind of thing -------------------------------------------------------------------------------


def test_a_signature_on_one_kind_of_thing_is_none_on_another(house: House) -> None:
    """Release keys sign lists, stops and pardons; evidence keys sign statements: none can be passed off as another."""
    signers = load_signers(house.offline, "release")
    trunk = parse(Targets, latest_bytes(house.repo, layout.TARGETS), "targets").signed
    digest = "ab" * 32
    pardon = json.loads(PARDON.sign(Pardon(house.component, (digest,), house.now), signers))
    as_stop = {"signed": plain(Stop(house.component, (digest,), house.now)), "signatures": pardon["signatures"]}
    with pytest.raises(Untrusted, match="0 valid signatures"):
        STOP.verify(canonical(as_stop), house.component, trunk)
    stop = json.loads(sign_stop(Stop(house.component, (digest,), house.now), signers))
    as_pardon = {"signed": plain(Pardon(house.component, (digest,), house.now)), "signatures": stop["signatures"]}
    with pytest.raises(Untrusted, match="0 valid signatures"):
        PARDON.verify(canonical(as_pardon), house.component, trunk)
    # The bytes that a stop signs, as the payload of an envelope: the encoding in front tells them apart.
    envelope = sign_envelope(canonical([STOP.tag, stop["signed"]]), signers)
    signatures = [{"keyid": keyid, "sig": each.signature} for keyid, each in envelope.signatures.items()]
    with pytest.raises(Untrusted, match="0 valid signatures"):
        STOP.verify(canonical({"signed": stop["signed"], "signatures": signatures}), house.component, trunk)


def test_an_envelope_under_another_type_is_no_statement(house: House) -> None:
    signer = load_signers(house.offline, "release")[0]
    said = st.review(st.Subject("x", "ab" * 32), reviewer="eve", approves=True, notes_sha256="00" * 32, note="", at_s=9)
    policy = read_policy(
        f'[keys]\neve = "{signer.public_key.keyval["public"]}"\n'
        '[[require]]\npredicate = "review"\nkeys = ["eve"]\n'.encode(),
        "policy.toml",
    )
    right = sign_envelope(said.payload(), [signer])
    assert judge(policy, house.component, "ab" * 32, [right], 9).met
    other = sign_envelope(said.payload(), [signer], "application/vnd.in-toto+json; charset=utf-8")
    assert not judge(policy, house.component, "ab" * 32, [other], 9).met
    # Signed as another type, and relabelled afterwards: the type is within what is signed.
    relabelled = json.loads(other.data())
    relabelled["payloadType"] = IN_TOTO
    found = parse_envelope(json.dumps(relabelled).encode())
    assert not found.verified_by([signer.public_key])
    assert not judge(policy, house.component, "ab" * 32, [found], 9).met
    # Evidence of another release counts for that one alone, also where its bytes name this one somewhere else.
    assert not judge(policy, house.component, "cd" * 32, [right], 9).met
    named = st.Statement(
        (st.Subject("ab" * 32, "cd" * 32),), said.predicate_type, {**said.predicate, "sha256": "ab" * 32}
    )
    assert not judge(policy, house.component, "ab" * 32, [sign_envelope(named.payload(), [signer])], 9).met
    # A length that lies: no two (type, payload) pairs give the same bytes to sign.
    assert pae("a", b"b 1 c") != pae("a b", b"1 c")


def test_a_statement_that_names_its_subject_twice_counts_for_neither(house: House) -> None:
    signer = load_signers(house.offline, "release")[0]
    payload = st.Statement((st.Subject("x", "ab" * 32),), st.VSA, {}).payload()
    twice = payload.replace(
        b'"subject":', b'"subject":[{"name":"y","digest":{"sha256":"%s"}}],"subject":' % (b"cd" * 32)
    )
    assert twice != payload
    with pytest.raises(BadInput, match="no in-toto statement"):
        st.parse_statement(sign_envelope(twice, [signer]))


# --- names of targets -----------------------------------------------------------------------------------------------

LEADING_OUT = (
    "plans/../releases/edr-rules/1.json",
    "../../etc/cron.d/x",
    "/etc/passwd",
    "plans/edr-rules.json/../../x",
    "plans//edr-rules.json",
    "plans/EDR-RULES.json",
    "plans/edr-rules.json\x00.json",
    "plans/...json",
    "plans/.json",
    "plans/made-up.json",
    "plans/\u0435dr-rules.json",  # a Cyrillic letter
    "file:///etc/passwd",
    "http://evil.example/x.json",
)


def test_names_of_targets_that_lead_elsewhere_are_never_asked_for(rolling: House, thief: Thief) -> None:
    device, wire = rolling.device()
    device.refresh()
    before = set(rolling.directory.rglob("*"))
    thief.loose = {name: target(name, b"{}") for name in LEADING_OUT}
    thief.publish({layout.plan_path(rolling.component): encode(rolling.plan(rolling.planned()))})
    wire.asked.clear()
    device.refresh()
    assert device.components() == (rolling.component,)
    device.plan(rolling.component)
    for path in wire.asked:
        assert not any(part in ("..", "") for part in path.split("/")) and ":" not in path, path
    # Each that the agent took up would get a directory of its own: none that offline keys do not know.
    made = set(rolling.directory.rglob("*")) - before
    assert all("device/" in str(path) or "repo/" in str(path) or "probe" in str(path) for path in made)
    candidate = rolling.planned()
    for path in (*LEADING_OUT, "releases/edr-rules/../edr-rules/1.json", "releases/edr-rules/01.json"):
        named = type(candidate)(path, candidate.sha256, candidate.length, candidate.seq)
        with pytest.raises((Untrusted, BadInput)):
            device.release(rolling.component, named)
