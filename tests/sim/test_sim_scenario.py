"""Scenarios: every key has its default but two, and whatever is wrong is refused in one line that names the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.core.errors import BadInput, NotFound
from tidegate.sim.scenario import find_scenario, parse_scenario, read_scenario

LEAST = "[fleet]\ndevices = 1000\n[rollout]\nmax_harmed = 10\n"
FULL = """
seed = 7
replicates = 3
[fleet]
devices = 8_500_000
[background]
silent_rate = 1e-4
reverted_rate = 0
[defect]
harm_rate = 1
outcome = "reverted"
delay_s = 30
[[fault]]
kind = "telemetry_outage"
start_s = 600
duration_s = 900
share = 1.0
[[fault]]
kind = "byzantine"
share = 0.01
lie = "sick"
[late]
share = 0.2
return_s = 14_400
harm_rate = 0.5
[[cap]]
group_devices = 200
at_most = 10
[rollout]
policy = "tidegate"
max_harmed = 850
confidence = 0.999
false_halt = 0.001
observe_s = 600
poll_s = 0
placebo_per_treated = 4.0
canary = 16
late_budget_share = 0.2
q_gate = 0.05
reverted_bound = 1e-6
rollout_deadline_s = 86_400
"""


def test_every_key_but_two_has_a_default() -> None:
    scenario = parse_scenario(LEAST)
    assert (scenario.seed, scenario.replicates) == (1, 200)
    assert (scenario.rollout.policy, scenario.rollout.confidence, scenario.rollout.observe_s) == (
        "tidegate",
        0.999,
        600.0,
    )
    assert (scenario.background.silent_rate, scenario.defect.harm_rate) == (1e-4, 1.0)
    assert scenario.late is None and scenario.faults == () and scenario.caps == ()
    assert scenario.first_ring == 10, "the canary is max_harmed unless it is given"
    assert scenario.budgets == (10, 0), "nothing is kept for late devices where there are none"


def test_all_keys_are_read() -> None:
    scenario = parse_scenario(FULL)
    assert scenario.fleet.devices == 8_500_000 and scenario.defect.harm_rate == 1.0
    assert scenario.budgets == (680, 170) and scenario.first_ring == 16
    outage, liars = scenario.faults
    assert (outage.end_s, liars.start_s, liars.lie) == (1500.0, 0.0, "sick")
    assert liars.end_s > scenario.rollout.rollout_deadline_s, "liars lie for ever unless told otherwise"
    assert scenario.late is not None and scenario.late.harm_rate == 0.5
    assert scenario.caps[0].at_most == 10
    assert hash(scenario) == hash(parse_scenario(FULL))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("", "fleet.devices"),
        ("[fleet]\ndevices = 5\n", "rollout.max_harmed"),
        (LEAST + "colour = 1\n", "rollout.colour"),
        ("speed = 1\n" + LEAST, "speed"),
        ("[weather]\nrain = true\n" + LEAST, "weather"),
        (LEAST.replace("1000", "1000.0"), "fleet.devices"),
        (LEAST.replace("1000", "true"), "fleet.devices"),
        (LEAST.replace("1000", '"many"'), "fleet.devices"),
        (LEAST.replace("1000", "0"), "fleet.devices"),
        (LEAST.replace("1000", "1_000_000_001"), "fleet.devices"),
        (LEAST.replace("= 10\n", "= -1\n"), "rollout.max_harmed"),
        (LEAST + "confidence = 1.0\n", "rollout.confidence"),
        (LEAST + "confidence = nan\n", "rollout.confidence"),
        (LEAST + "observe_s = 0\n", "rollout.observe_s"),
        (LEAST + "observe_s = inf\n", "rollout.observe_s"),
        (LEAST + "canary = 11\n", "rollout.canary"),
        (LEAST + "canary = 0\n", "rollout.canary"),
        (LEAST + 'policy = "hope"\n', "rollout.policy"),
        (LEAST + "policy = 3\n", "rollout.policy"),
        (LEAST + "q_gate = 1.0\n", "rollout.q_gate"),
        (LEAST + "[background]\nsilent_rate = -0.1\n", "background.silent_rate"),
        (LEAST + "[background]\nsilent_rate = 0.6\nreverted_rate = 0.5\n", "background.reverted_rate"),
        (LEAST + "[defect]\nharm_rate = 1.5\n", "defect.harm_rate"),
        (LEAST + '[defect]\noutcome = "loud"\n', "defect.outcome"),
        (LEAST + "[late]\nshare = 1.0\n", "late.share"),
        (LEAST + "[late]\nreturns = 1\n", "late.returns"),
        (LEAST + '[[fault]]\nkind = "meteor"\n', "fault[0].kind"),
        (LEAST + "[[fault]]\n[[fault]]\nshare = 2\n", "fault[1].share"),
        (LEAST + "[fault]\nshare = 1\n", "fault"),
        (LEAST + "[[fault]]\nlie = 'sick'\n", "fault[0].lie"),
        (LEAST + "[[fault]]\nkind = 'partition'\noffset_s = 5\n", "fault[0].offset_s"),
        (LEAST + "[[fault]]\nkind = 'byzantine'\nsite_devices = 5\n", "fault[0].site_devices"),
        (LEAST + "[[cap]]\nat_most = 0\n", "cap[0].at_most"),
        ("seed = -1\n" + LEAST, "seed"),
        ("replicates = 0\n" + LEAST, "replicates"),
        ("fleet = 3\n[rollout]\nmax_harmed = 1\n", "fleet"),
        ("[fleet\n", "TOML"),
        ("x = " + "[" * 5000 + "]" * 5000, "TOML"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(text: str, key: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_scenario(text)
    said = str(refused.value)
    assert "\n" not in said
    assert said.startswith(f"{key}:") or (key == "TOML" and key in said)


def test_a_packaged_scenario_is_found_by_name_and_a_file_by_path(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(LEAST)
    assert read_scenario(own).name == "own"
    assert read_scenario("july-2024-850").fleet.devices == 8_500_000
    with pytest.raises(NotFound, match="july-2024-850"):
        find_scenario("no-such-thing")
    with pytest.raises(NotFound):
        find_scenario("../scenario")
    with pytest.raises(NotFound):
        find_scenario(tmp_path)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    binary = tmp_path / "x.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="cannot be read"):
        read_scenario(binary)
