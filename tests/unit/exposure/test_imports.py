"""Each format from a recorded sample: the estate that it gives, and every planted thing that must not pass silently."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tidegate.cli.main import run
from tidegate.exposure.analyse import analyse
from tidegate.exposure.reading import read_estate

SAMPLES = Path(__file__).parent / "samples"


def imported(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str, *files: Path, by: str = "vendor"
) -> tuple[dict[str, Any], list[str]]:
    """Import through the command line, and analyse what was written; give the analysis and what was not understood."""
    into = tmp_path / "estate.yaml"
    with pytest.raises(SystemExit) as end:
        run(["exposure", "import", kind, *map(str, files), "--into", str(into), "--json"])
    said = capsys.readouterr()
    assert end.value.code == 0, said.err
    report = json.loads(said.out)
    if not read_services(into):
        return {}, report["not_understood"]
    return analyse(read_estate(into), by), report["not_understood"]


def read_services(into: Path) -> bool:
    return "services: {}" not in into.read_text()


def test_cyclonedx(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found, missed = imported(capsys, tmp_path, "cyclonedx", SAMPLES / "bom.cdx.json")
    check_in = found["services"]["check-in"]
    assert check_in["cuts"] == [["Own"], ["V1"], ["V2"], ["V3"], ["unknown"], ["V4", "V5"]]
    assert check_in["value_per_h"] == 12000
    assert found["unknown"]["vendor"]["components"] == ["ghost", "ranker"]
    words = "\n".join(missed)
    assert (
        "'ghost'" in words and "'nobody'" in words and "machine-learning-model" in words and "vulnerabilities" in words
    )


def test_backstage(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found, missed = imported(capsys, tmp_path, "backstage", SAMPLES / "catalog-info.yaml")
    assert found["services"]["boarding"]["cuts"] == [["Own"], ["V1", "V2"]]
    assert found["services"]["airside"]["cuts"] == [["Own"], ["unknown"], ["V1", "V2"]]
    assert found["unknown"]["vendor"]["components"] == ["menu", "resource-default/coffee"]
    assert "radar-2" in found["unknown"]["privilege"]["components"]
    words = "\n".join(missed)
    assert "coffee" in words and "'root'" in words and "team-gates" in words


def test_osquery(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    into = tmp_path / "estate.yaml"
    _, missed = imported(capsys, tmp_path, "osquery", SAMPLES / "hosts.json")
    groups = "groups: {ATL: {alive: 1, select: site=ATL}}\nservices: {check-in: ATL}\n"
    into.write_text(into.read_text().replace("services: {}\n", groups))
    estate = read_estate(into)
    assert estate.components["sensor"].vendor == estate.components["sensor-flt"].vendor == "V1"
    kinds = {name: part.privilege.value for name, part in estate.components.items()}
    assert kinds == {"sensor": "kernel", "sensor-flt": "kernel", "sensord": "system", "Desk": "user",
                     "Agent": "system", "Chat": "unknown"}  # fmt: skip
    assert estate.components["sensord"].vendor == "unknown", "an untrusted signature names nobody"
    assert estate.components["Desk"].vendor == "V3"
    assert sorted(devices.count for devices in estate.classes) == [1, 2]
    assert analyse(estate)["services"]["check-in"]["cuts"] == [["V1"]]
    words = "\n".join(missed)
    assert "'battery'" in words and "'Chat'" in words and "no name" in words


def test_csv(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    files = [SAMPLES / f"{name}.csv" for name in ("components", "devices", "groups", "services")]
    found, missed = imported(capsys, tmp_path, "csv", *files)
    assert found["services"]["both"]["cuts"] == [["V1"], ["V3"], ["unknown"]]
    assert found["services"]["check-in"]["cuts"] == [["V1", "V2"], ["V1", "V3"], ["V3", "unknown"]]
    words = "\n".join(missed)
    for planted in ("'root'", "fails 2", "devices.csv:5", "'dear'", "services.csv:4"):
        assert planted in words, planted


def test_openpsa(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found, missed = imported(capsys, tmp_path, "openpsa", SAMPLES / "tree.xml", by="component")
    assert found["services"]["top"]["cuts"] == [["power"], ["edr", "edr2"]]
    assert found["services"]["both"]["probability"] == pytest.approx(0.02)
    assert found["services"]["top"]["probability"] is None
    assert any("power" in line for line in missed)


@pytest.mark.parametrize("packed", [False, True])
def test_the_register_and_its_concentration(capsys: pytest.CaptureFixture[str], tmp_path: Path, packed: bool) -> None:
    package = SAMPLES / "register"
    if packed:
        package = Path(shutil.make_archive(str(tmp_path / "register"), "zip", package))
    found, missed = imported(capsys, tmp_path, "register", package)
    assert found["services"]["F1"]["cuts"] == [["=Southgate"], ["Northwind Cloud"]]
    words = "\n".join(missed)
    assert "PROV9" in words and "line 6" in words and "function F3" in words and "b_01.01" in words
    out = tmp_path / "concentration.csv"
    with pytest.raises(SystemExit) as end:
        run(["exposure", "export", "register", str(tmp_path / "estate.yaml"), str(out)])
    assert end.value.code == 0
    rows = out.read_text().splitlines()
    assert rows[0].startswith("b_06.01.0010,provider,alone")
    assert "F1,Northwind Cloud,true,1,,0.5" in rows and "F1,'=Southgate,true,1,,0.5" in rows


@pytest.mark.parametrize("kind", ["cyclonedx", "backstage", "osquery", "csv", "openpsa", "register"])
@pytest.mark.parametrize("data", [b"", b"\xff\xfe\x00", b"[1, 2", b"{}", b"PK\x03\x04", b"a: [b\n", b"name\nx\n"])
def test_what_is_not_of_the_format_is_refused(
    kind: str, data: bytes, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file, into = tmp_path / "in", tmp_path / "estate.yaml"
    file.write_bytes(data)
    with pytest.raises(SystemExit) as end:
        run(["exposure", "import", kind, str(file), "--into", str(into)])
    said = capsys.readouterr()
    if end.value.code == 0:
        assert kind == "backstage" and "Understood" in said.out
    else:
        assert end.value.code == 2 and said.err.count("\n") == 1 and not into.exists()


def test_nothing_is_overwritten(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    into = tmp_path / "estate.yaml"
    into.write_text("mine")
    with pytest.raises(SystemExit) as end:
        run(["exposure", "import", "csv", str(SAMPLES / "components.csv"), "--into", str(into)])
    assert end.value.code == 2 and into.read_text() == "mine" and "already" in capsys.readouterr().err
