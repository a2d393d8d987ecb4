"""The health probes that a release's manifest brings along; every driver's look at health includes them."""

from __future__ import annotations

from tidegate.core.model import Manifest, Probe
from tidegate.drivers.port import DriverError, Place, ProbeResult
from tidegate.drivers.programs import fill, run_program


def run_probes(manifest: Manifest | None, place: Place) -> list[ProbeResult]:
    """Run each probe of a manifest once, in order; no manifest has no probes.

    A probe is healthy if its command ends with exit code 0 in time. What cannot be run is unhealthy and never an
    error: a device that cannot look must not confirm.
    """
    return [_run(probe, place) for probe in manifest.health.probes] if manifest else []


def _run(probe: Probe, place: Place) -> ProbeResult:
    try:
        ended = run_program(fill(probe.command, place, f"probe {probe.name!r}"), place, probe.timeout_s)
    except DriverError as error:
        return ProbeResult(probe.name, False, str(error))
    if ended.code == 0:
        return ProbeResult(probe.name, True, ended.last_line)
    return ProbeResult(probe.name, False, f"{probe.command[0]} {ended.sentence}")
