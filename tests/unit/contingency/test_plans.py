"""Plans: planted deadlocks and gaps are found with their line, sound plans pass, and the bundle is what was signed."""

from __future__ import annotations

import io
import json
import zipfile
from datetime import date
from pathlib import Path

import pytest
import yaml

from tidegate.cli.main import run
from tidegate.contingency.book import Book
from tidegate.contingency.falls import Fallen
from tidegate.contingency.lint import Finding, Subject, lint
from tidegate.contingency.pack import pack, verify
from tidegate.contingency.plan import plan_schema, read_plans
from tidegate.core.errors import BadInput, Untrusted
from tidegate.exposure.analyse import analyse
from tidegate.exposure.reading import read_estate

ESTATE = """
vendors: {V1: {}, V2: {}, V3: {}}
components:
  edr: {vendor: V1, privilege: kernel}
  edr2: {vendor: V2, privilege: kernel}
  vault: {vendor: V3, privilege: user}
groups:
  desks: {alive: 3, devices: [{count: 4, components: [edr], labels: {site: ATL}}]}
  servers: {alive: 1, devices: [{count: 2, components: [edr]}]}
  spare: {alive: 1, devices: [{count: 2, components: [edr2]}]}
  safes: {alive: 1, devices: [{count: 1, components: [edr2, vault]}], function: [vault]}
services:
  directory: {needs: servers}
  key-escrow: {needs: {all: [safes, directory]}}
  paper-keys: {needs: spare}
  check-in: {needs: {all: [desks, directory]}, value_per_h: 100}
"""
GOOD = """
service: check-in
trigger: {vendor: V1}
owner: Ines
deputy: Luc
fallback: Paper lists at each desk.
rto: 6h
rpo: 1h
prerequisites: [paper-keys]
steps:
  - rollback: tidegate rollout abort edr-rules
  - {kind: manual, do: Start in safe mode and type the recovery key., minutes: 20, per_device: true, skill: keys}
communication: [{to: passengers, how: notice, within: 30min}]
drill: {last: 2026-10-01}
"""
DIRECTORY = GOOD.replace("service: check-in", "service: directory").replace("rto: 6h", "rto: 4h")
ESCROW = GOOD.replace("service: check-in", "service: key-escrow")
TODAY = date(2026, 11, 25)


def findings(tmp_path: Path, estate: str = ESTATE, **plans: str) -> list[Finding]:
    directory = tmp_path / "plans"
    directory.mkdir(exist_ok=True)
    for name, text in plans.items():
        (directory / f"{name}.yaml").write_text(text)
    (tmp_path / "estate.yaml").write_text(estate)
    known = read_estate(tmp_path / "estate.yaml") if estate else None
    return lint(Subject(read_plans(directory), known, {}, TODAY))


def rules(found: list[Finding], service: str = "check-in") -> set[str]:
    return {one.rule for one in found if one.service == service}


def whole(**more: str) -> dict[str, str]:
    return {"checkin": GOOD, "directory": DIRECTORY, "escrow": ESCROW, **more}


SPARE = (
    GOOD.replace("service: check-in", "service: paper-keys").replace("V1", "V2").replace("[paper-keys]", "[directory]")
)
ESCROW2 = ESCROW.replace("vendor: V1", "vendor: V2").replace("[paper-keys]", "[directory]")
ESCROW3 = ESCROW.replace("vendor: V1", "vendor: V3")


def test_sound_plans_pass(tmp_path: Path) -> None:
    assert findings(tmp_path, **whole(spare=SPARE, escrow2=ESCROW2, escrow3=ESCROW3)) == []


@pytest.mark.parametrize(
    ("need", "why"),
    [
        ("key-escrow", "service key-escrow is down: service directory is down: group servers keeps 0 of the 1"),
        ("directory", "group servers keeps 0 of the 1 devices that it needs, as component edr is made by V1"),
        ("edr", "component edr is made by V1"),
        ("V1", "vendor V1 is what fails"),
        ("servers", "group servers keeps 0"),
        ("{any: [key-escrow, directory]}", "key-escrow and directory is needed"),
    ],
)
def test_a_prerequisite_that_falls_with_the_vendor_is_a_deadlock(tmp_path: Path, need: str, why: str) -> None:
    found = findings(tmp_path, **whole(checkin=GOOD.replace("[paper-keys]", f"[paper-keys, {need}]")))
    locked = [one for one in found if one.rule == "deadlock"]
    assert [(one.plan, one.line) for one in locked] == [("checkin", 9)]
    assert why in locked[0].message


