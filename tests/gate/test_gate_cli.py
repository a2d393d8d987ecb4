"""`tidegate gate` as a person uses it: a real release refused with check, file and line; signed, verified, reused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tidegate.cli.main import run
from tidegate.core.model import Health, Manifest
from tidegate.core.wire import encode
from tidegate.trust.keys import create_key, key_path, public_file
from tidegate.trust.payload import describe_payload, pack_payload

pytestmark = [
    pytest.mark.room("gate"),
    pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed"),
]
GOOD = 'rule greeting { strings: $a = "hello there, evil" condition: $a }\n'
GREEDY = "rule fine\n{\n    condition: filesize > 0\n}\n"
SETTINGS = "[corpus]\nsystem = false\n[damage]\nvariants = 5\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, text in (("old/a.yar", GOOD), ("new/a.yar", GOOD), ("new/b.yar", GREEDY), ("benign/notes", "a note\n")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "gate.toml").write_text(SETTINGS)
    return tmp_path


def cli(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        run(list(words))
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


QUICK = ("--settings", "gate.toml", "--benign", "benign", "--only", "schema", "--only", "load", "--only", "benign")


def test_a_refusal_names_check_file_line_and_evidence(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = cli(capsys, "gate", "run", "new", "--baseline", "old", *QUICK, "--html", "report.html")
    assert code == 1
    assert "benign: b.yar:1: rule fine takes the benign file /corpus/0/notes" in out
    assert "Refused by benign" in out and "1 added" in out
    page = (place / "report.html").read_text()
    assert "refused" in page and "b.yar:1" in page and "<script" not in page


def test_a_set_uid_file_is_refused_with_its_name(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "gate.toml").write_text(f'without_interpreter = ["command"]\n{SETTINGS}')
    (place / "tool").mkdir()
    (place / "tool" / "activate").write_text('cp /bin/true "$1/helper"\nchmod u+s "$1/helper"\n')
    payload = pack_payload(place / "tool")
    run_it, take_off = ("sh", "{current}/activate", "{work}"), ("rm", "-f", "{work}/helper")
    manifest = Manifest("tool", "1", 1, "command", describe_payload(payload), Health(1), ("any",), run_it, take_off)
    (place / "rel").mkdir()
    (place / "rel" / "payload.tar").write_bytes(payload)
    (place / "rel" / "manifest.json").write_bytes(encode(manifest))
    code, out, _ = cli(capsys, "gate", "run", "rel", "--settings", "gate.toml", "--only", "load", "--only", "lifecycle")
    assert code == 1
    assert "lifecycle: activate:1: activation does not work: it leaves files that lend others' rights:" in out
    assert "/tmp/component/work/helper (set-uid)" in " ".join(out.split())


def test_what_is_signed_is_verified_and_answers_are_reused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = ("release", "create", "old", "--component", "edr-rules", "--version", "1", "--seq", "1", "--driver", "yara",
            "--out-dir", "rel")  # fmt: skip
    assert cli(capsys, *made)[0] == 0
    key = create_key(place / "keys", "gate")
    (place / "keys" / "gate.pub.json").write_bytes(public_file("gate", key))
    pem = str(key_path(place / "keys", "gate"))
    code, out, _ = cli(capsys, "gate", "run", "rel", *QUICK, "--key", pem, "--json")
    told = json.loads(out)
    assert code == 0 and told["passed"] and not any(check["reused"] for check in told["checks"])
    names = sorted(path.name for path in (place / "rel" / "evidence").iterdir())
    assert names == ["benign.json", "load.json", "schema.json", "summary.json"]
    policy = ("evidence", "policy", "--key", "keys/gate.pub.json", "--output", "policy.toml", "--check", "benign")
    assert cli(capsys, *policy)[0] == 0
    code, out, _ = cli(capsys, "evidence", "verify", "rel", "--policy", "policy.toml")
    assert code == 0 and "has all that" in out
    shown = json.loads(cli(capsys, "evidence", "show", "rel", "--json")[1])
    assert sorted(each["result"] for each in shown) == ["PASSED"] * 4
    again = json.loads(cli(capsys, "gate", "run", "rel", *QUICK, "--json")[1])
    assert all(check["reused"] for check in again["checks"])
    strict = ("evidence", "policy", "--key", "keys/gate.pub.json", "--output", "policy.toml", "--check", "damage")
    cli(capsys, *strict)
    code, out, _ = cli(capsys, "evidence", "verify", "rel", "--policy", "policy.toml")
    assert code == 1 and "does not say that damage passed" in out


def test_a_changed_file_alone_is_tried_again(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(capsys, "gate", "run", "old", *QUICK)[0] == 0
    (place / "old" / "c.yar").write_text('rule other { strings: $a = "something else" condition: $a }\n')
    told = json.loads(cli(capsys, "gate", "run", "old", *QUICK, "--json")[1])
    figures = next(check["figures"] for check in told["checks"] if check["check"] == "benign")
    assert (figures["content files tried"], figures["content files reused"]) == (1, 1)


def test_versions_of_the_fleet_that_are_not_at_hand_are_refused(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from importlib.metadata import version

    import yara_x  # noqa: F401

    devices = [{"labels": {"os": "linux", "hardware": "x86"}, "facts": {"yara_x": version("yara-x")}}] * 3
    devices += [{"labels": {"os": "linux", "hardware": "arm"}, "facts": {"yara_x": "0.9.0"}}]
    (place / "devices.json").write_text(json.dumps({"devices": devices}))
    words = ("gate", "run", "old", "--only", "load", "--inventory", "devices.json", "--no-cache", "--json")
    code, out, _ = cli(capsys, *words)
    told = json.loads(out)
    assert code == 1
    assert "1 device runs version 0.9.0" in told["checks"][0]["findings"][0]["sentence"]
    assert told["coverage"]["covered"] == 1
    assert told["coverage"]["not_covered"] == [{"pair": "hardware=arm, os=linux", "devices": 1}]


def test_another_environment_s_interpreter_is_tried_as_well(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    link = place / "other" / "bin" / "python"
    link.parent.mkdir(parents=True)
    link.symlink_to(sys.executable)
    (place / "other" / "pyvenv.cfg").write_text((Path(sys.prefix) / "pyvenv.cfg").read_text())
    (place / "other" / "lib").symlink_to(Path(sys.prefix) / "lib")
    entry = '[[interpreter]]\nkind = "yara-x"\ndriver = "yara"\nname = "the other one"\npython = "other/bin/python"\n'
    (place / "gate.toml").write_text(SETTINGS + entry)
    words = ("gate", "run", "old", "--only", "load", "--settings", "gate.toml", "--no-cache", "--json")
    code, out, err = cli(capsys, *words)
    assert code == 0, out + err
    assert [each["name"] for each in json.loads(out)["interpreters"]][1] == "the other one"
    (place / "gate.toml").write_text(SETTINGS + entry.replace("other/bin", "nowhere/bin"))
    code, out, _ = cli(capsys, *words)
    assert code == 1 and "cannot be run" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("nowhere",), "nowhere is no directory"),
        (("new", "--only", "nothing"), "there is no check 'nothing'"),
        (("new", "--settings", "nothing.toml"), "are not there"),
        (("new", "--settings", "broken.toml"), "has no field 'corpse'"),
        (("new", "--benign", "nothing"), "--benign nothing is no directory"),
        (("new", "--inventory", "gate.toml"), "cannot be read"),
        (("new", "--jobs", "-1"), "--jobs"),
        (("empty",), "holds no file"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    place: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], says: str
) -> None:
    (place / "broken.toml").write_text("[corpse]\n")
    (place / "empty").mkdir()
    code, out, err = cli(capsys, "gate", "run", *words)
    assert (code, out) == (2, "") and says in err and len(err.strip().splitlines()) == 1


def test_without_bubblewrap_nothing_is_said_about_the_release(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(place))
    code, out, err = cli(capsys, "gate", "run", "old", *QUICK, "--json", "--html", "report.html")
    assert (code, out) == (2, "") and len(err.strip().splitlines()) == 1
    assert "install bubblewrap" in err and "Nothing was run unprotected" in err
    assert not (place / "report.html").exists()


def test_ctrl_c_ends_it_with_all_that_it_started(place: Path) -> None:
    slow = "rule slow { condition: for any i in (0..10000000) : ( for any j in (0..10000000) : ( i * j == 7 ) ) }\n"
    (place / "old" / "slow.yar").write_text(slow)
    gate = subprocess.Popen(
        [sys.executable, "-m", "tidegate", "gate", "run", "old", *QUICK, "--no-cache"],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(os.environ),
    )
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up and not _sandboxes(place):
        time.sleep(0.05)
    assert _sandboxes(place)
    gate.send_signal(signal.SIGINT)
    _, err = gate.communicate(timeout=60)
    assert gate.returncode == 130 and b"Traceback" not in err
    give_up = time.monotonic() + 90
    while time.monotonic() < give_up and _sandboxes(place):
        time.sleep(0.05)
    assert not _sandboxes(place)


def _sandboxes(place: Path) -> list[str]:
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if "bwrap" in words and str(place) in words:
            found.append(words)
    return found
