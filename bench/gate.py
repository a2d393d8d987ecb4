"""The gate's throughput against the bare interpreter's, and the table of a real feed's versions put through it.

The feed lies beside the project (`../shared/data/yara-feed`); without it there is nothing to measure.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.rows import Row
from tidegate.cli.gate import Wanted, tell, trial_of
from tidegate.gate.corpus import shards, system_corpus
from tidegate.gate.pipeline import run_checks
from tidegate.gate.port import Check, choose, load_checks
from tidegate.gate.settings import Corpora, Settings
from tidegate.gate.trial import Trial

ROOT = Path(__file__).resolve().parents[1]
FEED = ROOT.parent / "shared" / "data" / "yara-feed"
PAGE = ROOT / "docs" / "gate.md"
MARKS = ("<!-- measured: feed -->", "<!-- end -->")
USUAL_MB, FULL_MB = 300, 1000
TURNS = 4
_BARE = """
import json, sys
from pathlib import Path
import yara_x
from tidegate.drivers.yara_rules import compile_rules
asked = json.load(sys.stdin)
scanner = yara_x.Scanner(compile_rules(Path(asked["rules"]))[0])
found = 0
for path in asked["files"]:
    with open(path, "rb") as file:
        found += len(scanner.scan(file.read()).matching_rules)
print(found)
"""


def unpack_feed(target: Path) -> list[Path]:
    """Unpack all versions of the feed, the oldest first. Empty where the feed is not there."""
    found: list[Path] = []
    for archive in sorted(FEED.glob("*.tar.gz")):
        place = target / archive.name.removesuffix(".tar.gz")
        with tarfile.open(archive) as tar:
            tar.extractall(place, filter="data")
        found.append(place)
    return found


def rows(*, full: bool = False, write: bool = False) -> list[Row]:
    """Measure; with `write` the table of the feed goes into docs/gate.md."""
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as temporary:
        versions = unpack_feed(Path(temporary) / "feed")
        if not versions:
            return []
        made = throughput(versions[-1], FULL_MB if full else USUAL_MB)
        if write:
            _write(feed_table(versions))
        return made


def throughput(rules: Path, size_mb: int) -> list[Row]:
    """Scan the same benign files bare and through the gate's check, in turns, so that what else runs disturbs both."""
    corpus = system_corpus(size_mb)
    for path, _ in corpus.paths():  # so that all find the files in memory
        Path(path).read_bytes()
    cores = os.cpu_count() or 1
    settings = Settings(corpus=Corpora(system_mb=size_mb))
    checks = choose(load_checks(), ["benign"], [])
    one = _bare(rules, corpus.paths(), 1)
    bare: list[float] = []
    gated: list[float] = []
    for turn in range(TURNS):
        if turn % 2 == 0:
            bare.append(_bare(rules, corpus.paths(), cores))
        gated.append(_gated(rules, settings, checks, cores))
        if turn % 2:
            bare.append(_bare(rules, corpus.paths(), cores))
    ratios = [alone / within for alone, within in zip(bare, gated, strict=True)]
    spread = f"{TURNS} turns of {min(ratios):.2f} to {max(ratios):.2f}"
    mb = corpus.size / (1 << 20)
    name = f"gate: benign check, {len(corpus.files):,} files, {mb:,.0f} MB, {cores} cores"
    rate = TURNS * mb / sum(gated)
    return [
        Row(name, rate, "MB/s", f"YARA-X bare on {cores} cores, {spread} (MB/s)", TURNS * mb / sum(bare)),
        Row(name, rate, "MB/s", "YARA-X bare on one core (MB/s)", mb / one),
        *_again(rules, settings, cores),
    ]


def _gated(rules: Path, settings: Settings, checks: list[Check], cores: int) -> float:
    with trial_of(rules, Wanted(settings, Path(), jobs=cores)) as trial:
        _ = trial.benign_corpora
        began = time.monotonic()
        (result,) = run_checks(trial, checks)
        took_s = time.monotonic() - began
    assert result.result == "PASSED", result.findings
    return took_s


