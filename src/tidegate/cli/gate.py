"""`tidegate gate`: try a release before any device sees it, sign what was seen, and say why it is refused."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclopts import App
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tidegate.cli.evidence import EVIDENCE, write_evidence
from tidegate.cli.inventory_file import read_inventory
from tidegate.cli.passphrase import open_keys
from tidegate.cli.release_files import MANIFEST, PAYLOAD, SIGNED, Draft, create_draft
from tidegate.cli.show import console, out, out_json, table
from tidegate.core.errors import BadInput, NotFound
from tidegate.core.model import Health
from tidegate.core.printable import printable
from tidegate.gate.attest import attest
from tidegate.gate.cache import Cache, default_cache
from tidegate.gate.notes import compare
from tidegate.gate.page import page
from tidegate.gate.pipeline import passed, run_checks
from tidegate.gate.port import Check, Result, choose, load_checks
from tidegate.gate.report import refusal, report
from tidegate.gate.sandbox import Sandbox
from tidegate.gate.settings import Settings, read_settings
from tidegate.gate.trial import Edition, Trial, unpack_edition
from tidegate.trust.durable import write_durably

app = App(name="gate", help="Try a release before any device sees it; sign what was seen.")
MOST_PAIRS = 10
COLOUR = {"PASSED": "green", "WARNED": "yellow", "FAILED": "red", "SKIPPED": "dim", "runs": "cyan", "waits": "dim"}
MARK = {"PASSED": "✓", "WARNED": "!", "FAILED": "✗", "SKIPPED": "–", "runs": "·", "waits": " "}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What `gate run` was asked for, besides the release."""

    settings: Settings
    base: Path
    benign: tuple[Path, ...] = ()
    planted: tuple[Path, ...] = ()
    baselines: tuple[Path, ...] = ()
    inventory: Path | None = None
    driver: str = "yara"
    cache: Path | None = None
    jobs: int = 0


@app.command
def run(
    release: Path,
    /,
    *,
    baseline: list[Path] | None = None,
    settings: Path | None = None,
    benign: list[Path] | None = None,
    planted: list[Path] | None = None,
    inventory: Path | None = None,
    only: list[str] | None = None,
    without: list[str] | None = None,
    driver: str = "yara",
    key: list[Path] | None = None,
    passphrase_file: Path | None = None,
    evidence: Path | None = None,
    html: Path | None = None,
    cache: Path | None = None,
    no_cache: bool = False,
    jobs: int = 0,
    json: bool = False,
) -> int:
    """Try a release in the interpreters that devices run, in a sandbox.

    Exit code 0: nothing is against it. 1: refused. 2: bad input, or no sandbox here, and nothing was tried.

    Args:
        release: A release's directory (tidegate release create), or a bare directory of content.
        baseline: What devices run now, in the same form; the most common first. Can be given several times.
        settings: Corpora, interpreters and limits (TOML).
        benign: A directory of files that must give no detection. Can be given several times.
        planted: A directory of samples that must be detected. Can be given several times.
        inventory: Devices with labels and facts, as tidegate device list --json gives them: which versions run.
        only: Run this check alone. Can be given several times.
        without: Leave this check out. Can be given several times.
        driver: What a bare directory of content is for.
        key: An evidence key (PEM): sign an attestation per check, and the summary. Can be given several times.
        passphrase_file: The key's passphrase from a file instead of asking for it.
        evidence: Where to write the attestations; default: RELEASE/evidence.
        html: Write the report as a page.
        cache: Where answers are kept that still hold when nothing has changed; default: the user's cache.
        no_cache: Keep and reuse nothing.
        jobs: How many sandboxes at the same time; default: one a core.
        json: Print the report as JSON.
    """
    if jobs < 0 or jobs > 256:
        raise BadInput(f"--jobs must be 1 to 256, not {jobs}")
    wanted = Wanted(
        read_settings(settings),
        settings.parent if settings else Path(),
        tuple(_directories("--benign", benign)),
        tuple(_directories("--planted", planted)),
        tuple(baseline or ()),
        inventory,
        driver,
        None if no_cache else cache or default_cache(),
        jobs,
    )
    signers = open_keys(key, passphrase_file, None) if key else []
    checks = choose(load_checks(), only or [], without or [])
    with trial_of(release, wanted) as trial:
        began = time.monotonic()
        results = _with_progress(trial, checks, quiet=json)
        told = tell(trial, checks, results, time.monotonic() - began)
        if signers:
            if not (release / MANIFEST).exists():
                raise BadInput("a bare directory has no digest to sign for; make a release: tidegate release create")
            write_evidence(evidence or release / EVIDENCE, *attest(trial, results, signers))
    if html:
        write_durably(html, page(told).encode())
    if json:
        out_json(told)
    else:
        show(told, results)
        if signers:
            out(f"Signed: {len(results)} checks and the summary, in {evidence or release / EVIDENCE}.")
        if html:
            out(f"Report: {html}")
    return 0 if passed(results) else 1


@app.command
def checks(*, json: bool = False) -> None:
    """List the checks, and what each answers.

    Args:
        json: Print JSON.
    """
    known = load_checks()
    if json:
        out_json([{"check": each.name, "question": each.question, "needs": list(each.needs)} for each in known])
        return
    rows = [(each.name, each.question, ", ".join(each.needs)) for each in known]
    table("Checks of the gate", ("check", "what it answers", "needs"), rows, empty="No check is installed.")


