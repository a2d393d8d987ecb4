"""The `files` driver: the payload is a directory that others read through the pointer."""

from __future__ import annotations

from pathlib import Path

from tidegate.core.model import Manifest
from tidegate.drivers.command import check_directory, pointer_result, resolve, run_step
from tidegate.drivers.port import Place, ProbeResult
from tidegate.drivers.probes import run_probes
from tidegate.drivers.programs import fill_all


class FilesDriver:
    """A directory of files: moving the pointer is the activation; a command of the manifest may tell who reads them."""

    name = "files"

    def check(self, payload: Path, manifest: Manifest) -> None:
        """Refuse a payload that is no directory with something in it. Raises DriverError."""
        del manifest
        check_directory(payload)

    def ready(self, place: Place) -> None:
        """Refuse a manifest whose programs name settings that this device has not. Raises DriverError."""
        fill_all(place)

    def activate(self, place: Place) -> None:
        """Run the manifest's `activate`, if it has one. Raises DriverError."""
        resolve(place)
        if place.manifest is not None and place.manifest.activate:
            run_step(place, "activate", place.manifest.activate, place.launcher)

    def deactivate(self, place: Place) -> None:
        """Run the manifest's `deactivate`, if it has one. Raises DriverError."""
        if place.manifest is not None and place.manifest.deactivate:
            run_step(place, "deactivate", place.manifest.deactivate)

    def probe(self, place: Place) -> list[ProbeResult]:
        """Whether the pointer names a directory, and the manifest's probes."""
        return [pointer_result(place), *run_probes(place.manifest, place)]

    def sham(self, place: Place) -> None:
        """Tell the readers once more about the files that they have; nothing where none are. Raises DriverError."""
        if place.current.exists():
            self.activate(place)