def test_an_alternative_that_stands_is_no_deadlock(tmp_path: Path) -> None:
    found = findings(tmp_path, **whole(checkin=GOOD.replace("[paper-keys]", "[{any: [key-escrow, paper-keys]}]")))
    assert "deadlock" not in rules(found)


def test_deadlocks_at_a_site_and_by_component(tmp_path: Path) -> None:
    site = GOOD.replace("{vendor: V1}", "{site: ATL}").replace("[paper-keys]", "[desks]")
    assert "deadlock" in rules(findings(tmp_path, checkin=site))
    component = GOOD.replace("{vendor: V1}", "{component: vault}").replace("[paper-keys]", "[key-escrow]")
    assert "deadlock" in rules(findings(tmp_path, checkin=component))


def test_deadlocks_without_an_estate_follow_the_plans(tmp_path: Path) -> None:
    vpn = DIRECTORY.replace("service: directory", "service: vpn").replace("{vendor: V1}", "{vendor: V9}")
    vpn = vpn.replace("[paper-keys]", "[]").replace("steps:", "depends_on: [directory]\nsteps:")
    needs = GOOD.replace("[paper-keys]", "[vpn]")
    found = findings(tmp_path, "", checkin=needs, directory=DIRECTORY, vpn=vpn)
    locked = [one for one in found if one.rule == "deadlock"]
    assert len(locked) == 1 and "vpn depends on directory, and plan directory says" in locked[0].message
    said = GOOD.replace("[paper-keys]", "[{name: escrow, vendor: V1}]")
    assert "escrow is V1's" in next(
        one.message for one in findings(tmp_path, "", checkin=said) if one.rule == "deadlock"
    )
    assert "deadlock" in rules(findings(tmp_path, "", checkin=GOOD.replace("[paper-keys]", "[V1]")))
    either = "[{any: [{name: escrow, vendor: V1}, {name: vpn-box, vendor: %s}]}]"
    assert "deadlock" in rules(findings(tmp_path, "", checkin=GOOD.replace("[paper-keys]", either % "V1")))
    assert "deadlock" not in rules(findings(tmp_path, "", checkin=GOOD.replace("[paper-keys]", either % "V7")))


@pytest.mark.parametrize(
    ("old", "new", "rule", "line"),
    [
        ("owner: Ines\n", "", "no-owner", 2),
        ("deputy: Luc\n", "", "no-deputy", 2),
        ("fallback: Paper lists at each desk.\n", "", "no-fallback", 2),
        ("rto: 6h", "rto: 3h", "dependency-rto", 7),
        ("last: 2026-10-01", "last: 2026-01-01", "drill-overdue", 14),
        ("drill: {last: 2026-10-01}\n", "", "drill-overdue", 2),
        ("[paper-keys]", "[paper-kyes]", "unknown-name", 9),
        ("vendor: V1", "vendor: V8", "unknown-name", 3),
        ("service: check-in", "service: checkin", "unknown-name", 2),
    ],
)
def test_gaps_are_found_with_their_line(tmp_path: Path, old: str, new: str, rule: str, line: int) -> None:
    found = [one for one in findings(tmp_path, **whole(checkin=GOOD.replace(old, new))) if one.plan == "checkin"]
    assert (rule, line) in {(one.rule, one.line) for one in found}, found


def test_a_service_with_a_single_point_of_failure_needs_a_plan(tmp_path: Path) -> None:
    found = [one for one in findings(tmp_path, checkin=GOOD) if one.rule == "no-plan"]
    assert {(one.service, one.message.split(" falls with ")[1].split()[0]) for one in found} == {
        ("directory", "V1"),
        ("key-escrow", "V1"),
        ("key-escrow", "V2"),
        ("key-escrow", "V3"),
        ("paper-keys", "V2"),
    }
    assert all(one.file.endswith("estate.yaml") and one.line > 1 for one in found)


def test_an_rto_below_the_forecast_is_found(tmp_path: Path) -> None:
    case = """
technicians: [{name: a, site: ATL, skills: [keys]}]
services: {check-in: {needs: 3}}
devices: [{service: check-in, site: ATL, minutes: 20, count: 4, needs_skill: keys}]
"""
    (tmp_path / "case.yaml").write_text(case)
    plan = GOOD + "recovery_case: ../case.yaml\n"
    assert "rto-below-forecast" not in rules(findings(tmp_path, **whole(checkin=plan)))
    found = findings(tmp_path, **whole(checkin=plan.replace("rto: 6h", "rto: 45min")))
    assert any("45 min is below the forecast recovery time of 1 h" in one.message for one in found)


