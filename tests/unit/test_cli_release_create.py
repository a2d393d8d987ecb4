"""`tidegate release create`: what the driver refuses is not packed, and where nobody can look, that is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tidegate.cli.main import run

pytestmark = pytest.mark.room("cli")
GOOD = 'rule greeting { strings: $a = "hello there" condition: $a }\n'
BAD = "// rules\nrule broken { condition: 1 + }\n"


def create(place: Path, capsys: pytest.CaptureFixture[str], driver: str, *more: str) -> tuple[int, str, str]:
    words = ["release", "create", str(place / "content"), "--component", "edr-rules", "--version", "7", "--seq", "1",
             "--driver", driver, "--out-dir", str(place / "rel"), *more]  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        run(words)
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "content" / "rules").mkdir(parents=True)
    (tmp_path / "content" / "rules" / "a.yar").write_text(GOOD)
    return tmp_path


def test_rules_with_an_error_are_refused_by_file_and_line_and_nothing_is_written(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "content" / "rules" / "b.yar").write_text(BAD)
    code, _, err = create(place, capsys, "yara")
    assert (code, err.count("\n")) == (2, 1)
    assert "the rules of edr-rules 7 cannot be used: rules/b.yar:2: syntax error; correct the rule" in err
    assert not (place / "rel").exists()
    code, out, _ = create(place, capsys, "yara", "--no-check")
    assert code == 0 and "Nobody has looked at the content yet: as you said" in out
    assert (place / "rel" / "manifest.json").exists()


def test_good_rules_are_packed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = create(place, capsys, "yara")
    assert code == 0 and "Nobody has looked" not in out and "Next: tidegate release sign" in out


@pytest.mark.skipif(shutil.which("clamscan") is None, reason="ClamAV is not installed")
def test_signatures_that_clamav_cannot_load_are_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "content" / "x.ndb").write_text("Tide.One:0:*:zz\n")
    code, _, err = create(place, capsys, "clamav")
    assert code == 2 and "x.ndb" in err and not (place / "rel").exists()


@pytest.mark.parametrize(
    ("driver", "says"),
    [
        ("nftables", "no driver 'nftables' on this machine"),
        ("clamav", "clamscan is not on this device"),
        ("yara", "YARA-X is not on this device"),
    ],
)
def test_where_nobody_can_look_it_is_packed_and_said(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, driver: str, says: str
) -> None:
    monkeypatch.setattr("tidegate.drivers.clamav_parts.shutil.which", lambda *_, **__: None)
    monkeypatch.setattr("tidegate.drivers.yara.importlib.util.find_spec", lambda _: None)
    (place / "content" / "x.ndb").write_text("Tide.One:0:*:zz\n")
    code, out, _ = create(place, capsys, driver)
    assert code == 0 and f"Nobody has looked at the content yet: {says}" in " ".join(out.split())
    assert (place / "rel" / "manifest.json").exists()


def test_programs_of_the_payload_are_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = create(place, capsys, "command")
    assert code == 2 and "has no activate command" in err
    code, _, err = create(place, capsys, "command", "--activate", "sh 'x")
    assert code == 2 and "--activate is no command" in err
    words = ("--activate", "sh {current}/on 'two words'", "--deactivate", "sh {current}/off")
    assert create(place, capsys, "command", *words)[0] == 0
    manifest = json.loads((place / "rel" / "manifest.json").read_bytes())
    assert manifest["activate"] == ["sh", "{current}/on", "two words"] and manifest["deactivate"][-1] == "{current}/off"
