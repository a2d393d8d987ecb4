"""The demo's two releases: good rules, and the same with new ones that break devices though a validator passes them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from tidegate.cli.demo_content.binaries import FAULTY_BINARIES
from tidegate.cli.demo_content.samples import SAMPLES
from tidegate.core.errors import BadInput
from tidegate.core.model import Health, Probe

FAULTS = {
    "both": ("meridian.yar", "driftwood.yar"),
    "false-positive": ("meridian.yar",),
    "crash": ("driftwood.yar",),
}


@dataclass(frozen=True, slots=True)
class ManifestParts:
    """What the demo's releases say in their manifests beside payload, version and number."""

    driver: str
    health: Health
    notes: str


@dataclass(frozen=True, slots=True)
class ValidatorReport:
    """What a vendor's validator saw: it compiles the rules and tries them on the vendor's own samples, and no more."""

    passed: bool
    rules: int
    detected: int
    samples: int
    sentence: str


def good_release(directory: Path) -> Path:
    """Write the good release's payload into a directory that is made. Gives the directory."""
    return _write(directory, "rules", None)


def faulty_release(directory: Path, fault: str = "both") -> Path:
    """Write the faulty release's payload: all good rules and new ones.

    Args:
        directory: is made.
        fault: `false-positive` takes a file that the device needs; `crash` lets the scanner burn CPU until it dies;
            `both` does the one or the other, by what a device has.

    Raises:
        BadInput: there is no such fault.
    """
    if fault not in FAULTS:
        raise BadInput(f"no fault {fault!r}; there are {', '.join(FAULTS)}")
    _write(directory, "rules", None)
    return _write(directory, "faulty", FAULTS[fault])


def _write(directory: Path, source: str, names: tuple[str, ...] | None) -> Path:
    target = directory / "rules"
    target.mkdir(parents=True, exist_ok=True)
    for item in sorted(files("tidegate.cli.demo_content").joinpath(source).iterdir(), key=lambda found: found.name):
        if item.name.endswith(".yar") and (names is None or item.name in names):
            (target / item.name).write_bytes(item.read_bytes())
    return directory


def validator_passes(directory: Path) -> ValidatorReport:
    """Look at a payload as a naive vendor does: it compiles, and each sample of the vendor's own is detected.

    What it leaves out is what the demo is about: it never looks at a customer's files, nor at the time a scan takes.

    Raises:
        tidegate.drivers.yara_rules.RulesFault: the rules do not compile.
    """
    import yara_x  # here alone: the command line must not load a compiler to say its version

    from tidegate.drivers.yara_rules import compile_rules

    rules, _ = compile_rules(directory)
    names = {rule.identifier for rule in rules}
    samples = {name: build for name, build in {**SAMPLES, **FAULTY_BINARIES}.items() if name in names}
    scanner = yara_x.Scanner(rules)
    detected = sum(
        name in {rule.identifier for rule in scanner.scan(build()).matching_rules} for name, build in samples.items()
    )
    passed = detected == len(samples) == len(names)
    words = f"{len(names)} rules compile, {detected} of {len(samples)} samples detected"
    sentence = f"the vendor's validator {'passes' if passed else 'fails'}: {words}"
    return ValidatorReport(passed, len(names), detected, len(samples), sentence)


def demo_manifest_parts() -> ManifestParts:
    """Driver, health and notes of the demo's releases; the probe asks the check-in desk itself."""
    desk = Probe("check-in desk", ("sh", "{watch}/checkin"), timeout_s=10)
    return ManifestParts("yara", Health(soak_s=1, interval_s=1, probes=(desk,)), "rules of the demo")
