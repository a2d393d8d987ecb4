"""Prometheus' own tool on the rules, the configuration and what is shown: names by convention, alerts that fire."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from tests.server import World

pytestmark = [pytest.mark.room("api"), pytest.mark.room("control")]
MONITORING = Path(__file__).parents[2] / "packaging" / "monitoring"
RULES = MONITORING / "tidegate-alerts.yml"
promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed: apt install prometheus"
)


def run(*words: str, text: str = "", cwd: Path | None = None) -> str:
    done = subprocess.run(["promtool", *words], input=text, capture_output=True, text=True, timeout=120, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def shown(world: World) -> str:
    device = world.enrol()
    world.release(1)
    rollout = world.rollout(max_harmed=1, placebo_per_treated=0.0)
    device.report(device.announce(rollout).json()["lease_id"], "reverted")
    world.quiet()
    return world.operators.get("/metrics").text


@promtool
def test_prometheus_takes_the_rules_and_the_configuration(tmp_path: Path) -> None:
    assert "SUCCESS" in run("check", "rules", str(RULES))
    for name in ("prometheus.yml", "tidegate-alerts.yml"):
        shutil.copy(MONITORING / name, tmp_path / name)
    text = (tmp_path / "prometheus.yml").read_text()
    for token in re.findall(r"credentials_file: (\S+)", text):
        (tmp_path / Path(token).name).write_text("x")
        text = text.replace(token, str(tmp_path / Path(token).name))
    (tmp_path / "prometheus.yml").write_text(text)
    assert "is valid" in run("check", "config", str(tmp_path / "prometheus.yml"), cwd=tmp_path)


@promtool
def test_prometheus_finds_nothing_wrong_with_what_is_shown(world: World) -> None:
    text = shown(world)
    run("check", "metrics", text=text)


def test_names_follow_the_convention(world: World) -> None:
    families = [f for f in text_string_to_metric_families(shown(world)) if f.name.startswith("tidegate_")]
    assert len(families) > 15
    for family in families:
        assert re.fullmatch(r"tidegate_[a-z]+(_[a-z]+)*", family.name), family.name
        assert family.documentation, family.name
        names = {sample.name for sample in family.samples}
        if family.type == "counter":
            assert all(name.endswith(("_total", "_created")) for name in names), names
        elif family.type == "histogram":
            assert family.name.endswith(("_seconds", "_questions")), family.name
        else:
            assert not family.name.endswith("_total"), family.name
        for word in ("_ms", "_milliseconds", "_mb", "_percent", "_minutes"):
            assert word not in family.name, f"{family.name} is not in base units"


SERIES: dict[str, list[tuple[str, str]]] = {
    "TidegateDown": [('up{job="tidegate", instance="a"}', "0x240")],
    "TidegateNotWorking": [("tidegate_controller_trouble", "1x240")],
    "TidegateHalted": [('tidegate_rollout_phase{phase="halted", rollout="r", component="c"}', "1x240")],
    "TidegateHeld": [('tidegate_rollout_phase{phase="hold", rollout="r", component="c"}', "1x240")],
    "TidegateBudgetNearlyUsed": [
        ('tidegate_rollout_budget_used{rollout="r", component="c"}', "9x240"),
        ('tidegate_rollout_budget_max{rollout="r", component="c"}', "10x240"),
    ],
    "TidegatePlanExpiring": [('tidegate_plan_expires_timestamp_seconds{component="c"}', "100x240"),
                             ('tidegate_rollout_phase{phase="open", rollout="r", component="c"}', "1x240")],
    "TidegateSignatureExpiring": [('tidegate_role_expires_timestamp_seconds{role="root"}', "100x240")],
    "TidegateServerSignatureExpiring": [('tidegate_role_expires_timestamp_seconds{role="timestamp"}', "100x240")],
    "TidegateCertificateExpiring": [('tidegate_tls_certificate_expires_in_seconds{instance="a"}', "1800000x240")],
    "TidegateCertificateExpired": [('tidegate_tls_certificate_expires_in_seconds{instance="a"}', "80000x240")],
    "TidegateWitnessBehind": [('tidegate_ledger_witness_behind_entries{witness="w"}', "2x240")],
    "TidegateConnectionsFull": [
        ('tidegate_connections_refused_total{instance="a", port="devices", why="full"}', "0+600x240")
    ],
    "TidegateLogSlow": [
        ('tidegate_log_append_seconds_bucket{le="0.1"}', "0+1x240"),
        ('tidegate_log_append_seconds_bucket{le="10"}', "0+600x240"),
        ('tidegate_log_append_seconds_bucket{le="+Inf"}', "0+600x240"),
    ],
    "TidegateLogFails": [("tidegate_log_append_failures_total", "0+5x240")],
    "TidegateOverloaded": [("tidegate_intake_shed_total", "0+600x240")],
    "TidegateCollectorAlone": [('tidegate_collector_reached{instance="a"}', "0x240")],
    "TidegateRefusesMany": [('tidegate_intake_requests_total{status="401", route="/v1/reports"}', "0+600x240")],
    "TidegateMemoryGrows": [('process_resident_memory_bytes{job="tidegate"}', "0+10000000x240")],
    "TidegateDiskFull": [("tidegate_home_free_bytes", "1000x240")],
}  # fmt: skip
"""Figures, a minute apart for four hours, under which each alert must fire."""


@promtool
def test_each_alert_fires_when_it_should_and_none_when_all_is_well(tmp_path: Path) -> None:
    rules = {rule["alert"]: rule for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]}
    calm = [
        ('up{job="tidegate", instance="a"}', "1x240"),
        ("tidegate_controller_trouble", "0x240"),
        ('tidegate_rollout_phase{phase="halted", rollout="r", component="c"}', "0x240"),
        ('tidegate_rollout_phase{phase="hold", rollout="w", component="c"}', "1x240"),
        ('tidegate_rollout_limit_opens_timestamp_seconds{rollout="w", component="c"}', "9e9x240"),
        ('tidegate_rollout_phase{phase="closed", rollout="e", component="d"}', "1x240"),
        ('tidegate_rollout_budget_used{rollout="e", component="d"}', "10x240"),
        ('tidegate_rollout_budget_max{rollout="e", component="d"}', "10x240"),
        ("tidegate_home_free_bytes", "9e12x240"),
        ('process_resident_memory_bytes{job="tidegate"}', "5e8x240"),
        ('tidegate_plan_expires_timestamp_seconds{component="c"}', "9e12x240"),
        ('tidegate_role_expires_timestamp_seconds{role="root"}', "9e12x240"),
        ('tidegate_role_expires_timestamp_seconds{role="timestamp"}', "9e12x240"),
        ('tidegate_role_expires_timestamp_seconds{role="snapshot"}', f"{240 * 60 + 604_800 - 1_800}x240"),
        ('tidegate_tls_certificate_expires_in_seconds{instance="a"}', "9e9x240"),
        ('tidegate_ledger_witness_behind_entries{witness="w"}', "0x240"),
        ('tidegate_connections_refused_total{instance="a", port="devices", why="full"}', "0x240"),
    ]
    tests: list[dict[str, Any]] = [_test(calm, name, fires=False) for name in rules]
    assert SERIES.keys() == rules.keys()
    tests += [_test(SERIES[name], name, fires=True, rule=rules[name]) for name in rules]
    _judge(tests, tmp_path)


@promtool
def test_no_role_expires_without_an_alert(world: World, tmp_path: Path) -> None:
    roles = set(re.findall(r'tidegate_role_expires_timestamp_seconds{role="([^"]+)"}', shown(world)))
    assert roles > {"root", "targets", "snapshot", "timestamp", "plans", "promotions", "emergency"}
    rules = {rule["alert"]: rule for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]}
    tests: list[dict[str, Any]] = []
    for role in roles:
        by_server = role in ("plans", "snapshot", "timestamp")
        name = "TidegateServerSignatureExpiring" if by_server else "TidegateSignatureExpiring"
        ends = [(f'tidegate_role_expires_timestamp_seconds{{role="{role}"}}', "14460x240")]  # a minute after the look
        tests.append(_test(ends, name, fires=True, rule=rules[name]))
    _judge(tests, tmp_path)


def _judge(tests: list[dict[str, Any]], place: Path) -> None:
    (place / "rules.yml").write_text(RULES.read_text())
    file = place / "test.yml"
    file.write_text(yaml.safe_dump({"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": tests}))
    assert "SUCCESS" in run("test", "rules", str(file), cwd=place)


def _test(
    series: list[tuple[str, str]], alert: str, *, fires: bool, rule: dict[str, Any] | None = None
) -> dict[str, Any]:
    checks: list[dict[str, Any]] = []
    if fires and rule is not None:
        labels = {**_labels(series[0][0], rule["expr"]), **rule["labels"]}
        words = {
            name: re.sub(r"{{ \$labels\.(\w+) }}", lambda found: labels.get(found[1], ""), text)
            for name, text in rule["annotations"].items()
        }
        checks.append({"exp_labels": labels, "exp_annotations": words})
    when: dict[str, Any] = {"eval_time": "239m", "alertname": alert, "exp_alerts": checks}
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": _spelled(values)} for name, values in series],
        "alert_rule_test": [when],
    }


def _spelled(values: str) -> str:
    """promtool knows no exponents."""
    return re.sub(r"(\d)e(\d+)", lambda found: found[1] + "0" * int(found[2]), values)


def _labels(series: str, expr: str) -> dict[str, str]:
    """The labels that an alert keeps of its series: none where the rule sums over all."""
    if re.match(r"(sum|max|histogram_quantile)\(", expr):
        return {}
    return dict(re.findall(r'(\w+)="([^"]*)"', series))
