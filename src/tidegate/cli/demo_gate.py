"""The demo's gate: both releases are tried in the real sandbox before any device sees them; its word is signed."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

from tidegate.cli.demo_content.world import build_world
from tidegate.cli.demo_stage import Stage
from tidegate.cli.evidence import EVIDENCE, read_evidence, submit_evidence, write_evidence
from tidegate.cli.gate import Wanted, trial_of
from tidegate.cli.office import OfficeClient
from tidegate.gate.attest import attest
from tidegate.gate.pipeline import passed, run_checks
from tidegate.gate.port import Result, choose, load_checks
from tidegate.gate.report import refusal
from tidegate.gate.sandbox import NoSandbox, Sandbox
from tidegate.gate.settings import Corpora, Damage, RunLimits, Settings
from tidegate.trust.durable import write_durably
from tidegate.trust.keys import create_key, key_path, load_signer

DESKS = (4, 0, 2)
"""One device of each variant, whose files the demo's vendor has recorded."""
SETTINGS = Settings(
    corpus=Corpora(system=False),
    limits=RunLimits(file_cpu_s=1),
    damage=Damage(variants=15, fuzz_s=0),
)
TOO_LONG = ["resources", "idempotence", "upgrade", "validator"]
"""Left out here: they take longer than a demo should."""
POLICY = """\
# No rollout without the gate's word; a named person may let one through, on record.
let_through = true

[keys]
gate = "{public}"

[[require]]
predicate = "vsa"
keys = ["gate"]
fresh = "1d"
"""


@dataclass(frozen=True, slots=True)
class Tried:
    """What the gate said of one release."""

    passed: bool
    seconds: float
    checks: int
    refused_by: list[str]
    lines: list[str]


class DemoGate:
    """The gate of the demo's vendor, with a key of its own and a policy that the control plane holds to."""

    def __init__(self, stage: Stage) -> None:
        """See whether there is a sandbox here. Without one nothing is tried, and no policy demands it."""
        self._stage = stage
        self.why_not = ""
        try:
            Sandbox().check()
        except NoSandbox as error:
            self.why_not = str(error)
            return
        keys = stage.path / "gate-keys"
        public = create_key(keys, "gate").keyval["public"]
        self._signer = load_signer(key_path(keys, "gate"))
        write_durably(stage.home.path / "policy.toml", POLICY.format(public=public).encode())
        self._benign = stage.path / "recorded-desks"
        for number in DESKS:
            build_world(self._benign / f"desk-{number}", number)
            shutil.rmtree(self._benign / f"desk-{number}" / "system" / "inbox")

    def try_release(self, release: Path, baseline: Path | None) -> Tried:
        """Put a release through the checks, and sign what they said beside it."""
        settings = replace(SETTINGS, device=str(self._benign / f"desk-{DESKS[0]}" / "system"))
        wanted = Wanted(settings, Path(), (self._benign,), (), (baseline,) if baseline else (), jobs=2)
        began = time.monotonic()
        with trial_of(release, wanted) as trial:
            results: list[Result] = run_checks(trial, choose(load_checks(), [], TOO_LONG))
            write_evidence(release / EVIDENCE, *attest(trial, results, [self._signer]))
        looked = [result for result in results if not result.skipped]
        return Tried(
            passed(results),
            round(time.monotonic() - began, 1),
            len(looked),
            [result.check for result in results if result.result == "FAILED"],
            refusal(results),
        )

    def hand_in(self, office: OfficeClient, release: Path, digest: str) -> None:
        """Give the control plane what was signed."""
        submit_evidence(office, digest, read_evidence(release / EVIDENCE), "demo")
