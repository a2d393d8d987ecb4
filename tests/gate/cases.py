"""Releases for the gate's tests: a good one in the small interpreter's language, and one with a fault per check."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tidegate.core.model import Health, Manifest, Probe
from tidegate.core.wire import encode
from tidegate.gate.cache import Cache
from tidegate.gate.pipeline import run_checks
from tidegate.gate.port import Result, load_checks
from tidegate.gate.sandbox import Sandbox
from tidegate.gate.settings import (
    Corpora,
    Damage,
    InterpreterSettings,
    Resources,
    RunLimits,
    Settings,
    Sizes,
    Staging,
    Validator,
)
from tidegate.gate.trial import Edition, Trial, unpack_edition
from tidegate.trust.payload import describe_payload, pack_payload

HERE = Path(__file__).resolve().parent
ENGINE = HERE / "channel_engine.py"
PYTHON = (sys.executable, "-I", "-S", "-B")
FIELDS = 20
STAR = ["*"] * FIELDS


def line(name: str, *fields: str, count: int = FIELDS, last: str = "") -> str:
    """Write a record with these first fields and wildcards behind them."""
    rest = [*fields, *["*"] * (count - len(fields))]
    if last:
        rest[-1] = last
    return "|".join([name, "block", *rest])


def everything(count: int = FIELDS) -> list[str]:
    """Records that put each field to the test, one after the other."""
    return ["|".join([f"r{n}", "block", *["evil" if i == n else "*" for i in range(count)]]) for n in range(count)]


def engine(supplied: int = FIELDS, *more: str, describe: bool = True) -> InterpreterSettings:
    """The small interpreter, as the settings name it."""
    words = (*PYTHON, str(ENGINE), "--supplied", str(supplied), *more)
    return InterpreterSettings(
        kind="command",
        driver="command",
        name=f"channel engine {supplied}",
        load=(*words, "--load", "{payload}"),
        scan=(*words, "--scan", "{payload}", "{files}"),
        describe=(*words, "--describe") if describe else (),
        version=(*words, "--version"),
        read=(str(ENGINE),),
        files=("*.chn",),
    )


VALIDATOR = Validator((*PYTHON, str(ENGINE), "--load", "{payload}"), (str(ENGINE),))
SETTINGS = Settings(
    corpus=Corpora(system=False),
    limits=RunLimits(memory_mb=512, cpu_s=20, wall_s=60, disk_mb=16, file_cpu_s=2),
    resources=Resources(pairs=3, sample_mb=1),
    size=Sizes(grow=20.0, shrink=0.2),
    damage=Damage(variants=10, fuzz_s=0),
    staging=Staging(),
    interpreter=(engine(),),
    validator=VALIDATOR,
)
ACTIVATE = 'mkdir -p "$1"\necho ok > "$1/active"\n'
DEACTIVATE = 'rm -f "$1/active"\n'


@dataclass(frozen=True, slots=True)
class Case:
    """One release and its circumstances. `older` are the baselines' activation programs, the newest first."""

    records: list[str] = field(default_factory=everything)
    schema: dict[str, Any] = field(default_factory=lambda: {"name": "pipe", "files": "*.chn", "fields": FIELDS})
    settings: Settings = SETTINGS
    activate: str = ACTIVATE
    deactivate: str = DEACTIVATE
    older: tuple[str, ...] = (ACTIVATE,)
    soak_s: int = 1
    probe: tuple[str, ...] = ("test", "-e", "{work}/active")
    words: tuple[str, ...] = ()
    """More words for the activation program."""
    more: dict[str, str] = field(default_factory=lambda: {})
    finding: str = ""
    """The root-cause finding that it replays."""
    says: str = ""
    """What the refusal must say."""


def edition(place: Path, case: Case, version: str, records: list[str], activate: str, more: dict[str, str]) -> Edition:
    """Pack content as a release, unpacked for the gate."""
    source = place / f"source-{version}"
    source.mkdir(parents=True)
    (source / "content.chn").write_text("\n".join(["# CHN1", *records]) + "\n")
    (source / "schema.json").write_text(json.dumps({"types": [case.schema]}))
    (source / "activate").write_text(activate)
    (source / "deactivate").write_text(case.deactivate)
    for name, text in more.items():
        (source / name).write_text(text)
    data = pack_payload(source)
    manifest = Manifest(
        component="channel",
        version=version,
        seq=1,
        driver="command",
        payload=describe_payload(data),
        health=Health(case.soak_s, probes=(Probe("active", case.probe),)),
        activate=("sh", "{current}/activate", "{work}", *case.words),
        deactivate=("sh", "{current}/deactivate", "{work}"),
    )
    archive = place / f"{version}.tar"
    archive.write_bytes(data)
    return unpack_edition(manifest, hashlib.sha256(encode(manifest)).hexdigest(), archive, place)


