"""The recovery schedule: by hand, against a proven optimum, with its bound, and what is refused with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.contingency.oracle import optimum, small_case

from tidegate.contingency.board import Groups
from tidegate.contingency.bound import lower_bounds
from tidegate.contingency.case import Case, case_of
from tidegate.contingency.document import Document
from tidegate.contingency.schedule import first_come, plan_recovery
from tidegate.core.errors import BadInput, Refused


def read(text: str) -> Case:
    return case_of(Document("case.yaml", text).root)


ONE = """
technicians: [{name: t1, site: HQ, skills: [keys]}]
travel_min: {HQ: {ATL: 30}}
services:
  S1: {value_per_h: 10, needs: 1, depends_on: []}
  S2: {value_per_h: 1, needs: 2, depends_on: [S1]}
devices:
  - {service: S1, site: ATL, minutes: 60, count: 1, needs_skill: keys}
  - {service: S2, site: HQ, minutes: 30, count: 3}
"""


def test_by_hand_one_technician() -> None:
    # S1 first: 30 min to ATL, 60 min of work: 1.5 h. Then 30 min back, 30 and 30: S2 at 3.0 h, the third at 3.5.
    made = plan_recovery(read(ONE))
    assert made.services == pytest.approx({"S1": 1.5, "S2": 3.0})
    assert made.cost == pytest.approx(10 * 1.5 + 3.0)
    assert made.makespan_h == pytest.approx(3.5)
    assert made.lower_bound <= made.cost
    assert [(a["site"], a["start_h"], a["end_h"], a["travel_min"]) for a in made.to_dict()["assignments"]] == [
        ("ATL", 0.5, 1.5, 30),
        ("HQ", 2.0, 2.5, 30),
        ("HQ", 2.5, 3.0, 0),
        ("HQ", 3.0, 3.5, 0),
    ]


def test_by_hand_value_before_order() -> None:
    # One at a time: 10/h for 60 min first (ratio 10), then 5/h for 60 min: 10 * 1 + 5 * 2.
    text = """
technicians: {count: 1, site: HQ}
services: {low: {value_per_h: 5}, high: {value_per_h: 10}}
devices: [{service: low, site: HQ, minutes: 60}, {service: high, site: HQ, minutes: 60}]
"""
    made = plan_recovery(read(text))
    assert made.services == {"low": 2.0, "high": 1.0} and made.cost == 20
    assert made.lower_bound == pytest.approx(20), "one technician, one site: Smith's rule is the optimum"


def test_by_hand_a_dependency_inherits_value() -> None:
    # The directory is worth nothing by itself, but what waits for it is worth 100 an hour: it goes first.
    text = """
technicians: [{name: a, site: HQ}]
services:
  directory: {value_per_h: 0, needs: 1}
  desk: {value_per_h: 100, needs: 1, depends_on: [directory]}
  printing: {value_per_h: 30, needs: 1}
devices:
  - {service: printing, site: HQ, minutes: 60}
  - {service: directory, site: HQ, minutes: 30}
  - {service: desk, site: HQ, minutes: 30}
"""
    made = plan_recovery(read(text))
    assert made.services == {"directory": 0.5, "desk": 1.0, "printing": 2.0}
    assert made.cost == 100 + 60


def test_by_hand_five_share_the_work() -> None:
    # Ten devices, five people on site, 12 min each: two rounds, 0.4 h; eight are needed, so the second round too.
    text = """
technicians: {count: 5, site: HQ}
services: {S: {value_per_h: 3, needs: 8}}
devices: [{service: S, site: HQ, minutes: 12, count: 10}]
"""
    made = plan_recovery(read(text))
    assert made.services["S"] == pytest.approx(0.4) and made.cost == pytest.approx(1.2)
    assert made.lower_bound == pytest.approx(1.2, rel=1e-6), "8 devices are more than 5 people do in one round"


def test_shifts_arrival_and_release() -> None:
    # Works 8 to 10 every day. The part comes at 9 h and needs 90 min: too long for the first day, so from 32 to 33.5.
    text = """
technicians: [{name: a, site: HQ, shift: {from_h: 8, to_h: 10}}]
services: {S: {value_per_h: 1}, T: {value_per_h: 1}}
devices:
  - {service: S, site: HQ, minutes: 90, release_h: 9}
  - {service: T, site: HQ, minutes: 60}
