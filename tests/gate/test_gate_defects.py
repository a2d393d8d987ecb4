"""Defective YARA releases as a vendor makes them by accident: each is refused with check, file, line and evidence."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest

from tidegate.cli.gate import Wanted, trial_of
from tidegate.core.errors import BadInput
from tidegate.gate import scanning
from tidegate.gate.pipeline import run_checks
from tidegate.gate.port import FAILED, Finding, choose, load_checks
from tidegate.gate.report import refusal
from tidegate.gate.settings import Corpora, Detections, InterpreterSettings, RunLimits, Settings
from tidegate.gate.sources import read_sources

pytestmark = [
    pytest.mark.room("gate"),
    pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed"),
]
SETTINGS = Settings(corpus=Corpora(system=False))
RULE = """rule {name}
{{
    strings:
        $a = "malicious text {name}" {how}
        $b = "another mark of {name}"
    condition:
        any of them
}}
"""
HOW = {"plain": "", "either_case": "nocase", "both_widths": "wide ascii"}


def content(place: Path) -> Path:
    place.mkdir()
    for name, how in HOW.items():
        (place / f"{name}.yar").write_text(RULE.format(name=name, how=how))
    return place


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The release that devices have, and answers that hold for all of these tests."""
    place = tmp_path_factory.mktemp("shared")
    return content(place / "baseline"), place / "cache"


def refused(candidate: Path, shared: tuple[Path, Path], check: str, settings: Settings = SETTINGS) -> list[Finding]:
    """Put a candidate through one check and those that it needs; give what that one has against it."""
    baseline, cache = shared
    checks = load_checks()
    needs = next(each.needs for each in checks if each.name == check)
    with trial_of(candidate, Wanted(settings, Path(), baselines=(baseline,), cache=cache)) as trial:
        results = run_checks(trial, choose(checks, [check, *needs], []))
    assert {each.check for each in results if each.result == FAILED} <= {check}, refusal(results)
    return [found for each in results for found in each.findings if found.grave and not found.note]


