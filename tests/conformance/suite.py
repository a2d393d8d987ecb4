"""Runs tuf-conformance against the agent's client; `python -m tests.conformance.suite CHECKOUT` writes its page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

CLIENT = Path(__file__).with_name("client.py")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "tuf-conformance.md"


@dataclass(frozen=True, slots=True)
class Result:
    """One test of the suite: its file, its name, and how it ended: passed, failed or skipped."""

    file: str
    name: str
    ended: str


def run_suite(checkout: Path, place: Path, *, workers: int = 2) -> list[Result]:
    """Run the whole suite of a checkout, with `place` as a scratch directory."""
    report = place / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-c", f"{checkout}/pyproject.toml", f"{checkout}/tuf_conformance"]
    command += ["-p", "no:cacheprovider", "-n", str(workers), f"--junitxml={report}"]
    command += ["--entrypoint", f"{sys.executable} {CLIENT}"]
    subprocess.run(
        command, cwd=place, env={**os.environ, "PYTHONPATH": str(checkout)}, capture_output=True, check=False
    )
    found: list[Result] = []
    for case in ET.parse(report).getroot().iter("testcase"):
        ended = "failed" if case.find("failure") is not None or case.find("error") is not None else "passed"
        ended = "skipped" if case.find("skipped") is not None else ended
        found.append(Result(case.get("classname", "").rpartition(".")[2], case.get("name", ""), ended))
    return sorted(found, key=lambda result: (result.file, result.name))


def version_of(checkout: Path) -> str:
    """Say which version of the suite lies there."""
    text = (checkout / "tuf_conformance" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'__version__ = "([^"]+)"', text)
    return found[1] if found else "of unknown version"


def page(version: str, results: list[Result]) -> str:
    """Write the results as a page."""
    counts = Counter(result.ended for result in results)
    lines = [
        "# The agent's client under tuf-conformance",
        "",
        f"tuf-conformance {version}: {len(results)} tests, {counts['passed']} passed, {counts['failed']} failed,"
        f" {counts['skipped']} skipped.",
        "",
        "The client is the agent's own, `src/tidegate/trust/client.py` with its durable updater and its floor, and the",
        "agent's HTTP. `tests/conformance/client.py` puts it behind the command line that the suite speaks. Its",
        "repositories have no role for plans: the top-level targets stand in its place, and nothing else differs.",
        "",
        "The suite is not on PyPI. With a checkout of it in CHECKOUT, the first line writes this page:",
        "",
        "```",
        "python -m tests.conformance.suite CHECKOUT",
        "TIDEGATE_TUF_CONFORMANCE=CHECKOUT python3 dev.py test tests/conformance",
        "```",
        "",
        "| file | test | result |",
        "| --- | --- | --- |",
    ]
    lines += [f"| {result.file} | {result.name.replace('|', ' ')} | {result.ended} |" for result in results]
    return "\n".join(lines) + "\n"


def main() -> int:
    if len(sys.argv) not in (2, 3) or not (Path(sys.argv[1]) / "tuf_conformance").is_dir():
        print("name the checkout of tuf-conformance, and its commit if that should stand in the page", file=sys.stderr)
        return 2
    checkout = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as place:
        results = run_suite(checkout, Path(place))
    version = version_of(checkout) + (f" at commit {sys.argv[2]}" if len(sys.argv) == 3 else "")
    PAGE.write_text(page(version, results), encoding="utf-8")
    bad = [result for result in results if result.ended != "passed"]
    print(f"{len(results)} tests, {len(bad)} not passed; {PAGE.name} is written")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