"""
    assert plan_recovery(read(text)).services == {"S": 33.5, "T": 9.0}
    late = text.replace("shift: {from_h: 8, to_h: 10}", "arrives_h: 4")
    assert plan_recovery(read(late)).services == {"S": 10.5, "T": 5.0}


def test_shifts_that_end_too_soon_are_a_no() -> None:
    text = """
technicians: [{name: a, site: HQ, shifts: [[0, 1]]}]
services: {S: {value_per_h: 1}}
devices: [{service: S, site: HQ, minutes: 40, count: 2}]
"""
    with pytest.raises(Refused, match="shifts that are given end before S"):
        plan_recovery(read(text))


def test_close_to_the_proven_optimum() -> None:
    pytest.importorskip("ortools")
    gaps = []
    for seed in range(100, 110):
        case = small_case(seed)
        best = optimum(case)
        assert best is not None
        made = plan_recovery(case)
        assert made.cost >= best - 0.02, "a schedule below the optimum would break a rule"
        assert made.lower_bound <= best + 0.02, f"seed {seed}: no bound"
        gaps.append(made.cost / best - 1)
    assert sum(gaps) / len(gaps) <= 0.05


@pytest.mark.parametrize("seed", range(20))
def test_each_schedule_keeps_the_rules(seed: int) -> None:
    case = small_case(seed)
    made = plan_recovery(case, seed=seed)
    at = {site: i for i, site in enumerate(case.sites)}
    where = {t: (at[one.site], one.arrives_h) for t, one in enumerate(case.technicians)}
    for one in made.assignments:
        batch, (place, free) = case.batches[one.batch], where[one.technician]
        assert batch.skills <= case.technicians[one.technician].skills
        assert one.start_h >= max(free + case.travel_h[place, at[batch.site]], batch.release_h) - 1e-9
        assert one.end_h == pytest.approx(one.start_h + batch.hours)
        where[one.technician] = (at[batch.site], one.end_h)
    assert len(made.assignments) == case.devices
    low, makespan = lower_bounds(Groups(case))
    assert low <= made.cost + 1e-9 and makespan <= made.makespan_h + 1e-9
    assert made.cost <= first_come(case)[0] + 1e-9


BAD = {
    "no such service": (ONE.replace("service: S2", "service: S9"), 9, "there is no service 'S9'"),
    "no way": (ONE.replace("{HQ: {ATL: 30}}", "{}"), 8, "no way is given from HQ to ATL"),
    "nobody can": (ONE.replace("[keys]", "[]"), 8, "no technician has the skill keys"),
    "more than there are": (ONE.replace("needs: 2", "needs: 4"), 6, "needs 4 devices, and 3 are listed"),
    "a circle": (ONE.replace("depends_on: []", "depends_on: [S2]"), 6, "in a circle: S1 -> S2 -> S1"),
    "negative": (ONE.replace("minutes: 30", "minutes: -30"), 9, "must be more than 0"),
    "not a number": (ONE.replace("minutes: 30", "minutes: .nan"), 9, "must be a number"),
    "unknown field": (ONE.replace("count: 3", "cuont: 3"), 9, "has no field 'cuont'"),
    "twice": (ONE + "  \nservices: {}\n", 11, "'services' stands twice"),
    "no YAML": (ONE.replace("[{name", "[[{name"), 3, "expected"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_with_its_line(name: str) -> None:
    text, line, words = BAD[name]
    with pytest.raises(BadInput) as refused:
        read(text)
    assert words in str(refused.value) and "\n" not in str(refused.value)
    assert f"line {line}:" in str(refused.value)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tidegate.cli.main import run

    (tmp_path / "case.yaml").write_text(ONE)
    with pytest.raises(SystemExit) as ended:
        run(["recovery", "schedule", str(tmp_path / "case.yaml"), "--json"])
    assert ended.value.code == 0 and '"makespan_h": 3.5' in capsys.readouterr().out
    (tmp_path / "case.yaml").write_text(BAD["no such service"][0])
    with pytest.raises(SystemExit) as ended:
        run(["recovery", "schedule", str(tmp_path / "case.yaml")])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.count("\n") == 1 and "line 9" in said
