"""The demo's rules match what they are for and nothing else; its faulty release passes a validator that looks away."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import pytest
import yara_x

from tidegate.cli.demo_content.binaries import FAULTY_BINARIES
from tidegate.cli.demo_content.releases import (
    demo_manifest_parts,
    faulty_release,
    good_release,
    validator_passes,
)
from tidegate.cli.demo_content.samples import SAMPLES
from tidegate.cli.demo_content.world import build_world, variant
from tidegate.core.errors import BadInput
from tidegate.drivers.yara_rules import compile_rules


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> yara_x.Rules:
    rules, warnings = compile_rules(good_release(tmp_path_factory.mktemp("good") / "payload"))
    assert warnings == []
    return rules


def matching(rules: yara_x.Rules, data: bytes) -> list[str]:
    return [rule.identifier for rule in yara_x.Scanner(rules).scan(data).matching_rules]


def test_each_rule_has_a_sample(good: yara_x.Rules) -> None:
    assert {rule.identifier for rule in good} == SAMPLES.keys()
    assert 36 <= len(SAMPLES) <= 48


@pytest.mark.parametrize("name", SAMPLES)
def test_a_rule_matches_its_sample(good: yara_x.Rules, name: str) -> None:
    assert matching(good, SAMPLES[name]()) == [name]


@pytest.mark.parametrize("number", range(8))
def test_nothing_matches_a_devices_own_files(good: yara_x.Rules, number: int, tmp_path: Path) -> None:
    watch = Path(build_world(tmp_path, number)["watch"])
    found = {
        str(path.relative_to(watch)): matching(good, path.read_bytes()) for path in watch.rglob("*") if path.is_file()
    }
    assert found.pop("inbox/planted.txt") == ["tidegate_planted_sample"]
    assert len(found) >= 6
    assert not any(found.values())


def test_nothing_matches_this_machines_programs(good: yara_x.Rules) -> None:
    programs = [path for path in sorted(Path("/usr/bin").iterdir()) if path.is_file() and path.stat().st_size < 2 << 20]
    if len(programs) < 50:
        pytest.skip("too few programs on this machine to say anything")
    scanner = yara_x.Scanner(good)
    hits = {
        path.name: [rule.identifier for rule in scanner.scan(path.read_bytes()).matching_rules]
        for path in programs[:300]
    }
    assert not {name: rules for name, rules in hits.items() if rules}


def test_the_source_holds_no_finished_sample(good: yara_x.Rules) -> None:
    folder = Path(str(subprocess.__file__)).parent  # a folder of text that is not ours, as a control of the rules
    ours = Path(__file__).resolve().parents[2] / "src/tidegate/cli/demo_content"
    for path in [*ours.glob("*.py"), *sorted(folder.glob("*.py"))[:40]]:
        assert matching(good, path.read_bytes()) == [], path.name


@pytest.mark.parametrize(("fault", "more"), [("both", 2), ("false-positive", 1), ("crash", 1)])
def test_the_vendors_validator_passes_the_faulty_release(tmp_path: Path, fault: str, more: int) -> None:
    report = validator_passes(faulty_release(tmp_path, fault))
    assert report.passed
    assert report.rules == len(SAMPLES) + more
    assert report.detected == report.samples == report.rules
    assert "passes" in report.sentence
    assert compile_rules(tmp_path)[1] == []


def test_the_validator_can_fail(tmp_path: Path) -> None:
    payload = good_release(tmp_path)
    (payload / "rules/web.yar").write_text("rule php_eval_request { condition: filesize == 7 }\n")
    report = validator_passes(payload)
    assert not report.passed
    assert "fails" in report.sentence


def test_a_fault_that_is_not_known_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="false-positive"):
        faulty_release(tmp_path / "payload", "worse")
    assert not (tmp_path / "payload").exists()


def test_of_eight_devices_five_two_and_one(tmp_path: Path) -> None:
    assert Counter(variant(number) for number in range(24)) == {"A": 15, "B": 6, "C": 3}
    rules, _ = compile_rules(faulty_release(tmp_path / "payload", "false-positive"))
    for number in range(8):
        watch = Path(build_world(tmp_path / str(number), number)["watch"])
        hit = "meridian_store" in matching(rules, (watch / "checkin.db").read_bytes())
        assert hit == (variant(number) == "A")
        assert (watch / "archive.dat").exists() == (variant(number) == "B")


def test_a_world_is_the_same_twice(tmp_path: Path) -> None:
    def contents(directory: Path) -> dict[str, bytes]:
        watch = Path(build_world(directory, 3)["watch"])
        return {str(path.relative_to(watch)): path.read_bytes() for path in watch.rglob("*") if path.is_file()}

    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_the_desk_serves_until_its_database_is_gone(tmp_path: Path) -> None:
    desk = Path(build_world(tmp_path, 0)["watch"]) / "checkin"
    (probe,) = demo_manifest_parts().health.probes
    command = [word.replace("{watch}", str(desk.parent)) for word in probe.command]
    serving = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (serving.returncode, serving.stdout) == (0, "serving\n")
    (desk.parent / "checkin.db").unlink()
    closed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert closed.returncode == 1
    assert "missing" in closed.stderr


def test_the_faulty_rules_match_their_own_samples_only(tmp_path: Path) -> None:
    rules, _ = compile_rules(faulty_release(tmp_path))
    for name, build in {**SAMPLES, **FAULTY_BINARIES}.items():
        assert matching(rules, build()) == [name]