def _directories(what: str, paths: list[Path] | None) -> Iterator[Path]:
    for path in paths or ():
        if not path.is_dir():
            raise NotFound(f"{what} {path} is no directory")
        yield path


@contextmanager
def trial_of(release: Path, wanted: Wanted) -> Iterator[Trial]:
    """Unpack a release and its baselines into a temporary place, and set its trial up."""
    with tempfile.TemporaryDirectory(prefix="tidegate-gate-") as temporary:
        work = Path(temporary)
        editions = [_edition(path, work, wanted.driver) for path in (release, *wanted.baselines)]
        yield Trial(
            candidate=editions[0],
            baselines=[each for each in editions[1:] if each.digest != editions[0].digest],
            settings=wanted.settings,
            base=wanted.base.resolve(),
            work=work,
            cache=Cache(wanted.cache),
            sandbox=Sandbox(),
            jobs=wanted.jobs or os.cpu_count() or 1,
            benign=wanted.benign,
            planted=wanted.planted,
            inventory=read_inventory(wanted.inventory) if wanted.inventory else [],
        )


def _edition(path: Path, work: Path, driver: str) -> Edition:
    if not path.is_dir():
        raise NotFound(f"{path} is no directory with a release")
    place = path
    if not (path / MANIFEST).exists():
        place = work / f"draft-{len(list(work.iterdir()))}"
        draft = create_draft(
            path, place, component="content", version=path.name[:100] or "1", seq=1, driver=driver, health=Health(1)
        )
    else:
        draft = Draft.load(path)
    signed = place / SIGNED
    return unpack_edition(draft.manifest, draft.digest, place / PAYLOAD, work, signed if signed.exists() else None)


def _with_progress(trial: Trial, checks: list[Check], *, quiet: bool) -> list[Result]:
    state: dict[str, tuple[str, float, str]] = {}
    if quiet or not console.is_terminal:
        return run_checks(trial, checks)
    with Live(console=console, refresh_per_second=8, transient=True, get_renderable=lambda: _progress(state)):
        return run_checks(trial, checks, lambda name, *rest: state.update({name: rest}))


def _progress(state: dict[str, tuple[str, float, str]]) -> Table:
    sheet = Table.grid(padding=(0, 2))
    for name, (word, share, at) in state.items():
        mark = Text(f"{MARK[word]} {name}", style=COLOUR[word])
        bar = "━" * round(20 * share) if word == "runs" else word.lower() if word != "waits" else ""
        sheet.add_row(mark, Text(bar, style=COLOUR[word]), Text(printable(at)))
    return sheet


def tell(trial: Trial, checks: list[Check], results: list[Result], took_s: float) -> dict[str, Any]:
    """Give the whole report, release notes included where there is a baseline."""
    told = report(trial, checks, results, took_s)
    told["notes"] = None
    if trial.baselines and trial.interpreter is not None:
        told["notes"] = compare(trial.sources_of(trial.baselines[0]), trial.sources).plain()
    return told


def show(told: dict[str, Any], results: list[Result]) -> None:
    """Print a report for people."""
    release = told["release"]
    title = Text(printable(f"The gate: {release['component']} {release['version']}, {release['digest'][:16]}"))
    sheet = Table(title=title,
                  title_justify="left", header_style="bold")  # fmt: skip
    for column in ("check", "result", "what it answers", "took"):
        sheet.add_column(column)
    for each in told["checks"]:
        word = each["result"]
        took = f"reused from {each['reused_from']}" if each["reused"] else f"{each['took_s']:.2f} s"
        mark = Text(f"{MARK[word]} {word.lower()}", style=COLOUR[word])
        sheet.add_row(Text(printable(each["check"])), mark, Text(printable(each["question"])), took)
    console.print(sheet)
    _say_findings(told)
    if told["notes"]:
        out(f"What changes: {told['notes']['sentence']}")
    coverage = told["coverage"]
    if coverage:
        versions = ", ".join(coverage["versions"]) or "none"
        out(f"Label pairs covered by the versions tried ({versions}): {coverage['covered']} of {coverage['pairs']}.")
        for each in coverage["not_covered"][:MOST_PAIRS]:
            out(f"  not covered  {each['pair']} ({each['devices']:,} device{'' if each['devices'] == 1 else 's'})")
        if len(coverage["not_covered"]) > MOST_PAIRS:
            out("  and others: --json or --html lists them.")
    if told["passed"]:
        out(f"Nothing is against it. It took {told['took_s']:.1f} s.")
    else:
        by = ", ".join(told["refused_by"]) or "the lack of any answer"
        count = len(refusal(results))
        out(f"Refused by {by}: {count} finding{'' if count == 1 else 's'}, {told['took_s']:.1f} s.")


def _devices(count: int) -> str:
    return f"{count:,} device{'' if count == 1 else 's'}"


def _say_findings(told: dict[str, Any]) -> None:
    left_out: dict[str, list[str]] = {}
    for each in told["checks"]:
        if each["skipped"]:
            left_out.setdefault(each["skipped"], []).append(each["check"])
        for finding in each["findings"]:
            kind = "note    " if finding["note"] else "refused " if finding["grave"] else "warning "
            place = f"{finding['place']}: " if finding["place"] else ""
            sample = (
                f" (on {finding['sample']})"
                if finding["sample"] and finding["sample"] not in finding["sentence"]
                else ""
            )
            out(f"  {kind}  {each['check']}: {place}{finding['sentence']}{sample}")
            if finding["quote"]:
                out(f"            | {finding['quote']}")
    for why, names in left_out.items():
        out(f"  left out  {', '.join(names)}: {why}")