def test_circles_and_double_plans(tmp_path: Path) -> None:
    first = GOOD.replace("steps:", "depends_on: [directory]\nsteps:")
    second = DIRECTORY.replace("steps:", "depends_on: [check-in]\nsteps:")
    found = findings(tmp_path, checkin=first, directory=second, again=first)
    assert {"circle", "two-plans"} <= {one.rule for one in found}


def test_what_falls_is_what_exposure_says(tmp_path: Path) -> None:
    (tmp_path / "estate.yaml").write_text(ESTATE)
    estate = read_estate(tmp_path / "estate.yaml")
    for vendor, row in analyse(estate)["vendors"].items():
        fallen = Fallen(estate, ("vendor", vendor))
        assert sorted(row["services_lost"]) == sorted(name for name in estate.services if fallen.service(name))
        assert sorted(row["groups_lost"]) == sorted(name for name in estate.groups if fallen.group(name))


def test_the_schema_agrees_with_the_reader(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    check = jsonschema.Draft202012Validator(json.loads(plan_schema()))
    assert not list(check.iter_errors(yaml.load(GOOD, yaml.BaseLoader) | {"steps": yaml.safe_load(GOOD)["steps"]}))
    for bad in (
        GOOD.replace("rto: 6h", "rto: soon"),
        GOOD.replace("owner", "onwer"),
        GOOD.replace("rollback:", "roll:"),
    ):
        value = yaml.safe_load(bad)
        value["drill"]["last"] = str(value["drill"]["last"])
        assert list(check.iter_errors(value))
        (tmp_path / "plan.yaml").write_text(bad)
        with pytest.raises(BadInput, match=r"plan\.yaml, line \d+: "):
            read_plans(tmp_path)


def test_the_bundle_is_signed_and_reproducible(tmp_path: Path) -> None:
    findings(tmp_path, **whole())
    signer = Book(tmp_path / "book").signer()
    plans = read_plans(tmp_path / "plans")
    data = pack(plans, signer, "2026-11-25T10:00:00Z")
    assert data == pack(plans, signer, "2026-11-25T10:00:00Z")
    assert verify(data, signer.key)["plans"] == 3
    page = zipfile.ZipFile(io.BytesIO(data)).read("plans.html").decode()
    assert page.count("<svg") == 3 and "http" not in page.replace("http://www.w3.org/2000/svg", "")
    with pytest.raises(Untrusted, match="not signed by"):
        verify(data, Book(tmp_path / "other").key)
    with pytest.raises(BadInput):
        verify(data[:-40], signer.key)


@pytest.mark.parametrize("change", ["plans.html", "plans/checkin.yaml", "manifest.json", "added.txt"])
def test_a_changed_bundle_is_refused(tmp_path: Path, change: str) -> None:
    findings(tmp_path, **whole())
    signer = Book(tmp_path / "book").signer()
    old = zipfile.ZipFile(io.BytesIO(pack(read_plans(tmp_path / "plans"), signer, "now")))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name in old.namelist():
            archive.writestr(name, old.read(name).replace(b"Ines", b"Mara") if name == change else old.read(name))
        if change == "manifest.json":
            archive.writestr("extra", b"")
        if change == "added.txt":
            archive.writestr(change, b"hello")
    with pytest.raises(Untrusted):
        verify(made.getvalue(), signer.key)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    findings(tmp_path, **whole(checkin=GOOD.replace("[paper-keys]", "[key-escrow]")))
    monkeypatch.setenv("TIDEGATE_BOOK", str(tmp_path / "book"))
    monkeypatch.chdir(tmp_path)

    def tidegate(*words: str) -> int:
        with pytest.raises(SystemExit) as ended:
            run(["contingency", *words])
        return int(ended.value.code or 0)

    assert tidegate("lint", "plans", "--estate", "estate.yaml", "--today", "2026-11-25", "--json") == 1
    said = json.loads(capsys.readouterr().out)
    assert [one["rule"] for one in said["findings"] if one["plan"] == "checkin"] == ["deadlock"]
    assert tidegate("pack", "plans", "--out", "plans.zip") == 0 and tidegate("verify", "plans.zip") == 0
    monkeypatch.setenv("TIDEGATE_BOOK", str(tmp_path / "none"))
    assert tidegate("verify", "plans.zip") == 2 and "--key" in capsys.readouterr().err
    assert not (tmp_path / "none").exists(), "verifying makes no key"
    assert tidegate("lint", "nowhere") == 2
    (tmp_path / "plans" / "bad.yaml").write_text("service: x\ntrigger: {vendor: A, site: B}\n")
    capsys.readouterr()
    assert tidegate("lint", "plans") == 2
    assert "bad.yaml, line 2: a plan has one trigger" in capsys.readouterr().err