def replaced(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(place: Path) -> None:
        text = (place / name).read_text()
        assert old in text
        (place / name).write_text(text.replace(old, new, 1))

    return change


TIGHTENED = {
    "a place": (replaced("plain.yar", "any of them", "$a at 0 or $b at 0"), "plain.yar", "within other text"),
    "whole words": (replaced("either_case.yar", "nocase", "nocase fullword"), "either_case.yar", "within other text"),
    "case": (replaced("either_case.yar", "nocase", ""), "either_case.yar", "within other text"),
    "width": (replaced("both_widths.yar", "wide ascii", ""), "both_widths.yar", "one of its texts alone"),
    "all for any": (replaced("plain.yar", "any of them", "all of them"), "plain.yar", "one of its texts alone"),
    "a size": (replaced("plain.yar", "any of", "filesize < 2KB and any of"), "plain.yar", "within other text"),
}


@pytest.mark.parametrize("what", TIGHTENED)
def test_a_condition_that_was_tightened_loses_a_sample(shared: tuple[Path, Path], tmp_path: Path, what: str) -> None:
    change, file, says = TIGHTENED[what]
    change(content(tmp_path / "candidate"))
    (found,) = refused(tmp_path / "candidate", shared, "detections")
    assert (found.place, found.rule) == (f"{file}:1", file.removesuffix(".yar"))
    assert "is not detected any more" in found.sentence and says in found.sentence and found.sample
    assert found.quote == f"rule {file.removesuffix('.yar')}"


def test_a_rule_that_silences_those_beside_it_is_the_one_that_is_named(
    shared: tuple[Path, Path], tmp_path: Path
) -> None:
    candidate = content(tmp_path / "candidate")
    more = "global private rule small { condition: filesize < 10 }"
    (candidate / "plain.yar").write_text((candidate / "plain.yar").read_text() + more + "\n")
    (found,) = refused(candidate, shared, "detections")
    assert found.place == "plain.yar:9" and found.quote == more and found.sample
    assert "that rule is as it was, but small decides on all rules of its file" in found.sentence


def test_rules_in_comments_are_named_with_their_line(shared: tuple[Path, Path], tmp_path: Path) -> None:
    candidate = content(tmp_path / "candidate")
    (candidate / "plain.yar").write_text("/*\n\n" + (candidate / "plain.yar").read_text() + "*/\n")
    (found,) = refused(candidate, shared, "schema")
    assert found.place == "plain.yar:3" and "stands in comments is none" in found.sentence
    assert found.quote == "rule plain"


@pytest.mark.parametrize(
    ("damage", "place", "says"),
    [
        (lambda text: b"\xef\xbb\xbf" + text, "plain.yar:1", "begins with a byte order mark"),
        (lambda text: text.decode().encode("utf-16"), "plain.yar:1", "the byte order mark of UTF-16"),
        (lambda text: text + b"// a\0comment\n", "plain.yar:9", "holds a zero byte"),
        (lambda text: b"", "plain.yar", "the file is empty"),
    ],
    ids=["a mark", "UTF-16", "a zero", "empty"],
)
def test_a_file_that_is_no_plain_text_is_refused(
    shared: tuple[Path, Path], tmp_path: Path, damage: Callable[[bytes], bytes], place: str, says: str
) -> None:
    candidate = content(tmp_path / "candidate")
    (candidate / "plain.yar").write_bytes(damage((candidate / "plain.yar").read_bytes()))
    (found,) = refused(candidate, shared, "schema")
    assert found.place == place and says in found.sentence


def test_what_other_systems_have_is_benign_too(shared: tuple[Path, Path], tmp_path: Path) -> None:
    candidate = content(tmp_path / "candidate")
    (candidate / "new.yar").write_text(
        'import "pe"\n'
        "rule windows { condition: pe.is_pe }\n"
        "rule windows_32 { condition: uint16(0) == 0x5a4d and pe.is_32bit() }\n"
        "rule mac { condition: uint32(0) == 0xfeedfacf }\n"
        'rule page { strings: $a = "<html" condition: $a }\n'
        'import "dotnet"\nrule managed { condition: dotnet.is_dotnet }\n'
        "rule signed { condition: pe.number_of_signatures > 0 }\n"
        'import "dex"\nrule android { condition: dex.is_dex }\n'
        'import "elf"\nrule library { condition: elf.type == elf.ET_DYN and elf.number_of_sections == 0 }\n'
        "rule large { condition: filesize > 100MB }\n"
        'rule script { strings: $a = "潮" condition: $a }\n'
    )
    found = refused(candidate, shared, "benign", Settings(corpus=Corpora(system_mb=1)))
    by_line = {each.line: each for each in found}
    assert sorted(by_line) == [2, 3, 4, 5, 7, 8, 10, 12, 13, 14] and len(found) == len(by_line), found
    assert {each.file for each in found} == {"new.yar"}
    assert ", and 5 others for something bad" in by_line[2].sentence and "/ordinary/" in by_line[2].sentence


@pytest.mark.slow
def test_what_is_slow_on_large_files_alone_is_refused(shared: tuple[Path, Path], tmp_path: Path) -> None:
    candidate = content(tmp_path / "candidate")
    each = "for all i in (0..filesize) : ( for all j in (0..99) : ( uint8(i) + j < 999 ) )"
    rule = f"rule slow {{ condition: filesize > 20MB and {each} and filesize == 7 }}"
    (candidate / "new.yar").write_text(f"{rule}\n")
    quick = Settings(corpus=Corpora(system=False), limits=RunLimits(file_cpu_s=1))
    found = refused(candidate, shared, "crash", quick)
    assert found[0].place == "new.yar:1" and all("used more than 1 s" in each.sentence for each in found)
    assert all(each.sample.startswith("/unpleasant/large") for each in found)


@pytest.mark.slow
@pytest.mark.parametrize(("head", "kind"), [("uint16(0) == 0x5a4d", "program.exe"), ("uint32(0) == 0x46445025", "pdf")])
def test_what_is_slow_on_one_kind_of_file_alone_is_refused(
    shared: tuple[Path, Path], tmp_path: Path, head: str, kind: str
) -> None:
    candidate = content(tmp_path / "candidate")
    each = "for all i in (0..filesize) : ( for all j in (0..99) : ( uint8(i) + j < 999 ) )"
    (candidate / "new.yar").write_text(f"rule slow {{ condition: {head} and {each} and filesize == 7 }}\n")
    quick = Settings(corpus=Corpora(system=False), limits=RunLimits(file_cpu_s=1))
    found = refused(candidate, shared, "crash", quick)
    assert found[0].place == "new.yar:1" and any(kind in each.sample for each in found)


@pytest.mark.parametrize(("second", "line"), [("new.yar", 3), ("other.yar", 0)])
def test_what_is_not_traced_is_laid_to_the_one_place_that_the_traced_lead_to(
    shared: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second: str, line: int
) -> None:
    guilty = {"one": "new.yar", "two": second}

    def traced(trial: object, sample: str, corpora: object) -> dict[str, object]:
        return {"sample": sample, "file": guilty[sample], "line": 3, "rule": "slow"}

    monkeypatch.setattr(scanning, "suspect", traced)
    with trial_of(content(tmp_path / "candidate"), Wanted(SETTINGS, Path(), baselines=(shared[0],))) as trial:
        found = scanning.suspects(trial, [(each, "died") for each in ("one", "two", "three", "four")], [])
    assert [each["sample"] for each in found] == ["one", "two", "three", "four"]
    assert [(each["file"], each["line"]) for each in found[2:]] == [("new.yar" if line else "", line)] * 2


def test_a_rule_of_the_same_name_in_a_new_file_is_the_one_at_fault(shared: tuple[Path, Path], tmp_path: Path) -> None:
    candidate = content(tmp_path / "candidate")
    (candidate / "a_new.yar").write_text("// new\n" + RULE.format(name="plain", how=""))
    (found,) = refused(candidate, shared, "schema")
    assert found.place == "a_new.yar:2" and "rule plain stands also in plain.yar:1" in found.sentence


def test_a_rule_that_waits_for_its_day_is_refused(shared: tuple[Path, Path], tmp_path: Path) -> None:
    candidate = content(tmp_path / "candidate")
    (candidate / "new.yar").write_text(
        'import "time"\nrule later {\n  strings:\n    $a = "time.now()"\n  condition:\n    $a or\n'
        "    time.now() > 1900000000\n}\n"
    )
    (found,) = refused(candidate, shared, "variety")
    assert (found.place, found.quote) == ("new.yar:7", "time.now() > 1900000000") and "the clock" in found.sentence


def test_a_condition_that_is_never_so_is_refused_with_its_line(shared: tuple[Path, Path], tmp_path: Path) -> None:
    candidate = content(tmp_path / "candidate")
    (candidate / "new.yar").write_text('rule new {\n  strings:\n    $a = "abcdef"\n  condition:\n    $a and false\n}\n')
    (found,) = refused(candidate, shared, "variety")
    assert found.place == "new.yar:5" and "invariant boolean expression" in found.sentence


def test_a_new_rule_that_detects_nothing_at_all_is_warned_of(shared: tuple[Path, Path], tmp_path: Path) -> None:
    baseline, cache = shared
    candidate = content(tmp_path / "candidate")
    (candidate / "new.yar").write_text('\nrule new { strings: $a = "abcdef" condition: $a and filesize < 3 }\n')
    with trial_of(candidate, Wanted(SETTINGS, Path(), baselines=(baseline,), cache=cache)) as trial:
        results = run_checks(trial, choose(load_checks(), ["load", "detections"], []))
    (found,) = results[-1].findings
    assert (found.place, found.grave) == ("new.yar:2", False) and "not even what was made of its own" in found.sentence


def test_what_stands_between_two_rules_is_part_of_neither(tmp_path: Path) -> None:
    (tmp_path / "a.yar").write_text(
        'rule a { condition: filesize == 7 }\nimport "math"\n// }\nrule b { condition: a }\n'
    )
    found = read_sources(tmp_path, ["a.yar"])
    assert [(each.line, each.text) for each in found.values()] == [
        (1, "rule a { condition: filesize == 7 }"),
        (4, "rule b { condition: a }"),
    ]


def test_rules_under_other_names_count_as_gone(shared: tuple[Path, Path], tmp_path: Path) -> None:
    """What they find is found, and nothing that knows them by their names will know it."""
    candidate = content(tmp_path / "candidate")
    replaced("plain.yar", "rule plain", "rule smooth")(candidate)
    (found,) = refused(candidate, shared, "detections")
    assert "1 of the 3 rules" in found.sentence and "for they have other names (plain" in found.sentence
    purpose = Settings(corpus=Corpora(system=False), detections=Detections(retired=("plain",)))
    assert refused(candidate, shared, "detections", purpose) == []


def test_one_more_rule_costs_no_interpreter_of_its_own(tmp_path: Path) -> None:
    """The changed files alone are measured; what the interpreter itself takes must not count as theirs."""
    for place in ("baseline", "candidate"):
        content(tmp_path / place)
        for number in range(4):
            (tmp_path / place / f"other{number}.yar").write_text(RULE.format(name=f"other{number}", how=""))
    (tmp_path / "candidate" / "new.yar").write_text(RULE.format(name="new", how=""))
    shared = (tmp_path / "baseline", tmp_path / "cache")
    assert refused(tmp_path / "candidate", shared, "resources") == []


def test_rules_that_are_gone_are_named_unless_they_go_on_purpose(shared: tuple[Path, Path], tmp_path: Path) -> None:
    candidate = content(tmp_path / "candidate")
    (candidate / "plain.yar").unlink()
    (found,) = refused(candidate, shared, "detections")
    assert "1 of the 3 rules" in found.sentence and "plain.yar:1" in found.sentence and found.rule == "plain"
    purpose = Settings(corpus=Corpora(system=False), detections=Detections(retired=("pl*",)))
    assert refused(candidate, shared, "detections", purpose) == []


def test_content_under_a_name_that_nothing_reads_is_refused(shared: tuple[Path, Path], tmp_path: Path) -> None:
    candidate = content(tmp_path / "candidate")
    (candidate / "plain.yar").rename(candidate / "plain.txt")
    (found,) = refused(candidate, shared, "schema")
    assert found.file == "plain.txt" and "the file is plain.yar of" in found.sentence


def test_growth_names_the_file_that_grew(shared: tuple[Path, Path], tmp_path: Path) -> None:
    candidate = content(tmp_path / "candidate")
    (candidate / "plain.yar").write_text((candidate / "plain.yar").read_text() + "// filler\n" * 1000)
    (found,) = refused(candidate, shared, "size")
    assert found.file == "plain.yar" and "most of that in plain.yar (+10,000 bytes)" in found.sentence


@pytest.mark.parametrize(
    ("text", "line", "says", "quote"),
    [
        ('include "/etc/passwd"\n', 1, "include statements not allowed", 'include "/etc/passwd"'),
        ("// fine\nrule f { condition: device == 1 }\n", 2, "unknown identifier", "rule f { condition: device == 1 }"),
        ('import "nowhere"\nrule f { condition: filesize > 1 }\n', 1, "unknown module", 'import "nowhere"'),
        ("rule f { strings: $a = /(x/ condition: $a }\n", 1, "invalid regular", "rule f { strings: $a = /(x/"),
        ("rule f { meta: m = \"\xff\" condition: filesize > 1 }\n", 1, "not UTF-8", "rule f { meta: m = "),
    ],
)  # fmt: skip
def test_what_the_interpreter_refuses_is_quoted(
    shared: tuple[Path, Path], tmp_path: Path, text: str, line: int, says: str, quote: str
) -> None:
    candidate = content(tmp_path / "candidate")
    (candidate / "new.yar").write_bytes(text.encode("latin-1"))
    (found,) = refused(candidate, shared, "load")
    assert found.place == f"new.yar:{line}" and says in found.sentence and found.quote.startswith(quote)


def test_an_interpreter_that_lies_is_believed_nothing(shared: tuple[Path, Path], tmp_path: Path) -> None:
    """It names a place outside the payload, which must not be quoted, and says what it says in another form."""
    secret = tmp_path / "secret"
    secret.write_text("a private key\n")
    candidate = content(tmp_path / "candidate")
    for said, says in ((f"{secret}:1: wrong", "wrong"), ("../secret:1: wrong", "wrong"), ("\\033[2J:x:", "refuses it")):
        words = ("sh", "-c", f"printf '{said}\\n' >&2; exit 2")
        liar = InterpreterSettings(kind="command", driver="yara", name="liar", load=words, files=("*.yar",))
        honest = Settings(corpus=Corpora(system=False), interpreter=(liar,))
        found = refused(candidate, shared, "load", honest)
        assert [each.quote for each in found] == [""] and says in found[0].sentence


PLUGIN = """
class Outside:
    name, question, order, needs, alone = "outside", "Is it outside?", 99, ("schema",), False
    def inputs(self, trial):
        return None
    def run(self, trial, seen, say):
        say(0.5, "half")
        seen.figures["devices"] = 1
        {body}
"""


def plugin(place: Path, name: str, body: str, monkeypatch: pytest.MonkeyPatch, value: str = "") -> None:
    """Install a package with a check, as an installer leaves it behind."""
    (place / f"{name}-1.dist-info").mkdir(parents=True)
    (place / f"{name}-1.dist-info" / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    entry = f"[tidegate.checks]\n{name} = {value or f'{name}:Outside'}\n"
    (place / f"{name}-1.dist-info" / "entry_points.txt").write_text(entry)
    (place / f"{name}.py").write_text(PLUGIN.format(body=body))
    monkeypatch.syspath_prepend(place)


def test_a_check_of_another_package_takes_part(
    shared: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin(tmp_path / "a", "tidegate_plug_a", "seen.fail('it is', file='plain.yar', line=3)", monkeypatch)
    (found,) = refused(content(tmp_path / "candidate"), shared, "outside")
    assert (found.place, found.quote) == ("plain.yar:3", "strings:")


def test_a_check_that_breaks_refuses_the_release(
    shared: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin(tmp_path / "b", "tidegate_plug_b", "[][1]", monkeypatch)
    (found,) = refused(content(tmp_path / "candidate"), shared, "outside")
    assert "the check itself broke, so it vouches for nothing: IndexError" in found.sentence


def test_checks_that_cannot_be_loaded_or_share_a_name_are_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        plugin(tmp_path / "c", "tidegate_plug_c", "pass", patch, "tidegate_plug_c:Nothing")
        with pytest.raises(BadInput, match="tidegate_plug_c:Nothing of tidegate_plug_c cannot be loaded"):
            load_checks()
    with monkeypatch.context() as patch:
        plugin(tmp_path / "d", "tidegate_plug_d", "pass", patch, "tidegate.gate.checks.benign:BenignCheck")
        with pytest.raises(BadInput, match="two checks are called benign"):
            load_checks()


def test_an_interpreter_that_is_not_at_hand_hides_nothing_else(shared: tuple[Path, Path], tmp_path: Path) -> None:
    candidate = content(tmp_path / "candidate")
    (candidate / "greedy.yar").write_text('rule greedy { strings: $a = "a note" condition: $a }\n')
    (tmp_path / "benign").mkdir()
    (tmp_path / "benign" / "note").write_text("a note\n")
    lacking = InterpreterSettings(kind="yara-x", driver="yara", name="YARA-X 0.1", python="/opt/no/such/python3")
    devices = [{"labels": {}, "facts": {"yara_x": "0.1"}}, {"labels": {}, "facts": {"yara_x": version("yara-x")}}]
    checks = choose(load_checks(), ["load", "benign"], [])
    for interpreters in (
        (lacking,),
        (lacking, InterpreterSettings(kind="yara-x", driver="yara", python=sys.executable)),
    ):
        settings = replace(SETTINGS, interpreter=interpreters)
        with trial_of(candidate, Wanted(settings, Path(), benign=(tmp_path / "benign",))) as trial:
            trial.inventory = devices
            load, benign = run_checks(trial, checks)
        lines = refusal([load])
        assert any("/opt/no/such/python3 cannot be run" in line for line in lines), lines
        assert any("1 device runs version 0.1, which is not at hand" in line for line in lines), lines
        assert load.figures["versions"] == [version("yara-x")] and load.figures["items"] == 4
        assert refusal([benign])[0].startswith("benign: greedy.yar:1: rule greedy takes the benign file"), benign