def trial_of(case: Case, place: Path, cache: Path | None = None) -> Trial:
    """Set a case's trial up: two benign inputs, one planted sample, the case's baselines."""
    for name, text in (("benign/plain", "|".join(["fine"] * FIELDS)), ("benign/short", "fine"),
                       ("planted/first", "|".join(["evil"] * FIELDS))):  # fmt: skip
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    candidate = edition(place, case, "new", case.records, case.activate, case.more)
    plain = replace(case, deactivate=DEACTIVATE, soak_s=1)
    baselines = [
        edition(place, plain, f"old{number}", everything(), activate, {}) for number, activate in enumerate(case.older)
    ]
    return Trial(
        candidate=candidate,
        baselines=baselines,
        settings=case.settings,
        base=HERE,
        work=place,
        cache=Cache(cache),
        sandbox=Sandbox(),
        jobs=2,
        benign=[place / "benign"],
        planted=[place / "planted"],
    )


def try_case(case: Case, place: Path, only: str = "") -> dict[str, Result]:
    """Put a case through the whole gate, or through one check and those that it needs."""
    trial, checks = trial_of(case, place), load_checks()
    if only:
        needs = next(check.needs for check in checks if check.name == only)
        checks = [check for check in checks if check.name in (only, *needs)]
    return {result.check: result for result in run_checks(trial, checks)}


def failed(results: dict[str, Result]) -> set[str]:
    """Name the checks that failed."""
    return {name for name, result in results.items() if result.result == "FAILED"}


FAULTS: dict[str, Callable[[], Case]] = {
    "schema": lambda: Case(
        # 21 fields declared and given, 20 supplied; the wildcard in the last hides it from everybody.
        records=[f"{record}|*" for record in everything()],
        schema={"name": "pipe", "files": "*.chn", "fields": 21, "may_be_wild": [21]},
        finding="RCA-1",
        says="schema.json:1: type pipe declares 21 fields, and the interpreter supplies 20",
    ),
    "damage": lambda: Case(
        settings=replace(SETTINGS, interpreter=(engine(FIELDS, "--without-bounds"),)),
        finding="RCA-2",
        says="SIGSEGV",
    ),
    "variety": lambda: Case(
        # The interpreter does supply 21; nobody has ever tried the last, since all records have a wildcard there.
        records=[f"{record}|*" for record in everything()],
        schema={"name": "pipe", "files": "*.chn", "fields": 21},
        settings=replace(SETTINGS, interpreter=(engine(21),)),
        finding="RCA-3",
        says="schema.json:1: field 21 of pipe is a wildcard in all 20 records",
    ),
    "validator": lambda: Case(
        settings=replace(SETTINGS, validator=Validator(("true",))),
        finding="RCA-4",
        says="the validator passes content with damage",
    ),
    "load": lambda: Case(
        # The first record that looks at field 21, in an interpreter that reads past the end of its inputs.
        records=[*(f"{record}|*" for record in everything()), line("new", "evil", count=21, last="x")],
        schema={"name": "pipe", "files": "*.chn", "fields": 21},
        settings=replace(SETTINGS, interpreter=(engine(FIELDS, "--without-bounds", describe=False),)),
        finding="RCA-5",
        says="died: loading it, the interpreter was ended by SIGSEGV",
    ),
    "staging": lambda: Case(soak_s=0, finding="RCA-6", says="devices confirm after a soak of 0 s"),
    "size": lambda: Case(more={"padding": "x" * (3 << 20)}, says="times the"),
    "crash": lambda: Case(
        # Fine on all that is usual; on a long run of one letter it tries 2 to the power of its length.
        records=[*everything(), line("boom", "(a+)+b")],
        settings=replace(SETTINGS, limits=replace(SETTINGS.limits, file_cpu_s=1)),
        says="used more than",
    ),
    "benign": lambda: Case(records=[*everything(), line("greedy", "fine")], says="content.chn:22: rule greedy"),
    "detections": lambda: Case(
        records=[record.replace("evil", "vile") for record in everything()], says="is not detected any more"
    ),
    "resources": lambda: Case(
        # Forty records more, each with an expression that is short and takes long to compile.
        records=[*everything(), *(line(f"w{n}", rf"(?i)[\u0100-\ufff0]w{n}") for n in range(40))],
        says="CPU to",
    ),
    "lifecycle": lambda: Case(
        # What activation starts is still there when the release has been taken off.
        activate=f"{ACTIVATE}setsid sleep 600 >/dev/null 2>&1 &\n",
        says="lifecycle: activate:3: getting rid of it does not work: still running after deactivation: sleep 600",
    ),
    "upgrade": lambda: Case(
        # An older release left a state file that the new one cannot read.
        activate=f'if [ -e "$1/format-1" ]; then echo "cannot read format-1" >&2; exit 1; fi\n{ACTIVATE}',
        older=(ACTIVATE, f'{ACTIVATE}touch "$1/format-1"\n'),
        says="activation over channel old1 does not work",
    ),
    "idempotence": lambda: Case(
        deactivate='rm "$1/active"\n', says="a second deactivation does not work"
    ),
}  # fmt: skip
"""By check: the release that it alone catches."""
