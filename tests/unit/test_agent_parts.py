"""The agent's smaller parts: numbers used once, waits, eligibility, the outbox's patience, settings, what is loaded."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.agent.config import Home, HomeLock, Settings
from tidegate.agent.effects import read_answer
from tidegate.agent.eligible import Standing, before_reading, eligible
from tidegate.agent.journal import Lease
from tidegate.agent.outbox import Outbox
from tidegate.agent.pace import LONGEST_S, Backoff
from tidegate.agent.plans import Seen
from tidegate.agent.sequence import BLOCK, Sequence
from tidegate.agent.transport import REQUEST_LIMIT, HttpRefused
from tidegate.core.assign import SHARE_ONE, device_key, rank
from tidegate.core.errors import BadInput, NotFound, Refused
from tidegate.core.model import Candidate, Health, Manifest, Payload, Plan, PlanState, ReleaseTerms, SpeedLimit
from tidegate.core.wire import canonical
from tidegate.trust.emergency import Stop

NOW = 1_800_000_000
DEVICE = "00" * 16


def test_no_number_is_used_twice(tmp_path: Path) -> None:
    path = tmp_path / "seq.json"
    seen: list[int] = []
    for takes in (1, BLOCK + 5, 3):  # each a start of the agent that ends without warning
        sequence = Sequence(path, lambda: 10.0)
        seen += [sequence.take() for _ in range(takes)]
    for damage in ("", "{}", '{"reserved": "x"}', '{"reserved": -4}'):
        path.write_text(damage)
        sequence = Sequence(path, lambda: float(NOW))
        seen.append(sequence.take())
        assert seen[-1] >= NOW * 1000
        path.unlink()
        seen = seen[-1:] if len(set(seen)) < len(seen) else seen
    assert seen == sorted(seen)


def test_numbers_rise_over_restarts(tmp_path: Path) -> None:
    first = [Sequence(tmp_path / "s", lambda: 0.0).take() for _ in range(4)]
    assert first == sorted(set(first)) and json.loads((tmp_path / "s").read_text())["reserved"] > first[-1]


@given(st.integers(0, 2**32), st.floats(0.05, 86_400), st.lists(st.none() | st.floats(0.0, 1000.0), max_size=30))
def test_backoff_stays_in_its_range(seed: int, poll_s: float, asked: list[float | None]) -> None:
    backoff = Backoff(poll_s, random.Random(seed))
    for at_least_s in asked:
        wait_s = backoff.next_s(at_least_s)
        assert (at_least_s or 0.0) <= wait_s <= max(LONGEST_S, 1.2 * (at_least_s or 0.0))


STOPPED = Stop("c", ("b" * 64,), NOW, "it goes round in circles")


def plan(**changes: Any) -> Plan:
    fields: dict[str, Any] = {
        "rollout": "r1", "component": "c", "ring": 1, "state": PlanState.OPEN,
        "candidate": Candidate("p", "b" * 64, 1, 2), "replaces": ("any", "absent"), "announce_rank": "f" * 16,
        "late_open": False, "arm_commit": "c" * 64, "observe_s": 60, "lease_ttl_s": 60, "spread_s": 0,
        "issued": NOW, "expires": NOW + 600,
    }  # fmt: skip
    return Plan(**{**fields, **changes})


def terms(**changes: Any) -> ReleaseTerms:
    fields: dict[str, Any] = {"steps": ((0, SHARE_ONE),), "logged": NOW - 100, "not_after": NOW + 999}
    return ReleaseTerms(2, "1" * 32, SpeedLimit(**{**fields, "clock_slack_s": 0, **changes}))


def standing(**changes: Any) -> Standing:
    fields: dict[str, Any] = {
        "device_id": DEVICE, "installed": "a" * 64, "installed_seq": 1, "condemned": "", "wall_s": float(NOW),
        "high_water_s": NOW - 5, "since_change_s": None,
    }  # fmt: skip
    return Standing(**{**fields, **changes})


def manifest(replaces: tuple[str, ...] = ("any", "absent")) -> Manifest:
    return Manifest("c", "1", 2, "files", Payload("0" * 64, 1, 1, 1), Health(1), replaces)


def test_a_device_that_the_plan_reaches_is_eligible() -> None:
    assert before_reading(Seen(plan(), 1, ""), standing()) is None
    assert eligible(plan(), manifest(), terms(), standing()).yes
    mine = rank(bytes.fromhex("1" * 32), device_key(DEVICE))
    assert eligible(plan(announce_rank=f"{mine:016x}"), manifest(), terms(), standing()).yes
    assert not eligible(plan(announce_rank=f"{mine - 1:016x}"), manifest(), terms(), standing()).yes


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"manifest": manifest(("absent",))}, "does not replace"),
        ({"plan": plan(replaces=("absent",))}, "does not replace"),
        ({"manifest": manifest(("any",)), "standing": standing(installed=None)}, "does not replace"),
        ({"standing": standing(installed_seq=2)}, "not newer"),
        ({"terms": terms(steps=((0, 0), (500, SHARE_ONE)))}, "speed limit reaches this device in"),
        ({"terms": terms(not_after=NOW - 1)}, "past the date"),
        ({"standing": standing(wall_s=NOW - 5000.0)}, "behind a signed time"),
        ({"terms": terms(dwell_s=60), "standing": standing(since_change_s=20.0)}, "40 s of the signed dwell"),
    ],
)
def test_each_reason_against_it_is_a_sentence(parts: dict[str, Any], sentence: str) -> None:
    whole = {"plan": plan(), "manifest": manifest(), "terms": terms(), "standing": standing(), **parts}
    answer = eligible(whole["plan"], whole["manifest"], whole["terms"], whole["standing"])
    assert not answer.yes and sentence in answer.sentence


@pytest.mark.parametrize(
    ("seen", "stands", "sentence"),
    [
        (Seen(None, 0, "no plan here"), standing(), "no plan here"),
        (Seen(plan(), 1, ""), standing(installed="b" * 64), "up to date"),
        (Seen(plan(), 1, "", STOPPED), standing(installed="b" * 64), "keeps bbbbbbbbbbbbbbbb, which it has confirmed"),
        (Seen(plan(), 1, "", STOPPED), standing(installed="b" * 64), "it goes round in circles"),
        (Seen(plan(state=PlanState.HALTED), 1, ""), standing(installed="b" * 64), "though rollout r1 was halted"),
        (Seen(plan(), 1, ""), standing(condemned="never tried again"), "never tried again"),
        (Seen(plan(state=PlanState.PAUSED), 1, ""), standing(), "paused"),
    ],
)
def test_some_reasons_need_no_release(seen: Seen, stands: Standing, sentence: str) -> None:
    answer = before_reading(seen, stands)
    assert answer and not answer.yes and sentence in answer.sentence


LEASE: dict[str, Any] = {"lease_id": "l", "arm": "treated", "ring": 1, "ttl_s": 60, "observe_s": 60}


def test_the_servers_answers_are_read() -> None:
    assert read_answer(LEASE, "b", 1.0) == Lease("l", "treated", 1, 60.0, 60.0, "b", 1.0)
    assert read_answer({"retry_after_s": 4, "reason": "cap", "more": 1}, "b", 1.0) == (4.0, "cap")


@pytest.mark.parametrize(
    "answer",
    [
        {}, {"retry_after_s": "soon"}, {"retry_after_s": -1}, {**LEASE, "arm": "other"}, {**LEASE, "lease_id": ""},
        {**LEASE, "lease_id": 3}, {**LEASE, "ttl_s": 0}, {**LEASE, "observe_s": None}, {**LEASE, "ring": "1"},
    ],
)  # fmt: skip
def test_a_malformed_answer_is_no_lease(answer: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        read_answer(answer, "b", 1.0)


def report(seq: int, note: str = "") -> dict[str, Any]:
    return {"lease_id": f"l{seq}", "kind": "confirmed", "seq": seq, "boot_s": 1, "probes": [], "note": note}


def test_a_conflict_waits_and_the_others_go_ahead(tmp_path: Path) -> None:
    said: list[str] = []
    outbox = Outbox(tmp_path / "outbox", lambda event, **fields: said.append(event))
    for seq in (1, 2, 3):
        outbox.put(report(seq))
        outbox.put(report(seq))
    taken: list[int] = []

    def post(path: str, message: Any) -> dict[str, Any]:
        seqs = [entry["seq"] for entry in message["reports"]]
        if 2 in seqs:
            raise HttpRefused(409, "not now")
        taken.extend(seqs)
        return {}

    assert outbox.flush(post) == 2 and taken == [1, 3]
    assert [path.name[-6:] for path in outbox.waiting()] == ["2.json"] and said == []


def test_messages_stay_below_the_limit(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox", print)
    for seq in range(120):
        outbox.put(report(seq, 'é"' * 500))
    lengths: list[int] = []
    assert outbox.flush(lambda path, message: lengths.append(len(canonical(message))) or {}) == 120
    assert max(lengths) <= REQUEST_LIMIT and not outbox.waiting()


def test_settings_are_read_as_people_write_them(tmp_path: Path) -> None:
    home = Home(tmp_path)
    (tmp_path / "agent.json").write_text('{"server": "http://host:1/x/", "poll_s": 5}')
    assert home.load_settings() == Settings("http://host:1/x/", poll_s=5.0)
    assert home.load_settings().repo_address == "http://host:1/x/repo/"
    for wrong in (
        "{",
        "[]",
        '{"server": "ftp://x"}',
        '{"server": "http://x", "poll": 1}',
        '{"server": "", "poll_s": 0}',
    ):
        (tmp_path / "agent.json").write_text(wrong)
        with pytest.raises(BadInput):
            home.load_settings()
    with pytest.raises(NotFound, match="enrol"):
        home.load_identity()


def test_one_agent_for_each_home(tmp_path: Path) -> None:
    with HomeLock(Home(tmp_path)), pytest.raises(Refused, match="already runs"), HomeLock(Home(tmp_path)):
        pass
    with HomeLock(Home(tmp_path)):
        pass


def loaded_by(imports: str) -> set[str]:
    code = f"import sys{imports}; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_what_the_agent_loads_is_small() -> None:
    loaded = loaded_by(
        "; from tidegate.agent.lean import leave_out; leave_out(); import tidegate.agent.process"
    ) - loaded_by("")  # an environment may load things by itself
    other = {name for name in loaded - set(sys.stdlib_module_names) if not name.startswith("_")}
    assert other <= {
        "tidegate",
        "tuf",
        "securesystemslib",
        "cryptography",
        "cffi",
        "typing_extensions",
        "google",  # an empty name that securesystemslib looks into where other packages have made one
    }


def test_a_full_outbox_drops_details_and_never_evidence(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox", print)
    probes = [{"name": "p", "healthy": False, "detail": "d" * 300}] * 20
    seq = 0
    while not outbox.full:
        seq += 1
        outbox.put({**report(seq, "n" * 1000), "probes": probes})
    for _ in range(40):  # leases that were asked for before it was full
        seq += 1
        outbox.put({**report(seq, "n" * 1000), "probes": probes})
    taken: list[dict[str, Any]] = []

    def post(path: str, message: Any) -> dict[str, Any]:
        taken.extend(message["reports"])
        return {}

    outbox.flush(post)
    assert [entry["seq"] for entry in taken] == list(range(1, seq + 1))
    assert all(entry["lease_id"] and entry["kind"] == "confirmed" and len(entry["probes"]) == 20 for entry in taken)
    assert len(canonical(taken[-1])) < 1500 < len(canonical(taken[0])) and not outbox.full


def test_what_an_older_agent_would_not_know_is_not_written(tmp_path: Path) -> None:
    """It may be gone back to, and must read its settings; but what the owner chose is kept."""
    home = Home(tmp_path)
    home.save_settings(Settings("http://x"))
    assert json.loads(home.settings_file.read_bytes()) == {"server": "http://x"}
    chosen = Settings("http://x", "http://y", 5.0, ("c",), {"c": {"k": "v"}}, windows=("sat",), max_bytes_per_s=9000)
    home.save_settings(chosen)
    assert home.load_settings() == chosen
