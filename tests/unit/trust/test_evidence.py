"""Evidence: envelopes, statements and the policy that demands them; what is forged, old or of another release fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tidegate.core.errors import BadInput, Refused
from tidegate.trust import statement as st
from tidegate.trust.dsse import pae, parse_envelope, sign_envelope
from tidegate.trust.evidence_policy import EvidencePolicy, judge, read_policy
from tidegate.trust.evidence_store import EvidenceStore
from tidegate.trust.keys import create_key, key_path, load_signer

NOW = 1_800_000_000.0
RELEASE, OTHER = "ab" * 32, "cd" * 32
SUBJECT = st.Subject("edr-rules 1", RELEASE)


class Keys:
    def __init__(self, directory: Path, *names: str) -> None:
        self.public = {name: create_key(directory, name).keyval["public"] for name in names}
        self.signers = {name: load_signer(key_path(directory, name)) for name in names}


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "keys", "gate", "ada", "bo", "eve")


def vsa(keys: Keys, by: str = "gate", *, passed: bool = True, at_s: float = NOW, release: str = RELEASE) -> Any:
    subject = st.Subject("edr-rules 1", release)
    made = st.summary(subject, passed, ["load", "damage"], at_s=at_s, policy={}, inputs=[], version="1")
    return made.signed([keys.signers[by]])


def policy(keys: Keys, *lines: str, predicate: str = "vsa", names: tuple[str, ...] = ("gate",)) -> EvidencePolicy:
    known = "\n".join(f'{name} = "{public}"' for name, public in keys.public.items())
    wanted = ", ".join(f'"{name}"' for name in names)
    text = f'[keys]\n{known}\n[[require]]\npredicate = "{predicate}"\nkeys = [{wanted}]\n' + "\n".join(lines)
    return read_policy(text.encode(), "policy.toml")


def missing(found: EvidencePolicy, *envelopes: Any, now_s: float = NOW) -> str:
    return "; ".join(judge(found, "edr-rules", RELEASE, envelopes, now_s).missing)


def test_the_encoding_is_that_of_the_dsse_specification() -> None:
    # protocol.md of secure-systems-lab/dsse, version 1.0.0: its worked example.
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_an_envelope_comes_back_as_it_went_and_names_its_signer(keys: Keys) -> None:
    made = sign_envelope(b"{}", [keys.signers["gate"]])
    again = parse_envelope(made.data())
    assert again.data() == made.data() and again.digest == made.digest
    mine, others = (keys.signers[name].public_key for name in ("gate", "eve"))
    assert again.verified_by([mine, others]) == {mine.keyid}


@pytest.mark.parametrize("part", ["payload", "payloadType", "sig"])
def test_a_changed_envelope_is_signed_by_nobody(keys: Keys, part: str) -> None:
    value = json.loads(vsa(keys).data())
    if part == "sig":
        value["signatures"][0]["sig"] = json.loads(vsa(keys, "eve").data())["signatures"][0]["sig"]
    elif part == "payload":
        value["payload"] = value["payload"][:-8] + "AAAA" + value["payload"][-4:]
    else:
        value["payloadType"] += "x"
    found = parse_envelope(json.dumps(value).encode())
    assert not found.verified_by([keys.signers["gate"].public_key])
    assert "has said nothing" in missing(policy(keys), found)


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"null", b'{"payload": 1}', b'{"payload":"","payloadType":"x","signatures":[]}', b"\xff", b"[" * 9999],
)
def test_what_is_no_envelope_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(BadInput) as refused:
        parse_envelope(data)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "value",
    [
        {"_type": "https://in-toto.io/Statement/v0.1", "subject": [], "predicateType": "x"},
        {"_type": st.STATEMENT, "subject": [], "predicateType": "x", "predicate": {}},
        {"_type": st.STATEMENT, "subject": [{"digest": {"sha256": "xyz"}}], "predicateType": "x", "predicate": {}},
        {"_type": st.STATEMENT, "subject": [{"digest": {"sha1": "ab"}}], "predicateType": "x", "predicate": {}},
        {"_type": st.STATEMENT, "subject": [{"digest": {"sha256": RELEASE}}], "predicateType": 5, "predicate": {}},
    ],
)
def test_what_is_no_statement_is_refused(keys: Keys, value: Any) -> None:
    with pytest.raises(BadInput):
        st.parse_statement(sign_envelope(json.dumps(value).encode(), [keys.signers["gate"]]))


def test_what_the_policy_demands_is_enough(keys: Keys) -> None:
    found = judge(policy(keys, 'fresh = "7d"', 'checks = ["load"]'), "edr-rules", RELEASE, [vsa(keys)], NOW)
    assert found.met and len(found.counted) == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"passed": False}, "says that it failed"),
        ({"at_s": NOW - 8 * 86_400}, "too long ago"),
        ({"at_s": NOW + 3600}, "in the future"),
        ({"release": OTHER}, "has said nothing"),
        ({"by": "eve"}, "has said nothing"),
    ],
)
def test_evidence_that_does_not_count(keys: Keys, changes: dict[str, Any], says: str) -> None:
    assert says in missing(policy(keys, 'fresh = "7d"'), vsa(keys, **changes))


def test_a_check_that_did_not_run_is_missing(keys: Keys) -> None:
    assert "does not say that benign passed" in missing(policy(keys, 'checks = ["load", "benign"]'), vsa(keys))


def test_the_newest_word_of_a_key_counts(keys: Keys) -> None:
    older, newer = vsa(keys, at_s=NOW - 60), vsa(keys, passed=False, at_s=NOW)
    assert "failed" in missing(policy(keys), older, newer)
    assert not missing(policy(keys), vsa(keys, passed=False, at_s=NOW - 60), vsa(keys, at_s=NOW))
    assert "failed" in missing(policy(keys), vsa(keys, at_s=NOW), vsa(keys, passed=False, at_s=NOW))


def test_each_check_can_be_demanded_by_its_own_attestation(keys: Keys) -> None:
    def result(check: str, outcome: str) -> Any:
        made = st.check_result(
            SUBJECT, check, outcome, started_s=NOW, finished_s=NOW, configuration=[{"name": "suite"}]
        )
        return made.signed([keys.signers["gate"]])

    wanted = policy(keys, 'checks = ["load", "benign"]', predicate="test-result")
    assert not missing(wanted, result("load", "PASSED"), result("benign", "WARNED"))
    assert "test-result (benign)" in missing(wanted, result("load", "PASSED"))
    assert "failed" in missing(wanted, result("load", "PASSED"), result("benign", "FAILED"))


def test_two_reviewers_are_two_keys_and_one_no_stops_it(keys: Keys) -> None:
    def word(by: str, approves: bool = True, at_s: float = NOW) -> Any:
        made = st.review(SUBJECT, reviewer=by, approves=approves, notes_sha256=OTHER, note="", at_s=at_s)
        return made.signed([keys.signers[by]])

    two = policy(keys, "signers = 2", predicate="review", names=("ada", "bo", "eve"))
    assert "review by 1 of" in missing(two, word("ada"), word("ada", at_s=NOW - 5))
    assert not missing(two, word("ada"), word("bo"))
    assert "eve says no" in missing(two, word("ada"), word("bo"), word("eve", approves=False))


def test_one_signature_twice_is_no_second_reviewer(keys: Keys) -> None:
    made = st.review(SUBJECT, reviewer="ada", approves=True, notes_sha256=OTHER, note="", at_s=NOW)
    two = policy(keys, "signers = 2", predicate="review", names=("ada", "bo"))
    assert missing(two, made.signed([keys.signers["ada"]]))
    assert not missing(two, made.signed([keys.signers["ada"], keys.signers["bo"]]))


def test_a_demand_can_be_limited_to_a_component(keys: Keys) -> None:
    other = policy(keys, 'components = ["dns-filter"]')
    assert judge(other, "edr-rules", RELEASE, [], NOW).met
    assert not judge(other, "dns-filter", RELEASE, [], NOW).met


def test_a_policy_may_be_yaml(keys: Keys) -> None:
    text = f"keys: {{gate: {keys.public['gate']}}}\nrequire:\n- {{predicate: vsa, keys: [gate], fresh: 1d}}\n"
    assert not missing(read_policy(text.encode(), "policy.yaml"), vsa(keys))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("keys = {}\nmust = 1", "no field 'must'"),
        ("[keys]\ngate = 'xyz'", "keys.gate"),
        ("[keys]\n[[require]]\npredicate = 'vsa'\nkeys = ['gate']", "names 'gate'"),
        ("[keys]\n[[require]]\npredicate = 'vsa'\nkeys = []", "at least as many keys"),
        ("[keys]\n[[require]]\npredicate = 'fine'\nkeys = ['a']", "predicate must be one of"),
        ("[keys]\n[[require]]\npredicate = 'vsa'\nkeys = ['a']\nfresh = 'soon'", "fresh must be a duration"),
        ("[keys]\n[[require]]\npredicate = 'vsa'\nkeys = ['a', 'a']\nsigners = 2", "signers"),
        ("keys = {}\nversion = 2", "version 2"),
        ("keys = ", "cannot be read"),
        ("keys = {}\nlet_through = 'yes'", "let_through must be true or false"),
    ],
)
def test_a_wrong_policy_is_refused_by_name(text: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        read_policy(text.encode(), "policy.toml")


def test_the_store_keeps_each_once_and_under_its_release(keys: Keys, tmp_path: Path) -> None:
    store = EvidenceStore(tmp_path / "evidence", tmp_path)
    data = vsa(keys).data()
    assert store.add(RELEASE, data)[2] and not store.add(RELEASE, data)[2]
    assert [each.data() for each in store.of(RELEASE)] == [data] and store.of(OTHER) == []
    with pytest.raises(BadInput, match="speaks of"):
        store.add(OTHER, data)
    (tmp_path / "evidence" / RELEASE / "zz.json").write_text("torn")
    assert len(store.of(RELEASE)) == 1


def test_two_policies_or_a_broken_one_let_nothing_start(tmp_path: Path) -> None:
    store = EvidenceStore(tmp_path / "evidence", tmp_path)
    assert store.policy() is None
    (tmp_path / "policy.toml").write_text("keys = {}")
    assert store.policy() is not None
    (tmp_path / "policy.yaml").write_text("keys: {}")
    with pytest.raises(BadInput, match="two evidence policies"):
        store.policy()


def test_a_release_takes_so_many_attestations_and_no_more(
    keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.trust.evidence_store.MOST_PER_RELEASE", 2)
    store = EvidenceStore(tmp_path / "evidence", tmp_path)
    for age in range(2):
        store.add(RELEASE, vsa(keys, at_s=NOW - age).data())
    with pytest.raises(Refused):
        store.add(RELEASE, vsa(keys, at_s=NOW - 9).data())