def _bare(rules: Path, files: Sequence[tuple[str, int]], processes: int) -> float:
    def scan(part: Sequence[tuple[str, int]]) -> None:
        asked = json.dumps({"rules": str(rules), "files": [path for path, _ in part]})
        words = [sys.executable, "-c", _BARE]
        # Each in a session of its own, as a sandbox is: on a busy machine Linux shares the cores out by sessions.
        subprocess.run(words, input=asked.encode(), check=True, stdout=subprocess.DEVNULL, start_new_session=True)

    began = time.monotonic()
    with ThreadPoolExecutor(processes) as pool:
        list(pool.map(scan, shards(files, processes)))
    return time.monotonic() - began


def _again(rules: Path, settings: Settings, cores: int) -> list[Row]:
    """Time a release that changes one rule, after the one before it has been through the gate."""
    with tempfile.TemporaryDirectory() as temporary:
        cache, changed = Path(temporary) / "cache", Path(temporary) / "changed"

        shutil.copytree(rules, changed)
        victim = sorted(changed.rglob("*.yara"))[0]
        victim.write_text(victim.read_text().replace("condition:", "condition:\n        filesize > 1 and", 1))
        took: list[float] = []
        for place, baseline in ((rules, ()), (changed, (rules,))):
            with trial_of(place, Wanted(settings, Path(), baselines=baseline, cache=cache, jobs=cores)) as trial:
                began = time.monotonic()
                results = run_checks(trial, load_checks())
                took.append(time.monotonic() - began)
                assert not [r for r in results if r.result == "FAILED"], [r.findings for r in results]
    return [Row("gate: one rule changed, all checks", took[1], "s", "the whole release, all checks (s)", took[0])]


def feed_table(versions: list[Path]) -> list[dict[str, Any]]:
    """Put each pair of successive versions through the gate; give what came of each."""
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as cache:
        for before, after in pairwise(versions):
            wanted = Wanted(Settings(corpus=Corpora(system_mb=100)), Path(), baselines=(before,), cache=Path(cache))
            checks = load_checks()
            with trial_of(after, wanted) as trial:
                began = time.monotonic()
                results = run_checks(trial, checks)
                found.append(_pair(before, after, trial, tell(trial, checks, results, time.monotonic() - began)))
    return found


def _pair(before: Path, after: Path, trial: Trial, told: dict[str, Any]) -> dict[str, Any]:
    figures = {check["check"]: check["figures"] for check in told["checks"]}
    costs = figures["resources"]
    cost = {name.split(" against")[0]: value.split(" times")[0] for name, value in costs.items() if " against" in name}
    detections = figures["detections"]
    return {
        "from": before.name[:10],
        "to": after.name[:10],
        "rules": len(trial.sources),
        "notes": told["notes"]["sentence"],
        "passed": told["passed"],
        "refused_by": told["refused_by"],
        "took_s": told["took_s"],
        "cost": cost,
        "lost": detections.get("lost", 0),
        "new": detections.get("newly detected", 0),
        "detected": detections.get("detected", 0),
        "exercised": detections.get("rules exercised", ""),
        "findings": [f for check in told["checks"] for f in check["findings"] if f["grave"] and not f["note"]],
    }


def _write(pairs: list[dict[str, Any]]) -> None:
    lines = [
        "| from | to | what changes | gate | seconds | CPU to load | CPU to scan | memory | detected | new | lost |",
        "| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for p in pairs:
        word = "passed" if p["passed"] else f"refused: {', '.join(p['refused_by'])}"
        cost = [f"{p['cost'].get(name, '')} x" for name in ("CPU to load", "CPU to scan", "memory")]
        lines.append(
            f"| {p['from']} | {p['to']} | {p['notes']} | {word} | {p['took_s']:.0f} | {' | '.join(cost)} |"
            f" {p['detected']:,} | {p['new']} | {p['lost']} |"
        )
    text = PAGE.read_text()
    head, _, rest = text.partition(MARKS[0])
    PAGE.write_text(f"{head}{MARKS[0]}\n" + "\n".join(lines) + f"\n{MARKS[1]}{rest.partition(MARKS[1])[2]}")
