"""Incidents: the record, the matrix of mandatory fields, the legal clocks, what is major, and the reports."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tidegate.cli.main import run
from tidegate.contingency import authorities, csaf, dora
from tidegate.contingency.book import Book
from tidegate.contingency.clocks import Entity, Facts, cra_clocks, dora_clocks, month_after, nis2_clocks
from tidegate.contingency.days_off import bank_holidays
from tidegate.contingency.dora_values import is_lei
from tidegate.contingency.facts import read_value
from tidegate.contingency.incident import NOTED, OPENED, SENT, SET, fold
from tidegate.contingency.major import judge
from tidegate.core.errors import BadInput, Refused, Untrusted

ROOT = Path(__file__).resolve().parents[3]
GIVEN = ROOT.parent / "shared" / "data"
T1, T2, T3, T4, T9 = 1_784_433_600_000, 1_784_433_700_000, 1_784_433_800_000, 1_784_433_900_000, 1_784_440_000_000


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def example(kind: str, choices: tuple[str, ...]) -> Any:
    return {
        "text": "words",
        "choice": choices[:1] and choices[0],
        "choices": list(choices[:1]),
        "moment": "2026-07-19T04:09:00Z",
        "yesno": "no",
        "whole": 0,
        "percent": 2.4,
        "money": 12.5,
        "span": "00:03:15",
        "lei": "5493001KJTIIGC8Y1R12",
        "email": "ines@example.org",
        "currency": "EUR",
        "countries": ["FR"],
    }[kind]


def whole(stage: str) -> dict[str, Any]:
    """All that is mandatory without condition."""
    values = {one.field: example(one.kind, one.choices) for one in dora.fields().values() if one.rule(stage) == "yes"}
    quiet = {"1.1": dora.SUBMISSION[stage], "3.23": ["process failure"], "3.28": "no"}  # these bring no conditions
    return values | {name: value for name, value in quiet.items() if name in values}


@pytest.mark.parametrize("stage", dora.STAGES)
def test_each_mandatory_field_is_demanded_by_name(stage: str) -> None:
    values = whole(stage)
    made = dora.report(stage, values, {})
    assert {row["field"] for row in made["fields"]} == set(values)
    for field in list(values):
        if field == "1.1":
            continue  # follows from the stage
        lacking = {name: value for name, value in values.items() if name != field}
        with pytest.raises(Refused, match=rf"field {field} \("):
            dora.report(stage, lacking, {})


def test_the_table_is_that_of_the_regulation() -> None:
    given = GIVEN / "dora" / "dora_incident_fields.json"
    if not given.exists():
        pytest.skip("the regulation's table is not at hand")
    rows = json.loads(given.read_text())
    assert [row["field"] for row in rows] == list(dora.fields()) and len(rows) == 76
    for row in rows:
        mine = dora.fields()[row["field"]]
        for stage in dora.STAGES:
            said = row[stage].lower()
            want = "no" if said == "no" else "yes" if said == "yes" else "if"
            rule = mine.rule(stage)
            assert (rule if rule in ("yes", "no") else "if") == want, (row["field"], stage)


CONDITIONAL = [
    ({"2.5": ["geographical spread"]}, "2.6", "initial"),
    ({"3.16": "00:03:00"}, "3.3", "intermediate"),
    ({"2.5": ["reputational impact"]}, "3.13", "intermediate"),
    ({"2.5": ["data losses"]}, "3.20", "final"),
    ({"3.23": ["other"]}, "3.24", "intermediate"),
    ({"3.23": ["cybersecurity-related"]}, "3.35", "intermediate"),
    ({"3.33": "yes"}, "3.34", "final"),
    ({"3.9": 5}, "3.10", "final"),
    ({"4.2": ["human error: other"]}, "4.4", "final"),
    ({"1.1": "major incident reclassified as non-major"}, "2.10", "final"),
]


@pytest.mark.parametrize(("more", "field", "stage"), CONDITIONAL)
def test_conditions_that_follow_from_other_fields(more: dict[str, Any], field: str, stage: str) -> None:
    with pytest.raises(Refused, match=rf"field {field} \("):
        dora.report(stage, whole(stage) | more, {})


def test_conditions_that_people_answer() -> None:
    made = dora.report("initial", whole("initial"), {})
    assert any("belongs to a group" in one for one in made["taken_not_to_apply"])
    assert not any(
        "group" in one for one in dora.report("initial", whole("initial"), {"group": False})["taken_not_to_apply"]
    )
    with pytest.raises(Refused, match=r"field 1\.13 .*; field 1\.14 "):
        dora.report("initial", whole("initial"), {"group": True})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("1.6", "5493001KJTIIGC8Y1R13"),
        ("3.5", "140"),
        ("3.15", "3:70"),
        ("1.15", "EUX"),
        ("2.2", "yesterday"),
        ("1.4", "shop"),
    ],
)
def test_values_are_checked(name: str, value: str) -> None:
    with pytest.raises(BadInput, match=f"field {name} "):
        read_value(name, value)
    assert is_lei("5493001KJTIIGC8Y1R12")


def test_dora_clocks_on_a_working_day() -> None:
    facts = Facts(aware=at("2026-11-03T08:00"), classified=at("2026-11-03T20:00"))
    initial, middle, final = dora_clocks(facts, Entity())
    assert initial.due == at("2026-11-04T00:00") and middle.due is None and final.due is None
    late = Facts(aware=at("2026-11-03T08:00"), classified=at("2026-11-04T07:00"))
    assert dora_clocks(late, Entity())[0].due == at("2026-11-04T08:00"), "24 h of awareness end first"
    later = Facts(aware=at("2026-11-03T08:00"), classified=at("2026-11-05T07:00"))
    assert dora_clocks(later, Entity())[0].due == at("2026-11-05T11:00"), "classified after 24 h: 4 h"
    sent = {
        "dora-initial": [at("2026-11-03T21:00")],
        "dora-intermediate": [at("2026-11-05T10:00"), at("2026-11-30T10:00")],
    }
    _, middle, final = dora_clocks(Facts(facts.aware, facts.classified, sent=sent), Entity())
    assert middle.due == at("2026-11-06T21:00") and final.due == at("2026-12-30T10:00"), "of the latest one"


def test_days_off_move_a_deadline_to_noon_of_the_next_working_day() -> None:
    # Friday 13 November 2026, classified 22:00 in Paris (21:00 UTC): 4 h later it is Saturday.
    facts = Facts(aware=at("2026-11-13T20:00"), classified=at("2026-11-13T21:30"))
    paris = Entity("Europe/Paris", bank_holidays("FR"))
    assert dora_clocks(facts, paris)[0].due == at("2026-11-16T11:00"), "Monday, noon in Paris"
    strict = Entity("Europe/Paris", bank_holidays("FR"), strict=True)
    assert dora_clocks(facts, strict)[0].due == at("2026-11-14T01:30"), "a bank has no weekend for the initial one"
    # The final report of a bank may wait: 1 January is a Friday, and Monday the 4th is the next working day.
    sent = {"dora-initial": [at("2026-11-30T10:00")], "dora-intermediate": [at("2026-12-01T10:00")]}
    final = dora_clocks(Facts(facts.aware, facts.classified, sent=sent), strict)[2]
    assert final.due == at("2027-01-04T11:00") and "day off" in final.rule
    assert bank_holidays("FR", ["2026-12-24"])(date(2026, 12, 24)) and not bank_holidays("DE")(date(2026, 7, 14))


def test_months_and_other_laws() -> None:
    assert month_after(at("2027-01-31T10:00")) == at("2027-02-28T10:00")
    assert month_after(at("2026-12-15T10:00")) == at("2027-01-15T10:00")
    aware = at("2026-11-03T08:00")
    facts = Facts(aware=aware, sent={"nis2-notification": [aware + timedelta(hours=70)]})
    assert [one.due for one in nis2_clocks(facts)] == [
        aware + timedelta(hours=24),
        aware + timedelta(hours=72),
        month_after(aware + timedelta(hours=70)),
    ]
    fixed = Facts(aware=aware, fix_available=at("2026-11-10T00:00"), kind="vulnerability")
    assert cra_clocks(fixed)[2].due == at("2026-11-24T00:00")


def test_what_is_major() -> None:
    critical = {"critical_services": True}
    assert judge(critical | {"downtime": "00:02:01", "member_states": ["FR", "DE"]}).major is True
    assert judge(critical | {"malicious_access": True}).major is True
    assert judge({"critical_services": False, "malicious_access": True}).major is False
    assert judge(critical | {"downtime": "00:02:00", "3.15": "01:00:00"}).criteria == ("critical services affected",)
    one = critical | {"clients": 100_001, "counterparts_percent": 31, "malicious_access": False}
    assert judge(one).major is None, "clients and counterparts are one criterion"
    rest = {
        "reputation": False,
        "downtime": "00:00:00",
        "3.15": "00:01:00",
        "member_states": ["FR"],
        "data_loss": False,
    }
    assert judge(one | rest | {"costs_eur": 5000}).major is False
    assert judge(one | rest | {"costs_eur": 100_001}).major is True


def opened(tmp_path: Path, **values: Any) -> Book:
    book = Book(tmp_path / "book")
    said = {name: read_value(name, value) for name, value in values.items()}
    book.add(OPENED, {"incident": "INC-1", "values": said}, who="Ines", why="desks are down", at_ms=T1)
    return book


def test_the_record_keeps_who_said_what(tmp_path: Path) -> None:
    book = opened(tmp_path, title="Desks down")
    book.add(SET, {"incident": "INC-1", "values": {"clients": 10}}, who="Ines", why="", at_ms=T2)
    book.add(SET, {"incident": "INC-1", "values": {"clients": 12}}, who="Luc", why="", at_ms=T3)
    book.add(NOTED, {"incident": "INC-1", "kind": "cause", "text": "Field 21."}, who="Luc", why="", at_ms=T4)
    book.add(
        SENT, {"incident": "INC-1", "report": "dora-initial", "at": "2026-07-19T06:00:00Z"}, who="Luc", why="", at_ms=9
    )
    found = fold(book.read())["INC-1"]
    assert found.values["clients"] == 12 and found.said["clients"] == {
        "who": "Luc",
        "at_ms": T3,
        "line": 3,
    }
    assert found.dora_values()["3.4"] == 12 and found.dora_values()["4.5"] == "Field 21."
    assert found.sent["dora-initial"] == [at("2026-07-19T06:00")]


def test_the_book_finds_changes_and_survives_a_power_cut(tmp_path: Path) -> None:
    book = opened(tmp_path, title="Desks down")
    book.add(SET, {"incident": "INC-1", "values": {"clients": 10}}, who="Ines", why="", at_ms=2)
    data = book.file.read_bytes()
    book.file.write_bytes(data + data[:30])  # the power went while a third line was written
    assert len(book.read()) == 2
    book.add(SET, {"incident": "INC-1", "values": {"clients": 11}}, who="Ines", why="", at_ms=3)
    assert [entry.seq for entry in book.read()] == [1, 2, 3]
    book.file.write_bytes(book.file.read_bytes().replace(b'"clients":10', b'"clients":99'))
    with pytest.raises(Untrusted, match="line 2"):
        book.read()
    lines = data.splitlines(keepends=True)
    book.file.write_bytes(lines[1])
    with pytest.raises(Untrusted, match="line 1"):
        book.read()


def test_csaf_is_valid(tmp_path: Path) -> None:
    facts = {
        "title": "Desks down",
        "description": "Desks did not start.",
        "component": "edr-rules",
        "version": "2026.2",
    }
    book = opened(tmp_path, **facts, vendor="V1", publisher="Example Air", namespace="https://example.org", devices=2)
    book.add(NOTED, {"incident": "INC-1", "kind": "action", "text": "Reverted."}, who="Luc", why="", at_ms=T9)
    made = csaf.make(fold(book.read())["INC-1"], at("2026-07-20T00:00"), "0.1")
    assert csaf.check(made) == []
    schema = GIVEN / "csaf" / "csaf_json_schema.json"
    if schema.exists():
        import jsonschema

        jsonschema.Draft7Validator(json.loads(schema.read_text()), format_checker=jsonschema.FormatChecker()).validate(
            made
        )


def _without(made: dict[str, Any], path: str) -> dict[str, Any]:
    value = json.loads(json.dumps(made))
    *rest, last = path.split("/")
    inner: Any = value["document"]
    for step in rest:
        inner = inner[step]
    del inner[last]
    return value


@pytest.mark.parametrize(
    "path", ["title", "publisher", "publisher/namespace", "notes", "references", "tracking/id", "tracking/version"]
)
def test_csaf_rules_are_enforced(tmp_path: Path, path: str) -> None:
    facts = {"title": "t", "description": "d", "publisher": "Example Air", "namespace": "https://example.org"}
    made = csaf.make(fold(opened(tmp_path, **facts).read())["INC-1"], at("2026-07-20T00:00"), "0.1")
    assert csaf.check(_without(made, path))


def test_other_laws_say_what_they_lack(tmp_path: Path) -> None:
    book = opened(tmp_path, title="Desks down", publisher="Example Air", contact="soc@example.org", malicious="no")
    incident = fold(book.read())["INC-1"]
    with pytest.raises(Refused, match=r"missing became_aware .*, cross_border "):
        authorities.make("nis2", "early-warning", incident, "now")
    incident.values |= {"aware": "2026-07-19T04:09:00Z", "cross_border": False}
    assert authorities.make("nis2", "early-warning", incident, "now")["cross_border"] is False


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TIDEGATE_BOOK", str(tmp_path / "book"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TIDEGATE_HOME", raising=False)

    def tidegate(*words: str) -> int:
        with pytest.raises(SystemExit) as ended:
            run(list(words))
        return int(ended.value.code or 0)

    assert tidegate("incident", "open", "Desks down") == 0
    (tmp_path / "facts.json").write_text(json.dumps(whole("initial")))
    assert tidegate("incident", "set", "last", "--from", "facts.json") == 0
    assert tidegate("incident", "export", "last", "dora-initial", "--out", "initial.json") == 0
    assert tidegate("incident", "check", "initial.json") == 0
    value = json.loads((tmp_path / "initial.json").read_text())
    value["fields"] = [row for row in value["fields"] if row["field"] != "1.7"]
    (tmp_path / "lacking.json").write_text(json.dumps(value))
    capsys.readouterr()
    assert tidegate("incident", "check", "lacking.json") == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "field 1.7 (Primary contact person name) is missing" in said
    assert tidegate("incident", "set", "last", "clinets=3") == 2
    assert tidegate("incident", "submitted", "last", "dora-initial") == 0
    assert tidegate("incident", "show", "last", "--json") == 0
    out = capsys.readouterr().out
    clocks = json.loads(out[out.index("{") :])["clocks"]
    assert [one["stage"] for one in clocks if one["regime"] == "DORA" and one["left_s"] and one["left_s"] > 71 * 3600]
