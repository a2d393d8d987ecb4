"""What the clamav driver works with: the device's settings, ClamAV's programs and limits for them, its databases."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from tidegate.drivers import limited
from tidegate.drivers.port import DriverError, NotInstalled, Place

DATABASES = (
    ".cvd", ".cld", ".cud", ".hdb", ".hsb", ".hdu", ".hsu", ".mdb", ".msb", ".mdu", ".msu", ".imp", ".ndb", ".ndu",
    ".ldb", ".ldu", ".idb", ".fp", ".sfp", ".ign", ".ign2", ".crb", ".cdb", ".cbc", ".pdb", ".gdb", ".wdb",
    ".ftm", ".cfg", ".pwdb", ".yar", ".yara", ".info",
)  # fmt: skip
"""Names by which ClamAV knows its databases; it passes over every other file without a word."""
_PROGRAMS = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin:/opt/homebrew/bin:/opt/homebrew/sbin"


@dataclass(frozen=True, slots=True)
class Settings:
    """The device's words for this component, read; all have defaults.

    `watch`: the directory that relative names below belong to. `planted`: a file that a good release must find.
    `needs`: the device's own files, which it must find clean. `memory_mb`: address space of clamd, which holds the old
    and the new databases while it reloads. `start_s`: how long loading may take. `scan_s`: how long one scan may take.
    """

    watch: Path
    planted: str
    needs: tuple[str, ...]
    memory_mb: int
    start_s: float
    scan_s: float


def read_settings(place: Place) -> Settings:
    """Read the settings. Raises DriverError, naming the one that is wrong."""
    given = place.settings

    def number(name: str, default: float, least: float) -> float:
        try:
            value = float(given.get(name, default))
        except ValueError:
            value = -1.0
        if not least <= value <= 1e6:
            raise DriverError(f"setting {name} of {place.component} must be a number from {least:g}")
        return value

    watch = Path(given.get("watch", "/"))
    if not watch.is_absolute():
        raise DriverError(f"setting watch of {place.component} must be an absolute path; set it on this device")
    needs = tuple(name.strip() for name in given.get("needs", "").split(",") if name.strip())
    memory_mb = int(number("memory_mb", 4096, 128))
    return Settings(
        watch, given.get("planted", ""), needs, memory_mb, number("start_s", 120, 0.1), number("scan_s", 10, 0.1)
    )


def program(name: str) -> str:
    """Find one of ClamAV's programs; the path of a service may lack the system's own. Raises NotInstalled."""
    found = shutil.which(name) or shutil.which(name, path=_PROGRAMS)
    if not found:
        raise NotInstalled(f"{name} is not on this device; install ClamAV (on Debian: clamav and clamav-daemon)")
    return found


def limits(memory_mb: int, cpu_s: int = 0) -> list[str]:
    """What goes before a command that must not take more."""
    return [sys.executable, "-S", "-E", limited.__file__, str(memory_mb), str(cpu_s), "--"]


def database_files(payload: Path) -> list[Path]:
    """Give the files of a directory that ClamAV would load. Subdirectories it does not read."""
    return sorted(p for p in payload.iterdir() if p.suffix.lower() in DATABASES and p.is_file() and not p.is_symlink())
