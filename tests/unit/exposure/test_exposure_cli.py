"""`tidegate exposure` as its users call it, and the schema that is shipped with it."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from tidegate.cli.main import run
from tidegate.exposure.schema import estate_schema

from .test_analyse import HARMLESS_ALONE, PRIVILEGE
from .test_lanes import SLACK
from .test_moves import ESTATE
from .test_reading import BAD

DOCS = Path(__file__).resolve().parents[3] / "docs" / "exposure.md"


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        run(["exposure", *words])
    said = capsys.readouterr()
    return int(end.value.code or 0), said.out, said.err


def _example() -> str:
    return DOCS.read_text().split("```yaml\n")[1].split("```")[0]


def test_the_schema_takes_what_is_read_and_refuses_what_it_can_see_is_wrong() -> None:
    schema = json.loads(estate_schema())
    jsonschema.Draft202012Validator.check_schema(schema)
    checker = jsonschema.Draft202012Validator(schema)
    for text in (HARMLESS_ALONE, PRIVILEGE, SLACK, ESTATE, _example()):
        checker.validate(yaml.safe_load(text))
    for case in ("negative count", "at_least 0", "needs all and any", "empty list", "unknown key", "privilege",
                 "fails above 1", "services a list", "no services", "devices and select", "alive true"):  # fmt: skip
        assert not checker.is_valid(yaml.safe_load(BAD[case][0])), case


def test_analyse_prints_json_and_tables(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "estate.yaml"
    file.write_text(_example())
    code, out, _ = call(capsys, "analyse", str(file), "--json")
    found = json.loads(out)
    assert code == 0
    assert found["services"]["boarding"]["cuts"] == [["V1"], ["V2", "V3"]]
    assert {"services", "vendors", "hhi", "hhi_failure_weighted", "unknown", "pairs"} <= found.keys()
    code, out, _ = call(capsys, "analyse", str(file), "--by", "component")
    assert code == 0 and "Concentration" in out and "lounge" in out
    code, _, err = call(capsys, "analyse", str(file), "--by", "site")
    assert code == 2 and "vendor or component" in err
    code, _, err = call(capsys, "analyse", str(file), "--order", "0")
    assert code == 2 and "--order" in err


@pytest.mark.parametrize("case", ["circle", "k above n", "negative count"])
def test_bad_input_is_one_line_and_exit_code_2(case: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "estate.yaml"
    file.write_text(BAD[case][0])
    for words in (["analyse"], ["lanes"], ["suggest", "--budget", "3"], ["picture"]):
        more = [str(tmp_path / "x.svg")] if words == ["picture"] else []
        code, out, err = call(capsys, words[0], str(file), *more, *words[1:])
        assert (code, out) == (2, "") and err.count("\n") == 1 and f"{file}:{BAD[case][1]}" in err


def test_moves_pictures_and_lanes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "estate.yaml"
    file.write_text(ESTATE)
    picture = tmp_path / "change.svg"
    code, out, _ = call(capsys, "suggest", str(file), "--budget", "5", "--json", "--picture", str(picture))
    assert code == 0 and json.loads(out)["freed"] == ["check-in"] and picture.read_text().startswith("<svg")
    code, out, _ = call(capsys, "what-if", str(file), "move 5 of desks to V2", "--json")
    assert code == 0 and json.loads(out)["after"]["services"]["check-in"]["cuts"] == [["V1", "V2"]]
    code, _, err = call(capsys, "what-if", str(file), "give all to V2")
    assert code == 2 and "is no move" in err
    code, _, err = call(capsys, "suggest", str(file), "--budget", "5", "--picture", "x.png")
    assert code == 2 and ".svg" in err
    code, out, _ = call(capsys, "picture", str(file), str(picture), "--service", "check-in")
    assert code == 0 and "V1" in picture.read_text()
    code, out, _ = call(capsys, "lanes", str(file), "--json")
    assert code == 0 and json.loads(out)["groups"]["desks"]["least_lanes"] == 2
    code, out, _ = call(capsys, "lanes", str(file), "--lanes", "1")
    assert code == 1 and "Too few lanes" in out


def test_an_inventory_from_csv(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file, devices = tmp_path / "estate.yaml", tmp_path / "devices.csv"
    file.write_text(
        "components: {edr: {vendor: V1, privilege: kernel}}\n"
        "groups: {A: {alive: 60%, select: site=ATL}}\nservices: {S: A}\n"
    )
    devices.write_text("device_id,site,components\na,ATL,edr\nb,ATL,edr;odd\nc,ATL,\nd,BOS,edr\n")
    code, out, _ = call(capsys, "analyse", str(file), "--inventory", str(devices), "--json")
    found = json.loads(out)
    assert code == 0 and found["services"]["S"]["cuts"] == [["V1"]]
    assert found["unknown"]["vendor"] == {"components": ["odd"], "devices": 1}
    devices.write_text("device_id,site,components\na,ATL\n")
    code, _, err = call(capsys, "analyse", str(file), "--inventory", str(devices))
    assert code == 2 and f"{devices}:2" in err
