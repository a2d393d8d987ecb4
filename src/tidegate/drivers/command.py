"""The `command` driver: programs that the manifest names start and stop the component."""

from __future__ import annotations

from pathlib import Path

from tidegate.core.model import Manifest
from tidegate.drivers.port import DriverError, Place, ProbeResult
from tidegate.drivers.probes import run_probes
from tidegate.drivers.programs import fill, fill_all, run_program

TIMEOUT_S = 60.0
NOTHING_TO_RUN = 3
"""The guard's exit code when `current` names no release."""


def check_directory(payload: Path) -> None:
    """Refuse a payload that is no directory with something in it. Raises DriverError."""
    if not payload.is_dir() or not any(payload.iterdir()):
        raise DriverError(f"{payload.name} is no directory with files in it; pack the payload again")


def run_step(place: Place, step: str, command: tuple[str, ...], launcher: tuple[str, ...] = ()) -> None:
    """Run one of the manifest's programs to its end.

    The setting `timeout_s` bounds it (seconds, 60 if it is not set).

    Raises:
        DriverError: it could not be run, did not end with 0, or not in time.
    """
    filled = fill(command, place, f"{step} of {place.component}")
    try:
        timeout_s = float(place.settings.get("timeout_s", TIMEOUT_S))
    except ValueError:
        timeout_s = 0.0
    if not 0 < timeout_s <= 86_400:
        raise DriverError(f"setting timeout_s of {place.component} must be a number of seconds, up to a day")
    ended = run_program([*launcher, *filled], place, timeout_s)
    if launcher and ended.code == NOTHING_TO_RUN:
        raise DriverError(f"the guard has nothing to {step} for {place.component}: {ended.last_line}")
    if ended.code != 0:
        raise DriverError(f"{step} of {place.component}: {filled[0]} {ended.sentence}")


class CommandDriver:
    """A component that programs of the manifest bring to life: `activate` and `deactivate`, no shell."""

    name = "command"

    def check(self, payload: Path, manifest: Manifest) -> None:
        """Refuse an empty payload, and a manifest that says no way to activate it. Raises DriverError."""
        check_directory(payload)
        if not manifest.activate:
            raise DriverError(
                f"{manifest.component} {manifest.version} has no activate command; the command driver needs one"
            )

    def ready(self, place: Place) -> None:
        """Refuse a manifest whose programs name settings that this device has not. Raises DriverError."""
        fill_all(place)

    def activate(self, place: Place) -> None:
        """Run the manifest's `activate` behind the guard. Raises DriverError."""
        resolved = resolve(place)
        if place.manifest is None or not place.manifest.activate:
            raise DriverError(f"{place.component} has no activate command; make the release anew with one")
        run_step(place, "activate", place.manifest.activate, place.launcher)
        if (now := resolve(place)) != resolved:
            raise DriverError(f"the guard took {resolved.name[:16]} back while it started; {now.name[:16]} runs now")

    def deactivate(self, place: Place) -> None:
        """Run the manifest's `deactivate`, if it has one. Raises DriverError."""
        if place.manifest is not None and place.manifest.deactivate:
            run_step(place, "deactivate", place.manifest.deactivate)

    def probe(self, place: Place) -> list[ProbeResult]:
        """Whether the pointer names a release, and the manifest's probes."""
        return [pointer_result(place), *run_probes(place.manifest, place)]

    def sham(self, place: Place) -> None:
        """Run `activate` again on the release that is installed; nothing where none is. Raises DriverError."""
        if place.current.exists():
            self.activate(place)


def resolve(place: Place) -> Path:
    """Give the directory that the pointer names. Raises DriverError if it names none."""
    try:
        return place.current.resolve(strict=True)
    except OSError as error:
        raise DriverError(f"{place.component} has no active release on this device; nothing can be started") from error


def pointer_result(place: Place) -> ProbeResult:
    """Say whether `current` names a payload, or is absent altogether."""
    if place.current.is_dir():
        return ProbeResult("payload", True, f"runs {place.current.resolve().name[:16]}")
    if place.current.is_symlink() or place.current.exists():
        return ProbeResult("payload", False, f"{place.current.name} names no payload directory")
    return ProbeResult("payload", True, "absent: nothing is installed")
